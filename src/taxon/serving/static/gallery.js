// The pictures of the session as small tiles, with filters; arrow keys go from tile to tile.

import { element, find } from "./dom.js";
import { headline } from "./stage.js";
import { classNames, counted, median, milliseconds, percent } from "./words.js";

const SIDE = 240; // pixels of a tile's picture
const KINDS = [
  ["all", "All"],
  ["sure", "Answered"],
  ["unsure", "Unsure"],
  ["out", "Out of scope"],
  ["failed", "Failed"],
];
let lastThumbnail = Promise.resolve(); // one is made at a time: a photograph takes much memory
const SIGNS = { unsure: "?", out: "∅", failed: "!" };

export class Gallery {
  // `select(picture)` shows one; `remove(picture)` takes one away.
  constructor(session, { select, remove }) {
    this.session = session;
    this.select = select;
    this.remove = remove;
    this.tiles = new Map(); // picture -> its list item
    this.selected = null;
    this.kind = "all";
    this.label = "";
    this.labelsDrawn = null;
    this.buildFilters();
    find("tiles").addEventListener("keydown", (event) => this.onKey(event));
  }

  buildFilters() {
    for (const [kind, name] of KINDS) {
      const button = element(
        "button",
        {
          type: "button",
          class: "filter",
          "data-kind": kind,
          "aria-pressed": String(kind === "all"),
          onclick: () => {
            this.kind = kind;
            this.draw();
          },
        },
        element("span", {}, name),
        " ",
        element("span", { class: "count" }, "0"),
      );
      find("filters").append(button);
    }
    find("label-filter").addEventListener("change", (event) => {
      this.label = event.target.value;
      this.draw();
    });
  }

  add(pictures) {
    const made = pictures.map((picture) => this.makeTile(picture));
    find("tiles").prepend(...made); // the newest in front, in the order in which they came
    this.draw();
  }

  makeTile(picture) {
    const canvas = element("canvas", {
      class: "thumbnail",
      width: 4,
      height: 3,
      "aria-hidden": "true",
    });
    const button = element(
      "button",
      { type: "button", class: "tile", tabindex: -1, onclick: () => this.lookAt(picture) },
      canvas,
      element("span", { class: "sign", "aria-hidden": "true" }),
      element("span", { class: "caption" }),
      element("span", { class: "detail" }),
      element("span", { class: "unseen file" }),
    );
    const item = element("li", {}, button);
    item.picture = picture;
    this.tiles.set(picture, item);
    lastThumbnail = lastThumbnail.then(() => drawThumbnail(picture.file, canvas));
    this.drawTile(picture);
    return item;
  }

  drop(picture) {
    this.tiles.get(picture)?.remove();
    this.tiles.delete(picture);
  }

  clear() {
    for (const picture of [...this.tiles.keys()]) this.drop(picture);
    this.kind = "all";
    this.label = "";
    this.draw();
  }

  mark(picture) {
    this.selected = picture;
    for (const [each, item] of this.tiles) {
      const button = item.firstElementChild;
      if (each === picture) button.setAttribute("aria-current", "true");
      else button.removeAttribute("aria-current");
      button.tabIndex = each === picture ? 0 : -1;
    }
  }

  // A click; among many tiles, the picture may have been scrolled out of sight.
  lookAt(picture) {
    this.select(picture);
    find("frame").scrollIntoView({ block: "nearest" });
  }

  // The arrow keys; the focus goes with them, and its tile stays in sight.
  choose(picture) {
    this.select(picture);
    this.tiles.get(picture)?.firstElementChild.focus();
  }

  drawTile(picture) {
    const item = this.tiles.get(picture);
    const { model } = this.session;
    const answer = this.session.answer(picture);
    const kind = kindOf(answer);
    item.dataset.kind = kind;
    item.drawn = kind === "waiting" ? null : answer; // what does not change is not drawn again
    const [caption, detail] = captionOf(answer, model);
    item.querySelector(".caption").textContent = caption;
    item.querySelector(".detail").textContent = detail;
    item.querySelector(".sign").textContent = SIGNS[kind] ?? "";
    item.querySelector(".file").textContent = `, ${picture.name}`;
    item.firstElementChild.title = picture.name;
  }

  // Counts, filters and tiles anew.
  draw() {
    const answers = this.session.pictures.map((picture) => [picture, this.session.answer(picture)]);
    const counts = Object.fromEntries(KINDS.map(([kind]) => [kind, 0]));
    counts.all = answers.length;
    for (const [, answer] of answers)
      if (counts[kindOf(answer)] !== undefined) counts[kindOf(answer)] += 1;
    if (counts[this.kind] === 0) this.kind = "all"; // the last of its kind is gone
    for (const button of find("filters").children) {
      const { kind } = button.dataset;
      const tellsNothing = counts[kind] === 0 || counts[kind] === counts.all;
      button.hidden = kind !== "all" && kind !== this.kind && tellsNothing;
      button.setAttribute("aria-pressed", String(kind === this.kind));
      button.querySelector(".count").textContent = counts[kind];
    }
    this.drawLabels(answers);
    for (const [picture, answer] of answers) {
      const item = this.tiles.get(picture);
      if (item.drawn !== answer) this.drawTile(picture);
      item.hidden = !this.isShown(answer);
    }
    this.keepReachable();
    find("gallery").hidden = answers.length === 0;
    find("summary").textContent = summaryOf(answers.map(([, answer]) => answer));
    find("none-shown").hidden = answers.length === 0 || this.shown().length > 0;
  }

  drawLabels(answers) {
    const counts = new Map();
    for (const [, answer] of answers) {
      for (const label of answer?.result?.labels ?? [])
        counts.set(label, (counts.get(label) ?? 0) + 1);
    }
    if (!counts.has(this.label)) this.label = "";
    const state = JSON.stringify([...counts]);
    if (state === this.labelsDrawn) return; // it may be open
    this.labelsDrawn = state;
    const name = this.session.model ? classNames(this.session.model) : (label) => label;
    const select = find("label-filter");
    select.replaceChildren(
      element("option", { value: "" }, "Every class"),
      ...[...counts]
        .sort(([, a], [, b]) => b - a)
        .map(([label, count]) => element("option", { value: label }, `${name(label)} (${count})`)),
    );
    select.value = this.label;
    select.disabled = counts.size === 0;
  }

  isShown(answer) {
    const isOfKind = this.kind === "all" || kindOf(answer) === this.kind;
    return isOfKind && (this.label === "" || Boolean(answer?.result?.labels?.includes(this.label)));
  }

  // The pictures whose tiles are shown, in their order.
  shown() {
    return [...find("tiles").children].filter((item) => !item.hidden).map((item) => item.picture);
  }

  // One tile is reached by Tab: the selected one, or the first where that one is filtered out.
  keepReachable() {
    const shown = this.shown();
    const reached = shown.includes(this.selected) ? this.selected : shown[0];
    for (const [picture, item] of this.tiles) {
      item.firstElementChild.tabIndex = picture === reached ? 0 : -1;
    }
  }

  onKey(event) {
    const shown = this.shown();
    const picture = event.target.closest("li")?.picture;
    const place = shown.indexOf(picture);
    if (place < 0 || event.ctrlKey || event.metaKey || event.altKey) return;
    const target = {
      ArrowRight: place + 1,
      ArrowLeft: place - 1,
      ArrowDown: place + this.columns(),
      ArrowUp: place - this.columns(),
      Home: 0,
      End: shown.length - 1,
    }[event.key];
    if (target !== undefined) {
      event.preventDefault();
      if (shown[target]) this.choose(shown[target]);
    } else if (event.key === "Delete") {
      event.preventDefault();
      const next = shown[place + 1] ?? shown[place - 1];
      this.remove(picture);
      if (next) this.choose(next);
    }
  }

  columns() {
    return getComputedStyle(find("tiles")).gridTemplateColumns.split(" ").length;
  }
}

// waiting, failed, out, unsure or sure.
export function kindOf(answer) {
  if (!answer || answer.state !== "done") return answer?.state ?? "waiting";
  if (answer.result.out_of_scope) return "out";
  return answer.result.unsure ? "unsure" : "sure";
}

function captionOf(answer, model) {
  if (!answer || answer.state === "waiting") return ["…", ""];
  if (answer.state === "failed") return ["No answer", ""];
  const { result } = answer;
  const name = classNames(model);
  if (result.out_of_scope) return ["Something else", "out of scope"];
  if (model.task === "multilabel") {
    const count = headline(result, model, name);
    return [result.labels.map(name).join(", ") || "–", result.unsure ? `${count}, unsure` : count];
  }
  const sure = percent(result.confidence);
  return [headline(result, model, name), result.unsure ? `${sure}, unsure` : sure];
}

function summaryOf(answers) {
  const done = answers.filter((answer) => answer?.state === "done");
  const open = answers.filter((answer) => !answer || answer.state === "waiting");
  const parts = [counted(answers.length, "picture", "pictures")];
  if (open.length > 0) parts.push(`${open.length} under way`);
  const times = done.map((answer) => answer.serverMs).filter((time) => time !== null);
  if (times.length > 0) parts.push(`median ${milliseconds(median(times))} in the server`);
  return parts.join(" · ");
}

// A small copy: whole photographs by the hundred would fill the memory.
async function drawThumbnail(file, canvas) {
  try {
    const bitmap = await createImageBitmap(file, { resizeWidth: SIDE, resizeQuality: "medium" });
    canvas.width = bitmap.width;
    canvas.height = bitmap.height;
    canvas.getContext("2d").drawImage(bitmap, 0, 0);
    bitmap.close();
  } catch {
    canvas.classList.add("blank"); // the browser cannot read it; perhaps the server can
  }
}
