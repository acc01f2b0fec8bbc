// A form that sends an operation's request, and the same request as a curl command.

import { copyText, element } from "./dom.js";
import { storedKey } from "./key.js";
import { ask, Refused, serverTime } from "./server.js";
import { exampleOf, withoutNull } from "./schema.js";
import { milliseconds } from "./words.js";

const MOST_SHOWN = 100_000; // characters of an answer
let made = 0;

// Returns the form's node. operation: { method, path, parameters, contents }.
export function trial(operation, api) {
  made += 1;
  const id = `trial-${made}`;
  const fields = operation.parameters.map((parameter, at) => field(parameter, `${id}-${at}`, api));
  const body =
    operation.contents.length > 0 ? bodyField(operation.contents, `${id}-body`, api) : null;
  const command = element("pre", { class: "command", tabindex: 0 }, element("code"));
  const copy = element("button", { type: "button", class: "small" }, "Copy");
  copy.addEventListener("click", () => copyText(command.textContent, copy));
  const send = element("button", { type: "submit", class: "primary" }, "Send");
  const answer = element("div", { class: "answer", role: "status" });
  const form = element(
    "form",
    { class: "trial" },
    ...fields.map((each) => each.node),
    body?.node,
    element(
      "div",
      { class: "command-head" },
      element("span", { class: "hint" }, "The same in a shell"),
      copy,
    ),
    command,
    send,
    answer,
  );
  const current = () => requestOf(operation, fields, body);
  const redraw = () => (command.firstChild.textContent = curl(operation, current(), body));
  form.addEventListener("input", redraw);
  form.addEventListener("change", redraw);
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    send.disabled = true;
    await sendRequest(operation, current(), body, answer);
    send.disabled = false;
    redraw(); // there may be a key now
  });
  redraw();
  return form;
}

function field(parameter, id, api) {
  const schema = withoutNull(parameter.schema, api);
  const isFlag = schema.type === "boolean";
  const isNumber = schema.type === "integer" || schema.type === "number";
  let input = element("input", {
    id,
    type: isNumber ? "number" : "text",
    min: schema.minimum,
    required: parameter.required,
    placeholder: schema.default ?? undefined,
    autocomplete: "off",
  });
  if (isFlag) {
    const values = ["", "true", "false"];
    input = element(
      "select",
      { id },
      ...values.map((value) => element("option", { value }, value || "–")),
    );
  }
  const label = element(
    "label",
    { for: id },
    element("code", {}, parameter.name),
    parameter.required ? " (required)" : "",
  );
  return { parameter, input, node: element("div", { class: "field" }, label, input) };
}

const isFiles = (type) => type === "multipart/form-data";
const isFile = (type) => type.startsWith("image/") || type === "application/octet-stream";

// The body: its type, and a file or a text with an example in it.
function bodyField(contents, id, api) {
  const kind = element(
    "select",
    { id: `${id}-kind` },
    ...contents.map(({ type }) => element("option", { value: type }, type)),
  );
  const files = element("input", { type: "file", id: `${id}-files`, "aria-label": "File" });
  const text = element("textarea", {
    id: `${id}-text`,
    rows: 8,
    spellcheck: "false",
    "aria-label": "Body",
  });
  const node = element(
    "div",
    { class: "field body" },
    element("label", { for: kind.id }, "Body"),
    kind,
    files,
    text,
  );
  const show = () => {
    const type = kind.value;
    files.hidden = !isFiles(type) && !isFile(type);
    files.multiple = isFiles(type);
    text.hidden = !files.hidden;
    if (!text.hidden && text.value === "") {
      const { schema } = contents.find((each) => each.type === type);
      text.value = JSON.stringify(exampleOf(schema, api), null, 2);
    }
  };
  kind.addEventListener("change", show);
  show();
  return { node, kind, files, text };
}

function requestOf({ path }, fields, body) {
  let address = path;
  const query = new URLSearchParams();
  for (const { parameter, input } of fields) {
    const { value } = input;
    if (parameter.in === "path") {
      address = address.replace(
        `{${parameter.name}}`,
        value ? encodeURIComponent(value) : `{${parameter.name}}`,
      );
    } else if (parameter.in === "query" && value !== "") query.set(parameter.name, value);
  }
  if (query.size > 0) address += `?${query}`;
  return { address: address.replace(/^\//, ""), type: body?.kind.value ?? null };
}

function options({ type }, { method }, body) {
  if (type === null) return { method };
  const files = [...body.files.files];
  if (isFiles(type)) {
    const form = new FormData();
    for (const file of files) form.append("files", file);
    return { method, body: form };
  }
  if (isFile(type)) {
    const file = files[0];
    const sent = type.endsWith("*") ? file?.type || "application/octet-stream" : type;
    return { method, body: file ?? "", headers: { "Content-Type": sent } };
  }
  return { method, body: body.text.value, headers: { "Content-Type": type } };
}

const quoted = (text) => `'${text.replaceAll("'", String.raw`'\''`)}'`;

function curl(operation, request, body) {
  const address = new URL(request.address, document.baseURI).href;
  const parts = [operation.method === "GET" ? "curl" : `curl -X ${operation.method}`];
  if (storedKey() !== null) parts.push('-H "Authorization: Bearer $TAXON_KEY"');
  const { type } = request;
  if (type !== null) {
    const names = [...body.files.files].map((file) => file.name);
    const named = names.length > 0 ? names : ["picture.jpg"];
    if (isFiles(type)) parts.push(...named.map((name) => `-F ${quoted(`files=@${name}`)}`));
    else {
      const data = isFile(type) ? `@${named[0]}` : body.text.value;
      const sent = type.endsWith("*") ? body.files.files[0]?.type || "image/jpeg" : type;
      parts.push(`-H ${quoted(`Content-Type: ${sent}`)}`, `--data-binary ${quoted(data)}`);
    }
  }
  parts.push(quoted(decodeURI(address)));
  return parts.join(parts.length > 2 ? " \\\n  " : " ");
}

async function sendRequest(operation, request, body, answer) {
  answer.replaceChildren(element("p", { class: "hint" }, "Waiting…"));
  const started = performance.now();
  try {
    const response = await ask(request.address, options(request, operation, body));
    const text = await response.text();
    const times = [milliseconds(performance.now() - started)];
    const server = serverTime(response);
    if (server !== null) times.push(`${milliseconds(server)} in the server`);
    showAnswer(answer, String(response.status), times.join(" · "), pretty(text, response));
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
    const status = error.status === 0 ? "no answer" : String(error.status);
    showAnswer(answer, status, milliseconds(performance.now() - started), error.message);
  }
}

function pretty(text, response) {
  const isJson = response.headers.get("Content-Type")?.includes("json");
  const shown = isJson && text ? JSON.stringify(JSON.parse(text), null, 2) : text;
  return shown.length > MOST_SHOWN ? `${shown.slice(0, MOST_SHOWN)}\n… (cut here)` : shown;
}

function showAnswer(answer, status, times, text) {
  const kind = status.startsWith("2") ? "good" : "bad";
  answer.replaceChildren(
    element("p", {}, element("span", { class: `status ${kind}` }, status), " ", times),
    element("pre", { tabindex: 0 }, element("code", {}, text || "(an empty body)")),
  );
}
