// Any bytes as the characters to draw, each with the bytes it covers.

const encoder = new TextEncoder();
const strictDecoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
const segmenter = new Intl.Segmenter(undefined, { granularity: "grapheme" });

export const encode = (text) => encoder.encode(text);
export const decode = (bytes) => new TextDecoder("utf-8", { ignoreBOM: true }).decode(bytes);
export const countCharacters = (text) => [...segmenter.segment(text)].length;

// [{ glyph, start, length, isControl }]: a character with its combining marks, a control picture, or one invalid byte.
export function characters(bytes) {
  const found = [];
  let start = 0;
  while (start < bytes.length) {
    let end = start;
    for (let size; (size = sizeOfCharacter(bytes, end)); ) end += size;
    for (const { segment } of segmenter.segment(strictDecoder.decode(bytes.subarray(start, end)))) {
      const length = encoder.encode(segment).length;
      found.push({ start, length, ...drawn(segment) });
      start += length;
    }
    if (end < bytes.length) {
      const glyph = `\\x${bytes[end].toString(16).padStart(2, "0")}`;
      found.push({ start, length: 1, glyph, isControl: true });
      start = end + 1;
    }
  }
  return found;
}

function drawn(segment) {
  if (segment === "\n" || segment === "\r\n") return { glyph: "⏎", isControl: true };
  const code = segment.codePointAt(0);
  if (code < 0x20) return { glyph: String.fromCodePoint(0x2400 + code), isControl: true };
  if (code === 0x7f) return { glyph: "␡", isControl: true };
  return { glyph: segment, isControl: false };
}

// Bytes of the valid character at `at`; 0 where there is none.
function sizeOfCharacter(bytes, at) {
  const lead = bytes[at];
  if (lead === undefined) return 0;
  if (lead < 0x80) return 1;
  const size = lead >= 0xf0 ? 4 : lead >= 0xe0 ? 3 : lead >= 0xc0 ? 2 : 0;
  if (!size || at + size > bytes.length) return 0;
  try {
    strictDecoder.decode(bytes.subarray(at, at + size));
    return size;
  } catch {
    return 0;
  }
}
