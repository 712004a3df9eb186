// Light or dark: the system's choice until the button says otherwise, which is remembered. Whoever paints by hand is
// told by the event "theme".

const THEME = "hnet-lm-theme";
const button = document.getElementById("theme");
const system = matchMedia("(prefers-color-scheme: dark)");

const isDark = () => (document.documentElement.dataset.theme ?? (system.matches ? "dark" : "light")) === "dark";

function show() {
  button.textContent = isDark() ? "☀ Light" : "☾ Dark";
  document.dispatchEvent(new Event("theme"));
}

export function watchTheme() {
  const stored = localStorage.getItem(THEME);
  if (stored) document.documentElement.dataset.theme = stored;
  system.addEventListener("change", show);
  button.addEventListener("click", () => {
    document.documentElement.dataset.theme = isDark() ? "light" : "dark";
    localStorage.setItem(THEME, document.documentElement.dataset.theme);
    show();
  });
  show();
}
