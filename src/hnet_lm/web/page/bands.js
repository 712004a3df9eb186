// The bands under a line of text, on a canvas: one band per stage, cut where a chunk starts, with a tick at every byte that
// is as tall as its boundary probability, and a line across at 0.5, where a byte becomes the start of a chunk.

export const GLYPHS = 25; // pixels: the height of the text
const BAND = 20;
const BETWEEN = 2;
const BELOW = 11;
const TICK = 3;
const CORNER = 4;
const NUM_COLOURS = 4; // stages beyond begin again

export const lineHeight = (numStages) => GLYPHS + numStages * (BAND + BETWEEN) + BELOW;

// The colours as the style sheet has them at this moment; a canvas knows no custom properties.
export function readPalette(element) {
  const probe = document.createElement("i");
  element.append(probe);
  const resolved = (name) => {
    probe.style.color = `var(--${name})`;
    return getComputedStyle(probe).color;
  };
  const stages = Array.from({ length: NUM_COLOURS }, (_, s) => [resolved(`stage${s}-even`), resolved(`stage${s}-odd`)]);
  const palette = { stages, quiet: resolved("quiet"), ink: resolved("ink"), accent: resolved("accent") };
  probe.remove();
  return palette;
}

// `lines` are lists of characters with their places, { character, x, width }; `selected` [begin, end) in bytes.
export function paintBands(canvas, lines, chunking, palette, selected, width) {
  const scale = globalThis.devicePixelRatio ?? 1;
  const each = lineHeight(chunking.stages.length);
  const height = each * lines.length;
  // At least a pixel: an empty bitmap cannot be transferred.
  const drawn = new OffscreenCanvas(Math.max(1, Math.ceil(width * scale)), Math.max(1, Math.ceil(height * scale)));
  const context = drawn.getContext("2d");
  lines.forEach((cells, row) => {
    context.setTransform(scale, 0, 0, scale, 0, row * each * scale);
    if (selected) paintSelection(context, cells, palette, selected);
    paintSpaces(context, cells, palette);
    chunking.stages.forEach((stage, s) => {
      const top = GLYPHS + s * (BAND + BETWEEN);
      paintBand(context, cells, chunking.numBytes, stage, palette.stages[s % NUM_COLOURS], palette, top);
    });
  });
  // A canvas that only shows a bitmap is not copied in every frame, as one that can be drawn on is.
  canvas.width = drawn.width;
  canvas.height = drawn.height;
  canvas.style.width = `${width}px`;
  canvas.style.height = `${height}px`;
  canvas.getContext("bitmaprenderer").transferFromImageBitmap(drawn.transferToImageBitmap());
}

function paintSelection(context, cells, palette, [begin, end]) {
  context.fillStyle = palette.accent;
  context.globalAlpha = 0.24;
  for (const { character, x, width } of cells) {
    const first = Math.max(begin, character.start);
    const behind = Math.min(end, character.start + character.length);
    if (first < behind) context.fillRect(x, 1, width, GLYPHS - 3);
  }
  context.globalAlpha = 1;
}

function paintSpaces(context, cells, palette) {
  context.fillStyle = palette.quiet;
  context.globalAlpha = 0.55;
  for (const { character, x, width } of cells) {
    if (character.glyph === " ") context.fillRect(x + width / 2 - 1, GLYPHS / 2, 2, 2);
  }
  context.globalAlpha = 1;
}

function paintBand(context, cells, numBytes, { probs, starts, ids }, colours, palette, top) {
  const pieces = []; // of the chunks in this line, each in one piece
  let pendingFrom = null;
  let right = 0;
  for (const { character, x, width } of cells) {
    const each = width / character.length;
    for (let k = 0; k < character.length; k++) {
      const byte = character.start + k;
      const left = x + k * each;
      right = left + each;
      if (byte >= numBytes) {
        pendingFrom ??= left;
        continue;
      }
      const last = pieces.at(-1);
      if (last && last.id === ids[byte]) last.right = right;
      else pieces.push({ id: ids[byte], left: left + (starts[byte] ? 2 : 0), right, begins: starts[byte], ends: false });
      if (byte + 1 >= numBytes || starts[byte + 1]) pieces.at(-1).ends = true;
    }
  }
  for (const { id, left, right: end, begins, ends } of pieces) {
    context.fillStyle = colours[id % 2];
    context.globalAlpha = 0.26;
    context.beginPath();
    const [a, b] = [begins ? CORNER : 0, ends ? CORNER : 0];
    context.roundRect(left, top, end - left, BAND, [a, b, b, a]);
    context.fill();
  }
  context.globalAlpha = 1;
  for (const { character, x, width } of cells) {
    const each = width / character.length;
    for (let k = 0; k < character.length; k++) {
      const byte = character.start + k;
      const prob = byte < numBytes ? probs[byte] : NaN;
      if (Number.isNaN(prob)) continue;
      const tall = Math.max(1, prob * BAND);
      context.fillStyle = colours[ids[byte] % 2];
      context.fillRect(x + k * each + (starts[byte] ? 2 : 0), top + BAND - tall, Math.min(TICK, each), tall);
    }
  }
  context.fillStyle = palette.ink;
  context.globalAlpha = 0.3;
  for (const { left, right: end } of pieces) context.fillRect(left, top + BAND / 2 - 0.5, end - left, 1);
  if (pendingFrom !== null) {
    context.fillStyle = palette.quiet;
    for (let x = pendingFrom; x < right; x += 4) context.fillRect(x, top + BAND - 2, 2, 2);
  }
  context.globalAlpha = 1;
}
