// The curves of several jobs over each other: a chart for each metric, a line for each job.

import { axis, colour, format, makeFocusable, showLastValues, smoothed, widthOf } from "./chart.js";

const section = document.getElementById("overlay");
const holder = document.getElementById("charts");
const jobs = JSON.parse(section.dataset.jobs);
const DASHES = [undefined, [8, 4], [3, 3], [10, 3, 2, 3]];
const CHARTS = [
  { id: "train-loss", title: "Training loss, smoothed", name: "train_loss", smooth: true },
  { id: "valid-loss", title: "Validation loss, whole set", name: "full_valid_loss" },
  { id: "valid-batch-loss", title: "Validation loss, one batch", name: "valid_loss" },
  { id: "train-accuracy", title: "Token accuracy, smoothed", name: "train_mean_token_accuracy", smooth: true, range: [0, 1] },
  { id: "valid-accuracy", title: "Token accuracy on the validation set", name: "full_valid_mean_token_accuracy", range: [0, 1] },
  { id: "class-accuracy", title: "Accuracy of the classes", name: "classification/accuracy", range: [0, 1] },
];
let plots = [];
let axisMode = "steps";

async function read(job) {
  const response = await fetch(`/jobs/${encodeURIComponent(job.id)}/series`);
  if (!response.ok) throw new Error(`status ${response.status}`);
  const { steps, metrics, total_steps: total } = await response.json();
  return { ...job, steps, metrics, total: total ?? steps.at(-1) ?? 1 };
}

/** The points of one metric of one job: those steps that have it, by step or by share of the job. */
function points(job, { name, smooth }) {
  const values = job.metrics[name];
  if (!values) return null;
  const shown = smooth ? smoothed(values) : values;
  const pairs = job.steps
    .map((step, index) => [axisMode === "steps" ? step : (100 * step) / job.total, shown[index]])
    .filter(([, value]) => value !== null);
  return pairs.length ? pairs : null;
}

/** Columns for uPlot: all places of all jobs, null where a job has no point. */
function columns(curves) {
  const places = [...new Set(curves.flatMap(({ pairs }) => pairs.map(([x]) => x)))].sort((a, b) => a - b);
  return [
    places,
    ...curves.map(({ pairs }) => {
      const known = new Map(pairs);
      return places.map((x) => known.get(x) ?? null);
    }),
  ];
}

function draw(loaded) {
  for (const made of plots) made.destroy();
  plots = [];
  holder.replaceChildren();
  for (const chart of CHARTS) {
    const curves = loaded.map((job, index) => ({ job, index, pairs: points(job, chart) })).filter(({ pairs }) => pairs);
    if (!curves.length) continue;
    const figure = document.createElement("figure");
    const caption = document.createElement("figcaption");
    caption.id = `${chart.id}-caption`;
    caption.textContent = chart.title;
    const note = document.createElement("span");
    note.className = "unseen";
    note.textContent = `: ${curves.map(({ job, pairs }) => `${job.label} ends at ${format(pairs.at(-1)[1])}`).join(", ")}.`;
    caption.append(note);
    figure.setAttribute("aria-labelledby", caption.id);
    figure.append(caption);
    holder.append(figure);
    const made = new uPlot(
      {
        width: widthOf(figure),
        height: 230,
        padding: [8, 18, 0, 0],
        scales: { x: { time: false }, ...(chart.range ? { y: { range: chart.range } } : {}) },
        axes: [axis({ size: 34, incrs: [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000] }), axis({ size: 48 })],
        series: [
          { label: axisMode === "steps" ? "step" : "% of the job", value: (_, value) => format(value) },
          ...curves.map(({ job, index, pairs }) => ({
            label: job.label,
            stroke: colour(`--curve-${1 + (index % 6)}`),
            width: 2,
            dash: DASHES[Math.floor(index / 6) % DASHES.length] ?? DASHES[index % DASHES.length],
            spanGaps: true,
            points: { show: pairs.length < 12, size: 6, fill: colour(`--curve-${1 + (index % 6)}`) },
            value: (_, value) => format(value),
          })),
        ],
        cursor: { y: false, points: { size: 7 } },
        legend: { live: true },
        hooks: { setCursor: [showLastValues], ready: [showLastValues] },
      },
      columns(curves),
      figure,
    );
    for (const name of figure.querySelectorAll(".u-series:not(:first-child) th")) makeFocusable(name);
    plots.push(made);
  }
  document.getElementById("curves-empty").hidden = plots.length > 0;
  section.dataset.charts = String(plots.length);
}

const empty = document.getElementById("curves-empty");
const outcomes = await Promise.allSettled(jobs.map(read));
const loaded = outcomes.filter(({ status }) => status === "fulfilled").map(({ value }) => value);
empty.textContent = loaded.length
  ? "None of these jobs has reported a step yet."
  : "The curves could not be read. Load the page again.";
draw(loaded);
document.getElementById("axis").addEventListener("change", (event) => {
  axisMode = event.target.value;
  draw(loaded);
});
let resizing = 0;
new ResizeObserver(() => {
  cancelAnimationFrame(resizing);
  resizing = requestAnimationFrame(() => {
    for (const made of plots) made.setSize({ width: widthOf(made.root.parentElement), height: 230 });
  });
}).observe(holder);
document.addEventListener("theme-changed", () => draw(loaded));
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => draw(loaded));
