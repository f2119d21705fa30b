// Many prompts to both models: answers side by side as they come, and saved as a file.

import { ask } from "./answer_stream.js";
import { readPrompts } from "./prompt_file.js";

const get = (id) => document.getElementById(id);
const AT_A_TIME = 4;
const MOST_BYTES = 8 << 20;
const SIDES = ["left", "right"];
let file;
let results = [];

const plain = (text) => (text ?? "").trim().toLowerCase();

function problem(message) {
  get("batch-problem").textContent = message;
  get("batch-problem").hidden = !message;
}

async function prompts() {
  if (!file) return readPrompts(get("batch-prompts").value);
  if (file.size > MOST_BYTES) throw new Error("The file has more than 8 MB.");
  return readPrompts(await file.text(), file.name);
}

function cell(text, className = "") {
  const made = document.createElement("td");
  if (className) made.className = className;
  made.textContent = text;
  return made;
}

function questionOf(prompt) {
  return prompt.prompt ?? prompt.messages.at(-1)?.content ?? "";
}

function addRow(prompt, number) {
  const row = document.createElement("tr");
  const name = document.createElement("th");
  name.scope = "row";
  name.textContent = questionOf(prompt);
  row.append(name, cell(prompt.expected ?? "–", "muted"));
  row.children[1].dataset.label = "Expected";
  for (const side of SIDES) {
    const answer = cell("…", "output-cell");
    answer.dataset.label = side === "left" ? "Base" : "Fine-tuned";
    row.append(answer);
  }
  row.dataset.number = String(number);
  get("batch-rows").append(row);
  return row;
}

function showAnswer(place, answer, prompt) {
  const shown = document.createElement("span");
  if (answer.error) {
    shown.className = "problem";
    shown.textContent = answer.error;
  } else if (answer.calls.length) {
    shown.textContent = answer.calls.map(({ name, arguments: given }) => `${name}(${given})`).join("\n");
  } else if (!answer.text.trim()) {
    shown.className = "muted";
    shown.textContent = answer.text ? "only white space" : "empty: the model ended at once";
  } else shown.textContent = answer.text;
  place.replaceChildren(shown);
  // One token is what a format without a stop sequence asks for, and no answer that was cut off.
  if (answer.reason === "length" && get("max_tokens").value !== "1") place.append(note("cut off at max tokens"));
  if (prompt.expected !== null && !answer.error) {
    const right = plain(answer.text) === plain(prompt.expected);
    place.append(note(right ? "as expected" : "not as expected"));
    place.classList.toggle("right-answer", right);
  }
}

function note(text) {
  const made = document.createElement("span");
  made.className = "sub";
  made.textContent = text;
  return made;
}

async function askOne(prompt, side, bodyOf, signal) {
  const { path, body } = bodyOf(prompt, side);
  const answer = { text: "", calls: [], error: null, reason: null };
  try {
    const result = await ask(path, body, signal, { text: (piece) => (answer.text += piece), thought() {}, tops() {} });
    answer.reason = result.reason;
    answer.calls = result.calls;
  } catch (error) {
    if (error.name === "AbortError") throw error;
    answer.error = error instanceof TypeError ? "The engine could not be reached." : error.message;
  }
  return answer;
}

function summary() {
  const done = results.filter(Boolean);
  const both = done.filter(({ answers }) => answers.left && answers.right);
  const parts = [`${both.length} of ${results.length} prompts answered`];
  const same = both.filter(({ answers }) => plain(answers.left.text) === plain(answers.right.text)).length;
  if (both.length) parts.push(`both models say the same ${same} times`);
  const expected = both.filter(({ prompt }) => prompt.expected !== null);
  if (expected.length) {
    for (const [side, name] of [["left", "base"], ["right", "fine-tuned"]]) {
      const right = expected.filter(({ prompt, answers }) => plain(answers[side].text) === plain(prompt.expected)).length;
      parts.push(`${name} as expected ${right} of ${expected.length}`);
    }
  }
  const empty = both.filter(({ answers }) => SIDES.some((side) => !answers[side].error && !answers[side].text.trim() && !answers[side].calls.length)).length;
  if (empty) parts.push(`${empty} with an empty answer`);
  const failed = both.filter(({ answers }) => SIDES.some((side) => answers[side].error)).length;
  if (failed) parts.push(`${failed} failed`);
  return `${parts.join("; ")}.`;
}

/** Asks all prompts; `bodyOf(prompt, side)` gives {path, body}. Stops with the signal. */
export async function runBatch(bodyOf, signal) {
  problem("");
  let all;
  try {
    all = await prompts();
  } catch (error) {
    problem(error.message);
    return;
  }
  results = all.map(() => null);
  get("batch-rows").replaceChildren();
  get("batch-results").hidden = false;
  get("batch-save").hidden = true;
  const rows = all.map(addRow);
  const waiting = all.map((_, index) => index);
  get("batch-summary").textContent = summary();
  const worker = async () => {
    while (waiting.length && !signal.aborted) {
      const index = waiting.shift();
      const prompt = all[index];
      const answers = {};
      results[index] = { prompt, answers };
      await Promise.all(
        SIDES.map(async (side) => {
          answers[side] = await askOne(prompt, side, bodyOf, signal);
          showAnswer(rows[index].children[side === "left" ? 2 : 3], answers[side], prompt);
        }),
      );
      get("batch-summary").textContent = summary();
    }
  };
  await Promise.allSettled(Array.from({ length: AT_A_TIME }, worker));
  for (const row of rows) for (const place of row.querySelectorAll(".output-cell")) if (place.textContent === "…") place.textContent = "not asked";
  get("batch-summary").textContent = summary();
  get("batch-save").hidden = !results.some(Boolean);
}

function download(text, name, type) {
  const address = URL.createObjectURL(new Blob([text], { type }));
  const link = document.createElement("a");
  link.href = address;
  link.download = name;
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(address), 10_000);
}

function rowsToSave() {
  const models = Object.fromEntries(SIDES.map((side) => [side, get(`${side}-model`).value]));
  return results.filter(Boolean).map(({ prompt, answers }) => ({
    ...(prompt.messages ? { messages: prompt.messages } : { prompt: prompt.prompt }),
    ...(prompt.expected === null ? {} : { expected: prompt.expected }),
    answers: SIDES.map((side) => ({
      model: models[side],
      text: answers[side]?.text ?? null,
      ...(answers[side]?.calls.length ? { tool_calls: answers[side].calls } : {}),
      finish_reason: answers[side]?.reason ?? null,
      ...(answers[side]?.error ? { error: answers[side].error } : {}),
    })),
  }));
}

/** A cell of a table: quoted, and never one that a spreadsheet would take for a formula. */
function csvCell(value) {
  const text = String(value ?? "");
  const safe = /^[=+\-@\t\r]/.test(text) ? `'${text}` : text;
  return `"${safe.replaceAll('"', '""')}"`;
}

function asTable() {
  const names = ["prompt", "expected", ...SIDES.map((side) => get(`${side}-model`).value)];
  const lines = results.filter(Boolean).map(({ prompt, answers }) => [questionOf(prompt), prompt.expected, ...SIDES.map((side) => answers[side]?.error ?? answers[side]?.text)]);
  return [names, ...lines].map((line) => line.map(csvCell).join(",")).join("\r\n");
}

function takeFile() {
  [file] = get("batch-file").files;
  get("batch-file-name").textContent = file ? file.name : "";
  get("batch-clear").hidden = !file;
}

export function setUpBatch() {
  get("batch-file").addEventListener("change", takeFile);
  get("batch-clear").addEventListener("click", () => {
    get("batch-file").value = "";
    takeFile();
  });
  takeFile(); // it may have been chosen before this script had arrived
  get("save-jsonl").addEventListener("click", () => download(`${rowsToSave().map((row) => JSON.stringify(row)).join("\n")}\n`, "answers.jsonl", "application/jsonl"));
  get("save-csv").addEventListener("click", () => download(`\ufeff${asTable()}\r\n`, "answers.csv", "text/csv"));
}
