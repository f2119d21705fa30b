// A job's curves: read in pieces, drawn with uPlot, extended while the job runs.

import { axis, colour, format, makeFocusable, showLastValues, smoothed, widthOf } from "./chart.js";

const section = document.getElementById("curves");
const holder = document.getElementById("charts");
const steps = [];
const metrics = {};
const plots = new Map();
let last = 0;
let total = Number(section.dataset.total);
let reading = false;
let again = false;

// Metric → label, colour of the palette, and how it is drawn.
const CHARTS = [
  {
    id: "loss",
    title: "Loss",
    series: [
      { name: "train_loss", label: "training, each step", colour: 1, faint: true },
      { name: "train_loss", label: "training, smoothed", colour: 1, smooth: true },
      { name: "valid_loss", label: "validation, one batch", colour: 2, sparse: true },
      { name: "full_valid_loss", label: "validation, whole", colour: 3, sparse: true },
    ],
  },
  {
    id: "accuracy",
    title: "Accuracy",
    range: [0, 1],
    series: [
      { name: "train_mean_token_accuracy", label: "tokens, each step", colour: 1, faint: true },
      { name: "train_mean_token_accuracy", label: "tokens, smoothed", colour: 1, smooth: true },
      { name: "train_sequence_accuracy", label: "sequences, smoothed", colour: 4, smooth: true },
      { name: "valid_mean_token_accuracy", label: "tokens, validation", colour: 2, sparse: true },
      { name: "full_valid_mean_token_accuracy", label: "tokens, whole validation", colour: 3, sparse: true },
    ],
  },
  { id: "classification", title: "Classification, on the whole validation file", prefix: "classification/", range: [0, 1] },
  { id: "preference", title: "Preference", prefix: "rewards/" },
];

function seriesOf(chart) {
  if (!chart.prefix) return chart.series.filter(({ name }) => metrics[name]?.some((v) => v !== null));
  return Object.keys(metrics)
    .filter((name) => name.startsWith(chart.prefix))
    .map((name, index) => ({ name, label: name.slice(chart.prefix.length), colour: 1 + (index % 6), sparse: true }));
}

function dataOf(series) {
  return [steps, ...series.map(({ name, smooth }) => (smooth ? smoothed(metrics[name]) : metrics[name]))];
}

function seriesOptions({ name, label, colour: number, faint, sparse }) {
  const ink = colour(`--curve-${number}`);
  return {
    label,
    stroke: faint ? `${ink}55` : ink,
    width: faint ? 1 : name.startsWith("valid_") ? 1.5 : 2,
    dash: name.startsWith("valid_") ? [5, 4] : undefined,
    spanGaps: true,
    points: { show: Boolean(sparse) || steps.length < 2, size: 6, fill: ink },
    value: (_, value) => format(value),
  };
}

function plot(chart, series) {
  const figure = document.createElement("figure");
  const caption = document.createElement("figcaption");
  caption.id = `${chart.id}-caption`;
  caption.textContent = chart.title;
  figure.append(caption);
  figure.setAttribute("aria-labelledby", caption.id);
  holder.append(figure);
  const options = {
    width: widthOf(figure),
    height: 210,
    padding: [8, 18, 0, 0],
    scales: {
      x: { time: false, range: (_, low, high) => [Math.min(low ?? 1, 1), Math.max(high ?? 1, total, 2)] },
      ...(chart.range ? { y: { range: chart.range } } : {}),
    },
    axes: [axis({ size: 34, incrs: [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000] }), axis({ size: 48 })],
    series: [{ label: "step", value: (_, value) => format(value) }, ...series.map(seriesOptions)],
    cursor: { y: false, points: { size: 7 } },
    legend: { live: true },
    hooks: { setCursor: [showLastValues], setData: [showLastValues], ready: [showLastValues] },
  };
  const made = new uPlot(options, dataOf(series), figure);
  for (const name of figure.querySelectorAll(".u-series:not(:first-child) th")) makeFocusable(name);
  const names = series.map(({ label }) => label).join();
  plots.set(chart.id, { figure, made, names, caption, title: chart.title });
}

function describe(entry, series) {
  const text = series
    .filter(({ faint }) => !faint)
    .map(({ name, label }) => `${label} ${format(metrics[name].findLast((value) => value !== null))}`);
  entry.caption.textContent = entry.title;
  const note = document.createElement("span");
  note.className = "unseen";
  note.textContent = `, after step ${steps.at(-1)}: ${text.join(", ")}. All metrics are in the table below.`;
  entry.caption.append(note);
}

function draw() {
  document.getElementById("curves-empty").hidden = steps.length > 0;
  if (!steps.length) return;
  for (const chart of CHARTS) {
    const series = seriesOf(chart);
    if (!series.length) continue;
    const names = series.map(({ label }) => label).join();
    const known = plots.get(chart.id);
    if (known && known.names !== names) {
      known.made.destroy();
      known.figure.remove();
      plots.delete(chart.id);
    }
    if (plots.has(chart.id)) plots.get(chart.id).made.setData(dataOf(series));
    else plot(chart, series);
    describe(plots.get(chart.id), series);
  }
  for (const { id } of CHARTS) if (plots.has(id)) holder.append(plots.get(id).figure);
  section.dataset.points = String(steps.length);
}

// Points come in order of their steps, but a resumed training may repeat some: later ones win.
function add(piece) {
  for (const name of Object.keys(piece.metrics)) metrics[name] ??= steps.map(() => null);
  piece.steps.forEach((step, index) => {
    let at = steps.length;
    while (at > 0 && steps[at - 1] >= step) at -= 1;
    const replaces = steps[at] === step ? 1 : 0;
    steps.splice(at, replaces, step);
    for (const [name, values] of Object.entries(metrics)) {
      values.splice(at, replaces, piece.metrics[name]?.[index] ?? null);
    }
  });
  last = Math.max(last, piece.last);
  total = piece.total_steps ?? total;
}

async function read() {
  if (reading) {
    again = true;
    return;
  }
  reading = true;
  try {
    const response = await fetch(`${section.dataset.series}?after=${last}`);
    if (response.ok && response.headers.get("content-type") === "application/json") {
      add(await response.json());
      draw();
    }
  } catch {
    // The engine is unreachable for a moment; the next change of the page's state reads again.
  } finally {
    reading = false;
  }
  if (again) {
    again = false;
    read();
  }
}

function redraw() {
  for (const { figure, made } of plots.values()) {
    made.destroy();
    figure.remove();
  }
  plots.clear();
  draw();
}

let resizing = 0;
new ResizeObserver(() => {
  cancelAnimationFrame(resizing);
  resizing = requestAnimationFrame(() => {
    for (const { figure, made } of plots.values()) made.setSize({ width: widthOf(figure), height: 210 });
  });
}).observe(holder);
document.addEventListener("theme-changed", redraw);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
document.addEventListener("htmx:afterSwap", () => {
  const { steps: done, status } = document.getElementById("live").dataset;
  const state = `${done} ${status}`;
  if (state !== section.dataset.seen) read();
  section.dataset.seen = state;
});
read();
