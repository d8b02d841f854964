// Dark or light. Not a module, so that it runs before the first paint: no flash of the wrong one at night.
"use strict";

(() => {
  const root = document.documentElement;
  const system = matchMedia("(prefers-color-scheme: dark)");
  // Storage may be forbidden; the system's choice is good enough then.
  const kept = (act) => {
    try {
      return act(localStorage);
    } catch {
      return null;
    }
  };
  const chosen = kept((storage) => storage.getItem("theme"));
  if (chosen === "dark" || chosen === "light") root.dataset.theme = chosen;

  globalThis.toggleTheme = () => {
    const dark = root.dataset.theme ? root.dataset.theme === "dark" : system.matches;
    root.dataset.theme = dark ? "light" : "dark";
    kept((storage) => storage.setItem("theme", root.dataset.theme));
  };
})();
