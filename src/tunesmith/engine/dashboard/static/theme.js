// Colours: the system's, or what was chosen here. Runs before the page is drawn.
(() => {
  const names = ["system", "light", "dark"];
  const labels = { system: "follow the system", light: "light", dark: "dark" };
  const icons = {
    system: '<rect x="2" y="3" width="12" height="8" rx="1"/><path d="M6 14h4"/>',
    light: '<circle cx="8" cy="8" r="3"/><path d="M8 1.5v1.6M8 12.9v1.6M1.5 8h1.6M12.9 8h1.6M3.4 3.4l1.1 1.1M11.5 11.5l1.1 1.1M12.6 3.4l-1.1 1.1M4.5 11.5l-1.1 1.1"/>',
    dark: '<path d="M13.2 9.6A5.6 5.6 0 0 1 6.4 2.8a5.6 5.6 0 1 0 6.8 6.8z"/>',
  };
  const read = () => {
    try {
      const chosen = localStorage.getItem("tunesmith-theme");
      return names.includes(chosen) ? chosen : "system";
    } catch {
      return "system";
    }
  };
  const apply = (name) => {
    if (name === "system") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = name;
    const button = document.getElementById("theme");
    if (!button) return;
    button.setAttribute("aria-label", `Colours: ${labels[name]}`);
    button.title = `Colours: ${labels[name]}`;
    button.querySelector("svg").innerHTML = icons[name];
  };
  apply(read());
  document.addEventListener("DOMContentLoaded", () => {
    apply(read());
    document.getElementById("theme").addEventListener("click", () => {
      const next = names[(names.indexOf(read()) + 1) % names.length];
      try {
        localStorage.setItem("tunesmith-theme", next);
      } catch {
        // Without storage the choice lasts until the next page.
      }
      apply(next);
      document.dispatchEvent(new CustomEvent("theme-changed"));
    });
  });
})();
