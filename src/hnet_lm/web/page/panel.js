// One model's panel: the chunks of the text, and its continuation, each new byte joining its chunk as it comes; below
// them what is known of the model.

import { About } from "./about.js";
import { chunksOf, complete } from "./api.js";
import { decode, encode } from "./bytes.js";
import { Chunking } from "./chunking.js";
import { Cursor } from "./cursor.js";
import { View } from "./view.js";
import { compact, counted } from "./words.js";

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
    this.about = new About(part(".about"), model, () => this.chunking);
    const spoken = part(".spoken");
    this.cursor = new Cursor(this.view, () => this, (words) => (spoken.textContent = words));
    this.take.addEventListener("click", () => takeText(decode(this.bytes)));
    this.draw();
  }

  // Chunks of a text that was typed.
  async show(text, signal) {
    const bytes = encode(text);
    for await (const answer of chunksOf(this.model.id, text, signal)) {
      if (this.bytes !== bytes) {
        this.cursor.clear();
        this.bytes = bytes;
        this.numGiven = bytes.length;
        this.take.hidden = true;
        this.progress.textContent = "";
      }
      this.chunking = Chunking.fromAnswer(answer);
      this.draw();
    }
  }

  async generate(text, settings, signal) {
    this.cursor.clear();
    this.bytes = encode(text);
    this.numGiven = this.bytes.length;
    this.chunking = new Chunking(this.model.num_stages);
    this.take.hidden = true;
    this.progress.textContent = "Generating …";
    const begin = performance.now();
    let reason = "stopped";
    try {
      for await (const { bytes, boundaries, finishReason } of complete(this.model.id, text, settings, signal)) {
        const joined = new Uint8Array(this.bytes.length + bytes.length);
        joined.set(this.bytes);
        joined.set(bytes, this.bytes.length);
        this.bytes = joined;
        this.chunking.append(boundaries);
        this.drawSoon();
        reason = FINISHED[finishReason] ?? reason;
      }
    } catch (error) {
      if (error.name !== "AbortError") throw error;
    } finally {
      const numNew = this.bytes.length - this.numGiven;
      const seconds = (performance.now() - begin) / 1000;
      const speed = numNew ? ` (${(numNew / seconds).toFixed(0)} per second)` : "";
      this.progress.textContent = `${counted(numNew, "new byte")} in ${seconds.toFixed(1)} s${speed}: ${reason}.`;
      this.take.hidden = numNew === 0;
      this.draw();
    }
  }

  // At most one drawing per frame, however fast bytes come.
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
    this.about.drawChunks();
  }

  stageItem(stage) {
    const item = document.createElement("li");
    item.className = `stage-${stage % 4}`;
    const numChunks = this.chunking.numChunks(stage);
    item.innerHTML = '<b class="swatch" aria-hidden="true"><i></i><i></i></b>';
    const figures = document.createElement("span");
    figures.textContent = numChunks
      ? `${counted(numChunks, "chunk")}, ${(this.chunking.numBytes / numChunks).toFixed(2)} bytes each`
      : "no chunks";
    item.append(`Stage ${stage} `, figures);
    return item;
  }
}

function facts({ num_stages, num_parameters }) {
  const stages = ["isotropic: it reads bytes and makes no chunks", "1 chunking stage"][num_stages];
  return `${stages ?? `${num_stages} chunking stages`} · ${compact(num_parameters)} parameters`;
}
