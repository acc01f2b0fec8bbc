// The ways in which pictures come: chosen, dropped (folders too), pasted.

import { find } from "./dom.js";

// Formats that the server reads; of some, browsers know no type.
const PICTURE = /\.(jpe?g|png|gif|bmp|webp|tiff?|avif|heic|heif|jfif|ppm|pgm)$/i;
const MOST_FILES = 2000; // out of dropped folders

// Calls `add([{ file, name }])` with what came, `complain(text)` where it was nothing of use.
export function startIntake(add, complain) {
  startChoosing(add);
  startDropping(add, complain);
  startPasting(add, complain);
}

const named = (files) => Array.from(files, (file) => ({ file, name: file.name }));

function startChoosing(add) {
  for (const [input, button] of [
    ["files", "choose"],
    ["photo", "take-photo"],
  ]) {
    find(button).addEventListener("click", () => find(input).click());
    find(input).addEventListener("change", (event) => {
      if (event.target.files.length > 0) add(named(event.target.files));
      event.target.value = ""; // so that the same file can be chosen again
    });
  }
  // Its empty parts are a button too, for the mouse; the keyboard has the buttons in it.
  find("intake").addEventListener("click", (event) => {
    if (!event.target.closest("button, input, a")) find("files").click();
  });
}

function startDropping(add, complain) {
  const over = (is) => document.body.classList.toggle("dropping", is);
  const hasDialog = () => document.querySelector("dialog[open]") !== null;
  // The whole window takes a drop: next to a field, the browser would leave the page.
  addEventListener("dragover", (event) => {
    event.preventDefault();
    over(!hasDialog());
  });
  addEventListener("dragleave", (event) => {
    if (event.relatedTarget === null) over(false);
  });
  addEventListener("drop", async (event) => {
    event.preventDefault();
    over(false);
    if (hasDialog()) return;
    const files = await filesOf(event.dataTransfer);
    if (files.length > 0) add(files);
    else complain("That was no file. Save the picture first, then drop the file here.");
  });
}

async function filesOf(transfer) {
  const entries = Array.from(transfer.items, (item) => item.webkitGetAsEntry?.());
  const plain = named(transfer.files); // to be read before the first wait: then it is emptied
  if (!entries.some((entry) => entry?.isDirectory)) return plain;
  const found = [];
  for (const entry of entries) if (entry) await collect(entry, found);
  return found;
}

// A folder's pictures, those of its folders too; other files in it are passed over.
async function collect(entry, found) {
  if (found.length >= MOST_FILES || entry.name.startsWith(".")) return;
  if (entry.isFile) {
    if (!PICTURE.test(entry.name)) return;
    const file = await new Promise((resolve, reject) => entry.file(resolve, reject));
    found.push({ file, name: entry.fullPath.replace(/^\//, "") });
    return;
  }
  const reader = entry.createReader();
  for (;;) {
    // It gives a hundred at a time, and none at the end.
    const some = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
    if (some.length === 0) return;
    for (const each of some) await collect(each, found);
  }
}

function startPasting(add, complain) {
  addEventListener("paste", (event) => {
    const files = event.clipboardData?.files ?? [];
    if (files.length > 0) add(named(files));
    else if (!event.target.closest?.("input, textarea")) complain("The clipboard has no picture.");
  });
  const button = find("paste");
  button.hidden = !navigator.clipboard?.read; // only on pages with HTTPS, or of this machine
  button.addEventListener("click", async () => {
    try {
      const items = await navigator.clipboard.read();
      const files = [];
      for (const item of items) {
        const type = item.types.find((each) => each.startsWith("image/"));
        if (!type) continue;
        const name = `pasted.${type.split("/")[1].split("+")[0]}`;
        files.push({ file: new File([await item.getType(type)], name, { type }), name });
      }
      if (files.length > 0) add(files);
      else complain("The clipboard has no picture.");
    } catch {
      complain("The browser did not let the page read the clipboard. Press Ctrl+V instead.");
    }
  });
}
