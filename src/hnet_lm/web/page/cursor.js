// Walking through a picture, by pointer or keyboard: one chunk is selected and described in words.

import { inWords } from "./bytes.js";
import { counted } from "./words.js";

export class Cursor {
  // `shown()` gives what the view shows now, { bytes, chunking }; `say` takes the description.
  constructor(view, shown, say) {
    this.view = view;
    this.shown = shown;
    this.say = say;
    this.stage = 0;
    this.byte = null;
    view.element.addEventListener("pointermove", (event) => {
      const place = view.placeAt(event);
      if (place) this.select(place.byte, place.stage ?? this.stage);
    });
    view.element.addEventListener("pointerleave", () => this.clear());
    view.element.addEventListener("focus", () => this.byte === null && this.select(0, this.stage));
    view.element.addEventListener("blur", () => this.clear());
    view.element.addEventListener("keydown", (event) => this.press(event));
  }

  press(event) {
    const { chunking } = this.shown();
    if (!chunking.numBytes || !chunking.stages.length || event.ctrlKey || event.altKey || event.metaKey) return;
    const [begin, end] = chunking.bounds(this.stage, this.byte ?? 0);
    const targets = {
      ArrowRight: [Math.min(end, chunking.numBytes - 1), this.stage],
      ArrowLeft: [Math.max(begin - 1, 0), this.stage],
      ArrowDown: [begin, Math.min(this.stage + 1, chunking.stages.length - 1)],
      ArrowUp: [begin, Math.max(this.stage - 1, 0)],
      Home: [0, this.stage],
      End: [chunking.numBytes - 1, this.stage],
    };
    if (!(event.key in targets)) return;
    event.preventDefault();
    this.select(...targets[event.key]);
    this.view.scrollTo(this.byte);
  }

  select(byte, stage) {
    const { bytes, chunking } = this.shown();
    if (!chunking.stages.length || byte >= chunking.numBytes) return this.clear();
    this.stage = Math.min(stage, chunking.stages.length - 1);
    const [begin, end] = chunking.bounds(this.stage, byte);
    this.byte = begin;
    this.view.select(begin, end);
    const { ids, probs } = chunking.stages[this.stage];
    const said = begin === 0 ? " (the start of a text always is one)" : "";
    const prob = Number.isNaN(probs[begin]) ? "" : `, probability ${probs[begin].toFixed(3)}${said}`;
    this.say(
      `Stage ${this.stage}, chunk ${ids[begin] + 1} of ${chunking.numChunks(this.stage)}: ` +
        `${inWords(bytes, begin, end)}, ${counted(end - begin, "byte")} from ${begin}${prob}`,
    );
  }

  clear() {
    this.byte = null;
    this.view.select(null);
    this.say("");
  }
}
