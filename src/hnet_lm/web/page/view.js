// The picture of a text in chunks: one element per line, of equal heights, in blocks that the browser leaves out while they
// are far from the window. Text is text; the bands are on one canvas behind the lines that are in or near the window. A
// drawing keeps the elements of the lines that did not change.

import { GLYPHS, lineHeight, paintBands, readPalette } from "./bands.js";
import { characters } from "./bytes.js";
import { Chunking } from "./chunking.js";
import { Ruler, intoLines } from "./lines.js";

const LINES_PER_BLOCK = 32;

export class View {
  constructor(element) {
    this.element = element;
    this.ruler = new Ruler(element);
    this.lines = [];
    this.blocks = [];
    this.found = [];
    this.before = NOTHING; // what was laid out last, at this width and in this font
    this.bytes = new Uint8Array();
    this.chunking = new Chunking(0);
    this.numGiven = 0;
    this.selected = null;
    this.width = 0;
    this.painted = null; // { first, behind }: the lines on the canvas, and what they showed
    this.palette = null; // reading the colours makes the browser compute styles: done anew only when the theme changes
    this.canvas = make("canvas", "bands");
    this.canvas.setAttribute("aria-hidden", "true");
    element.append(this.canvas);
    element.addEventListener("scroll", () => this.paint(), { passive: true });
    new ResizeObserver(() => this.fit()).observe(element);
    document.addEventListener("theme", () => {
      this.palette = null;
      this.paintAnew();
    });
    document.fonts?.addEventListener("loadingdone", () => this.measureAnew());
  }

  // `numGiven` bytes are the prompt's; what follows was generated.
  draw(bytes, chunking, numGiven) {
    this.bytes = bytes;
    this.chunking = chunking;
    this.numGiven = numGiven;
    this.found = characters(bytes);
    this.layOut();
  }

  get lineHeight() {
    return lineHeight(this.chunking.stages.length);
  }

  fit() {
    const style = getComputedStyle(this.element);
    const width = this.element.clientWidth - parseFloat(style.paddingLeft) - parseFloat(style.paddingRight);
    if (width === this.width) return this.paint();
    this.width = width;
    this.layOutAnew();
  }

  measureAnew() {
    this.ruler.forget();
    this.layOutAnew();
  }

  layOutAnew() {
    this.before = NOTHING;
    this.painted = null;
    this.layOut();
  }

  layOut() {
    if (this.width <= 0) return;
    this.element.style.setProperty("--line-height", `${this.lineHeight}px`);
    this.before = { found: this.found, lines: intoLines(this.found, this.ruler, this.width, this.before) };
    const lines = this.before.lines.map((line) => this.lineWith(line));
    const old = this.lines;
    const isSame = (a, b) => a.text === b.text && a.numOwn === b.numOwn;
    let same = 0;
    while (same < lines.length && same < old.length && isSame(lines[same], old[same])) same++;
    let sameEnd = 0;
    const most = Math.min(lines.length, old.length) - same;
    while (sameEnd < most && isSame(lines.at(-1 - sameEnd), old.at(-1 - sameEnd))) sameEnd++;
    for (let i = 0; i < same; i++) lines[i].element = old[i].element;
    for (let i = 1; i <= sameEnd; i++) lines.at(-i).element = old.at(-i).element;
    for (const line of lines.slice(same, lines.length - sameEnd)) line.element = this.elementOf(line);
    this.lines = lines;
    this.fillBlocks();
    if (this.isPainted()) this.paint();
    else this.paintAnew();
  }

  fillBlocks() {
    const num = Math.ceil(this.lines.length / LINES_PER_BLOCK);
    while (this.blocks.length > num) this.blocks.pop().remove();
    while (this.blocks.length < num) {
      this.blocks.push(make("div", "block"));
      this.element.append(this.blocks.at(-1));
    }
    this.blocks.forEach((block, b) => {
      const lines = this.lines.slice(b * LINES_PER_BLOCK, (b + 1) * LINES_PER_BLOCK);
      const { children } = block;
      if (lines.length === children.length && lines.every(({ element }, i) => element === children[i])) return;
      block.style.setProperty("--lines", lines.length);
      block.replaceChildren(...lines.map(({ element }) => element));
    });
  }

  // With how many of its characters are the prompt's.
  lineWith({ from, to, text }) {
    let numOwn = to - from;
    if (this.found[to - 1].start >= this.numGiven) {
      numOwn = 0;
      while (this.found[from + numOwn].start < this.numGiven) numOwn++;
    }
    return { from, to, text, numOwn, element: null };
  }

  elementOf({ from, to, numOwn }) {
    const element = document.createElement("div");
    element.className = "line";
    let run = "";
    let runClass = "";
    const flush = () => {
      if (run) element.append(runClass ? make("span", runClass, run) : run);
      run = "";
    };
    for (let i = from; i < to; i++) {
      const character = this.found[i];
      const kind = (i - from >= numOwn ? "new" : "") + (character.isControl ? " control" : "");
      const { natural, width } = this.ruler.of(character);
      if (width === natural && isPlain(character.glyph)) {
        if (kind !== runClass) flush();
        runClass = kind;
        run += character.glyph;
      } else {
        flush();
        const cell = make("span", `wide ${kind}`, character.glyph);
        cell.style.width = `${width}px`;
        element.append(cell);
      }
    }
    flush();
    return element;
  }

  paintAnew() {
    this.painted = null;
    this.paint();
  }

  // Whether the lines on the canvas are those that would be painted now.
  isPainted() {
    if (!this.painted) return false;
    const { first, behind, start, elements, chunking, numBytes } = this.painted;
    const areSame = elements.every((element, i) => element === this.lines[first + i]?.element);
    if (!areSame || start !== this.startOf(first)) return false;
    return this.chunking.looksLike(chunking, numBytes, start, this.startOf(behind) + 1);
  }

  // The first byte of a line; behind the last line that behind the text.
  startOf(line) {
    return this.found[this.lines[line]?.from]?.start ?? this.bytes.length;
  }

  // The canvas covers the window and as much again above and below; it moves with the text until that is not enough.
  paint() {
    const height = this.lineHeight;
    const { scrollTop, clientHeight } = this.element;
    const first = Math.max(0, Math.floor(scrollTop / height));
    const behind = Math.min(this.lines.length, Math.ceil((scrollTop + clientHeight) / height));
    if (this.painted && this.painted.first <= first && behind <= this.painted.behind) return;
    const more = Math.ceil(clientHeight / height);
    this.paintLines(Math.max(0, first - more), Math.min(this.lines.length, behind + more));
  }

  paintLines(first, behind) {
    const { chunking, lineHeight } = this;
    const lines = this.lines.slice(first, behind);
    const elements = lines.map(({ element }) => element);
    this.painted = { first, behind, start: this.startOf(first), elements, chunking, numBytes: chunking.numBytes };
    this.palette ??= readPalette(this.element);
    const cells = lines.map((line) => this.cellsOf(line));
    paintBands(this.canvas, cells, chunking, this.palette, this.selected, this.width);
    this.canvas.style.transform = `translateY(${first * lineHeight}px)`;
  }

  cellsOf({ from, to }) {
    const cells = [];
    for (let i = from, x = 0; i < to; i++) {
      const { width } = this.ruler.of(this.found[i]);
      cells.push({ character: this.found[i], x, width });
      x += width;
    }
    return cells;
  }

  // Mark the bytes from `begin` up to `end`; null marks nothing.
  select(begin, end) {
    const selected = begin === null ? null : [begin, end];
    if (String(selected) === String(this.selected)) return;
    this.selected = selected;
    this.paintAnew();
  }

  scrollToEnd() {
    this.element.scrollTop = this.element.scrollHeight;
  }

  scrollTo(byte) {
    const line = this.lines.findIndex(({ to }) => {
      const last = this.found[to - 1];
      return last.start + last.length > byte;
    });
    if (line < 0) return;
    const { scrollTop, clientHeight } = this.element;
    const top = line * this.lineHeight;
    if (top < scrollTop) this.element.scrollTop = top;
    else if (top + this.lineHeight > scrollTop + clientHeight) this.element.scrollTop = top + this.lineHeight - clientHeight;
  }

  // The byte under a pointer, and the band (null: the text above them); null outside the text.
  placeAt({ clientX, clientY }) {
    const box = this.blocks[0]?.getBoundingClientRect();
    if (!box) return null;
    const line = this.lines[Math.floor((clientY - box.top) / this.lineHeight)];
    if (!line) return null;
    const x = clientX - box.left;
    const cell = this.cellsOf(line).find((cell) => x >= cell.x && x < cell.x + cell.width);
    if (!cell) return null;
    const within = Math.floor(((x - cell.x) / cell.width) * cell.character.length);
    const below = ((clientY - box.top) % this.lineHeight) - GLYPHS;
    const stage = below < 0 ? null : Math.floor(below / ((this.lineHeight - GLYPHS) / this.chunking.stages.length));
    return { byte: cell.character.start + (below < 0 ? 0 : within), stage };
  }
}

const NOTHING = { found: [], lines: [] };

// What stands in a run of text as it does alone: nothing that joins with its neighbours or comes from another font.
const isPlain = (glyph) => glyph.length === 1 && /[\x20-\x7e\u00a1-\u02af\u0370-\u052f\u2400-\u2424⏎]/u.test(glyph);

function make(name, className, text = "") {
  const element = document.createElement(name);
  element.className = className;
  element.append(text);
  return element;
}
