// The model in a thread of its own. Messages in: { kind: "load" }, then { kind: "chunks" } and { kind: "complete" } with an
// id, a text in bytes and settings, and { kind: "cancel" } with the id. Messages out carry that id: parts of the answer,
// the last of them with `isLast`.

import { Model } from "./lm.js";
import { advance, allowed, choose, randomStream } from "./sampling.js";
import { Session } from "./session.js";

const SLICE = 30; // milliseconds of work between two looks for messages
const BETWEEN_PARTS = 400; // milliseconds between two parts of an answer about a long text
const encoder = new TextEncoder();

let model;
let encoding; // sessions: of encoders alone, and of the whole model
let writing;
let queue = Promise.resolve(); // one thing at a time
const cancelled = new Set();

onmessage = ({ data }) => {
  if (data.kind === "cancel") cancelled.add(data.id);
  else queue = queue.then(() => handle(data)).catch((error) => postMessage({ id: data.id, error: error.message }));
};

async function handle(message) {
  if (message.kind === "load") {
    model = new Model(message.manifest, message.buffer);
    encoding = new Session(model, (id, state) => model.encode(id, state));
    writing = new Session(model, (id, state) => model.step(id, state));
  } else if (message.kind === "chunks") await chunks(message);
  else await complete(message);
  cancelled.delete(message.id);
}

// Gives way to messages now and then; false once the answer is not wanted any more.
class Turns {
  constructor(id) {
    this.id = id;
    this.since = performance.now();
  }

  async mayGoOn() {
    if (performance.now() - this.since >= SLICE) {
      await new Promise((resume) => setTimeout(resume));
      this.since = performance.now();
    }
    return !cancelled.has(this.id);
  }
}

async function chunks({ id, bytes }) {
  const turns = new Turns(id);
  let last = performance.now();
  for (let at = encoding.begin(bytes); at < bytes.length; at++) {
    if (!(await turns.mayGoOn())) return;
    encoding.read(bytes[at]);
    if (performance.now() - last >= BETWEEN_PARTS) {
      last = performance.now();
      postMessage({ id, answer: chunksOf(encoding.results, model.numStages) });
    }
  }
  encoding.keep(true);
  if (await turns.mayGoOn()) postMessage({ id, answer: chunksOf(encoding.results, model.numStages), isLast: true });
}

// As the server answers: per stage the bytes that its positions stand for, their probabilities, and where chunks start.
// BOS is no part of it; where a stage counts it and the first bytes as one chunk, that position stands for byte 0.
export function chunksOf([bos, ...results], numStages) {
  const stages = [];
  let bosIsAlone = true;
  for (let s = 0; s < numStages; s++) {
    const [offsets, boundary_prob, starts] = [[], [], []];
    results.forEach((result, byte) => {
      const { probs, starts: decided } = byte === 0 && !bosIsAlone ? bos : result;
      if (probs.length <= s) return;
      offsets.push(byte);
      boundary_prob.push(probs[s]);
      if (byte === 0 || decided[s]) starts.push(byte);
    });
    stages.push({ offsets, boundary_prob, starts });
    bosIsAlone &&= results.length === 0 || Boolean(results[0].starts[s]);
  }
  return { num_bytes: results.length, stages };
}

async function complete({ id, bytes, settings }) {
  const turns = new Turns(id);
  const boundaries = ({ probs, starts }) => ({ probs, depth: starts.filter(Boolean).length });
  for (let at = 0, read = writing.begin(bytes); at < bytes.length; at++) {
    if (!(await turns.mayGoOn())) return;
    const result = at < read ? writing.results[at + 1] : writing.read(bytes[at]);
    postMessage({ id, bytes: [], boundaries: [boundaries(result)] });
  }
  writing.keep(true);
  const uniform = randomStream(settings.seed);
  const stops = (settings.stop ?? []).map((stop) => encoder.encode(stop));
  const seen = new Set(bytes);
  const written = [];
  let utf8 = bytes.reduce(advance, 0);
  for (let room = settings.max_tokens ?? 256; room > 0; room--) {
    if (!(await turns.mayGoOn())) return;
    const may = allowed(model, settings.valid_utf8, utf8, room);
    if (!may.some(Boolean)) break;
    const byte = choose(writing.logits, may, seen, settings, uniform());
    if (byte === model.eos) return postMessage({ id, bytes: [], boundaries: [], finishReason: "stop", isLast: true });
    written.push(byte);
    seen.add(byte);
    utf8 = advance(utf8, byte);
    const isStop = stops.some((stop) => stop.every((value, i) => written[written.length - stop.length + i] === value));
    if (room === 1 || isStop) {
      const finishReason = isStop ? "stop" : "length";
      return postMessage({ id, bytes: [byte], boundaries: [], finishReason, isLast: true });
    }
    postMessage({ id, bytes: [byte], boundaries: [boundaries(writing.read(byte))] });
  }
  postMessage({ id, bytes: [], boundaries: [], finishReason: "length", isLast: true });
}
