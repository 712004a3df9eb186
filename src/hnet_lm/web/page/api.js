// Models behind a server. Errors carry the server's own message; `needsKey` says that a key is missing or wrong.

import { getKey } from "./keys.js";

export class ApiError extends Error {
  constructor(status, message) {
    super(message);
    this.needsKey = status === 401;
  }
}

async function ask(path, body, signal) {
  const headers = { "Content-Type": "application/json" };
  const key = getKey();
  if (key) headers.Authorization = `Bearer ${key}`;
  const options = body ? { method: "POST", body: JSON.stringify(body) } : {};
  const response = await fetch(path, { ...options, headers, signal });
  if (!response.ok) {
    const answer = await response.json().catch(() => null);
    throw new ApiError(response.status, answer?.error?.message ?? `the server answered ${response.status}`);
  }
  return response;
}

// { models, awaited }: what is served, and the names of models whose runs have written no checkpoint yet.
export async function listModels() {
  const { data, awaited } = await (await ask("/v1/models")).json();
  return { models: data, awaited };
}

// The run that trained a model, or trains it now; null of a model that is no run's.
export async function runOf(model, signal) {
  return (await ask(`/v1/runs/${encodeURIComponent(model)}`, undefined, signal)).json();
}

// An answer may come in parts, each about a longer beginning of the text; a server's comes whole.
export async function* chunksOf(model, text, signal) {
  const body = { model, input: text, encoding_format: "base64" };
  const { num_bytes, stages } = (await (await ask("/v1/chunks", body, signal)).json()).data[0];
  let offsets = new Uint32Array(num_bytes);
  for (let byte = 0; byte < num_bytes; byte++) offsets[byte] = byte;
  const unpacked = stages.map(({ boundary_prob, starts }) => {
    const stage = { offsets, boundary_prob: unpack(boundary_prob, Float32Array), starts: unpack(starts, Uint32Array) };
    offsets = stage.starts; // the positions of the next stage
    return stage;
  });
  yield { num_bytes, stages: unpacked };
}

function unpack(base64, Kind) {
  const bytes = Uint8Array.fromBase64?.(base64) ?? Uint8Array.from(atob(base64), (c) => c.charCodeAt(0)); // not everywhere yet
  return new Kind(bytes.buffer);
}

// { bytes, boundaries, finishReason } of a continuation, as they come.
export async function* complete(model, text, settings, signal) {
  const body = { ...settings, model, prompt: text, stream: true, routing: true };
  const response = await ask("/v1/completions", body, signal);
  for await (const data of events(response.body)) {
    if (data === "[DONE]") return;
    const { choices, error } = JSON.parse(data);
    if (error) throw new ApiError(500, error.message);
    yield { ...choices[0].routing, finishReason: choices[0].finish_reason };
  }
}

async function* events(stream) {
  const reader = stream.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (let part; !(part = await reader.read()).done; ) {
    const lines = (rest + part.value).split(/\r?\n/);
    rest = lines.pop();
    for (const line of lines) if (line.startsWith("data: ")) yield line.slice(6);
  }
}
