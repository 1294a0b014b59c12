"use strict";
// Draws panels of lines with Plotly: the panels of a group share their time axis and their cursor.
// `palette` is the colours by name, each for light and for dark paper.
const panelKit = (palette) => {
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const narrow = matchMedia("(max-width: 760px)");
  const touch = matchMedia("(pointer: coarse)");
  const MARGIN = { l: 58, r: 14, t: 12, b: 26 };
  const FONT = getComputedStyle(document.documentElement).fontFamily;

  const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const colour = (name) => palette[name][dark.matches ? 1 : 0];
  const faint = (name, share) => colour(name) + Math.round(share * 255).toString(16).padStart(2, "0");
  const make = (tag, parent, text, className) => {
    const element = document.createElement(tag);
    if (text !== undefined) element.textContent = text;
    if (className) element.className = className;
    parent.append(element);
    return element;
  };
  // A line that never changes is stored as one number.
  const valuesOf = (run, line) =>
    Array.isArray(line.values) ? line.values : new Array(run.seconds.length).fill(line.values);
  const shown = (value, unit) => {
    if (value === null || value === undefined) return "–";
    const digits = Number.isInteger(value) ? 0 : Math.abs(value) >= 100 ? 0 : 2;
    return value.toLocaleString("en", { maximumFractionDigits: digits }).replace(/,/g, "\u202f") + " " + unit;
  };

  // Where a value stands on the axis; null stays a gap.
  const height = (panel, value) => (value === null ? null : panel.magnified ? Math.log10(1 + Math.max(value, 0)) : value);

  function traceOf(panel, run, line, look) {
    const values = valuesOf(run, line);
    const limit = line.style === "limit";
    const trace = {
      type: "scatter",
      mode: run.seconds.length < 3 ? "lines+markers" : "lines",
      name: look.name,
      x: run.seconds,
      y: values.map((value) => height(panel, value)),
      text: values.map((value) => shown(value, line.unit)),
      hovertemplate: "%{text}",
      line: { color: colour(look.colour), width: limit ? 1.4 : 1.8, dash: limit ? "dash" : look.dash || "solid" },
      connectgaps: false,
    };
    if (run.binned) {
      // A value holds for its whole bin, and until there is another.
      trace.line.shape = "hvh";
      trace.connectgaps = true;
    }
    if (line.style === "envelope") {
      trace.fill = "tonexty";
      trace.fillcolor = faint(look.colour, 0.3);
    }
    if (look.filled && line.style === "filled") {
      trace.fill = "tozeroy";
      trace.fillcolor = faint(look.colour, 0.16);
    }
    if (look.filled && line.style === "stacked") {
      trace.stackgroup = "all";
      trace.fillcolor = faint(look.colour, 0.4);
      trace.line.width = 0.8;
    }
    return trace;
  }

  function ticksOf(panel, traces) {
    if (panel.names) {
      const tickvals = panel.names.map((_, at) => at);
      return { range: [panel.names.length - 0.4, -0.75], tickvals, ticktext: panel.names, ticklabelposition: "inside top", tickfont: { size: 12, color: css("--soft") } };
    }
    if (!panel.magnified) return { rangemode: "tozero", nticks: 5, separatethousands: true, tickformat: "~s" };
    let top = 1;
    for (const trace of traces) for (const y of trace.y) if (y > top) top = y;
    const values = [0, 1, 10, 100, 1000, 10000, 100000, 1000000, 10000000]
      .filter((value) => Math.log10(1 + value) <= top * 1.05 && (value !== 1 || top < 3)); // 0 and 1 would touch
    const words = values.map((value) => (value >= 1000 ? shown(value / 1000, "k").replace(" ", "") : String(value)));
    return { range: [-0.04 * top, top * 1.08], tickvals: values.map((value) => Math.log10(1 + value)), ticktext: words };
  }

  function marksOf(lockup, right, first) {
    if (!lockup) return { shapes: [], annotations: [] };
    const red = colour("red");
    const line = (x, dash, width) => ({ type: "line", xref: "x", yref: "paper", x0: x, x1: x, y0: 0, y1: 1, line: { color: red, width, dash } });
    const shapes = [
      { type: "rect", xref: "x", yref: "paper", x0: lockup.time, x1: right * 4, y0: 0, y1: 1, fillcolor: faint("red", 0.13), line: { width: 0 }, layer: "below" },
      line(lockup.time, "solid", 2),
    ];
    const label = (x, text, xanchor, y) => ({ x, y, xref: "x", yref: "paper", text, xanchor, yanchor: "top", showarrow: false, font: { color: red, size: 12 }, bgcolor: css("--card") + "d0", borderpad: 2, xshift: xanchor === "left" ? 4 : -4 });
    const annotations = [];
    if (first) annotations.push(label(lockup.time, "<b>✖ LOCKUP " + lockup.time.toFixed(3) + " s</b>", narrow.matches ? "right" : "left", 1));
    if (lockup.last !== null) {
      shapes.push(line(lockup.last, "dot", 1.5));
      if (first) annotations.push(label(lockup.last, "last page " + lockup.last.toFixed(3) + " s", "right", narrow.matches ? 0.82 : 1));
    }
    return { shapes, annotations };
  }

  function layoutOf(panel, traces, group, lockup, first) {
    const axis = { gridcolor: css("--grid"), zerolinecolor: css("--grid"), linecolor: css("--axis"), tickfont: { size: 12 }, automargin: false };
    return {
      margin: MARGIN, showlegend: false, paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
      font: { family: FONT, size: 13, color: css("--ink") },
      hovermode: panel.names ? "closest" : "x unified", hoverdistance: -1, dragmode: touch.matches ? false : "zoom",
      hoverlabel: { bgcolor: css("--card"), bordercolor: css("--axis"), font: { family: FONT, size: 12, color: css("--ink") } },
      xaxis: { ...axis, range: group.range.slice(), showline: true, ticks: "outside", ticklen: 4, tickcolor: css("--axis"), ticksuffix: " s", hoverformat: ".3f", showspikes: false, nticks: narrow.matches ? 6 : 13, zeroline: false, fixedrange: touch.matches },
      yaxis: { ...axis, ...ticksOf(panel, traces), fixedrange: true },
      ...marksOf(lockup, group.right, first),
    };
  }

  function nearest(seconds, at) {
    let low = 0, high = seconds.length - 1;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (seconds[middle] < at) low = middle + 1; else high = middle;
    }
    return low > 0 && at - seconds[low - 1] < seconds[low] - at ? low - 1 : low;
  }

  function point(group, at) {
    for (const { plot, cursor } of group.plots) {
      cursor.hidden = at === null;
      if (at === null) continue;
      const [from, to] = group.range;
      const share = (at - from) / (to - from);
      cursor.hidden = share < 0 || share > 1;
      cursor.style.left = MARGIN.l + share * (plot.clientWidth - MARGIN.l - MARGIN.r) + "px";
    }
    for (const { output, run, line } of group.readouts) {
      const values = valuesOf(run, line);
      output.textContent = shown(values[at === null ? values.length - 1 : nearest(run.seconds, at)], line.unit);
    }
  }

  function zoom(group, range) {
    group.range = range;
    group.zooming = true;
    point(group, null);
    Promise.all(group.plots.map(({ plot }) => Plotly.relayout(plot, { "xaxis.range": range.slice() })))
      .finally(() => { group.zooming = false; });
  }

  function listen(group, plot) {
    plot.on("plotly_hover", (event) => point(group, event.points[0].x));
    plot.on("plotly_unhover", () => point(group, null));
    plot.on("plotly_relayout", (change) => {
      if (group.zooming) return;
      if (change["xaxis.autorange"]) zoom(group, [0, group.right]);
      else if ("xaxis.range[0]" in change) zoom(group, [change["xaxis.range[0]"], change["xaxis.range[1]"]]);
      else if ("xaxis.range" in change) zoom(group, change["xaxis.range"].slice());
    });
  }

  function chip(legend, name, shade, kind, toggle) {
    const button = make("button", legend);
    button.type = "button";
    button.setAttribute("aria-pressed", "true");
    const swatch = make("i", button, undefined, kind);
    swatch.style.borderColor = colour(shade);
    if (kind === "filled" || kind === "stacked") swatch.style.background = faint(shade, kind === "filled" ? 0.16 : 0.4);
    button.append(name);
    button.addEventListener("click", () => {
      const visible = button.getAttribute("aria-pressed") !== "true";
      button.setAttribute("aria-pressed", String(visible));
      toggle(visible);
    });
    return button;
  }

  function frame(host, panel) {
    const figure = make("figure", host);
    const caption = make("figcaption", figure);
    const title = make("h3", caption, panel.title);
    make("small", title, panel.unit);
    const legend = make("div", caption, undefined, "legend");
    make("p", caption, panel.why, "why");
    const plot = make("div", figure, undefined, "plot");
    plot.setAttribute("role", "img");
    plot.setAttribute("aria-label", panel.title + ", " + panel.unit + ", over time. " + panel.why);
    return { plot, legend };
  }

  function draw(group, plot, panel, traces, lockup, first) {
    Plotly.newPlot(plot, traces, layoutOf(panel, traces, group, lockup, first), {
      displayModeBar: false, displaylogo: false, responsive: true, doubleClick: "autosize", showTips: false,
    });
    const cursor = make("div", plot, undefined, "cursor");
    cursor.hidden = true;
    group.plots.push({ plot, cursor });
    listen(group, plot);
  }

  function drawRun(host, run, range) {
    const group = { plots: [], readouts: [], right: run.right, range: range || [0, run.right], zooming: false };
    run.panels.forEach((panel, number) => {
      const { plot, legend } = frame(host, panel);
      const lines = panel.keys.map((key) => run.lines[key]);
      const drawn = lines.filter((line) => line.style !== "readout");
      lines.forEach((line) => {
        const at = drawn.indexOf(line);
        const holder = at < 0
          ? make("span", legend, line.name)
          : chip(legend, line.name, line.colour, line.style, (visible) => Plotly.restyle(plot, { visible: visible ? true : "legendonly" }, [at]));
        group.readouts.push({ output: make("output", holder), run, line });
      });
      draw(group, plot, panel, drawn.map((line) => traceOf(panel, run, line, { name: line.name, colour: line.colour, filled: true })), run.lockup, number === 0);
    });
    point(group, null);
    return group;
  }
  return { dark, narrow, css, colour, faint, make, valuesOf, shown, height, traceOf, zoom, chip, frame, draw, drawRun, nearest, point };
};
