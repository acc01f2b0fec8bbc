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
let openings = 0;

// `add` as in intake.js, `answered` as in session.js; `currentModel()` is the one that is asked.
export function startCamera(add, currentModel, answered) {
  const onPhone = matchMedia("(pointer: coarse)").matches;
  const hasCamera = Boolean(navigator.mediaDevices?.getUserMedia);
  find("take-photo").hidden = !onPhone;
  find("open-camera").hidden = onPhone || !hasCamera;
  if (onPhone || !hasCamera) return;

  const dialog = find("camera-dialog");
  const video = find("camera-video");
  let taken = 0;
  find("open-camera").addEventListener("click", async () => {
    openings += 1;
    const mine = openings;
    const isOpen = () => dialog.open && mine === openings; // it may have been opened again since
    if (await open(dialog, video, isOpen)) await answerLive(video, isOpen, currentModel, answered);
  });
  find("camera-close").addEventListener("click", () => dialog.close());
  dialog.addEventListener("close", () => {
    stop(video.srcObject);
    video.srcObject = null;
  });
  find("camera-take").addEventListener("click", async () => {
    if (!video.videoWidth) return;
    find("camera-take").disabled = true;
    const blob = await still(video);
    taken += 1;
    dialog.close();
    add([{ file: blob, name: `camera ${taken}.jpg` }]);
  });
}

// Returns whether the camera is shown now.
async function open(dialog, video, isOpen) {
  find("camera-says").textContent = "Starting the camera…";
  find("camera-bars").replaceChildren();
  find("camera-take").disabled = true;
  dialog.showModal();
  try {
    const stream = await navigator.mediaDevices.getUserMedia({
      video: { width: { ideal: 1280 }, facingMode: "environment" },
    });
    if (!isOpen()) {
      stop(stream); // else its light would stay on
      return false;
    }
    video.srcObject = stream;
    await video.play();
  } catch (error) {
    if (isOpen()) {
      find("camera-says").textContent =
        error.name === "NotAllowedError"
          ? "The browser does not let this page use the camera."
          : "No camera was found.";
    }
    return false;
  }
  if (!isOpen()) return false;
  find("camera-take").disabled = false;
  find("camera-take").focus();
  return true;
}

function stop(stream) {
  for (const track of stream?.getTracks() ?? []) track.stop();
}

// One request at a time, as fast as the server answers, until the dialog is closed.
async function answerLive(video, isOpen, currentModel, answered) {
  while (isOpen() && video.videoWidth) {
    const model = currentModel();
    if (!model) return;
    const top = Math.min(SHOWN, model.classes.length);
    try {
      const body = await still(video);
      const response = await inTurn(() =>
        ask(addressOf(model, { top }), {
          method: "POST",
          headers: { "Content-Type": body.type },
          body,
        }),
      );
      const { model: by, results } = await response.json();
      answered(model, by);
      if (isOpen()) showLive(results[0], model);
    } catch (error) {
      if (isOpen()) find("camera-says").textContent = capitalised(error.message);
      return;
    }
    await new Promise((resume) => setTimeout(resume, PAUSE));
  }
}

function showLive(result, model) {
  const shown = classNames(model);
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
