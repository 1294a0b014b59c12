"use strict";
// Draws the replay of #report-data, sorts and filters its tables, and tells of a drop what is known of it.
(() => {
  const report = JSON.parse(document.getElementById("report-data").textContent);
  const { dark, narrow, css, colour, make, shown, frame, draw, drawRun } = panelKit(report.colours);
  const host = document.querySelector(".panels.replay");
  const details = document.querySelector(".details");
  const at = Object.fromEntries(report.columns.map(([name], number) => [name, number]));
  const byFrame = new Map(); // the first drop that is listed of each frame
  report.drops.forEach((drop, number) => {
    if (!byFrame.has(drop.row[at.frame])) byFrame.set(drop.row[at.frame], number);
  });
  let group = null;
  let points = null;

  const shadeOf = (drop) => colour(report.reasonColours[drop.reason] || "grey");

  // Drops one by one, a row for each reason: where and when, not how many.
  function drawPoints(selected) {
    if (!report.drops.length) return;
    const sampled = report.drops.length < report.total;
    const panel = {
      title: "Drops, one by one", unit: sampled ? shown(report.drops.length, "") + "of " + shown(report.total, "") : "all", names: report.reasons,
      why: (sampled ? "The drops that are listed below, not all of them. " : "") + "Press one to see its frame and its numbers.",
    };
    const { plot } = frame(host, panel);
    plot.style.height = Math.max(120, 46 + 40 * report.reasons.length) + "px";
    const trace = {
      type: "scatter", mode: "markers", name: "",
      x: report.drops.map((drop) => drop.second), y: report.drops.map((drop) => report.reasons.indexOf(drop.reason)),
      text: report.drops.map((drop) => "frame " + drop.row[at.frame] + ", " + drop.row[at.class] + " " + drop.row[at.verdict]),
      hovertemplate: "%{text}<br>%{x:.6f} s",
      marker: {
        size: report.drops.map((_, number) => (number === selected ? 15 : 8)), opacity: 0.75, color: report.drops.map(shadeOf),
        line: { color: css("--card"), width: 1 },
      },
      cliponaxis: false,
    };
    draw(group, plot, panel, [trace], null, false);
    plot.on("plotly_click", (event) => tell(event.points[0].pointNumber));
    points = plot;
  }

  function show(range) {
    if (!host) return;
    for (const { plot } of group?.plots ?? []) Plotly.purge(plot);
    host.replaceChildren();
    group = drawRun(host, report.run, range);
    drawPoints(Number(details.dataset.drop ?? -1));
  }

  async function copy(text) {
    try {
      await navigator.clipboard.writeText(text);
      return true;
    } catch {
      // Older browsers, or a page that may not: a selection is copied instead.
      const area = make("textarea", document.body, text);
      area.select();
      const copied = document.execCommand("copy");
      area.remove();
      return copied;
    }
  }

  function filterLine(parent, number, name) {
    const text = report.filter + number;
    const line = make("span", parent, name);
    make("code", line, text);
    const button = make("button", parent, "Copy filter");
    button.type = "button";
    button.className = "copy";
    const said = make("output", parent);
    const press = async () => { said.textContent = (await copy(text)) ? "copied" : "not copied: select it"; };
    button.addEventListener("click", press);
    return press;
  }

  function mark(number) {
    for (const row of document.querySelectorAll("tr[data-drop]")) row.setAttribute("aria-selected", String(row.dataset.drop === String(number)));
    if (points) Plotly.restyle(points, { "marker.size": [report.drops.map((_, other) => (other === number ? 15 : 8))] });
  }

  function head(title) {
    details.replaceChildren();
    details.hidden = false;
    const header = make("header", details);
    make("h3", header, title);
    return header;
  }

  function end(header) {
    const close = make("button", header, "Close", "close");
    close.type = "button";
    close.addEventListener("click", () => { details.hidden = true; delete details.dataset.drop; mark(-1); });
  }

  // A drop that is listed: all its numbers.
  function tell(number) {
    const drop = report.drops[number];
    const value = (name) => drop.row[at[name]];
    const header = head("Frame " + value("frame") + ": " + value("verdict") + (value("reason") ? ", " + value("reason") : ""));
    details.dataset.drop = number;
    const press = filterLine(header, value("frame"), "");
    end(header);
    make("p", details, drop.why);
    const list = make("dl", details);
    report.columns.forEach(([name, unit, meaning], column) => {
      if (drop.row[column] === "") return;
      const pair = make("div", list);
      make("dt", pair, name).title = meaning;
      make("dd", pair, drop.row[column] === null ? "not said" : drop.row[column] + (unit ? " " + unit : ""));
    });
    const culprit = value("culprit_frame");
    if (culprit && culprit !== "0") filterLine(make("p", details), culprit, "What it lacked, frame " + culprit + " took last: ");
    mark(number);
    press();
  }

  // A frame that a table names; its numbers are here only if it is in the sample.
  function tellFrame(number) {
    if (byFrame.has(number)) return tell(byFrame.get(number));
    const header = head("Frame " + number);
    delete details.dataset.drop;
    const press = filterLine(header, number, "");
    end(header);
    make("p", details, "Its numbers are not in this page, which holds a sample: emu show tells them.");
    mark(-1);
    press();
  }

  function sortable(table) {
    const body = table.tBodies[0];
    [...table.tHead.rows[0].cells].forEach((cell, column) => {
      cell.querySelector("button").addEventListener("click", () => {
        const number = cell.classList.contains("number");
        const before = cell.getAttribute("aria-sort");
        // Numbers are wanted from the greatest, names from the first letter.
        const down = before ? before === "ascending" : number;
        for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
        cell.setAttribute("aria-sort", down ? "descending" : "ascending");
        const key = (row) => {
          const { sort } = row.cells[column].dataset;
          return sort === undefined ? row.cells[column].textContent : sort;
        };
        const exact = (text) => (/^-?\d+$/.test(text) ? BigInt(text) : -1n); // times have more digits than a number
        const order = (a, b) => {
          if (!number) return key(a).localeCompare(key(b), "en");
          const [left, right] = [exact(key(a)), exact(key(b))];
          return left < right ? -1 : left > right ? 1 : 0;
        };
        body.append(...[...body.rows].sort((a, b) => (down ? order(b, a) : order(a, b))));
      });
    });
  }

  function filterable(label) {
    const rows = [...label.nextElementSibling.querySelectorAll("tbody tr")];
    const texts = rows.map((row) => row.textContent.toLowerCase() + [...row.cells].map((cell) => " " + cell.textContent.toLowerCase()).join(""));
    const said = label.querySelector("output");
    label.querySelector("input").addEventListener("input", (event) => {
      const words = event.target.value.toLowerCase().split(/\s+/).filter(Boolean);
      let left = 0;
      rows.forEach((row, number) => {
        row.hidden = !words.every((word) => texts[number].includes(word));
        left += row.hidden ? 0 : 1;
      });
      said.textContent = words.length ? left + " of " + rows.length : "";
    });
  }

  for (const table of document.querySelectorAll(".rows table")) sortable(table);
  for (const label of document.querySelectorAll(".filter")) filterable(label);
  document.addEventListener("click", (event) => {
    const button = event.target.closest(".frame");
    const row = event.target.closest("tr[data-drop]");
    if (event.target.closest("a")) return;
    if (row) tell(Number(row.dataset.drop));
    else if (button) tellFrame(button.dataset.frame);
  });
  document.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && event.target.matches("tr[data-drop]")) tell(Number(event.target.dataset.drop));
    if (event.key === "Escape" && details && !details.hidden) details.querySelector(".close").click();
  });
  const redraw = () => show(group?.range);
  dark.addEventListener("change", redraw);
  narrow.addEventListener("change", redraw);
  show();
})();
