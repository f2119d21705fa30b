// What every page needs: local times, copying, tabs, confirmation before what cannot be undone.

const parts = { day: "numeric", month: "short", hour: "2-digit", minute: "2-digit", hourCycle: "h23" };
const day = new Intl.DateTimeFormat(undefined, parts);
const yearAndDay = new Intl.DateTimeFormat(undefined, { ...parts, year: "numeric" });
const clock = new Intl.DateTimeFormat(undefined, { timeStyle: "medium", hourCycle: "h23" });

function formatMoment(element, moment) {
  if ("clock" in element.dataset) return clock.format(moment);
  const recent = moment.getFullYear() === new Date().getFullYear();
  return (recent ? day : yearAndDay).format(moment);
}

function localTimes(root) {
  for (const element of root.querySelectorAll("time[datetime]:not([title])")) {
    const moment = new Date(element.dateTime);
    element.title = element.textContent;
    element.textContent = formatMoment(element, moment);
  }
}

export function toast(message) {
  const element = document.getElementById("toast");
  element.textContent = message;
  element.classList.add("visible");
  clearTimeout(toast.timer);
  toast.timer = setTimeout(() => {
    element.classList.remove("visible");
    element.textContent = "";
  }, 2500);
}

export async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    toast("Copied");
  } catch {
    // Without a secure context the clipboard is closed: select the text by hand.
    const area = document.createElement("textarea");
    area.value = text;
    document.body.append(area);
    area.select();
    const done = document.execCommand("copy");
    area.remove();
    toast(done ? "Copied" : "This browser does not let the page copy.");
  }
}

function chooseTab(tab) {
  const list = tab.closest("[role=tablist]");
  for (const other of list.querySelectorAll("[role=tab]")) {
    const chosen = other === tab;
    other.setAttribute("aria-selected", String(chosen));
    other.tabIndex = chosen ? 0 : -1;
    document.getElementById(other.getAttribute("aria-controls")).hidden = !chosen;
  }
}

document.addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (!button) return;
  if (button.dataset.copy !== undefined) {
    const code = button.parentElement.querySelector("code");
    copy(button.dataset.copy || (code ? code.textContent : ""));
  } else if (button.getAttribute("role") === "tab") {
    chooseTab(button);
  }
});

document.addEventListener("keydown", (event) => {
  const tab = event.target.closest?.("[role=tab]");
  const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
  if (!tab || !step) return;
  const tabs = [...tab.closest("[role=tablist]").querySelectorAll("[role=tab]")];
  const next = tabs[(tabs.indexOf(tab) + step + tabs.length) % tabs.length];
  chooseTab(next);
  next.focus();
});

// Who signs out leaves nothing of theirs in the browser.
document.addEventListener("submit", (event) => {
  if (!event.target.action.endsWith("/sign-out")) return;
  try {
    localStorage.removeItem("tunesmith-history");
  } catch {
    // Nothing was kept.
  }
});

// Forms with data-confirm are confirmed first. A confirmed form is sent as it is.
document.addEventListener("submit", (event) => {
  const form = event.target;
  if (!form.dataset.confirm || form.dataset.confirmed) return;
  event.preventDefault();
  const dialog = document.getElementById("confirm");
  document.getElementById("confirm-title").textContent = form.dataset.confirm;
  document.getElementById("confirm-text").textContent = form.dataset.confirmText;
  document.getElementById("confirm-yes").textContent = form.dataset.confirmYes;
  const { action } = form;
  const fields = [...new FormData(form)];
  dialog.returnValue = "no";
  dialog.onclose = () => {
    if (dialog.returnValue === "yes") send(action, fields);
  };
  dialog.showModal();
});

// The form itself may have been replaced by a newer state of the page: send a copy of it.
function send(action, fields) {
  const form = document.createElement("form");
  form.method = "post";
  form.action = action;
  form.dataset.confirmed = "yes";
  form.hidden = true;
  for (const [name, value] of fields) {
    const input = document.createElement("input");
    input.type = "hidden";
    input.name = name;
    input.value = value;
    form.append(input);
  }
  document.body.append(form);
  form.submit();
}

// A filter applies as it is chosen; the button remains for those without scripts.
const filters = document.querySelector("form.filters");
if (filters) {
  filters.classList.add("live");
  filters.addEventListener("change", (event) => {
    if (event.target.type === "radio") filters.requestSubmit();
  });
}

// A hidden page does not poll.
document.addEventListener("htmx:beforeRequest", (event) => {
  const trigger = event.detail.elt.getAttribute("hx-trigger") ?? "";
  if (!trigger.startsWith("every")) return;
  // Nor does a table in which something is ticked: the ticks would be gone.
  const ticked = event.detail.elt.querySelector("input[type=checkbox]:checked");
  if (document.visibilityState === "hidden" || ticked) event.preventDefault();
});
document.addEventListener("htmx:afterSwap", () => localTimes(document));
document.addEventListener("htmx:oobAfterSwap", () => localTimes(document));
localTimes(document);

// A part of a page that could not be loaded says so, where it would have been or in passing.
for (const kind of ["htmx:responseError", "htmx:sendError"]) {
  document.addEventListener(kind, (event) => {
    const { elt, xhr } = event.detail;
    const trigger = elt.getAttribute("hx-trigger") ?? "";
    if (trigger.startsWith("every")) return; // it asks again by itself
    const message = xhr?.status
      ? `This part could not be loaded: the engine answered with status ${xhr.status}.`
      : "The engine could not be reached. Is it running?";
    const waiting = trigger.startsWith("load") && elt.querySelector("p.muted");
    if (!waiting) {
      toast(message);
      return;
    }
    waiting.className = "problem";
    waiting.setAttribute("role", "alert");
    waiting.textContent = `${message} Load the page again to retry.`;
  });
}
