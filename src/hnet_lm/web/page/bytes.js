// Any bytes as the characters to draw, each with the bytes it covers.

const encoder = new TextEncoder();
const strictDecoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
const lenientDecoder = new TextDecoder("utf-8", { ignoreBOM: true });
const segmenter = new Intl.Segmenter(undefined, { granularity: "grapheme" });
const NEWLINE = 0x0a;
const RETURN = 0x0d;

export const encode = (text) => encoder.encode(text);
export const decode = (bytes) => lenientDecoder.decode(bytes);
export const hex = (bytes) => Array.from(bytes, (byte) => byte.toString(16).toUpperCase().padStart(2, "0")).join(" ");

let latest = { bytes: new Uint8Array(), found: [] };

// [{ glyph, start, length, isControl }]: a character with its combining marks, a control picture, or one invalid byte. Those
// that the text has in common with the one before, at its beginning, are the same objects.
export function characters(bytes) {
  const found = commonWithLatest(bytes);
  let start = found.length ? found.at(-1).start + 1 : 0;
  while (start < bytes.length) {
    if (standsAlone(bytes, start)) {
      found.push(ASCII[bytes[start]](start));
      start++;
      continue;
    }
    let end = start;
    for (let size; (size = sizeOfCharacter(bytes, end)); ) {
      end += size;
      if (standsAlone(bytes, end)) break;
    }
    for (const { segment } of segmenter.segment(strictDecoder.decode(bytes.subarray(start, end)))) {
      const length = encoder.encode(segment).length;
      found.push({ start, length, ...drawn(segment) });
      start += length;
    }
    if (end < bytes.length && !sizeOfCharacter(bytes, end)) {
      found.push({ start, length: 1, glyph: `\\x${hex([bytes[end]]).toLowerCase()}`, isControl: true });
      start = end + 1;
    }
  }
  latest = { bytes, found };
  return found;
}

// Up to a character that stands alone in both texts, so that what follows cannot join it.
function commonWithLatest(bytes) {
  const most = Math.min(bytes.length, latest.bytes.length);
  let same = 0;
  while (same < most && bytes[same] === latest.bytes[same]) same++;
  let num = latest.found.length;
  const isCommon = ({ start }) => start + 1 < same && standsAlone(bytes, start);
  while (num > 0 && !isCommon(latest.found[num - 1])) num--;
  return latest.found.slice(0, num);
}

// The bytes of a text in words: whole characters quoted, and of a character that is cut the bytes in hexadecimal.
export function inWords(bytes, begin, end) {
  const parts = [];
  let at = begin;
  while (at < end) {
    const first = startOfCharacter(bytes, at);
    const behind = first + sizeOfCharacter(bytes, first);
    if (first === at && behind > at && behind <= end) {
      while (at < end) {
        const size = sizeOfCharacter(bytes, at);
        if (!size || at + size > end) break;
        at += size;
      }
      parts.push(`“${decode(bytes.subarray(first, at))}”`);
    } else if (behind > at) {
      const stop = Math.min(behind, end);
      parts.push(`${hex(bytes.subarray(at, stop))} of “${decode(bytes.subarray(first, behind))}”`);
      at = stop;
    } else parts.push(hex(bytes.subarray(at, ++at)));
  }
  return parts.join(" + ");
}

// Whether the byte is a character that nothing before or behind it can join.
function standsAlone(bytes, at) {
  const byte = bytes[at];
  const next = bytes[at + 1] ?? 0;
  return byte < 0x80 && next < 0x80 && !(byte === RETURN && next === NEWLINE);
}

// The first byte of the valid character that holds the byte at `at`; `at` itself where there is none.
function startOfCharacter(bytes, at) {
  for (let first = at; first > at - 4 && first >= 0; first--) if (first + sizeOfCharacter(bytes, first) > at) return first;
  return at;
}

function drawn(segment) {
  if (segment === "\n" || segment === "\r\n") return { glyph: "⏎", isControl: true };
  const code = segment.codePointAt(0);
  if (code < 0x20) return { glyph: String.fromCodePoint(0x2400 + code), isControl: true };
  if (code === 0x7f) return { glyph: "␡", isControl: true };
  return { glyph: segment, isControl: false };
}

const ASCII = Array.from({ length: 0x80 }, (_, code) => {
  const { glyph, isControl } = drawn(String.fromCodePoint(code));
  return (start) => ({ start, length: 1, glyph, isControl });
});

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
