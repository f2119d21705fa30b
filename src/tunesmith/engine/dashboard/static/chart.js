// What all pages of curves share: colours of the theme, axes, smoothing, the legend.

// A running mean over about a fortieth of the steps, without bias at its beginning.
export function smoothed(values) {
  const keep = 1 - 1 / Math.max(2, Math.min(25, values.length / 40));
  let mean = 0;
  let weight = 0;
  return values.map((value) => {
    if (value === null) return null;
    mean = keep * mean + (1 - keep) * value;
    weight = keep * weight + (1 - keep);
    return mean / weight;
  });
}

// Without a cursor the legend shows each series' last value.
export function showLastValues(made) {
  if (made.cursor.idx !== null && made.cursor.idx !== undefined) return;
  made.setLegend({ idxs: made.data.map((values) => values.findLastIndex((value) => value !== null)) }, false);
}

export function colour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

export function format(value) {
  return value === null || value === undefined ? "–" : Number(value.toPrecision(4)).toString();
}

export function axis(extra) {
  return {
    stroke: colour("--muted"),
    grid: { stroke: colour("--line"), width: 1 },
    ticks: { stroke: colour("--line"), width: 1, size: 4 },
    font: "12px system-ui, sans-serif",
    ...extra,
  };
}

// uPlot hides a curve when its name in the legend is clicked; the keyboard must do the same.
export function makeFocusable(name) {
  name.tabIndex = 0;
  name.title = "Hide or show this curve";
  name.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" && event.key !== " ") return;
    event.preventDefault();
    name.click();
  });
}

export function widthOf(figure) {
  const { paddingLeft, paddingRight } = getComputedStyle(figure);
  return Math.max(240, Math.floor(figure.clientWidth - parseFloat(paddingLeft) - parseFloat(paddingRight)));
}
