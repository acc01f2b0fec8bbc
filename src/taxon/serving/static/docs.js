// Draws /openapi.json as a page: what each operation takes and gives, and a form to try it.

import { element, find, scrolling } from "./dom.js";
import { startKey } from "./key.js";
import { askJson } from "./server.js";
import { exampleOf, fieldTree, limitWords, resolved, typeWords, withoutNull } from "./schema.js";
import { trial } from "./trial.js";

const METHODS = ["get", "post", "put", "patch", "delete"];

async function start() {
  let api;
  try {
    api = await askJson("openapi.json");
  } catch (error) {
    find("failure").textContent = error.message;
    find("failure").hidden = false;
    return;
  }
  document.title = `API · ${api.info.title}`;
  find("about").replaceChildren(
    element("p", { class: "hint" }, `${api.info.title} ${api.info.version}`),
    ...paragraphs(api.info.description),
  );
  for (const [tag, operations] of byTag(api)) {
    const title = `tag-${slug(tag)}`;
    find("operations").append(
      element(
        "section",
        { "aria-labelledby": title },
        element("h2", { id: title }, tag),
        ...operations.map((operation) => drawn(operation, api)),
      ),
    );
    find("contents").append(
      element("p", { class: "contents-tag" }, tag),
      element("ul", {}, ...operations.map(entry)),
    );
  }
  openNamed();
  addEventListener("hashchange", openNamed);
}

// tag -> its operations, in the document's order.
function byTag(api) {
  const tags = new Map();
  for (const [path, item] of Object.entries(api.paths)) {
    for (const method of METHODS.filter((each) => each in item)) {
      const said = item[method];
      const tag = said.tags?.[0] ?? "Other";
      if (!tags.has(tag)) tags.set(tag, []);
      tags.get(tag).push({
        id: `${method}-${slug(path)}`,
        method: method.toUpperCase(),
        path,
        said,
        parameters: [...(item.parameters ?? []), ...(said.parameters ?? [])].map((each) =>
          resolved(each, api),
        ),
        contents: Object.entries(resolved(said.requestBody, api).content ?? {}).map(
          ([type, { schema }]) => ({ type, schema }),
        ),
      });
    }
  }
  return tags;
}

const slug = (text) =>
  text
    .toLowerCase()
    .replace(/[^a-z0-9]+/g, "-")
    .replace(/^-|-$/g, "");

const badge = ({ method }) => element("span", { class: `method ${method.toLowerCase()}` }, method);

const entry = (operation) =>
  element(
    "li",
    {},
    element(
      "a",
      { href: `#${operation.id}`, title: operation.said.summary },
      badge(operation),
      " ",
      element("span", {}, operation.path),
    ),
  );

function drawn(operation, api) {
  const { said } = operation;
  const details = element(
    "details",
    { class: "operation", id: operation.id },
    element(
      "summary",
      {},
      badge(operation),
      element("code", { class: "path" }, ...breakable(operation.path)),
      element("span", { class: "summary" }, said.summary ?? ""),
    ),
  );
  // A closed one is drawn when it is opened first: the page is there at once.
  details.addEventListener("toggle", () => details.append(content(operation, api)), { once: true });
  return details;
}

// A long path may be broken after each slash.
const breakable = (path) =>
  path.split(/(?<=\/)/).flatMap((part, at) => (at > 0 ? [element("wbr"), part] : [part]));

function content(operation, api) {
  const { said } = operation;
  return element(
    "div",
    { class: "content" },
    ...paragraphs(said.description),
    ...parameterPart(operation, api),
    ...bodyPart(operation, api),
    ...answerPart(said.responses, api),
    element("h3", {}, "Try it"),
    trial(operation, api),
  );
}

function parameterPart({ parameters }, api) {
  if (parameters.length === 0) return [];
  const rows = parameters.map((parameter) => {
    const schema = withoutNull(parameter.schema, api);
    const limits = limitWords(schema);
    const type = typeWords(schema, api);
    return element(
      "tr",
      {},
      element(
        "th",
        { scope: "row" },
        element("code", {}, parameter.name),
        parameter.required ? element("span", { class: "required" }, " required") : null,
      ),
      element("td", {}, parameter.in),
      element("td", {}, limits ? `${type}; ${limits}` : type),
      element("td", {}, ...inline(parameter.description ?? parameter.schema?.description ?? "")),
    );
  });
  const head = ["Name", "In", "Type", "Meaning"].map((name) =>
    element("th", { scope: "col" }, name),
  );
  const table = element(
    "table",
    {},
    element("thead", {}, element("tr", {}, ...head)),
    element("tbody", {}, ...rows),
  );
  return [element("h3", {}, "Parameters"), scrolling(table, "Parameters")];
}

function bodyPart({ contents }, api) {
  if (contents.length === 0) return [];
  return [
    element("h3", {}, contents.length > 1 ? "Body, one of" : "Body"),
    ...contents.map(({ type, schema }) => {
      const tree = fieldTree(schema, api);
      const head = [
        element("code", {}, type),
        " ",
        element("span", { class: "facts" }, typeWords(schema, api)),
      ];
      return tree
        ? element("details", { class: "inner" }, element("summary", {}, ...head), tree)
        : element("p", {}, ...head);
    }),
  ];
}

// Successes each with its fields and an example; errors in a table, as all are one sentence.
function answerPart(responses, api) {
  const all = Object.entries(responses).map(([status, response]) => {
    const said = resolved(response, api);
    const [type, media] = Object.entries(said.content ?? {})[0] ?? [];
    return { status, text: said.description ?? "", type, media };
  });
  const isGood = ({ status }) => status.startsWith("2");
  const errors = all.filter((each) => !isGood(each));
  const parts = [
    element("h3", {}, "Answers"),
    ...all.filter(isGood).map((each) => success(each, api)),
  ];
  if (errors.length > 0) {
    const head = ["Status", "Means", "Example"].map((name) =>
      element("th", { scope: "col" }, name),
    );
    const table = element(
      "table",
      {},
      element("thead", {}, element("tr", {}, ...head)),
      element("tbody", {}, ...errors.map((each) => errorRow(each, api))),
    );
    parts.push(scrolling(table, "Errors"));
  }
  return parts;
}

const badgeOf = (status) =>
  element(
    "span",
    { class: `status ${status.startsWith("2") ? "good" : "bad"}` },
    status === "default" ? "other" : status,
  );

function exampleIn(media, api) {
  if (!media) return null;
  if (media.example !== undefined) return media.example;
  const [named] = Object.values(media.examples ?? {});
  return named?.value ?? (media.schema ? exampleOf(media.schema, api) : null);
}

function success({ status, text, type, media }, api) {
  const head = [badgeOf(status), " ", text, " ", element("span", { class: "facts" }, type ?? "")];
  const example = exampleIn(media, api);
  if (example === null) return element("p", { class: "response" }, ...head);
  return element(
    "details",
    { class: "inner" },
    element("summary", {}, ...head),
    fieldTree(media.schema, api),
    element("p", { class: "hint" }, "Example"),
    element("pre", { tabindex: 0 }, element("code", {}, JSON.stringify(example, null, 2))),
  );
}

function errorRow({ status, text, media }, api) {
  const example = exampleIn(media, api);
  // The sentence alone: around it, all errors look the same.
  const shown = status === "default" ? "" : (example?.error ?? JSON.stringify(example) ?? "");
  return element(
    "tr",
    {},
    element("th", { scope: "row" }, badgeOf(status)),
    element("td", {}, text),
    element("td", { class: "facts" }, shown),
  );
}

function paragraphs(text) {
  return (text ?? "")
    .split(/\n\s*\n/)
    .filter((each) => each.trim())
    .map((each) => element("p", {}, ...inline(each)));
}

// Code between backticks.
const inline = (text) =>
  text.split("`").map((part, at) => (at % 2 ? element("code", {}, part) : part));

// The operation that the address names is opened.
function openNamed() {
  const named = location.hash.length > 1 && document.getElementById(location.hash.slice(1));
  if (!named || named.tagName !== "DETAILS") return;
  named.open = true;
  named.scrollIntoView({ block: "start" });
  named.querySelector("summary").focus({ preventScroll: true });
}

startKey();
start();
