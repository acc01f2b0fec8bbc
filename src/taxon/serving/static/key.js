// The key of a server that wants one: asked for once, kept until the tab is closed.

import { find } from "./dom.js";

const PLACE = "taxon-key";
let asking = null;

export const storedKey = () => sessionStorage.getItem(PLACE);

export function forgetKey() {
  sessionStorage.removeItem(PLACE);
  showState();
}

// Shows the dialog; resolves to whether a key was given. Requests that need one wait together.
export function askForKey(wasRefused) {
  asking ??= show(wasRefused).finally(() => (asking = null));
  return asking;
}

function show(wasRefused) {
  const dialog = find("key-dialog");
  const input = find("key-input");
  const form = find("key-form");
  find("key-refused").hidden = !wasRefused;
  input.value = "";
  input.setAttribute("aria-invalid", String(wasRefused));
  dialog.returnValue = "";
  dialog.showModal();
  return new Promise((resolve) => {
    const submit = (event) => {
      event.preventDefault();
      sessionStorage.setItem(PLACE, input.value.trim());
      dialog.close("given");
    };
    form.addEventListener("submit", submit);
    dialog.addEventListener(
      "close",
      () => {
        form.removeEventListener("submit", submit);
        showState();
        resolve(dialog.returnValue === "given");
      },
      { once: true },
    );
  });
}

function showState() {
  find("forget-key").hidden = storedKey() === null;
}

export function startKey() {
  find("key-cancel").addEventListener("click", () => find("key-dialog").close(""));
  find("forget-key").addEventListener("click", forgetKey);
  showState();
}
