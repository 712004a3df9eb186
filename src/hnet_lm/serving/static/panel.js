// One model's panel: the chunks of the text, and its continuation, each new byte joining its chunk as it comes.

import { chunksOf, complete } from "./api.js";
import { decode, encode } from "./bytes.js";
import { Chunking } from "./chunking.js";
import { Cursor } from "./cursor.js";
import { View } from "./view.js";

const FINISHED = { stop: "the text came to its end", length: "as many as were asked for" };

export class Panel {
  constructor(model, takeText) {
    this.model = model;
    this.bytes = new Uint8Array();
    this.numGiven = 0;
    this.chunking = new Chunking(model.num_stages);
    const article = document.getElementById("panel").content.cloneNode(true).firstElementChild;
    const part = (name) => article.querySelector(name);
    this.article = article;
    this.stages = part(".stages");
    this.take = part(".take");
    this.progress = part(".progress");
    part("h2").textContent = model.id;
    part(".facts").textContent = facts(model);
    part(".view").setAttribute("aria-label", `Chunks of ${model.id}; arrow keys walk through them`);
    this.view = new View(part(".view"));
    const spoken = part(".spoken");
    new Cursor(this.view, () => this, (words) => (spoken.textContent = words));
    this.take.addEventListener("click", () => takeText(decode(this.bytes)));
    this.draw();
  }

  // Chunks of a text that was typed.
  async show(text, signal) {
    const answer = await chunksOf(this.model.id, text, signal);
    this.bytes = encode(text);
    this.numGiven = this.bytes.length;
    this.chunking = Chunking.fromAnswer(answer);
    this.take.hidden = true;
    this.progress.textContent = "";
    this.draw();
  }

  async generate(text, settings, signal) {
    this.bytes = encode(text);
    this.numGiven = this.bytes.length;
    this.chunking = new Chunking(this.model.num_stages);
    this.take.hidden = true;
    this.progress.textContent = "Generating …";
    const begin = performance.now();
    let reason = "stopped";
    try {
      for await (const choice of complete({ ...settings, model: this.model.id, prompt: text }, signal)) {
        const { bytes, boundaries } = choice.routing;
        this.bytes = Uint8Array.from([...this.bytes, ...bytes]);
        this.chunking.append(boundaries);
        this.drawSoon();
        reason = FINISHED[choice.finish_reason] ?? reason;
      }
    } catch (error) {
      if (error.name !== "AbortError") throw error;
    } finally {
      const numNew = this.bytes.length - this.numGiven;
      const seconds = (performance.now() - begin) / 1000;
      this.progress.textContent =
        `${numNew} new bytes in ${seconds.toFixed(1)} s (${(numNew / seconds).toFixed(0)} a second): ${reason}.`;
      this.take.hidden = numNew === 0;
      this.draw();
    }
  }

  // At most one drawing a frame, however fast bytes come.
  drawSoon() {
    this.frame ??= requestAnimationFrame(() => {
      this.draw();
      this.view.scrollToEnd();
    });
  }

  draw() {
    cancelAnimationFrame(this.frame);
    this.frame = undefined;
    this.view.draw(this.bytes, this.chunking, this.numGiven);
    this.stages.replaceChildren(...this.chunking.stages.map((_, s) => this.stageItem(s)));
  }

  stageItem(stage) {
    const item = document.createElement("li");
    item.className = `stage-${stage % 4}`;
    const numChunks = this.chunking.numChunks(stage);
    const size = numChunks ? (this.chunking.numBytes / numChunks).toFixed(2) : "–";
    item.innerHTML = '<b class="swatch" aria-hidden="true"><i></i><i></i></b>';
    const figures = document.createElement("span");
    figures.textContent = `${numChunks} chunks, ${size} bytes per chunk`;
    item.append(`Stage ${stage}`, figures);
    return item;
  }
}

function facts({ num_stages, num_parameters }) {
  const stages = ["isotropic: it reads bytes and makes no chunks", "1 chunking stage"][num_stages];
  const size = new Intl.NumberFormat("en", { notation: "compact", maximumSignificantDigits: 3 }).format(num_parameters);
  return `${stages ?? `${num_stages} chunking stages`} · ${size} parameters`;
}
