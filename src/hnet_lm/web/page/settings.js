// The sampling settings as the fields of a request.

const NUMBERS = ["temperature", "top_p", "max_tokens", "top_k", "min_p", "repetition_penalty", "seed"];
const field = (id) => document.getElementById(id);

export function watchSettings() {
  for (const output of document.querySelectorAll("#settings output")) {
    const input = field(output.htmlFor.value);
    const show = () => (output.value = Number(input.value).toFixed(2));
    input.addEventListener("input", show);
    show();
  }
}

export function readSettings() {
  const settings = { valid_utf8: field("valid_utf8").checked };
  for (const name of NUMBERS) if (field(name).value !== "") settings[name] = Number(field(name).value);
  const stop = field("stop-text").value;
  if (stop) settings.stop = [stop];
  return settings;
}
