// From the text of a file, or of the field, to prompts: JSONL, JSON, CSV or one prompt a line.

export const MOST_PROMPTS = 1000;
const PROMPTS = ["prompt", "text", "question", "input", "instruction", "review", "message"];
const EXPECTED = ["completion", "expected", "answer", "label", "output", "response", "target"];

/** Rows of a CSV text: quotes may hold commas, quotes and line ends. */
function csvRows(text) {
  const rows = [[]];
  let cell = "";
  let quoted = false;
  for (let at = 0; at < text.length; at += 1) {
    const sign = text[at];
    if (quoted) {
      if (sign === '"' && text[at + 1] === '"') {
        cell += '"';
        at += 1;
      } else if (sign === '"') quoted = false;
      else cell += sign;
    } else if (sign === '"' && !cell) quoted = true;
    else if (sign === ",") {
      rows.at(-1).push(cell);
      cell = "";
    } else if (sign === "\n") {
      rows.at(-1).push(cell.replace(/\r$/, ""));
      cell = "";
      rows.push([]);
    } else cell += sign;
  }
  rows.at(-1).push(cell);
  return rows.filter((row) => row.some((value) => value.trim()));
}

function textOf(value) {
  return value === undefined || value === null ? null : typeof value === "string" ? value : JSON.stringify(value);
}

/** One prompt of an object: {prompt} or {messages}, with the expected answer where there is one. */
function promptOf(row, place) {
  const source = row?.body && typeof row.body === "object" ? row.body : row;
  if (Array.isArray(source?.messages)) {
    const messages = source.messages.filter((one) => typeof one === "object" && one !== null);
    const last = messages.at(-1);
    const expected = last?.role === "assistant" ? textOf(last.content) : null;
    return { messages: expected === null ? messages : messages.slice(0, -1), expected };
  }
  const name = PROMPTS.find((one) => typeof source?.[one] === "string");
  if (!name) throw new Error(`${place} has neither "prompt" nor "messages".`);
  const answer = EXPECTED.find((one) => source[one] !== undefined);
  return { prompt: source[name], expected: textOf(source[answer]) };
}

function fromJsonLines(text) {
  return text
    .split("\n")
    .map((line, index) => [line.trim(), index + 1])
    .filter(([line]) => line)
    .map(([line, number]) => {
      let row;
      try {
        row = JSON.parse(line);
      } catch {
        throw new Error(`Line ${number} is not JSON.`);
      }
      return promptOf(row, `Line ${number}`);
    });
}

function fromTable(text) {
  const [names, ...rows] = csvRows(text);
  const known = names.map((name) => name.trim().toLowerCase());
  const prompt = known.findIndex((name) => PROMPTS.includes(name));
  if (prompt < 0) throw new Error(`No column is called ${PROMPTS.slice(0, 4).join(", ")} or the like.`);
  const expected = known.findIndex((name) => EXPECTED.includes(name));
  return rows.map((row) => ({ prompt: row[prompt] ?? "", expected: expected < 0 ? null : row[expected] ?? null }));
}

/**
 * Returns prompts: [{prompt} or {messages}, each with expected]. `name` says the format by its ending.
 * Throws an Error that names the line.
 */
export function readPrompts(text, name = "") {
  const content = text.replace(/^\ufeff/, "");
  let found;
  if (/\.csv$/i.test(name)) found = fromTable(content);
  else if (/\.json$/i.test(name)) {
    const whole = JSON.parse(content);
    if (!Array.isArray(whole)) throw new Error("The file is no list of prompts.");
    found = whole.map((row, index) => (typeof row === "string" ? { prompt: row, expected: null } : promptOf(row, `Row ${index + 1}`)));
  } else if (/\.(jsonl|ndjson)$/i.test(name) || /^\s*\{/.test(content)) found = fromJsonLines(content);
  else found = content.split("\n").filter((line) => line.trim()).map((prompt) => ({ prompt: prompt.replace(/\r$/, ""), expected: null }));
  if (!found.length) throw new Error("There is no prompt in it.");
  if (found.length > MOST_PROMPTS) throw new Error(`There are ${found.length} prompts; at most ${MOST_PROMPTS} are asked here. A batch of the API takes more.`);
  return found;
}
