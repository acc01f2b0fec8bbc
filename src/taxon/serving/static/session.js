// The pictures of this session and what the models said of them.

import { ask, askJson, inTurn, serverTime } from "./server.js";
import { mebibytes } from "./words.js";

const MOST_CLASSES = 100; // of which the probabilities are asked for
const FORM_BYTES = 4096; // room for the form around a file

export class Session {
  // `changed(picture)` is called when an answer or explanation of a picture came.
  constructor(changed) {
    this.pictures = [];
    this.model = null;
    this.changed = changed;
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

  // From now on, this model answers; also for the pictures that are there.
  use(model) {
    this.model = model;
    for (const picture of this.pictures) {
      if (!this.answer(picture)) this.classify(picture);
    }
  }

  // What the present model says of a picture: { state, result, model, serverMs, totalMs, error,
  // maps, shown }; state is "waiting", "done" or "failed"; undefined before it was asked.
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
        requireSize(picture.file, model.limits.max_body_bytes);
        Object.assign(answer, await this.send(picture, model));
      });
    } catch (error) {
      answer.state = "failed";
      answer.error = withoutName(error.message, picture.name);
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
    const { model: answered, results } = await response.json();
    const totalMs = performance.now() - started;
    return {
      state: "done",
      result: results[0],
      model: answered,
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
      const { results } = await inTurn(
        () =>
          askJson(addressOf(model, { top: 1, explain: true, label }), {
            method: "POST",
            body: formOf(picture),
            onWait: (seconds) => this.busy(seconds),
          }),
        { urgent: true },
      );
      answer.maps.set(label, results[0].explanation);
    } catch (error) {
      answer.maps.set(label, { error: withoutName(error.message, picture.name) });
    }
    if (!picture.removed) this.changed(picture);
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
  form.append("files", picture.file, picture.name);
  return form;
}

function requireSize(file, limit) {
  if (file.size <= limit - FORM_BYTES) return;
  throw new Error(`${mebibytes(file.size)} is too large; at most ${mebibytes(limit)} are allowed.`);
}

// The server puts the file's name in front of an error; it stands beside it already.
function withoutName(text, name) {
  const rest = text.startsWith(`${name}: `) ? text.slice(name.length + 2) : text;
  return rest.charAt(0).toUpperCase() + rest.slice(1);
}
