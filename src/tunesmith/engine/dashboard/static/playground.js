// One prompt or many, two models. The state is the form; a link carries it after the #.

import { ask } from "./answer_stream.js";
import { clear, emptyNote, escapeText, fail, seconds, showCalls, showTopTokens, stat, thoughtsIn } from "./answer_view.js";
import { runBatch, setUpBatch } from "./batch.js";
import { chatOptions } from "./chat_options.js";
import { forget, remember, showHistory } from "./history.js";
import { copy } from "./page.js";
import { showSnippets } from "./snippets.js";

const get = (id) => document.getElementById(id);
const form = get("ask");
const NUMBERS = ["max_tokens", "temperature", "top_p"];
const SIDES = ["left", "right"];
let promptFormat = null;
let running = null;
const lastCalls = { left: [], right: [] };

// --- the form ---------------------------------------------------------------------------

const mode = () => form.elements.mode.value;
const isChat = () => mode() === "chat";
const isBatch = () => mode() === "batch";
const unescapeText = (text) => text.replace(/\\(n|t|\\)/g, (_, letter) => ({ n: "\n", t: "\t", "\\": "\\" })[letter]);

function showMode() {
  get("chat-part").hidden = !isChat();
  get("completion-part").hidden = mode() !== "completion";
  get("batch-part").hidden = !isBatch();
  get("format-part").hidden = isChat() || !promptFormat;
  get("single-answers").classList.toggle("models-only", isBatch());
  get("single-code").hidden = isBatch();
  get("go-label").textContent = isBatch() ? "Ask both, each prompt" : "Ask both";
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
    ...(turn.dataset.calls ? { tool_calls: JSON.parse(turn.dataset.calls) } : {}),
    ...(turn.dataset.call ? { tool_call_id: turn.dataset.call } : {}),
  }));
}

/** The turns as messages; a call of a tool has no content, and only its result an id. */
function messages() {
  return turns()
    .filter(({ role, content, tool_calls: calls }) => content || calls || role !== "system")
    .map(({ role, content, tool_calls: calls, tool_call_id: call }) => ({
      role,
      content: calls && !content ? null : content,
      ...(calls && role === "assistant" ? { tool_calls: calls } : {}),
      ...(call && role === "tool" ? { tool_call_id: call } : {}),
    }));
}

function prompt(text = get("prompt").value) {
  const separator = promptFormat?.separator;
  if (!separator || !get("formatted").checked || text.endsWith(separator)) return text;
  return text + separator;
}

/** What both kinds of requests have: the model and the settings. */
function settings(side, chat) {
  const body = { model: get(`${side}-model`).value };
  for (const name of NUMBERS) body[name] = Number(get(name).value);
  if (body.top_p === 1) delete body.top_p;
  if (get("stop").value) body.stop = [unescapeText(get("stop").value)];
  if (get("seed").value) body.seed = Number(get("seed").value);
  const tops = Number(get("logprobs").value);
  if (tops && chat) Object.assign(body, { logprobs: true, top_logprobs: tops });
  else if (tops) body.logprobs = tops;
  return body;
}

/** The request to the model of one side, as the API takes it. */
function requestBody(side) {
  const { model, ...rest } = settings(side, isChat());
  if (!isChat()) return { model, prompt: prompt(), ...rest };
  return { model, messages: messages(), ...rest, ...(chatOptions() ?? {}) };
}

/** The request for one prompt of a batch: {path, body}. */
function batchRequest(asked, side) {
  const asChat = Boolean(asked.messages) || get("batch-kind").value === "chat";
  const { model, logprobs, top_logprobs: _, ...rest } = settings(side, asChat);
  if (!asChat) return { path: "completions", body: { model, prompt: prompt(asked.prompt), ...rest } };
  const list = asked.messages ?? [{ role: "user", content: asked.prompt }];
  return { path: "chat/completions", body: { model, messages: list, ...rest } };
}

function showCode() {
  showSnippets(get("single-code").querySelector(".code"), requestBody(get("code-side").value));
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
  get("format-part").hidden = isChat() || !promptFormat;
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
  if (fill && base && get("batch-kind").value !== "chat" && !promptFormat) get("batch-kind").value = "chat";
  if (fill && promptFormat) get("batch-kind").value = "completion";
  showCode();
  showAdvice();
}

/** Says what in the settings does not suit the model's own format, with a button that mends it. */
function showAdvice() {
  const advice = get("advice");
  const tokens = Number(get("max_tokens").value);
  let text = "";
  let mend = null;
  if (promptFormat && !isChat() && !promptFormat.stop && !get("stop").value && tokens > 1) {
    text = "This model was trained without a stop sequence, on answers of one token: it does not know where to end. Ask for one token.";
    mend = ["One token", () => (get("max_tokens").value = 1)];
  } else if (promptFormat?.stop && !isChat() && unescapeText(get("stop").value) !== promptFormat.stop) {
    text = `This model ends its answers with "${escapeText(promptFormat.stop)}", which the field Stop does not hold: it will write on.`;
    mend = ["Stop there", () => (get("stop").value = escapeText(promptFormat.stop))];
  } else if (promptFormat?.stop && !isChat() && tokens === 1) {
    text = "One token is asked for, and this model writes longer answers, up to its stop sequence.";
    mend = ["64 tokens", () => (get("max_tokens").value = 64)];
  }
  get("advice-text").textContent = text;
  advice.hidden = !text;
  if (!mend) return;
  const [label, act] = mend;
  get("advice-act").textContent = label;
  get("advice-act").onclick = () => {
    act();
    showCode();
    showAdvice();
  };
}

// --- requests -----------------------------------------------------------------------------

/** Puts an answer into the conversation, with a turn for each tool's result, or one of the user. */
function continueFrom(side) {
  const output = get(`${side}-output`).querySelector(".text").textContent;
  const calls = lastCalls[side];
  const turn = addTurn("assistant", output);
  if (calls.length) setCalls(turn, calls.map(({ id, name, arguments: given }) => ({ id, type: "function", function: { name, arguments: given } })));
  for (const other of SIDES) get(`${other}-continue`).hidden = true;
  let next = null;
  for (const { id } of calls) {
    const result = addTurn("tool", "");
    result.dataset.call = id;
    result.querySelector("textarea").placeholder = "What the tool answers";
    next ??= result;
  }
  (next ?? addTurn("user", "")).querySelector("textarea").focus();
  showCode();
}

function setCalls(turn, calls) {
  turn.dataset.calls = JSON.stringify(calls);
  turn.querySelector("textarea").placeholder = calls.map(({ function: called }) => `calls ${called.name}(${called.arguments})`).join("\n");
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
    lastCalls[side] = result.calls;
    showCalls(output, result.calls);
    if (!text.textContent.trim() && !result.calls.length) {
      const note = document.createElement("p");
      note.className = "muted";
      note.textContent = emptyNote(text.textContent, result, !thoughts.hidden);
      output.append(note);
    }
    get(`${side}-status`).textContent = `Answer: ${text.textContent.trim() || (result.calls.length ? "calls a tool" : "empty")}`;
    get(`${side}-continue`).hidden = !isChat() || !(text.textContent || result.calls.length);
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
  if (isChat() && !chatOptions()) {
    get("chat-options").open = true;
    showProblem("Correct the tools or the schema first.");
    return;
  }
  showProblem("");
  running = new AbortController();
  get("halt").hidden = false;
  get("go").disabled = true;
  try {
    if (isBatch()) await runBatch(batchRequest, running.signal);
    else await askOnce(running.signal);
  } finally {
    running = null;
    get("halt").hidden = true;
    get("go").disabled = false;
  }
}

async function askOnce(signal) {
  const asked = state();
  await Promise.all(SIDES.map((side) => askSide(side, signal)));
  const answers = Object.fromEntries(SIDES.map((side) => [side, get(`${side}-output`).querySelector(".text")?.textContent ?? ""]));
  remember(asked, answers);
  showHistory(restore);
}

function restore({ state: kept, answers }) {
  applyState(kept);
  followModel({ fill: false }).then(showMode);
  for (const side of SIDES) {
    clear(side);
    get(`${side}-output`).classList.remove("writing");
    const text = document.createElement("div");
    text.className = "text";
    text.textContent = answers?.[side] ?? "";
    get(`${side}-output`).append(text);
    if (!text.textContent) text.after(Object.assign(document.createElement("p"), { className: "muted", textContent: "An empty answer." }));
  }
  window.scrollTo({ top: 0 });
}

// --- the link -----------------------------------------------------------------------------

const FIELDS = ["prompt", "max_tokens", "temperature", "top_p", "logprobs", "seed", "stop", "left-model", "right-model", "tools", "schema", "batch-kind"];

function state() {
  const values = Object.fromEntries(FIELDS.map((id) => [id, get(id).value]));
  return { ...values, mode: mode(), formatted: get("formatted").checked, turns: turns() };
}

function link() {
  const bytes = new TextEncoder().encode(JSON.stringify(state()));
  const text = btoa(Array.from(bytes, (byte) => String.fromCodePoint(byte)).join(""));
  return `${location.origin}/playground#${text.replaceAll("+", "-").replaceAll("/", "_").replace(/=+$/, "")}`;
}

/** Fills the form from the link; returns false if it carries nothing that can be read. */
function readLink() {
  let found;
  try {
    const text = atob(location.hash.slice(1).replaceAll("-", "+").replaceAll("_", "/"));
    found = JSON.parse(new TextDecoder().decode(Uint8Array.from(text, (it) => it.codePointAt(0))));
  } catch {
    return false;
  }
  return applyState(found);
}

/** Fills the form; returns false where there is nothing to fill it with. */
function applyState(found) {
  if (typeof found !== "object" || found === null) return false;
  for (const id of FIELDS) if (typeof found[id] === "string") get(id).value = found[id];
  for (const side of SIDES) if (get(`${side}-model`).selectedIndex < 0) get(`${side}-model`).selectedIndex = 0;
  for (const id of ["logprobs", "batch-kind"]) if (get(id).selectedIndex < 0) get(id).selectedIndex = 0;
  form.elements.mode.value = ["chat", "batch"].includes(found.mode) ? found.mode : "completion";
  get("formatted").checked = found.formatted !== false;
  get("turns").replaceChildren();
  for (const turn of Array.isArray(found.turns) ? found.turns.slice(0, 200) : []) {
    const role = ["system", "user", "assistant", "tool"].includes(turn?.role) ? turn.role : "user";
    const made = addTurn(role, String(turn?.content ?? ""));
    if (Array.isArray(turn?.tool_calls)) setCalls(made, turn.tool_calls.filter((call) => call?.function));
    if (typeof turn?.tool_call_id === "string") made.dataset.call = turn.tool_call_id;
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
    showAdvice();
  });
  setUpBatch();
  showHistory(restore);
  get("forget").addEventListener("click", () => {
    forget();
    showHistory(restore);
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
