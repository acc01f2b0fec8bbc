// The pictures of this session and what the models said of them.
// What comes late belongs to the picture and the model it was asked for, never to what is shown.

import { ask, askJson, inTurn, Refused, serverTime } from "./server.js";
import { capitalised, mebibytes } from "./words.js";

const MOST_CLASSES = 100; // of which the probabilities are asked for
const FORM_BYTES = 4096; // room for the form around a file
const SENT = "picture"; // its name for the server: its own may be too long, or have odd signs
const EXCHANGED = "The model was exchanged in the meantime; its answers are coming.";

export class Session {
  // `changed(picture)` is called when an answer or explanation of a picture came, `answered(model,
  // by)` before it: the model that was asked, and the one that the server says it was; null where
  // the request did not fit the model.
  constructor(changed, answered) {
    this.pictures = [];
    this.model = null;
    this.changed = changed;
    this.answered = answered;
    this.made = 0;
    this.wait = 0; // when the server can be asked again, by performance.now()
  }

  // Puts pictures in front, in their order, and has them classified; returns them.
  add(files) {
    const added = files.map(({ file, name }) => ({
      id: (this.made += 1),
      file,
      name,
      answers: new Map(),
    }));
    this.pictures.unshift(...added);
    for (const picture of added) this.classify(picture);
    return added;
  }

  remove(picture) {
    this.pictures = this.pictures.filter((each) => each !== picture);
    picture.removed = true;
  }

  clear() {
    for (const picture of this.pictures) picture.removed = true;
    this.pictures = [];
  }

  // Asks again for what failed, and may not fail the next time.
  again() {
    for (const picture of this.pictures) {
      if (this.answer(picture)?.mayPass) this.classify(picture);
    }
    this.changed(null);
  }

  // From now on, this model answers; also for the pictures that are there.
  use(model) {
    this.model = model;
    for (const picture of this.pictures) {
      if (!this.answer(picture)) this.classify(picture);
    }
  }

  // What the present model says of a picture: { state, result, model, serverMs, totalMs, error,
  // mayPass, maps, shown }; state is "waiting", "done" or "failed"; undefined before it was asked.
  answer(picture) {
    return this.model && picture.answers.get(keyOf(this.model));
  }

  async classify(picture) {
    if (!this.model) return; // `use` comes back to it
    const model = this.model;
    const answer = { state: "waiting", maps: new Map(), shown: null };
    picture.answers.set(keyOf(model), answer);
    try {
      await inTurn(async () => {
        if (picture.removed) return;
        if (keyOf(model) !== keyOf(this.model)) {
          picture.answers.delete(keyOf(model)); // nobody waits for it: `use` comes back to it
          return;
        }
        requireSize(picture.file, model.limits.max_body_bytes);
        Object.assign(answer, await this.send(picture, model));
      });
    } catch (error) {
      Object.assign(answer, { state: "failed", ...this.failure(error, model) });
    }
    if (!picture.removed) this.changed(picture);
  }

  async send(picture, model) {
    const started = performance.now();
    const top = Math.min(model.classes.length, MOST_CLASSES);
    const response = await ask(addressOf(model, { top }), {
      method: "POST",
      body: formOf(picture),
      onWait: (seconds) => this.busy(seconds),
    });
    const { model: by, results } = await response.json();
    const totalMs = performance.now() - started;
    this.answered(model, by);
    return {
      state: "done",
      result: results[0],
      model: by,
      serverMs: serverTime(response),
      totalMs,
    };
  }

  // Asks where the answer comes from; `label` is a class. The explanation is kept in `answer.maps`.
  async explain(picture, label) {
    const model = this.model;
    const answer = picture.answers.get(keyOf(model));
    answer.shown = label;
    if (answer.maps.has(label) && !answer.maps.get(label).error) return;
    answer.maps.set(label, { waiting: true });
    try {
      const { model: by, results } = await inTurn(
        () =>
          askJson(addressOf(model, { top: 1, explain: true, label }), {
            method: "POST",
            body: formOf(picture),
            onWait: (seconds) => this.busy(seconds),
          }),
        { urgent: true },
      );
      this.answered(model, by);
      const isSame = by.fingerprint === answer.model.fingerprint;
      answer.maps.set(label, isSame ? results[0].explanation : { error: EXCHANGED });
    } catch (error) {
      answer.maps.set(label, this.failure(error, model));
    }
    if (!picture.removed) this.changed(picture);
  }

  // What to say of an error: { error, mayPass }; a picture that cannot be read never will be.
  failure(error, model) {
    const named = `${SENT}: `;
    const ofPicture = !(error instanceof Refused) || error.message.startsWith(named);
    // Another model may have fewer classes, say.
    if (!ofPicture && (error.status === 400 || error.status === 404)) this.answered(model, null);
    const words = ofPicture ? error.message.replace(named, "") : error.message;
    return { error: capitalised(words), mayPass: !ofPicture && error.status !== 413 };
  }

  busy(seconds) {
    this.wait = performance.now() + seconds * 1000;
    this.changed(null);
  }
}

const keyOf = (model) => `${model.name} ${model.version} ${model.fingerprint}`;

// The newest version of a model is asked for by its name alone, so that an exchange is followed.
export function addressOf(model, parameters, path = "v1/classify") {
  const query = new URLSearchParams({ model: model.name, ...parameters });
  if (!model.isNewest) query.set("version", model.version);
  return `${path}?${query}`;
}

function formOf(picture) {
  const form = new FormData();
  form.append("files", picture.file, SENT);
  return form;
}

function requireSize(file, limit) {
  if (file.size <= limit - FORM_BYTES) return;
  throw new Error(`${mebibytes(file.size)} is too large; at most ${mebibytes(limit)} are allowed.`);
}
