// A model whose run has written no checkpoint yet: the curves of the run, until the model is there.

import { EVERY, figuresOf } from "./about.js";
import { listModels, runOf } from "./api.js";
import { drawCurve } from "./plot.js";

export class Awaited {
  constructor(name) {
    this.name = name;
    this.article = document.getElementById("awaited").content.cloneNode(true).firstElementChild;
    this.article.querySelector("h2").textContent = name;
  }

  // The model, when its first checkpoint is there.
  async model() {
    for (;;) {
      const { models } = await listModels();
      const model = models.find(({ id }) => id === this.name);
      if (model) return model;
      await this.drawRun();
      await new Promise((resume) => setTimeout(resume, EVERY));
    }
  }

  async drawRun() {
    const run = await runOf(this.name).catch(() => null);
    if (!run) return;
    this.article.querySelector(".card-figures").replaceChildren(...figuresOf(run));
    this.article.querySelector(".curves").replaceChildren(...run.curves.map((curve) => drawCurve(curve)));
  }
}
