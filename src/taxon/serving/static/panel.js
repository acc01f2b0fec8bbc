// What the model is, beside its answers: facts, how it decides, classes, figures, drift, card.

import { copyText, element, find } from "./dom.js";
import { drawDrift, figureRows } from "./figures.js";
import { drawMarkdown } from "./markdown.js";
import { askJson } from "./server.js";
import { addressOf } from "./session.js";
import { classNames, percent } from "./words.js";

const SEARCHED_FROM = 12; // classes
const FIRST_FIGURES = 3; // the others are behind a click

let shownModel = null;
let answered = null;

// `whose(model, by)` is told which model was asked for, and whose card or drift came.
export function startPanel(whose) {
  answered = whose;
  find("drift-refresh").addEventListener("click", () => loadDrift(shownModel));
  find("drift").addEventListener("toggle", () => {
    if (find("drift").open) loadDrift(shownModel);
  });
  find("open-card").addEventListener("click", () => find("card-dialog").showModal());
  find("card-close").addEventListener("click", () => find("card-dialog").close());
  find("class-search").addEventListener("input", searchClasses);
}

export function showModel(model) {
  shownModel = model;
  find("panel-name").textContent = model.name;
  find("panel-kind").textContent = kindOf(model);
  drawFacts(model);
  find("decides").replaceChildren(...policyWords(model).map((text) => element("li", {}, text)));
  drawClasses(model, {});
  find("drift").hidden = !model.watches_drift;
  find("drift").open = false;
  // Shown when it is whole: it would move under the reader's eyes.
  return loadCard(model).finally(() => (find("panel").hidden = false));
}

function kindOf(model) {
  const count = model.classes.length;
  if (model.task === "multilabel") return `Finds any of ${count} tags in a picture`;
  if (model.is_taxonomy) return `Names one of ${count} classes, from coarse to fine`;
  return `Names one of ${count} classes`;
}

function drawFacts(model) {
  const copy = element("button", { type: "button", class: "small" }, "Copy");
  copy.addEventListener("click", () => copyText(model.fingerprint, copy));
  const facts = [
    ["Version", model.version],
    [
      "Fingerprint",
      element(
        "span",
        { class: "copied" },
        element("code", { title: model.fingerprint }, `${model.fingerprint.slice(0, 12)}…`),
        copy,
      ),
    ],
    ["Backbone", model.backbone],
    ["Input", `${model.input.width} × ${model.input.height} px`],
  ];
  find("facts").replaceChildren(
    ...facts.flatMap(([term, value]) => [element("dt", {}, term), element("dd", {}, value)]),
  );
}

// What the decision policy does, in sentences.
export function policyWords(model) {
  const words = [];
  if (model.task === "multilabel") {
    const limits = Object.values(model.thresholds);
    const [low, high] = [Math.min(...limits), Math.max(...limits)];
    const range = low === high ? percent(low) : `${percent(low)} to ${percent(high)}`;
    words.push(`A tag is named from its own threshold on: ${range}. It is the mark on its bar.`);
  } else if (model.taxonomy_rule === "least-risk") {
    words.push("It names the class whose mistakes are expected to be the nearest in the taxonomy.");
  } else {
    words.push(
      "It names the most probable class, or where its policy gives mistakes a price, the one with the least expected price.",
    );
  }
  if (model.abstain_below > 1)
    words.push("Every answer is marked unsure: nothing could be promised.");
  else if (model.abstain_below > 0)
    words.push(`An answer less than ${percent(model.abstain_below)} sure is marked unsure.`);
  else words.push("No answer is marked unsure.");
  if (model.set_coverage !== null) {
    words.push(
      `Its sets of possible classes hold the true one for ${percent(model.set_coverage)} of pictures like those it was calibrated on.`,
    );
  }
  words.push(
    model.flags_out_of_scope
      ? "Pictures of something else are flagged as out of scope, and not named."
      : "It cannot tell pictures of something else: they get one of its names too.",
  );
  return words;
}

function drawClasses(model, figures) {
  const name = classNames(model);
  const tags = model.task === "multilabel";
  find("classes-title").textContent = `${tags ? "Tags" : "Classes"} (${model.classes.length})`;
  find("class-list").replaceChildren(
    ...model.classes.map((each) =>
      element(
        "li",
        { "data-search": `${each} ${model.descriptions[each] ?? ""}`.toLowerCase() },
        element(
          "span",
          { class: "class-name", title: each },
          model.is_taxonomy ? each.replaceAll("/", " › ") : name(each),
        ),
        element(
          "span",
          { class: "class-figure" },
          classFigure(figures[each], model.thresholds?.[each]),
        ),
        model.descriptions[each]
          ? element("span", { class: "class-text" }, model.descriptions[each])
          : null,
      ),
    ),
  );
  find("class-search-box").hidden = model.classes.length < SEARCHED_FROM;
  find("class-search").value = "";
  find("class-none").hidden = true;
}

function classFigure(figures, threshold) {
  const parts = [];
  if (figures?.f1 !== null && figures?.f1 !== undefined) parts.push(`F1 ${percent(figures.f1)}`);
  if (figures) parts.push(`n ${figures.pictures}`);
  if (threshold !== undefined) parts.push(`from ${percent(threshold)}`);
  return parts.join(" · ");
}

function searchClasses(event) {
  const wanted = event.target.value.trim().toLowerCase();
  const items = [...find("class-list").children];
  for (const item of items) item.hidden = !item.dataset.search.includes(wanted);
  find("class-none").hidden = items.some((item) => !item.hidden);
}

async function loadCard(model) {
  for (const id of ["figures-section", "open-card", "no-card"]) find(id).hidden = true;
  let card;
  try {
    const answer = await askJson(addressOf(model, {}, "v1/card"));
    ({ card } = answer);
    answered(model, answer.model);
  } catch (error) {
    if (model !== shownModel) return;
    // An artefact alone has none.
    find("no-card").textContent =
      error.status === 404 ? "It has no model card, and no figures." : error.message;
    find("no-card").hidden = false;
    return;
  }
  if (model !== shownModel) return;
  const isMeasured = card.figures.length > 0;
  find("no-card").textContent = "Not measured yet: taxon evaluate writes its figures.";
  find("no-card").hidden = isMeasured;
  find("figures-section").hidden = !isMeasured;
  find("figures-about").textContent = isMeasured
    ? `On ${card.pictures.toLocaleString("en")} pictures of the test part, with 95\u00a0% intervals`
    : "";
  find("figures").replaceChildren(...figureRows(card.figures.slice(0, FIRST_FIGURES)));
  find("further-figures").replaceChildren(...figureRows(card.figures.slice(FIRST_FIGURES)));
  drawClasses(model, card.classes);
  find("open-card").hidden = card.text === null;
  if (card.text !== null) drawMarkdown(find("card-text"), card.text);
}

async function loadDrift(model) {
  try {
    const { model: by, drift } = await askJson(addressOf(model, {}, "v1/drift"));
    answered(model, by);
    if (model === shownModel) drawDrift(find("drift-body"), drift);
  } catch (error) {
    if (model !== shownModel) return;
    find("drift-body").replaceChildren(element("p", { class: "hint" }, error.message));
  }
}
