// Where every character stands: a text in lines of a given width. One character is as wide as its glyph, and has room
// for a segment of each of its bytes.

const LEAST_BYTE = 4; // pixels
const LONGEST_WORD = 24; // characters; a longer one may be broken anywhere

export class Ruler {
  // Widths are those of the element's own font.
  constructor(element) {
    this.element = element;
    this.widths = new Map();
  }

  // The font may have been another one when glyphs were measured.
  forget() {
    this.widths.clear();
  }

  // { natural, width } of a character: of its glyph, and of the place it takes.
  of({ glyph, length }) {
    return this.widths.get(glyph + length);
  }

  // Measure what is new from `begin` on, all at once: reading one width makes the browser lay out everything.
  learn(found, begin) {
    const unknown = new Map();
    for (let i = begin; i < found.length; i++) {
      const character = found[i];
      const key = character.glyph + character.length;
      if (!this.widths.has(key) && !unknown.has(key)) unknown.set(key, character);
    }
    if (!unknown.size) return;
    const probe = document.createElement("div");
    probe.className = "probe";
    for (const { glyph } of unknown.values()) {
      const span = document.createElement("span");
      span.textContent = glyph;
      probe.append(span);
    }
    this.element.append(probe);
    const spans = [...probe.children];
    let i = 0;
    for (const [key, { length }] of unknown) {
      const natural = spans[i++].getBoundingClientRect().width;
      this.widths.set(key, { natural, width: Math.max(natural, LEAST_BYTE * length) });
    }
    probe.remove();
  }
}

// [{ from, to, text }] with the characters of each line, in order. A line may break behind white space, and anywhere in
// very long words and in scripts without spaces; it always does behind a line feed. `before` has the characters and lines of
// an earlier text of the same width: those lines stay that no new character can change.
export function intoLines(found, ruler, width, before) {
  const lines = unchanged(before, found);
  let from = lines.at(-1)?.to ?? 0;
  ruler.learn(found, from);
  let x = 0;
  let text = "";
  const close = (to, isInWord = false) => {
    if (to > from) lines.push({ from, to, text, isInWord });
    from = to;
    x = 0;
    text = "";
  };
  for (let begin = from, end; begin < found.length; begin = end) {
    end = endOfWord(found, begin);
    let wide = 0;
    let word = "";
    for (let i = begin; i < end; i++) {
      wide += ruler.of(found[i]).width;
      word += found[i].glyph;
    }
    const isSpace = word === " "; // which may hang over the edge
    if (x + wide > width && !isSpace) close(begin);
    if (wide > width) {
      for (let i = begin; i < end; i++) {
        const one = ruler.of(found[i]).width;
        if (x + one > width) close(i, i > begin);
        x += one;
        text += found[i].glyph;
      }
    } else {
      x += wide;
      text += word;
    }
    if (found[end - 1].glyph === "⏎") close(end);
  }
  close(found.length);
  return lines;
}

// Where a line ends depends on the word behind it, and on the character behind that.
function unchanged({ found: old, lines }, found) {
  const most = Math.min(old.length, found.length);
  let same = 0;
  while (same < most && old[same] === found[same]) same++;
  let num = lines.length;
  while (num > 0 && (lines[num - 1].isInWord || lines[num - 1].to + LONGEST_WORD >= same)) num--;
  return lines.slice(0, num);
}

function endOfWord(found, begin) {
  let end = begin + 1;
  while (end < found.length && end - begin < LONGEST_WORD && joins(found[end - 1].glyph, found[end].glyph)) end++;
  return end;
}

const isWhite = (glyph) => glyph === " " || glyph === "⏎" || glyph === "␉" || glyph === "␍" || glyph === "\u3000";
const breaksAnywhere = (glyph) => glyph.codePointAt(0) >= 0x2e80;
const joins = (before, glyph) =>
  !isWhite(before) && !isWhite(glyph) && !breaksAnywhere(before) && !breaksAnywhere(glyph);
