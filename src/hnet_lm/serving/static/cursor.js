// Walking through a picture, by pointer or keyboard: one chunk is selected and described in words.

import { decode } from "./bytes.js";

export class Cursor {
  // `shown()` gives what the view shows now, { bytes, chunking }; `say` takes the description.
  constructor(view, shown, say) {
    this.view = view;
    this.shown = shown;
    this.say = say;
    this.stage = 0;
    this.byte = null;
    view.element.addEventListener("pointerover", (event) => {
      const cell = event.target.closest(".cell");
      if (cell) this.select(cell.start, this.stage);
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
    this.view.cellAt(this.byte)?.scrollIntoView({ block: "nearest" });
  }

  select(byte, stage) {
    const { bytes, chunking } = this.shown();
    if (!chunking.stages.length || byte >= chunking.numBytes) return this.clear();
    this.stage = Math.min(stage, chunking.stages.length - 1);
    const [begin, end] = chunking.bounds(this.stage, byte);
    this.byte = begin;
    const first = this.view.cellAt(begin);
    for (const cell of this.view.cells) {
      cell.classList.toggle("selected", cell === first || (cell.start >= begin && cell.start < end));
    }
    const { ids, probs } = chunking.stages[this.stage];
    const prob = probs[begin] === undefined ? "" : `, probability ${probs[begin].toFixed(3)}`;
    const size = end - begin === 1 ? "1 byte" : `${end - begin} bytes`;
    this.say(
      `Stage ${this.stage}, chunk ${ids[begin] + 1} of ${chunking.numChunks(this.stage)}: ` +
        `“${decode(bytes.subarray(begin, end))}”, ${size} from ${begin}${prob}`,
    );
  }

  clear() {
    this.byte = null;
    for (const cell of this.view.cells) cell.classList.remove("selected");
    this.say("");
  }
}
