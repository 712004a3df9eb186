// The page: what is typed goes to every model's panel, and so does the wish for more.

import { listModels } from "./api.js";
import { Awaited } from "./awaited.js";
import { characters, encode } from "./bytes.js";
import { EXAMPLES } from "./examples.js";
import { getKey, setKey } from "./keys.js";
import { Panel } from "./panel.js";
import { readSettings, watchSettings } from "./settings.js";
import { watchTheme } from "./theme.js";
import { counted, grouped } from "./words.js";

const TYPING_PAUSE = 120; // milliseconds
const TEXT = "hnet-lm-text"; // kept until the tab is closed

const element = (id) => document.getElementById(id);
const text = element("text");
const message = element("message");
let panels = [];
let running = new AbortController(); // of the latest wish; an earlier one is given up
let typing;

function complain(error) {
  if (error.name === "AbortError") return;
  element("key-form").hidden = !error.needsKey;
  if (error.needsKey && !getKey()) return; // the form says it
  message.textContent = error.needsKey ? "This key is not known to the server." : error.message;
  message.hidden = false;
}

// Run something in every panel, giving up what still runs.
async function inPanels(work) {
  clearTimeout(typing);
  running.abort();
  running = new AbortController();
  const { signal } = running;
  message.hidden = true;
  await Promise.all(panels.map((panel) => work(panel, signal).catch(complain)));
  return !signal.aborted;
}

const showChunks = () => inPanels((panel, signal) => panel.show(text.value, signal));

async function generate() {
  const settings = readSettings();
  element("stop").disabled = false;
  if (await inPanels((panel, signal) => panel.generate(text.value, settings, signal))) element("stop").disabled = true;
}

function stop() {
  running.abort();
  element("stop").disabled = true;
}

function setText(value, language = "") {
  text.value = value;
  text.lang = language;
  countBytes();
  showChunks();
}

function countBytes() {
  const bytes = encode(text.value);
  const limit = panels[0]?.model.max_prompt_bytes;
  const room = bytes.length > limit ? `, ${grouped(bytes.length - limit)} too many` : "";
  element("size").textContent =
    `${counted(bytes.length, "byte")}, ${counted(characters(bytes).length, "character")}${room}`;
  sessionStorage.setItem(TEXT, text.value);
}

async function start() {
  const { models, awaited } = await listModels();
  const places = awaited.map((name) => new Awaited(name));
  panels = models.map(panelOf);
  element("panels").replaceChildren(...[...panels, ...places].map(({ article }) => article));
  element("key-form").hidden = message.hidden = true;
  setText(text.value || (sessionStorage.getItem(TEXT) ?? EXAMPLES[0].text), text.lang);
  await Promise.all(places.map(showWhenThere));
}

function panelOf(model) {
  element("max_tokens").max = model.max_new_bytes;
  return new Panel(model, setText);
}

async function showWhenThere(place) {
  const panel = panelOf(await place.model());
  place.article.replaceWith(panel.article);
  panels.push(panel);
  countBytes();
  if (running.signal.aborted) running = new AbortController();
  await panel.show(text.value, running.signal);
}

for (const { name, language, text: example } of EXAMPLES) {
  const button = document.createElement("button");
  button.type = "button";
  button.lang = language;
  button.textContent = name;
  button.addEventListener("click", () => setText(example, language));
  element("examples").append(button);
}
text.addEventListener("input", () => {
  countBytes();
  clearTimeout(typing);
  typing = setTimeout(showChunks, TYPING_PAUSE);
  element("stop").disabled = true;
});
element("settings").addEventListener("submit", (event) => {
  event.preventDefault();
  generate();
});
element("stop").addEventListener("click", stop);
element("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  setKey(element("key").value);
  start().catch(complain);
});
document.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) element("settings").requestSubmit();
  if (event.key === "Escape") stop();
});
watchTheme();
watchSettings();
start().catch(complain);
