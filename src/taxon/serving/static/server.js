// Requests to the server: a few at a time, again where it is busy, with a key where it wants one.

import { askForKey, storedKey } from "./key.js";

const AT_ONCE = 4;
const RETRIES = 6;
const LONGEST_WAIT = 30; // seconds

export class Refused extends Error {
  constructor(status, text) {
    super(text);
    this.status = status;
  }
}

// Fetches an address of this server; returns the response where it is a success.
// `onWait(seconds)` is called before each wait for a busy server.
export async function ask(address, { onWait, ...options } = {}) {
  for (let attempt = 0; ;) {
    const key = storedKey();
    const response = await reach(address, withKey(options, key));
    if (response.ok) return response;
    const text = await reason(response);
    if (response.status === 401) {
      // Another request may have asked for the key in the meantime.
      if (storedKey() === key && !(await askForKey(key !== null))) throw new Refused(401, text);
    } else if (response.status === 503 && attempt < RETRIES) {
      attempt += 1;
      const seconds = Math.min(Number(response.headers.get("Retry-After")) || 1, LONGEST_WAIT);
      onWait?.(seconds);
      await new Promise((resume) => setTimeout(resume, seconds * 1000));
    } else {
      throw new Refused(response.status, text);
    }
  }
}

export const askJson = async (address, options) => (await ask(address, options)).json();

function withKey(options, key) {
  if (key === null) return options;
  return { ...options, headers: { ...options.headers, Authorization: `Bearer ${key}` } };
}

async function reach(address, options) {
  try {
    return await fetch(address, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refused(0, "The server cannot be reached.");
  }
}

async function reason(response) {
  try {
    return (await response.json()).error ?? `The server answered ${response.status}.`;
  } catch {
    return `The server answered ${response.status}.`; // not the server itself: a proxy, say
  }
}

const waiting = [];
let active = 0;

// Does `work` when fewer than AT_ONCE others are being done; what is urgent goes first.
export function inTurn(work, { urgent = false } = {}) {
  return new Promise((resolve, reject) => {
    const job = { work, resolve, reject };
    if (urgent) waiting.unshift(job);
    else waiting.push(job);
    next();
  });
}

function next() {
  while (active < AT_ONCE && waiting.length > 0) {
    const { work, resolve, reject } = waiting.shift();
    active += 1;
    Promise.resolve()
      .then(work)
      .then(resolve, reject)
      .finally(() => {
        active -= 1;
        next();
      });
  }
}

// The time that the server says it took, in milliseconds; null where it does not say.
export function serverTime(response) {
  const said = response.headers.get("Server-Timing")?.match(/dur=([\d.]+)/);
  return said ? Number(said[1]) : null;
}
