// Figures with their intervals, and drift.

import { element } from "./dom.js";
import { percent } from "./words.js";

// Of the population stability index.
const SOME_SHIFT = 0.1;
const SHIFT = 0.25;

const written = (figure, value) => (figure.unit === "share" ? percent(value) : value.toFixed(3));

// One row a figure: its value, and where it is a share a line from 0 to 1 with its interval.
export function figureRows(figures) {
  return figures.map((figure) => {
    const value = element("span", { class: "figure-value" }, written(figure, figure.value));
    const name = element("span", { class: "figure-name" }, figure.name);
    const row = element("li", { title: figure.meaning }, name, value);
    if (figure.ci95) {
      const [low, high] = figure.ci95.map((end) => written(figure, end).replace(" %", ""));
      row.append(element("span", { class: "figure-interval" }, `${low} to ${high}`));
    }
    if (figure.unit === "share") row.append(intervalLine(figure));
    row.append(element("span", { class: "figure-meaning" }, figure.meaning));
    return row;
  });
}

function intervalLine({ value, ci95 }) {
  const line = element("span", { class: "interval", "aria-hidden": "true" });
  if (ci95) {
    const range = element("span", { class: "range" });
    range.style.left = `${ci95[0] * 100}%`;
    range.style.width = `${(ci95[1] - ci95[0]) * 100}%`;
    line.append(range);
  }
  const dot = element("span", { class: "dot" });
  dot.style.left = `${value * 100}%`;
  line.append(dot);
  return line;
}

export function drawDrift(body, drift) {
  const rows = Object.entries(drift.index);
  const compared = `the ${drift.reference_pictures.toLocaleString("en")} pictures of the ${drift.part} part`;
  if (rows.length === 0) {
    const progress = element("progress", {
      max: drift.needed,
      value: drift.pictures,
      "aria-label": "pictures until drift can be said",
    });
    body.replaceChildren(
      element(
        "p",
        {},
        `${drift.pictures} of the ${drift.needed} pictures that it takes to compare with ${compared}.`,
      ),
      progress,
    );
    return;
  }
  body.replaceChildren(
    element(
      "p",
      {},
      `The latest ${drift.pictures.toLocaleString("en")} pictures against ${compared}: population stability index.`,
    ),
    element("ul", { class: "drift-list" }, ...rows.map(driftRow)),
  );
}

function driftRow([name, value]) {
  let kind = "stable";
  if (value >= SHIFT) kind = "shift";
  else if (value >= SOME_SHIFT) kind = "some shift";
  return element(
    "li",
    { class: kind.replace(" ", "-") },
    element("span", {}, name),
    element("span", { class: "figure-value" }, value.toFixed(2)),
    element("span", { class: "drift-word" }, kind),
  );
}
