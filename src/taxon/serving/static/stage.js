// The picture that is looked at: its answer, its bars, and why.

import { barRow } from "./bars.js";
import { element, find } from "./dom.js";
import { drawHeat } from "./heat.js";
import { capitalised, classNames, leaf, milliseconds, percent } from "./words.js";

const FIRST_BARS = 5;

export class Stage {
  constructor(session) {
    this.session = session;
    this.picture = null;
    this.address = null; // of the picture, as the browser shows it
    this.showsAll = false; // bars
    find("why").addEventListener("click", () => this.toggleWhy());
    find("again").addEventListener("click", () => {
      this.session.again();
      this.draw();
    });
    find("opacity").addEventListener("input", () => this.fade());
    find("all-bars").addEventListener("click", () => {
      this.showsAll = !this.showsAll;
      this.draw();
    });
    find("photo-shown").addEventListener("load", () => this.drawOverlay());
    find("photo-shown").addEventListener("error", () => this.noPreview());
  }

  show(picture) {
    if (picture !== this.picture) {
      if (this.address) URL.revokeObjectURL(this.address);
      this.picture = picture;
      this.address = picture && URL.createObjectURL(picture.file);
      this.showsAll = false;
      this.hasPreview = true;
      const image = find("photo-shown");
      image.hidden = false;
      find("no-preview").hidden = true;
      find("overlay").hidden = true;
      if (picture) image.src = this.address;
      else image.removeAttribute("src");
    }
    find("stage").hidden = picture === null;
    if (picture) this.draw();
  }

  draw() {
    const { picture } = this;
    const { model } = this.session;
    const answer = this.session.answer(picture) ?? { state: "waiting", maps: new Map() };
    find("file-name").textContent = picture.name;
    find("photo-shown").alt = `The picture ${picture.name}`;
    find("stage").dataset.state = answer.state;
    find("stage").classList.toggle("is-unsure", Boolean(answer.result?.unsure));
    if (answer.state === "done") this.drawAnswer(answer, model);
    else this.drawNone(answer);
    this.drawWhy(answer);
    this.drawOverlay();
  }

  drawNone(answer) {
    const failed = answer.state === "failed";
    find("answer").textContent = failed ? "No answer" : "Looking…";
    setBadge(failed ? "failed" : null, failed ? "failed" : "");
    setWords(failed ? answer.error : "");
    find("again").hidden = !answer.mayPass;
    for (const id of ["path", "tags", "set", "bars"]) find(id).replaceChildren();
    for (const id of ["path", "tags", "set", "all-bars"]) find(id).hidden = true;
    find("latency").textContent = "";
  }

  drawAnswer(answer, model) {
    const { result } = answer;
    const shown = classNames(model);
    find("answer").textContent = headline(result, model, shown);
    setBadge(...badgeOf(result, model));
    setWords(verdict(result, model));
    find("again").hidden = true;
    fill("path", crumbs(result, shown), result.taxonomy.length > 0);
    const isTagged = model.task === "multilabel" && !result.out_of_scope;
    fill(
      "tags",
      result.labels.map((name) => element("li", {}, shown(name))),
      isTagged,
    );
    fill("set", setOf(result, model, shown), (result.prediction_set?.length ?? 0) > 0);
    this.drawBars(answer, model, shown);
    const times = [`${milliseconds(answer.totalMs)} in all`];
    if (answer.serverMs !== null) times.unshift(`${milliseconds(answer.serverMs)} in the server`);
    find("latency").textContent = times.join(" · ");
  }

  drawBars(answer, model, shown) {
    const { result } = answer;
    const first = Math.max(FIRST_BARS, result.labels.length);
    const rows = this.showsAll ? result.top : result.top.slice(0, first);
    const focused = document.activeElement?.closest?.("#bars li")?.dataset.label;
    find("bars").replaceChildren(
      ...rows.map((scored) =>
        barRow(scored, {
          chosen: result.labels.includes(scored.label),
          threshold: model.thresholds?.[scored.label],
          name: shown(scored.label),
          pressed: answer.shown === scored.label,
          onexplain: (label) => this.explain(answer.shown === label ? null : label),
        }),
      ),
    );
    // The row that has the focus was made anew.
    for (const row of find("bars").children) {
      if (row.dataset.label === focused) row.firstElementChild.focus();
    }
    const more = find("all-bars");
    more.hidden = result.top.length <= first;
    more.textContent = this.showsAll ? "Show fewer" : `Show ${result.top.length - first} more`;
    more.setAttribute("aria-expanded", String(this.showsAll));
  }

  toggleWhy() {
    const answer = this.session.answer(this.picture);
    if (answer?.state !== "done") return;
    this.explain(answer.shown === null ? asked(answer) : null);
  }

  // Shows what speaks for a class; null: nothing any more.
  explain(label) {
    const answer = this.session.answer(this.picture);
    if (label === null) answer.shown = null;
    else this.session.explain(this.picture, label);
    this.draw();
  }

  drawWhy(answer) {
    const map = answer.maps.get(answer.shown);
    const names = this.session.model && classNames(this.session.model);
    const button = find("why");
    button.disabled = answer.state !== "done" || !this.hasPreview;
    button.setAttribute("aria-pressed", String(Boolean(answer.shown)));
    button.textContent = answer.shown ? "Hide" : "Why?";
    const isDrawn = Boolean(map?.heat) && this.hasPreview;
    find("opacity").disabled = !isDrawn;
    let words = "";
    if (!this.hasPreview) words = "This browser cannot show such a file.";
    else if (map?.waiting)
      words = `Covering parts of the picture to see what speaks for ${names(answer.shown)}…`;
    else if (map?.error) words = map.error;
    else if (map) words = `${names(answer.shown)}: ${map.words || "the warm parts speak for it"}.`;
    else if (answer.state === "done") words = "See which parts speak for the answer.";
    find("why-words").textContent = words.replaceAll(" %", "\u00a0%");
    find("frame").classList.toggle("busy", answer.state === "waiting" || Boolean(map?.waiting));
  }

  drawOverlay() {
    const image = find("photo-shown");
    const answer = this.picture && this.session.answer(this.picture);
    const map = answer?.maps.get(answer.shown);
    // While the next picture is being read, the image still has the size of the one before.
    const isDrawn = Boolean(map?.heat) && image.complete && image.naturalWidth > 0;
    find("overlay").hidden = !isDrawn;
    if (!isDrawn) {
      image.style.filter = "";
      return;
    }
    drawHeat(find("overlay"), map, image.naturalWidth, image.naturalHeight);
    this.fade();
  }

  fade() {
    const share = find("opacity").value;
    find("overlay").style.opacity = share / 100;
    find("photo-shown").style.filter = `grayscale(${share}%)`; // so that only the heat has colours
    find("opacity-value").textContent = `${share} %`;
  }

  noPreview() {
    if (!this.picture) return;
    this.hasPreview = false; // a TIFF, say, or a broken file
    find("photo-shown").hidden = true;
    find("no-preview").hidden = false;
    this.draw();
  }
}

// The class that "Why?" is about: the answer, or the most probable class where there is none.
const asked = ({ result }) => result.label ?? result.top[0].label;

function setBadge(kind, text) {
  const badge = find("badge");
  badge.className = `badge ${kind ?? ""}`;
  badge.textContent = text;
  badge.hidden = kind === null;
}

function setWords(text) {
  find("verdict").textContent = text;
}

function fill(id, children, isShown) {
  find(id).replaceChildren(...children);
  find(id).hidden = !isShown;
}

export function headline(result, model, shown) {
  if (result.out_of_scope) return "Something else";
  if (model.task !== "multilabel") return shown(result.label);
  const count = result.labels.length;
  return count === 0 ? "No tag" : count === 1 ? "1 tag" : `${count} tags`;
}

function badgeOf(result, model) {
  if (result.out_of_scope) return ["out", "out of scope"];
  if (result.unsure) return ["unsure", "unsure"];
  if (model.task === "multilabel") return [null, ""];
  return ["sure", percent(result.confidence)];
}

// What the answer means, in words.
function verdict(result, model) {
  if (result.out_of_scope) {
    return "Unlike the pictures that the model was trained on, so it names nothing. The bars say what it would have been.";
  }
  if (result.unsure) {
    if (model.abstain_below > 1)
      return "Unsure, as every answer of this model is: nothing could be promised.";
    return `Only ${percent(result.confidence)} sure, and this model wants ${percent(model.abstain_below)}. Better have a person look.`;
  }
  if (model.task === "multilabel" && result.confidence !== null) {
    return `All tags right, and no other, with ${percent(result.confidence)}, if tags were independent.`;
  }
  return "";
}

// From coarse to the finest level that is sure enough; the class itself may be finer.
function crumbs(result, shown) {
  const steps = result.taxonomy.map((node) => element("li", { title: node }, leaf(node)));
  const isWhole = result.taxonomy.at(-1) === result.label;
  if (steps.length > 0 && !isWhole) {
    const rest = result.label ? `perhaps ${shown(result.label)}` : "no finer";
    steps.push(element("li", { class: "open" }, rest));
  }
  return steps;
}

function setOf(result, model, shown) {
  const names = (result.prediction_set ?? []).map((name) =>
    element("li", { title: name }, shown(name)),
  );
  const coverage =
    model.set_coverage === null ? "" : ` (right for ${percent(model.set_coverage)} of pictures)`;
  return [
    element("p", {}, `${capitalised(names.length === 1 ? "it is" : "it is one of")}${coverage}:`),
    element("ul", { class: "chips" }, ...names),
  ];
}
