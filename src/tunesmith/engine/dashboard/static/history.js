// What was asked in this browser, with the answers: kept on this device alone, until it is forgotten.

const KEY = "tunesmith-history";
const MOST = 40;
const MOST_CHARACTERS = 1_000_000;
const list = document.getElementById("history");

function read() {
  try {
    const found = JSON.parse(localStorage.getItem(KEY) ?? "[]");
    return Array.isArray(found) ? found : [];
  } catch {
    return [];
  }
}

function write(entries) {
  let kept = entries.slice(0, MOST);
  while (kept.length && JSON.stringify(kept).length > MOST_CHARACTERS) kept = kept.slice(0, -1);
  try {
    localStorage.setItem(KEY, JSON.stringify(kept));
  } catch {
    // Without storage the history lasts as long as the page.
  }
}

function short(text) {
  const line = String(text ?? "").replace(/\s+/g, " ").trim();
  return line.length > 90 ? `${line.slice(0, 90)}…` : line || "nothing";
}

function question(state) {
  if (state.mode !== "chat") return state.prompt;
  return state.turns?.findLast?.(({ role }) => role === "user")?.content;
}

/** Shows the entries; `restore` gets the one that is chosen. */
export function showHistory(restore) {
  const entries = read();
  list.replaceChildren(
    ...entries.map((entry) => {
      const row = document.createElement("li");
      const button = document.createElement("button");
      button.type = "button";
      button.className = "history-entry";
      const asked = document.createElement("strong");
      asked.textContent = short(question(entry.state ?? {}));
      const answers = document.createElement("span");
      answers.className = "sub";
      answers.textContent = `${new Date(entry.at).toLocaleString()} · ${["left", "right"].map((side) => `${entry.state?.[`${side}-model`] ?? ""}: ${short(entry.answers?.[side])}`).join(" · ")}`;
      button.append(asked, answers);
      button.addEventListener("click", () => restore(entry));
      row.append(button);
      return row;
    }),
  );
  document.getElementById("history-count").textContent = String(entries.length);
  document.getElementById("history-part").hidden = !entries.length;
}

export function remember(state, answers) {
  write([{ at: Date.now(), state, answers }, ...read()]);
}

export function forget() {
  try {
    localStorage.removeItem(KEY);
  } catch {
    // Nothing was kept.
  }
}
