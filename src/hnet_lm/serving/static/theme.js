// Light or dark: the system's choice until the button says otherwise, which is remembered.

const THEME = "hnet-lm-theme";
const button = document.getElementById("theme");
const system = matchMedia("(prefers-color-scheme: dark)");

const isDark = () => (document.documentElement.dataset.theme ?? (system.matches ? "dark" : "light")) === "dark";
const show = () => button.setAttribute("aria-pressed", String(isDark()));

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
