// Draws the Markdown that model cards are written in: headings, paragraphs, lists, tables, code,
// emphasis and links. Everything becomes nodes with text; no markup of the card is ever run.

import { element, scrolling } from "./dom.js";

export function drawMarkdown(target, text) {
  const lines = withoutFrontMatter(text)
    .replace(/<!--[\s\S]*?-->/g, "")
    .split(/\r?\n/);
  target.replaceChildren(...blocks(lines));
}

// What the Hub reads stands before the card, between two lines of three dashes.
function withoutFrontMatter(text) {
  return text.replace(/^---\r?\n[\s\S]*?\r?\n---\r?\n/, "");
}

function blocks(lines) {
  const made = [];
  let at = 0;
  // Takes lines while they are of a kind.
  const take = (isWanted) => {
    const from = at;
    while (at < lines.length && isWanted(lines[at])) at += 1;
    return lines.slice(from, at);
  };
  while (at < lines.length) {
    const line = lines[at];
    const heading = /^(#{1,6})\s+(.*?)\s*#*$/.exec(line);
    if (!line.trim()) at += 1;
    else if (heading) {
      at += 1;
      // The page has its own first two levels.
      made.push(element(`h${Math.min(6, heading[1].length + 1)}`, {}, ...inline(heading[2])));
    } else if (/^```/.test(line)) {
      at += 1;
      const code = take((each) => !/^```/.test(each));
      at += 1;
      made.push(codeBlock(code));
    } else if (/^ {4}/.test(line)) {
      made.push(codeBlock(take((each) => /^ {4}/.test(each)).map((each) => each.slice(4))));
    } else if (isTable(lines, at)) made.push(table(take((each) => each.trim().startsWith("|"))));
    else if (ITEM.test(line)) {
      made.push(list(take((each) => ITEM.test(each) || /^ {2,}\S/.test(each))));
    } else if (/^>/.test(line)) {
      const quoted = take((each) => /^>/.test(each)).map((each) => each.replace(/^> ?/, ""));
      made.push(element("blockquote", {}, ...blocks(quoted)));
    } else if (/^(-{3,}|\*{3,})\s*$/.test(line)) {
      at += 1;
      made.push(element("hr"));
    } else {
      const from = at;
      at += 1;
      take((each) => each.trim() && !STARTS_BLOCK.test(each));
      made.push(element("p", {}, ...inline(lines.slice(from, at).join(" "))));
    }
  }
  return made;
}

const ITEM = /^\s*([-*+]|\d+[.)])\s+/;
const STARTS_BLOCK = /^(#{1,6}\s|```|>|\||\s*([-*+]|\d+[.)])\s)/;

const codeBlock = (lines) => element("pre", { tabindex: 0 }, element("code", {}, lines.join("\n")));

const isTable = (lines, at) =>
  lines[at].trim().startsWith("|") && /^\s*\|[\s:|-]+\|\s*$/.test(lines[at + 1] ?? "");

function table([head, rule, ...rows]) {
  const sides = cells(rule).map((cell) => (/:$/.test(cell) ? "right" : undefined));
  const row = (line, tag) =>
    element(
      "tr",
      {},
      ...cells(line).map((cell, at) => element(tag, { class: sides[at] }, ...inline(cell))),
    );
  return scrolling(
    element(
      "table",
      {},
      element("thead", {}, row(head, "th")),
      element("tbody", {}, ...rows.map((line) => row(line, "td"))),
    ),
    "Table",
  );
}

// A bar with a backslash before it is part of a cell.
const cells = (line) =>
  line
    .trim()
    .replace(/^\||\|$/g, "")
    .split(/(?<!\\)\|/)
    .map((cell) => cell.replaceAll("\\|", "|").trim());

function list(lines) {
  const items = [];
  for (const line of lines) {
    if (ITEM.test(line)) items.push([line.replace(ITEM, "")]);
    else items.at(-1).push(line.trim());
  }
  const tag = /^\s*\d/.test(lines[0]) ? "ol" : "ul";
  return element(tag, {}, ...items.map((item) => element("li", {}, ...inline(item.join(" ")))));
}

// Code, bold, emphasis, links and escaped signs, whichever comes first.
const INLINE =
  /`([^`]+)`|\*\*(.+?)\*\*|\*([^*\s](?:.*?[^*\s])?)\*|\[([^\]]*)\]\(([^)\s]*)[^)]*\)|\\([\\`*_{}[\]()#+\-.!|<>~$&])/;

function inline(text) {
  const found = INLINE.exec(text);
  if (!found) return text ? [text] : [];
  const [whole, code, bold, emphasis, label, address, escaped] = found;
  const before = text.slice(0, found.index);
  let made = escaped;
  if (code !== undefined) made = element("code", {}, code);
  else if (bold !== undefined) made = element("strong", {}, ...inline(bold));
  else if (emphasis !== undefined) made = element("em", {}, ...inline(emphasis));
  else if (label !== undefined) made = link(label, address);
  return [before, made, ...inline(text.slice(found.index + whole.length))].filter(Boolean);
}

// Only to pages of the web; of anything else (a script, a file beside the card) the text is left.
function link(label, address) {
  if (!/^https?:/i.test(address)) return element("span", {}, ...inline(label));
  return element(
    "a",
    { href: address, rel: "noreferrer noopener", target: "_blank" },
    ...inline(label),
  );
}
