// One prompt, two models. The state is the form; a link carries it after the #.

import { ask } from "./answer_stream.js";
import { copy } from "./page.js";
import { snippets } from "./snippets.js";

const get = (id) => document.getElementById(id);
const form = get("ask");
const NUMBERS = ["max_tokens", "temperature", "top_p"];
const SIDES = ["left", "right"];
let promptFormat = null;
let running = null;

// --- the form ---------------------------------------------------------------------------

const isChat = () => form.elements.mode.value === "chat";
const escapeText = (text) => text.replaceAll("\\", "\\\\").replaceAll("\n", "\\n").replaceAll("\t", "\\t");
const unescapeText = (text) => text.replace(/\\(n|t|\\)/g, (_, letter) => ({ n: "\n", t: "\t", "\\": "\\" })[letter]);

function showMode() {
  get("chat-part").hidden = !isChat();
  get("completion-part").hidden = isChat();
  if (isChat() && !get("turns").children.length) {
    addTurn("system", "");
    addTurn("user", "");
  }
}

function addTurn(role, content) {
  const turn = get("turn-template").content.firstElementChild.cloneNode(true);
  turn.querySelector("select").value = role;
  turn.querySelector("textarea").value = content;
  turn.querySelector("button").addEventListener("click", () => {
    turn.remove();
    showCode();
  });
  get("turns").append(turn);
  return turn;
}

function turns() {
  return [...get("turns").children].map((turn) => ({
    role: turn.querySelector("select").value,
    content: turn.querySelector("textarea").value,
  }));
}

function prompt() {
  const text = get("prompt").value;
  const separator = promptFormat?.separator;
  if (!separator || !get("formatted").checked || text.endsWith(separator)) return text;
  return text + separator;
}

/** The request to the model of one side, as the API takes it. */
function requestBody(side) {
  const body = { model: get(`${side}-model`).value };
  if (isChat()) body.messages = turns().filter(({ role, content }) => content || role !== "system");
  else body.prompt = prompt();
  for (const name of NUMBERS) body[name] = Number(get(name).value);
  if (body.top_p === 1) delete body.top_p;
  if (get("stop").value) body.stop = [unescapeText(get("stop").value)];
  if (get("seed").value) body.seed = Number(get("seed").value);
  const tops = Number(get("logprobs").value);
  if (tops && isChat()) Object.assign(body, { logprobs: true, top_logprobs: tops });
  else if (tops) body.logprobs = tops;
  return body;
}

function showCode() {
  snippets(isChat(), requestBody(get("code-side").value)).forEach((text, index) => {
    const panel = get(`snippet-panel-${index + 1}`);
    panel.querySelector("code").textContent = text;
  });
}

// --- the models' own formats --------------------------------------------------------------

async function formatOf(name) {
  const response = await fetch(`/dashboard/v1/models/${encodeURIComponent(name)}`);
  if (!response.ok) return null;
  const format = (await response.json()).prompt_format;
  const usable = ["separator", "stop"].every((field) => typeof format?.[field] === "string");
  return usable ? format : null;
}

/** After a fine-tuned model is chosen: selects its base model on the other side and applies its prompt format. */
async function followModel({ fill }) {
  const option = get("right-model").selectedOptions[0];
  const base = option?.dataset.base;
  if (fill && base && [...get("left-model").options].some(({ value }) => value === base)) {
    get("left-model").value = base;
  }
  promptFormat = option?.dataset.base ? await formatOf(option.value) : null;
  get("format-part").hidden = !promptFormat;
  if (promptFormat) {
    const { separator, stop } = promptFormat;
    const parts = [];
    if (separator) parts.push(`the separator "${escapeText(separator)}" is put after your text`);
    if (stop) parts.push(`answers end at "${escapeText(stop)}"`);
    const text = parts.join(", ") || "nothing is added to your text";
    get("format-text").textContent = `The model's own format: ${text}.`;
    if (fill) get("stop").value = escapeText(stop);
    if (fill && !stop) {
      // Without a stop sequence the completions are classes of one token: show its probabilities.
      get("max_tokens").value = 1;
      get("logprobs").value = "5";
    }
  }
  showCode();
}

// --- requests -----------------------------------------------------------------------------

const seconds = (value) => (value === null ? "–" : value < 1 ? `${Math.round(value * 1000)} ms` : `${value.toFixed(2)} s`);

function stat(side, name, value) {
  get(`${side}-stats`).querySelector(`[data-stat=${name}]`).textContent = value;
}

function showTopTokens(side, tops) {
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

/** Puts an answer into the conversation, with an empty turn of the user after it. */
function continueFrom(side) {
  const output = get(`${side}-output`).querySelector(".text").textContent;
  addTurn("assistant", output);
  for (const other of SIDES) get(`${other}-continue`).hidden = true;
  addTurn("user", "").querySelector("textarea").focus();
  showCode();
}

function clear(side) {
  get(`${side}-continue`).hidden = true;
  get(`${side}-output`).replaceChildren();
  get(`${side}-output`).classList.add("writing");
  get(`${side}-bars`).hidden = true;
  get(`${side}-status`).textContent = "";
  for (const element of get(`${side}-stats`).querySelectorAll("[data-stat]")) element.textContent = "–";
}

function fail(side, message) {
  const note = document.createElement("p");
  note.className = "problem";
  note.textContent = message;
  get(`${side}-output`).append(note);
  get(`${side}-status`).textContent = message;
}

/** Adds a folded part for what the model thinks, hidden until there is something. */
function thoughtsIn(output) {
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

async function askSide(side, signal) {
  clear(side);
  const output = get(`${side}-output`);
  const text = document.createElement("div");
  text.className = "text";
  output.append(text);
  const path = isChat() ? "chat/completions" : "completions";
  const thoughts = thoughtsIn(output);
  const on = {
    thought: (piece) => {
      thoughts.hidden = false;
      thoughts.querySelector(".thoughts").append(piece);
    },
    text: (piece) => {
      text.append(piece);
      output.scrollTop = output.scrollHeight;
    },
    tops: (tops) => showTopTokens(side, tops),
  };
  try {
    const result = await ask(path, requestBody(side), signal, on);
    const { usage } = result;
    stat(side, "first", seconds(result.first));
    stat(side, "total", seconds(result.total));
    stat(side, "reason", { stop: "stop", length: "max tokens" }[result.reason] ?? result.reason ?? "–");
    if (usage) {
      stat(side, "prompt", `${usage.prompt_tokens} tokens`);
      stat(side, "answer", `${usage.completion_tokens} token${usage.completion_tokens === 1 ? "" : "s"}`);
      if (usage.completion_tokens > 1 && result.total > result.first) {
        const speed = (usage.completion_tokens - 1) / (result.total - result.first);
        stat(side, "speed", `${speed.toFixed(1)} tokens/s`);
      }
    }
    if (!text.textContent) {
      const note = document.createElement("p");
      note.className = "muted";
      note.textContent = "An empty answer: the model ended at once.";
      output.append(note);
    }
    get(`${side}-status`).textContent = `Answer: ${text.textContent || "empty"}`;
    get(`${side}-continue`).hidden = !isChat() || !text.textContent;
  } catch (error) {
    if (error.name === "AbortError") stat(side, "reason", "you");
    else fail(side, error instanceof TypeError ? "The engine could not be reached." : error.message);
  } finally {
    output.classList.remove("writing");
  }
}

function showProblem(message) {
  get("ask-problem").textContent = message;
  get("ask-problem").hidden = !message;
}

async function askBoth() {
  if (running) return;
  if (isChat() && !turns().some(({ role, content }) => role === "user" && content)) {
    showProblem("Write a user message first.");
    return;
  }
  showProblem("");
  running = new AbortController();
  get("halt").hidden = false;
  get("go").disabled = true;
  await Promise.all(SIDES.map((side) => askSide(side, running.signal)));
  running = null;
  get("halt").hidden = true;
  get("go").disabled = false;
}

// --- the link -----------------------------------------------------------------------------

const FIELDS = ["prompt", "max_tokens", "temperature", "top_p", "logprobs", "seed", "stop", "left-model", "right-model"];

function link() {
  const state = Object.fromEntries(FIELDS.map((id) => [id, get(id).value]));
  state.mode = form.elements.mode.value;
  state.formatted = get("formatted").checked;
  state.turns = turns();
  const bytes = new TextEncoder().encode(JSON.stringify(state));
  const text = btoa(Array.from(bytes, (byte) => String.fromCodePoint(byte)).join(""));
  return `${location.origin}/playground#${text.replaceAll("+", "-").replaceAll("/", "_").replace(/=+$/, "")}`;
}

/** Fills the form from the link; returns false if it carries nothing that can be read. */
function readLink() {
  let state;
  try {
    const text = atob(location.hash.slice(1).replaceAll("-", "+").replaceAll("_", "/"));
    state = JSON.parse(new TextDecoder().decode(Uint8Array.from(text, (it) => it.codePointAt(0))));
  } catch {
    return false;
  }
  if (typeof state !== "object" || state === null) return false;
  for (const id of FIELDS) if (typeof state[id] === "string") get(id).value = state[id];
  for (const side of SIDES) if (get(`${side}-model`).selectedIndex < 0) get(`${side}-model`).selectedIndex = 0;
  if (get("logprobs").selectedIndex < 0) get("logprobs").selectedIndex = 0;
  form.elements.mode.value = state.mode === "chat" ? "chat" : "completion";
  get("formatted").checked = state.formatted !== false;
  get("turns").replaceChildren();
  for (const turn of Array.isArray(state.turns) ? state.turns.slice(0, 200) : []) {
    const role = ["system", "user", "assistant"].includes(turn?.role) ? turn.role : "user";
    addTurn(role, String(turn?.content ?? ""));
  }
  return true;
}

// --- events -------------------------------------------------------------------------------

if (form) {
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    askBoth();
  });
  form.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey) && form.reportValidity()) askBoth();
  });
  form.addEventListener("input", () => {
    showMode();
    showCode();
  });
  get("halt").addEventListener("click", () => running?.abort());
  get("share").addEventListener("click", () => {
    history.replaceState(null, "", link());
    copy(location.href);
  });
  get("add-turn").addEventListener("click", () => {
    const before = turns().at(-1)?.role;
    addTurn(before === "user" ? "assistant" : "user", "").querySelector("textarea").focus();
    showCode();
  });
  for (const side of SIDES) get(`${side}-continue`).addEventListener("click", () => continueFrom(side));
  get("code-side").addEventListener("change", showCode);
  get("left-model").addEventListener("change", showCode);
  get("right-model").addEventListener("change", () => followModel({ fill: true }));
  window.addEventListener("hashchange", () => {
    if (readLink()) followModel({ fill: false }).then(showMode);
  });
  const linked = location.hash.length > 1 && readLink();
  showMode();
  followModel({ fill: !linked });
}
