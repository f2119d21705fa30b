// One answer on the page: its text, thoughts, calls of tools, probabilities and numbers.

const get = (id) => document.getElementById(id);

/** A text on one line: line ends and tabs as people write them. */
export const escapeText = (text) => text.replaceAll("\\", "\\\\").replaceAll("\n", "\\n").replaceAll("\t", "\\t");

export const seconds = (value) => (value === null ? "–" : value < 1 ? `${Math.round(value * 1000)} ms` : `${value.toFixed(2)} s`);

export function stat(side, name, value) {
  get(`${side}-stats`).querySelector(`[data-stat=${name}]`).textContent = value;
}

export function showTopTokens(side, tops) {
  const bars = get(`${side}-bars`);
  bars.replaceChildren();
  const title = document.createElement("h3");
  title.textContent = "First token";
  const list = document.createElement("ul");
  for (const { token, probability } of tops) {
    const row = document.createElement("li");
    const name = document.createElement("code");
    name.textContent = token.replaceAll("\n", "⏎").replaceAll("\t", "⇥").replace(/^ | $/g, "␣") || "nothing";
    const meter = document.createElement("progress");
    meter.max = 1;
    meter.value = probability;
    meter.setAttribute("aria-label", `Probability of ${JSON.stringify(token)}`);
    const value = document.createElement("span");
    value.className = "num";
    value.textContent = `${(probability * 100).toFixed(probability < 0.1 ? 2 : 1)} %`;
    row.append(name, meter, value);
    list.append(row);
  }
  bars.append(title, list);
  bars.hidden = false;
}

export function clear(side) {
  get(`${side}-continue`).hidden = true;
  get(`${side}-output`).replaceChildren();
  get(`${side}-output`).classList.add("writing");
  get(`${side}-bars`).hidden = true;
  get(`${side}-status`).textContent = "";
  for (const element of get(`${side}-stats`).querySelectorAll("[data-stat]")) element.textContent = "–";
}

export function fail(side, message) {
  const note = document.createElement("p");
  note.className = "problem";
  note.textContent = message;
  get(`${side}-output`).append(note);
  get(`${side}-status`).textContent = message;
}

/** Adds a folded part for what the model thinks, hidden until there is something. */
export function thoughtsIn(output) {
  const part = document.createElement("details");
  part.hidden = true;
  const title = document.createElement("summary");
  title.textContent = "Thoughts";
  const text = document.createElement("div");
  text.className = "thoughts muted";
  part.append(title, text);
  output.prepend(part);
  return part;
}

export function showCalls(output, calls) {
  for (const { name, arguments: given } of calls) {
    const call = document.createElement("p");
    call.className = "call";
    const title = document.createElement("strong");
    title.textContent = `calls ${name}`;
    const code = document.createElement("code");
    code.textContent = given;
    call.append(title, " ", code);
    output.append(call);
  }
}

/** Why there is nothing to read. */
export function emptyNote(text, { reason }, hasThought) {
  if (hasThought) return `No answer: the model only thought${reason === "length" ? ", up to max tokens. Raise them" : ""}.`;
  if (text) return `The answer holds only white space: "${escapeText(text)}".`;
  return reason === "length" ? "An empty answer: its tokens make no text." : "An empty answer: the model ended at once.";
}
