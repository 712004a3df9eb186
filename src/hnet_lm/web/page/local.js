// The model in this browser, in the place of api.js: it runs in a thread of its own. `hnetModel` and `hnetEngine` are what
// the scripts beside this one define: a folder that is opened as a file has no other way to its data.

const { manifest, weights } = globalThis.hnetModel;
const worker = new Worker(URL.createObjectURL(new Blob([`(${globalThis.hnetEngine})()`], { type: "text/javascript" })));
const listeners = new Map();
let numAsked = 0;

const packed = atob(weights);
const unpacked = new Uint8Array(packed.length);
for (let i = 0; i < packed.length; i++) unpacked[i] = packed.charCodeAt(i);
worker.postMessage({ kind: "load", manifest, buffer: unpacked.buffer }, [unpacked.buffer]);
worker.onmessage = ({ data }) => listeners.get(data.id)?.(data);

export const listModels = async () => ({ models: [manifest.model], awaited: [] });
export const runOf = async () => manifest.run;

export async function* chunksOf(_, text, signal) {
  for await (const { answer } of ask("chunks", text, {}, signal)) yield answer;
}

export async function* complete(_, text, settings, signal) {
  yield* ask("complete", text, settings, signal);
}

// The parts of an answer, as they come.
async function* ask(kind, text, settings, signal) {
  signal.throwIfAborted();
  const bytes = new TextEncoder().encode(text);
  const { max_prompt_bytes: most } = manifest.model;
  if (bytes.length > most) throw new Error(`the text has ${bytes.length} bytes, ${most} are allowed`);
  const id = ++numAsked;
  const parts = [];
  let wake = () => {};
  listeners.set(id, (part) => {
    parts.push(part);
    wake();
  });
  const abort = () => {
    worker.postMessage({ kind: "cancel", id });
    wake();
  };
  signal.addEventListener("abort", abort);
  worker.postMessage({ kind, id, bytes, settings });
  try {
    for (let isLast = false; !isLast; ) {
      while (!parts.length && !signal.aborted) await new Promise((resume) => (wake = resume));
      signal.throwIfAborted();
      const part = parts.shift();
      if (part.error) throw new Error(part.error);
      isLast = Boolean(part.isLast);
      yield part;
    }
  } finally {
    listeners.delete(id);
    signal.removeEventListener("abort", abort);
  }
}
