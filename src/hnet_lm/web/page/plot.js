// Small drawings: a curve over the steps of a run, and bars.

const SVG = "http://www.w3.org/2000/svg";
const WIDTH = 320;
const HEIGHT = 110;
const [LEFT, RIGHT, TOP, BOTTOM] = [38, 6, 8, 18];

// { name, points: [[step, value], ...] } as a figure.
export function drawCurve({ name, points }) {
  const figure = document.createElement("figure");
  const caption = document.createElement("figcaption");
  caption.textContent = points.length ? `${name}: ${points.at(-1)[1].toFixed(3)}` : `${name}: no values yet`;
  figure.append(caption);
  if (points.length < 2) return figure;
  const [low, high] = rangeOf(points.map(([, value]) => value));
  const [from, to] = [points[0][0], points.at(-1)[0]];
  const x = (step) => LEFT + ((step - from) / (to - from || 1)) * (WIDTH - LEFT - RIGHT);
  const y = (value) => TOP + ((high - Math.min(value, high)) / (high - low || 1)) * (HEIGHT - TOP - BOTTOM);
  const picture = pictureOf(`${name}, steps ${from} to ${to}: ${points[0][1].toFixed(3)} to ${points.at(-1)[1].toFixed(3)}`);
  const line = points.map(([step, value]) => `${x(step).toFixed(1)},${y(value).toFixed(1)}`).join(" ");
  picture.append(
    shape("path", { class: "axis", d: `M${LEFT} ${TOP}V${HEIGHT - BOTTOM}H${WIDTH - RIGHT}` }),
    shape("polyline", { class: "curve", points: line }),
    label(LEFT - 4, TOP + 7, high.toFixed(2), "end"),
    label(LEFT - 4, HEIGHT - BOTTOM, low.toFixed(2), "end"),
    label(LEFT, HEIGHT - 4, from.toLocaleString("en"), "start"),
    label(WIDTH - RIGHT, HEIGHT - 4, `step ${to.toLocaleString("en")}`, "end"),
  );
  figure.append(picture);
  return figure;
}

// One bar per count; `nameOf(i)` is what stands below every fourth.
export function drawBars(counts, name, nameOf) {
  const picture = pictureOf(name);
  const step = WIDTH / counts.length;
  const most = Math.max(...counts, 1);
  counts.forEach((count, i) => {
    const tall = ((HEIGHT - BOTTOM) * count) / most;
    const bar = shape("rect", { class: "bar", x: i * step, y: HEIGHT - BOTTOM - tall, width: step - 1, height: tall });
    const title = shape("title", {});
    title.textContent = `${nameOf(i)} bytes: ${count.toLocaleString("en")}`;
    bar.append(title);
    picture.append(bar);
    const isLast = i + 1 === counts.length; // whose name would reach over the edge
    const place = isLast ? WIDTH : (i + 0.5) * step;
    if (i === 0 || (i + 1) % 4 === 0) picture.append(label(place, HEIGHT - 4, nameOf(i), isLast ? "end" : "middle"));
  });
  return picture;
}

function rangeOf(values) {
  const sorted = [...values].sort((a, b) => a - b);
  return [sorted[0], sorted[Math.floor(0.98 * (sorted.length - 1))]]; // the first steps would flatten all others
}

function pictureOf(name) {
  return shape("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": name });
}

function label(x, y, text, anchor) {
  const element = shape("text", { x, y, "text-anchor": anchor });
  element.textContent = text;
  return element;
}

function shape(name, attributes) {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  return element;
}
