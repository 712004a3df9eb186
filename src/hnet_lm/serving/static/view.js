// The picture of a text in chunks. Text only ever grows or changes near its end while it is drawn, so only the words
// behind the first change are made anew.

import { characters } from "./bytes.js";

const LONGEST_WORD = 24;

export class View {
  constructor(element) {
    this.element = element;
    this.words = [];
    this.cells = [];
  }

  // `numGiven` bytes are the prompt's; what follows was generated.
  draw(bytes, chunking, numGiven) {
    const words = intoWords(characters(bytes)).map((word) => ({ word, key: keyOf(word, chunking, numGiven) }));
    let same = 0;
    while (same < words.length && words[same].key === this.words[same]?.key) same++;
    for (const { nodes } of this.words.splice(same)) nodes.forEach((node) => node.remove());
    for (const { word, key } of words.slice(same)) {
      const nodes = wordNodes(word, chunking, numGiven, bytes.length);
      this.element.append(...nodes);
      this.words.push({ key, nodes });
    }
    this.cells = [...this.element.getElementsByClassName("cell")];
  }

  scrollToEnd() {
    this.element.scrollTop = this.element.scrollHeight;
  }

  // The cell of the character that holds a byte.
  cellAt(byte) {
    return this.cells.findLast((cell) => cell.start <= byte);
  }
}

// A line may break between words, and anywhere in very long ones and in scripts without spaces.
function intoWords(found) {
  const words = [];
  let before = null;
  for (const character of found) {
    const continues =
      before && !/\s|⏎/u.test(before.glyph) && !breaksAnywhere(before.glyph) && !breaksAnywhere(character.glyph);
    if (continues) words.at(-1).push(character);
    else words.push([character]);
    before = character;
  }
  return words.flatMap((word) => (word.length > LONGEST_WORD ? word.map((character) => [character]) : [word]));
}

const breaksAnywhere = (glyph) => glyph.codePointAt(0) >= 0x2e80;

// Two words with one key look alike. The byte behind a word decides whether its last chunk ends there.
function keyOf(word, chunking, numGiven) {
  const from = word[0].start;
  const to = word.at(-1).start + word.at(-1).length;
  const glyphs = word.map(({ glyph }) => glyph).join("");
  const stages = chunking.stages.map(({ probs, starts, ids }) =>
    [probs.slice(from, to), ids[from] % 2, starts.slice(from, to + 1), chunking.numBytes <= to].join());
  return [from, Math.min(Math.max(numGiven - from, 0), to - from), glyphs, ...stages].join("|");
}

function wordNodes(word, chunking, numGiven, numBytes) {
  const element = make("span", "word fresh");
  element.setAttribute("aria-hidden", "true");
  for (const character of word) element.append(cellNode(character, chunking, numGiven, numBytes));
  return word.at(-1).glyph === "⏎" ? [element, document.createElement("br")] : [element];
}

function cellNode({ glyph, start, length, isControl }, chunking, numGiven, numBytes) {
  const cell = make("span", ["cell", start >= numGiven && "new", isControl && "control"].filter(Boolean).join(" "));
  cell.start = start;
  const text = make("span", "glyph");
  text.textContent = glyph;
  cell.append(text);
  chunking.stages.forEach((stage, s) => {
    const strip = make("span", `strip stage-${s % 4}`);
    for (let byte = start; byte < start + length; byte++) strip.append(segmentNode(stage, byte, chunking, numBytes));
    cell.append(strip);
  });
  return cell;
}

function segmentNode({ probs, starts, ids }, byte, chunking, numBytes) {
  if (byte >= chunking.numBytes) return make("i", "segment pending");
  const isLast = byte + 1 < chunking.numBytes ? starts[byte + 1] : byte + 1 === numBytes;
  const segment = make("i", `segment ${ids[byte] % 2 ? "odd" : "even"}`);
  segment.classList.toggle("starts", starts[byte]);
  segment.classList.toggle("ends", isLast);
  if (probs[byte] !== undefined) {
    segment.classList.add("prob");
    segment.style.setProperty("--prob", probs[byte]);
  }
  return segment;
}

function make(name, className) {
  const element = document.createElement(name);
  element.className = className;
  return element;
}
