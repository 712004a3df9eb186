// What is known of a model: its card, the statistics of the chunks shown, and the curves of the run that trains it.

import { runOf } from "./api.js";
import { drawBars, drawCurve } from "./plot.js";
import { compact, grouped } from "./words.js";

export const EVERY = 5000; // milliseconds between two looks at a run
const LONGEST = 24; // bytes; longer chunks are counted together

export class About {
  // `details` is the element that opens; nothing is drawn or asked for while it is closed.
  constructor(details, model, chunkingOf) {
    this.details = details;
    this.model = model;
    this.chunkingOf = chunkingOf;
    this.card = details.querySelector(".card-figures");
    this.statistics = details.querySelector(".statistics");
    this.curves = details.querySelector(".curves");
    this.card.replaceChildren(...cardOf(model, null));
    details.addEventListener("toggle", () => {
      this.drawChunks();
      if (details.open) this.follow();
    });
  }

  drawChunks() {
    if (!this.details.open) return;
    const chunking = this.chunkingOf();
    this.statistics.replaceChildren(...chunking.stages.map((_, s) => stageOf(s, chunking.lengths(s))));
  }

  // Draw the run's curves, again and again until it has ended or the card is closed.
  async follow() {
    clearTimeout(this.waiting);
    if (!this.details.open || !this.model.has_run) return;
    const run = await runOf(this.model.id).catch(() => null);
    if (run) {
      this.card.replaceChildren(...cardOf(this.model, run));
      this.curves.replaceChildren(...run.curves.map((curve) => drawCurve(curve)));
    }
    if (run && !run.has_ended) this.waiting = setTimeout(() => this.follow(), EVERY);
  }
}

function cardOf({ config, num_parameters, bits_per_byte: ofModel, weights }, run) {
  const { arch_layout, d_model, d_intermediate, attn_cfg, vocab_size } = config;
  const bits = run?.bits_per_byte ?? ofModel;
  const figures = {
    Layout: JSON.stringify(arch_layout).replaceAll('"', "").replaceAll(",", ", "),
    Width: d_model.join(", "),
    "MLP width": d_intermediate.map((width) => width || "–").join(", "),
    Heads: attn_cfg.num_heads.join(", "),
    "Attention window": attn_cfg.window_size.map((window) => (window < 0 ? "all" : window)).join(", "),
    Vocabulary: grouped(vocab_size),
    Parameters: compact(num_parameters),
  };
  if (weights) figures.Weights = weights;
  if (bits) figures["Bits per byte, held-out text"] = bits.toFixed(3);
  return [...rowsOf(figures), ...(run ? figuresOf(run) : [])];
}

// How far a run is.
export const figuresOf = ({ step, has_ended, bytes_seen }) =>
  rowsOf({ Step: `${grouped(step)}, ${has_ended ? "ended" : "training"}`, "Text read": `${compact(bytes_seen)}B` });

const rowsOf = (figures) =>
  Object.entries(figures).map(([name, value]) => {
    const row = document.createElement("div");
    row.append(made("dt", name), made("dd", String(value)));
    return row;
  });

function stageOf(stage, lengths) {
  const section = document.createElement("section");
  section.className = `stage-${stage % 4}`;
  section.append(made("h3", `Stage ${stage}: chunk lengths`));
  if (!lengths.length) {
    section.append(made("p", "no chunks yet"));
    return section;
  }
  const sorted = [...lengths].sort((a, b) => a - b);
  const mean = sorted.reduce((sum, length) => sum + length, 0) / sorted.length;
  const counts = Array(LONGEST).fill(0);
  for (const length of lengths) counts[Math.min(length, LONGEST) - 1]++;
  const middle = (sorted[(sorted.length - 1) >> 1] + sorted[sorted.length >> 1]) / 2;
  section.append(
    made("p", `mean ${mean.toFixed(2)}, median ${middle}, longest ${sorted.at(-1)} bytes`),
    drawBars(counts, `Chunk lengths of stage ${stage}, in bytes`, (i) => `${i + 1}${i + 1 === LONGEST ? "+" : ""}`),
  );
  return section;
}

function made(name, text) {
  const element = document.createElement(name);
  element.textContent = text;
  return element;
}
