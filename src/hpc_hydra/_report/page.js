"use strict";
const $ = (selector) => document.querySelector(selector);
const body = $("#runs tbody"), rows = [...body.rows];
const heads = [...$("#runs thead").rows[0].cells], names = heads.map((head) => head.dataset.name);
const cell = (row, column) => row.cells[column].dataset.exact ?? row.cells[column].textContent;
const missing = (text) => text === "" || text === "nan";
let data, draw = () => {};

function sortBy(column) {
  const sign = heads[column].getAttribute("aria-sort") === "ascending" ? -1 : 1;
  heads.forEach((head) => head.removeAttribute("aria-sort"));
  heads[column].setAttribute("aria-sort", sign > 0 ? "ascending" : "descending");
  const compare = (one, other) => {
    const [a, b] = [cell(one, column), cell(other, column)];
    if (missing(a) || missing(b)) return missing(a) - missing(b);  // what is missing comes last
    return sign * (isNaN(a) || isNaN(b) ? a.localeCompare(b) : a - b);
  };
  body.append(...[...rows].sort(compare));
}
heads.forEach((head, column) => head.firstChild.addEventListener("click", () => sortBy(column)));

const compares = {
  "=": (a, b) => a === b, "==": (a, b) => a === b, "!=": (a, b) => a !== b, "<": (a, b) => a < b, ">": (a, b) => a > b,
  "<=": (a, b) => a <= b, ">=": (a, b) => a >= b,
};
function holds(row, term) {
  const [, name, how, wanted] = term.match(/^([^=!<>]+)(!=|<=|>=|==?|<|>)(.+)$/) ?? [];
  const column = names.indexOf(name);
  if (column < 0) return row.textContent.toLowerCase().includes(term.toLowerCase());
  const value = cell(row, column), numbers = value !== "" && !isNaN(value) && !isNaN(wanted);
  if (!numbers && how.match(/[<>]/)) return false;
  return numbers ? compares[how](Number(value), Number(wanted)) : compares[how](value, wanted);
}
function filter() {
  const terms = $("#filter").value.split(/\s+/).filter(Boolean);
  for (const row of rows) row.hidden = !terms.every((term) => holds(row, term));
  $("#count").textContent = `${visible().length} of ${rows.length} runs`;
  draw();
}
const visible = () => rows.filter((row) => !row.hidden).map((row) => Number(row.dataset.place));
let waiting;
$("#filter").addEventListener("input", () => {
  clearTimeout(waiting);
  waiting = setTimeout(filter, 200);
});

const layout = { margin: { t: 20, r: 20 }, hovermode: "closest", font: { family: "system-ui, sans-serif" } };
const config = { displaylogo: false, responsive: true };

function drawCurves() {
  const metric = Number($("#metric").value), group = data.groups[$("#by").value];
  const traces = (group?.values ?? [""]).map((name, place) => ({
    name, x: [], y: [], text: [], mode: "lines", hovertemplate: "%{text}<br>step %{x}: %{y}<extra></extra>",
    line: { width: 1.2, color: group?.colors[place] ?? "#0072b2" },
  }));
  let points = 0;
  for (const run of visible()) {
    const { steps, values } = data.curves[run], trace = traces[group ? group.of[run] : 0];
    steps.forEach((step, place) => {
      if (values[metric][place] === null) return;
      trace.x.push(step);
      trace.y.push(values[metric][place]);
      trace.text.push(data.labels[run]);
      points++;
    });
    trace.x.push(null);  // between two lines of one trace: many traces are slow
    trace.y.push(null);
    trace.text.push("");
  }
  for (const trace of traces) {
    trace.type = points > 20000 ? "scattergl" : "scatter";
    trace.opacity = visible().length > 50 ? 0.5 : 1;
    if (points < 3 * rows.length) trace.mode = "lines+markers";
  }
  Plotly.react("curves", traces, {
    ...layout, showlegend: Boolean(group),
    legend: { title: { text: group?.name } }, xaxis: { title: { text: "step" } },
    yaxis: { title: { text: data.metrics[metric] }, type: $("#log").checked ? "log" : "linear" },
  }, config);
}

function drawParallel() {
  // Runs without a result have no line, and results that most of the others lack no axis.
  const has = (run) => (axis) => axis.values[run] !== null, results = data.axes.slice(data.color);
  const ended = visible().filter((run) => !results.length || results.some(has(run)));
  const kept = results.filter((axis) => 2 * ended.filter((run) => has(run)(axis)).length > ended.length);
  const axes = [...data.axes.slice(0, data.color), ...kept], last = kept[0]?.values;
  const runs = ended.filter((run) => axes.every(has(run)));
  const dimensions = axes.map((axis) => ({ ...axis, values: runs.map((run) => axis.values[run]) }));
  const { tickvals, ticktext } = kept[0] ?? {}, colorbar = { tickvals, ticktext };  // of logarithms, too
  const line = last ? { color: runs.map((run) => last[run]), colorscale: "Viridis", showscale: true, colorbar } : {};
  Plotly.react("parallel", [{ type: "parcoords", dimensions, line }],
    { ...layout, margin: { t: 60, b: 30, l: 80, r: 40 } }, config);
}

async function unpacked(id) {
  const bytes = Uint8Array.from(atob($(id).textContent), (each) => each.charCodeAt(0));
  return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"))).text();
}

async function start() {
  filter();
  if (!window.DecompressionStream) throw new Error("no DecompressionStream");
  data = JSON.parse(await unpacked("#data"));
  const script = document.createElement("script");
  script.textContent = await unpacked("#plotly");
  document.head.append(script);
  const unescaped = (text) => new DOMParser().parseFromString(text, "text/html").documentElement.textContent;
  $("#learning").hidden = !data.metrics.length;
  data.metrics.forEach((name, place) => $("#metric").add(new Option(unescaped(name), place)));
  $("#by").add(new Option("nothing", ""));
  data.groups.forEach((group, place) => $("#by").add(new Option(unescaped(group.name), place)));
  if (data.groups.length) $("#by").value = 0;
  draw = () => {
    if (data.metrics.length) drawCurves();
    if (data.axes.length > 1) drawParallel();
  };
  for (const id of ["#metric", "#by", "#log"]) $(id).addEventListener("change", drawCurves);
  draw();
  document.documentElement.dataset.drawn = "yes";
}
addEventListener("DOMContentLoaded", () => start().catch((error) => {
  $("#charts").hidden = true;
  $("#broken").hidden = false;
  console.error(error);
}));
