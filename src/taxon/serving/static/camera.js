// The camera of a computer: what the model says of the live picture, and a button to keep one.
// On a phone its own camera takes the picture, and better.

import { barRow } from "./bars.js";
import { find } from "./dom.js";
import { ask, inTurn } from "./server.js";
import { addressOf } from "./session.js";
import { capitalised, classNames, percent } from "./words.js";

const SHOWN = 5;
const PAUSE = 150; // milliseconds between two live answers
const QUALITY = 0.92; // of the JPEG

// `add` as in intake.js; `currentModel()` gives the model that is asked.
export function startCamera(add, currentModel) {
  const onPhone = matchMedia("(pointer: coarse)").matches;
  const hasCamera = Boolean(navigator.mediaDevices?.getUserMedia);
  find("take-photo").hidden = !onPhone;
  find("open-camera").hidden = onPhone || !hasCamera;
  if (onPhone || !hasCamera) return;

  const dialog = find("camera-dialog");
  const video = find("camera-video");
  let taken = 0;
  find("open-camera").addEventListener("click", () => open(dialog, video, currentModel()));
  find("camera-close").addEventListener("click", () => dialog.close());
  dialog.addEventListener("close", () => stop(video));
  find("camera-take").addEventListener("click", async () => {
    if (!video.videoWidth) return;
    const blob = await still(video);
    taken += 1;
    dialog.close();
    add([{ file: blob, name: `camera ${taken}.jpg` }]);
  });
}

async function open(dialog, video, model) {
  find("camera-says").textContent = "Starting the camera…";
  find("camera-bars").replaceChildren();
  find("camera-take").disabled = true;
  dialog.showModal();
  try {
    video.srcObject = await navigator.mediaDevices.getUserMedia({
      video: { width: { ideal: 1280 }, facingMode: "environment" },
    });
    await video.play();
  } catch (error) {
    find("camera-says").textContent =
      error.name === "NotAllowedError"
        ? "The browser does not let this page use the camera."
        : "No camera was found.";
    return;
  }
  if (!dialog.open) return stop(video); // closed in the meantime
  find("camera-take").disabled = false;
  find("camera-take").focus();
  answerLive(dialog, video, model);
}

function stop(video) {
  for (const track of video.srcObject?.getTracks() ?? []) track.stop();
  video.srcObject = null;
}

// One request at a time, as fast as the server answers, until the dialog is closed.
async function answerLive(dialog, video, model) {
  if (!model) return;
  const shown = classNames(model);
  const top = Math.min(SHOWN, model.classes.length);
  while (dialog.open && video.videoWidth) {
    try {
      const body = await still(video);
      const response = await inTurn(() =>
        ask(addressOf(model, { top }), {
          method: "POST",
          headers: { "Content-Type": body.type },
          body,
        }),
      );
      const { results } = await response.json();
      if (dialog.open) showLive(results[0], model, shown);
    } catch (error) {
      if (dialog.open) find("camera-says").textContent = capitalised(error.message);
      return;
    }
    await new Promise((resume) => setTimeout(resume, PAUSE));
  }
}

function showLive(result, model, shown) {
  let words = result.labels.map(shown).join(", ") || "No tag";
  if (result.out_of_scope) words = "Something else";
  else if (result.label) words = `${shown(result.label)}, ${percent(result.confidence)}`;
  find("camera-says").textContent = result.unsure ? `${words} (unsure)` : words;
  find("camera-bars").replaceChildren(
    ...result.top.map((scored) =>
      barRow(scored, {
        chosen: result.labels.includes(scored.label),
        threshold: model.thresholds?.[scored.label],
        name: shown(scored.label),
      }),
    ),
  );
}

function still(video) {
  const canvas = document.createElement("canvas");
  canvas.width = video.videoWidth;
  canvas.height = video.videoHeight;
  canvas.getContext("2d").drawImage(video, 0, 0);
  return new Promise((resolve) => canvas.toBlob(resolve, "image/jpeg", QUALITY));
}
