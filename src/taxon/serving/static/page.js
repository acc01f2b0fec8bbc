// The page: sends each picture to /v1/classify and shows what comes back.
// One request a picture, a few at a time: results appear as they are ready, and the
// server's batcher puts simultaneous ones together.

const AT_ONCE = 4;
const RETRIES = 4;

const find = (id) => document.getElementById(id);
const results = find("results");
const queue = [];
let model = null;
let active = 0;
let done = 0;
let failed = 0;
let generation = 0; // raised by Clear, so that late answers are dropped

const percent = (share) => {
  const value = share * 100;
  if (value > 0 && value < 0.1) return "<0.1 %";
  if (value > 99.9 && value < 100) return ">99.9 %";
  return `${value.toFixed(1)} %`;
};
// A taxonomy's class is a full path; a person reads its last part.
const leaf = (name) => name.split("/").pop();
const shared = new Set(); // last parts that several classes have: shown with their parent
const shown = (name) => {
  if (!model?.is_taxonomy) return name;
  return shared.has(leaf(name)) ? name.split("/").slice(-2).join(" › ") : leaf(name);
};

function element(tag, className, text) {
  const made = document.createElement(tag);
  made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

async function loadModel() {
  try {
    const response = await fetch("v1/model");
    if (!response.ok) throw new Error(`status ${response.status}`);
    model = await response.json();
  } catch (error) {
    find("model-facts").textContent = "";
    showFailure(`The model's description did not load (${error.message}). Is the server running?`);
    return;
  }
  const seen = new Set();
  for (const name of model.classes.map(leaf)) (seen.has(name) ? shared : seen).add(name);
  const kind = model.task === "multilabel" ? "tags" : "classes";
  document.title = `${model.name} · taxon`;
  find("model-name").textContent = model.name;
  find("model-facts").textContent =
    `${model.classes.length} ${kind} · ${model.backbone} · ` +
    `${model.input.width} × ${model.input.height} px`;
  const facts = [
    [kind === "tags" ? "Tags" : "Classes", model.classes.join(", ")],
    ["Backbone", model.backbone],
    ["Version", model.version],
    ["Fingerprint", model.fingerprint],
  ];
  if (model.set_coverage !== null) facts.push(["Sets hold the class", percent(model.set_coverage)]);
  if (model.abstain_below > 1) facts.push(["Unsure", "always"]);
  else if (model.abstain_below > 0) facts.push(["Unsure below", percent(model.abstain_below)]);
  for (const [term, description] of facts) {
    const value = element("dd", "");
    value.append(term === "Fingerprint" ? element("code", "", description) : description);
    find("about-list").append(element("dt", "", term), value);
  }
  find("about").hidden = false;
}

function showFailure(text) {
  find("failure").textContent = text;
  find("failure").hidden = false;
}

function add(files) {
  find("failure").hidden = true;
  const cards = document.createDocumentFragment();
  for (const file of files) {
    const card = find("card").content.firstElementChild.cloneNode(true);
    const image = card.querySelector("img");
    image.alt = file.name;
    image.onerror = () => image.replaceWith("no preview"); // a TIFF, say, or a broken file
    image.src = URL.createObjectURL(file);
    card.classList.add("waiting");
    card.querySelector(".file").textContent = file.name;
    card.querySelector(".file").title = file.name;
    cards.append(card);
    queue.push({ file, card, generation });
  }
  results.prepend(cards); // the newest on top, in the order in which they were chosen
  find("results-section").hidden = results.children.length === 0;
  report();
  pump();
}

function pump() {
  while (active < AT_ONCE && queue.length > 0) {
    const job = queue.shift();
    active += 1;
    classify(job).finally(() => {
      active -= 1;
      report();
      pump();
    });
  }
}

async function classify({ file, card, generation: mine }) {
  const started = performance.now();
  let result;
  let time = null;
  try {
    const response = await send(file);
    const answer = await response.json();
    if (!response.ok) throw new Error(answer.error ?? `the server answered ${response.status}`);
    result = answer.results[0];
    time = response.headers.get("Server-Timing")?.match(/dur=([\d.]+)/)?.[1];
  } catch (error) {
    const lost = error instanceof TypeError; // what fetch raises when nothing answers
    result = { error: lost ? "The server cannot be reached." : error.message };
  }
  if (mine !== generation) return;
  const total = Math.round(performance.now() - started);
  show(card, result);
  if (time != null) {
    card.querySelector(".time").textContent = `${Math.round(Number(time))} ms`;
    card.querySelector(".time").title = `in the server; ${total} ms with waiting and transfer`;
  }
  if (result.error) failed += 1;
  else done += 1;
  const said = [...card.querySelectorAll(".answer, .tags li, .badge, .message")]
    .filter((part) => !part.closest("[hidden]"))
    .map((part) => part.textContent);
  find("announcements").append(element("p", "", `${file.name}: ${said.join(", ")}`));
}

async function send(file) {
  const limit = model?.limits.max_body_bytes;
  // Some room for the form around the file.
  if (limit && file.size > limit - 4096) {
    const size = (bytes) => `${(bytes / 2 ** 20).toFixed(1)} MiB`;
    throw new Error(`${size(file.size)} is too large; at most ${size(limit)} are allowed.`);
  }
  for (let attempt = 0; ; attempt += 1) {
    const form = new FormData();
    form.append("files", file);
    const response = await fetch("v1/classify", { method: "POST", body: form });
    if (response.status !== 503 || attempt === RETRIES) return response;
    const seconds = Number(response.headers.get("Retry-After")) || 1;
    await new Promise((resume) => setTimeout(resume, seconds * 1000));
  }
}

function show(card, result) {
  card.classList.remove("waiting");
  const answer = card.querySelector(".answer");
  if (result.error) {
    answer.textContent = "No prediction";
    badge(card, "error", "error");
    // The server puts the file's name in front; the card has it already.
    const name = `${card.querySelector(".file").textContent}: `;
    const text = result.error.startsWith(name) ? result.error.slice(name.length) : result.error;
    card.querySelector(".message").textContent = text.charAt(0).toUpperCase() + text.slice(1);
    card.querySelector(".message").hidden = false;
    return;
  }
  if (result.out_of_scope) {
    answer.textContent = "Something else";
    badge(card, "unsure", "out of scope");
    card.querySelector(".message").textContent =
      "Unlike the pictures that the model was trained on: it is not named.";
    card.querySelector(".message").hidden = false;
  } else if (model?.task === "multilabel") {
    showTags(card, answer, result);
  } else {
    answer.textContent = shown(result.label);
    if (result.unsure) badge(card, "unsure", "unsure");
    else badge(card, "sure", percent(result.confidence));
    card.classList.toggle("is-unsure", result.unsure);
    if (result.prediction_set?.length > 1) {
      const message = card.querySelector(".message");
      message.textContent = `Could be: ${result.prediction_set.map(shown).join(", ")}`;
      message.hidden = false;
    }
    if (result.taxonomy.length > 0) {
      const path = card.querySelector(".path");
      path.textContent = result.taxonomy.map(leaf).join(" › ");
      path.title = "From coarse to the finest level that is confident enough";
      path.hidden = false;
    }
  }
  card.querySelector(".bars").replaceChildren(...result.top.map((scored) => bar(scored, result)));
}

function showTags(card, answer, result) {
  const count = result.labels.length;
  answer.textContent = count === 0 ? "No tag" : count === 1 ? "1 tag" : `${count} tags`;
  const tags = card.querySelector(".tags");
  tags.replaceChildren(...result.labels.map((name) => element("li", "", name)));
  tags.hidden = count === 0;
  if (result.unsure) badge(card, "unsure", "unsure");
}

function badge(card, kind, text) {
  const made = card.querySelector(".badge");
  made.classList.add(kind);
  made.textContent = text;
  made.hidden = false;
}

function bar({ label, probability }, result) {
  const row = element("li", result.labels.includes(label) ? "chosen" : "");
  const name = element("span", "name", shown(label));
  name.title = label;
  const track = element("span", "track");
  const fill = element("span", "fill");
  fill.style.width = `${probability * 100}%`;
  track.append(fill);
  const threshold = model?.thresholds?.[label];
  if (threshold !== undefined) {
    const limit = element("span", "limit");
    limit.style.left = `${threshold * 100}%`;
    limit.title = `named from ${percent(threshold)}`;
    track.append(limit);
  }
  row.append(name, track, element("span", "value", percent(probability)));
  return row;
}

function report() {
  const open = queue.length + active;
  const parts = [];
  if (open > 0) parts.push(`${open} under way`);
  if (done > 0) parts.push(`${done} classified`);
  if (failed > 0) parts.push(`${failed} without a prediction`);
  find("status").textContent = parts.join(", ");
}

function clear() {
  generation += 1;
  queue.length = 0;
  done = failed = 0;
  for (const image of results.querySelectorAll("img")) URL.revokeObjectURL(image.src);
  results.replaceChildren();
  find("announcements").replaceChildren();
  find("results-section").hidden = true;
  report();
  find("files").focus();
}

const drop = find("drop");
find("files").addEventListener("change", (event) => {
  add(event.target.files);
  event.target.value = ""; // so that the same file can be chosen again
});
find("clear").addEventListener("click", clear);
addEventListener("paste", (event) => {
  const files = event.clipboardData?.files ?? [];
  if (files.length > 0) add(files);
});
// The whole window takes a drop: next to the field, the browser would leave the page.
addEventListener("dragover", (event) => {
  event.preventDefault();
  drop.classList.add("over");
});
addEventListener("dragleave", (event) => {
  if (event.relatedTarget === null) drop.classList.remove("over");
});
addEventListener("drop", (event) => {
  event.preventDefault();
  drop.classList.remove("over");
  if (event.dataTransfer.files.length > 0) add(event.dataTransfer.files);
});

loadModel();
