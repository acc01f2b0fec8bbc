// The page: pictures come in, the model's answers are shown. This file connects the parts.

import { startCamera } from "./camera.js";
import { csvOf, download } from "./csv.js";
import { element, find } from "./dom.js";
import { Gallery, kindOf } from "./gallery.js";
import { startIntake } from "./intake.js";
import { startKey } from "./key.js";
import { showModel, startPanel } from "./panel.js";
import { askJson } from "./server.js";
import { Session } from "./session.js";
import { headline, Stage } from "./stage.js";
import { classNames, counted, percent } from "./words.js";

const MOST_COLUMNS = 100; // of probabilities in the CSV file
const RELOAD_PAUSE = 5000; // milliseconds between two looks for an exchanged model, at least
const SAID_ONE_BY_ONE = 3; // of more pictures, a screen reader hears a summary

const session = new Session(changed, answered);
const stage = new Stage(session);
const gallery = new Gallery(session, { select, remove });
let models = [];
let selected = null;
let lastLoad = 0;
let reloading = null; // a timer
let unsaid = []; // pictures whose answers were not yet said to a screen reader

function add(files) {
  complain("");
  const added = session.add(files);
  unsaid.push(...added);
  document.body.classList.add("has-pictures");
  gallery.add(added);
  select(added[0]);
  report();
}

function select(picture) {
  selected = picture;
  stage.show(picture);
  gallery.mark(picture);
}

function remove(picture) {
  const next = picture === selected ? neighbour(picture) : selected;
  session.remove(picture);
  gallery.drop(picture);
  unsaid = unsaid.filter((each) => each !== picture);
  if (session.pictures.length === 0) return empty();
  select(next);
  gallery.draw();
}

function neighbour(picture) {
  const place = session.pictures.indexOf(picture);
  return session.pictures[place + 1] ?? session.pictures[place - 1] ?? null;
}

function empty() {
  session.clear();
  gallery.clear();
  select(null);
  unsaid = [];
  document.body.classList.remove("has-pictures");
  say("");
  find("choose").focus();
}

// An answer or an explanation came; null: the server is busy.
function changed(picture) {
  if (picture && picture === selected) stage.draw();
  report();
}

let reported = false;
let counting = null; // a timer
// Draws counts and tiles anew, once for all that came in the meantime.
function report() {
  if (reported) return;
  reported = true;
  requestAnimationFrame(() => {
    reported = false;
    gallery.draw();
    const seconds = Math.ceil((session.wait - performance.now()) / 1000);
    find("busy").hidden = seconds <= 0;
    clearTimeout(counting);
    if (seconds > 0) {
      find("busy").textContent = `The server is busy; trying again in ${seconds} s.`;
      counting = setTimeout(report, 500);
    }
    sayAnswers();
  });
}

function sayAnswers() {
  const answers = unsaid.map((picture) => [picture, session.answer(picture)]);
  if (answers.length === 0 || answers.some(([, answer]) => !answer || answer.state === "waiting"))
    return;
  unsaid = [];
  if (answers.length <= SAID_ONE_BY_ONE) {
    return say(answers.map(([picture, answer]) => `${picture.name}: ${spoken(answer)}`).join(". "));
  }
  const kinds = answers.map(([, answer]) => kindOf(answer));
  const count = (kind) => kinds.filter((each) => each === kind).length;
  const parts = [counted(answers.length, "picture", "pictures")];
  for (const [kind, words] of [
    ["unsure", "unsure"],
    ["out", "out of scope"],
    ["failed", "failed"],
  ]) {
    if (count(kind) > 0) parts.push(`${count(kind)} ${words}`);
  }
  say(parts.join(", "));
}

function spoken(answer) {
  if (answer.state === "failed") return `no answer. ${answer.error}`;
  const { result } = answer;
  const name = classNames(session.model);
  if (session.model.task === "multilabel" && !result.out_of_scope) {
    return result.labels.map(name).join(", ") || "no tag";
  }
  const parts = [headline(result, session.model, name)];
  if (!result.out_of_scope) parts.push(percent(result.confidence));
  if (result.unsure) parts.push("unsure");
  return parts.join(", ");
}

const say = (text) => (find("said").textContent = text);

function complain(text) {
  find("failure").textContent = text;
  find("failure").hidden = text === "";
}

async function loadModels() {
  lastLoad = performance.now();
  ({ models } = await askJson("v1/models"));
  const seen = new Set(); // the first of a name is its newest version
  for (const model of models) {
    model.isNewest = !seen.has(model.name);
    seen.add(model.name);
  }
}

async function start() {
  try {
    await loadModels();
    if (models.length === 0) throw new Error("This server has no models.");
  } catch (error) {
    complain(error.message);
    find("retry").hidden = false;
    return;
  }
  complain("");
  find("retry").hidden = true;
  const wanted = new URLSearchParams(location.search).get("model");
  use(models.find((model) => titleOf(model) === wanted || model.name === wanted) ?? models[0]);
}

// Whatever the server says of a model, it says whose it is (`by`; null: it did not fit): where the
// model was exchanged since, the page is drawn anew and the pictures are asked again.
function answered(model, by) {
  if (by?.fingerprint === model.fingerprint || reloading !== null) return;
  // Not at once: behind one address there may be several servers, some with the old one.
  const pause = Math.max(0, lastLoad + RELOAD_PAUSE - performance.now());
  reloading = setTimeout(reload, pause);
}

async function reload() {
  try {
    await loadModels();
  } catch {
    return; // it cannot be reached: the pictures say so, and the next answer comes back to this
  } finally {
    reloading = null;
  }
  const { name, version, isNewest } = session.model; // the choice may have changed meanwhile
  const same = models.filter((model) => model.name === name);
  const wanted = same.find((model) => (isNewest ? model.isNewest : model.version === version));
  const next = wanted ?? models[0];
  if (next) use(next);
}

function titleOf(model) {
  return model.isNewest ? model.name : `${model.name} · version ${model.version}`;
}

function use(model) {
  document.title = `${model.name} · taxon`;
  find("model-name").textContent = model.name;
  find("model-name").hidden = models.length > 1;
  find("picker").hidden = models.length < 2;
  find("model-picker").replaceChildren(
    ...models.map((each, place) => element("option", { value: place }, titleOf(each))),
  );
  find("model-picker").value = models.indexOf(model);
  session.use(model);
  showModel(model);
  if (selected) stage.draw();
  report();
}

startKey();
startPanel(answered);
startIntake(add, complain);
startCamera(add, () => session.model, answered);
find("clear").addEventListener("click", empty);
find("retry").addEventListener("click", start);
find("csv").addEventListener("click", () => {
  const rows = session.pictures
    .map((picture) => ({ name: picture.name, answer: session.answer(picture) }))
    .filter(({ answer }) => answer && answer.state !== "waiting");
  const { classes, name } = session.model;
  download(
    csvOf(rows, classes.slice(0, classes.length > MOST_COLUMNS ? 0 : MOST_COLUMNS)),
    `${name}.csv`,
  );
});
find("model-picker").addEventListener("change", (event) => {
  const model = models[event.target.value];
  const address = new URL(location.href);
  address.searchParams.set("model", titleOf(model));
  history.replaceState(null, "", address); // to be sent to somebody
  use(model);
});
start();
