// Calibrated probabilities as bars.

import { element } from "./dom.js";
import { percent } from "./words.js";

// One class: its name, bar and probability; a multi-label model's threshold is a mark on it.
// With `onexplain(label)` the row is a button that explains the class.
export function barRow({ label, probability }, { chosen, threshold, name, pressed, onexplain }) {
  const fill = element("span", { class: "fill" });
  fill.style.width = `${probability * 100}%`;
  const track = element("span", { class: "track", "aria-hidden": "true" }, fill);
  if (threshold !== undefined) {
    const mark = element("span", { class: "threshold", title: `named from ${percent(threshold)}` });
    mark.style.left = `${threshold * 100}%`;
    track.append(mark);
  }
  const parts = [
    element("span", { class: "name", title: label }, name),
    track,
    element("span", { class: "value" }, percent(probability)),
  ];
  if (threshold !== undefined) {
    parts.push(element("span", { class: "unseen" }, `, named from ${percent(threshold)}`));
  }
  const row = onexplain
    ? element(
        "button",
        {
          type: "button",
          class: "bar",
          "aria-pressed": String(pressed),
          title: `${label}: show what in the picture speaks for it`,
          onclick: () => onexplain(label),
        },
        ...parts,
        element("span", { class: "ask", "aria-hidden": "true" }, "why?"),
      )
    : element("div", { class: "bar" }, ...parts);
  return element("li", { class: chosen ? "chosen" : undefined, "data-label": label }, row);
}
