"use strict";
// Draws the runs of #report-data: each for itself, and several beside each other.
(() => {
  const report = JSON.parse(document.getElementById("report-data").textContent);
  const { dark, narrow, css, colour, valuesOf, height, traceOf, zoom, chip, frame, draw, drawRun } = panelKit(report.colours);
  const groups = new Map(); // by the element that holds the panels

  function crossOf(panel, run, line, look) {
    const at = run.lockup.at;
    return {
      type: "scatter", mode: "markers", name: look.name, x: [run.seconds[at]], y: [height(panel, valuesOf(run, line)[at])],
      marker: { symbol: "x", size: 11, color: colour(look.colour), line: { color: css("--card"), width: 1.5 } },
      hoverinfo: "skip", cliponaxis: false,
    };
  }

  function drawComparison(host, range) {
    const right = Math.max(...report.runs.map((run) => run.right));
    const group = { plots: [], readouts: [], right, range: range || [0, right], zooming: false };
    const legend = host.parentElement.querySelector(".legend");
    legend.replaceChildren();
    const members = new Map(); // run -> the traces of it in each plot
    for (const panel of report.compare) {
      const { plot } = frame(host, panel);
      const traces = [];
      for (const one of panel.lines) {
        const run = report.runs[one.run], line = run.lines[one.key];
        const look = { name: run.policy, colour: one.colour, dash: one.dash, filled: false };
        const mine = [traces.push(traceOf(panel, run, line, look)) - 1];
        if (run.lockup) mine.push(traces.push(crossOf(panel, run, line, look)) - 1);
        if (!members.has(one.run)) members.set(one.run, { one, parts: [] });
        members.get(one.run).parts.push([plot, mine]);
      }
      draw(group, plot, panel, traces, null, false);
    }
    for (const [number, { one, parts }] of members) {
      chip(legend, report.runs[number].policy, one.colour, one.dash, (visible) => {
        for (const [plot, mine] of parts) Plotly.restyle(plot, { visible }, mine);
      });
    }
    return group;
  }

  function show(host, range) {
    for (const { plot } of groups.get(host)?.plots ?? []) Plotly.purge(plot);
    host.replaceChildren();
    const number = host.dataset.run;
    groups.set(host, number === undefined ? drawComparison(host, range) : drawRun(host, report.runs[number], range));
  }

  function select(number) {
    for (const tab of document.querySelectorAll("[role=tab]")) tab.setAttribute("aria-selected", String(tab.dataset.run === number));
    for (const article of document.querySelectorAll("article.run")) {
      article.hidden = article.dataset.run !== number;
      const host = article.querySelector(".panels");
      // Plotly cannot measure what is hidden: a run is drawn when it is first looked at.
      if (!article.hidden && host && !groups.has(host)) show(host);
    }
  }

  for (const tab of document.querySelectorAll("[role=tab]")) tab.addEventListener("click", () => select(tab.dataset.run));
  for (const button of document.querySelectorAll(".zoom button")) {
    button.addEventListener("click", () => {
      const group = groups.get(button.closest("article").querySelector(".panels"));
      zoom(group, button.dataset.range ? JSON.parse(button.dataset.range) : [0, group.right]);
    });
  }
  const redraw = () => {
    for (const [host, group] of groups) if (!host.closest("[hidden]")) show(host, group.range); else groups.delete(host);
  };
  dark.addEventListener("change", redraw);
  narrow.addEventListener("change", redraw);

  const comparison = document.querySelector(".panels.compare");
  if (comparison) show(comparison);
  select(document.querySelector("article.run").dataset.run);
})();
