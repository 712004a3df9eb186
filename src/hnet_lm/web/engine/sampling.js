// Choosing the next byte: what may come at all, repetition penalty, temperature, top-k, top-p, min-p, and a draw.

// As the Unicode standard's table of well-formed byte sequences: [first, last, next state], by state; 0 is between two
// characters.
const UTF8 = [
  [[0x00, 0x7f, 0], [0xc2, 0xdf, 1], [0xe0, 0xe0, 4], [0xe1, 0xec, 2], [0xed, 0xed, 5], [0xee, 0xef, 2], [0xf0, 0xf0, 6],
    [0xf1, 0xf3, 3], [0xf4, 0xf4, 7]],
  [[0x80, 0xbf, 0]],
  [[0x80, 0xbf, 1]],
  [[0x80, 0xbf, 2]],
  [[0xa0, 0xbf, 1]],
  [[0x80, 0x9f, 1]],
  [[0x90, 0xbf, 2]],
  [[0x80, 0x8f, 2]],
];
const BYTES_TO_COME = [0, 1, 2, 3, 2, 2, 3, 3];

const next = (state, byte) => UTF8[state].find(([first, last]) => first <= byte && byte <= last)?.[2] ?? null;

// A byte that does not fit ends the character before it.
export const advance = (state, byte) => next(state, byte) ?? next(0, byte) ?? 0;

// Whether each id may come: never BOS, the end only between characters, and only bytes that can still be completed.
export function allowed({ vocabSize, bos, eos }, validUtf8, state, room) {
  return Array.from({ length: vocabSize }, (_, id) => {
    if (id === bos) return false;
    if (id === eos) return !validUtf8 || state === 0;
    if (id > 0xff) return false;
    if (!validUtf8) return true;
    const after = next(state, id);
    return after !== null && BYTES_TO_COME[after] < room;
  });
}

export function choose(logits, may, seen, settings, uniform) {
  const { temperature = 1, top_k = 0, top_p = 1, min_p = 0, repetition_penalty = 1 } = settings;
  const values = Array.from(logits, (logit, id) => {
    if (!may[id]) return -Infinity;
    if (!seen.has(id)) return logit;
    return logit > 0 ? logit / repetition_penalty : logit * repetition_penalty;
  });
  const best = values.indexOf(Math.max(...values));
  if (temperature === 0) return best;
  const probs = values.map((value) => Math.exp((value - values[best]) / temperature));
  const total = sum(probs);
  const order = values.map((_, id) => id).sort((a, b) => probs[b] - probs[a]);
  const first = top_k === 0 ? order : order.slice(0, top_k);
  const within = sum(first.map((id) => probs[id])) / total;
  const kept = new Set();
  let before = 0;
  for (const id of first) {
    const share = probs[id] / total;
    const fits = (top_p === 1 || before < top_p * within) && probs[id] >= min_p * probs[order[0]];
    if (kept.size && !fits) break;
    kept.add(id);
    before += share;
  }
  const left = probs.map((prob, id) => (kept.has(id) ? prob : 0)); // in byte order
  let target = uniform * sum(left);
  for (let id = 0; id < left.length; id++) {
    if (left[id] > 0 && (target -= left[id]) < 0) return id;
  }
  return best;
}

// Uniform numbers in [0, 1) of a seed (splitmix32); not those that Python draws.
export function randomStream(seed = Math.floor(Math.random() * 2 ** 32)) {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x9e3779b9) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 16), 0x21f0aaad);
    mixed = Math.imul(mixed ^ (mixed >>> 15), 0x735a2d97);
    return ((mixed ^ (mixed >>> 15)) >>> 0) / 2 ** 32;
  };
}

const sum = (numbers) => numbers.reduce((total, number) => total + number, 0);
