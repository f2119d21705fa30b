// Tools and the schema of the answer, as a chat request takes them; a fault is told beside its field.

const get = (id) => document.getElementById(id);

function show(id, message) {
  const problem = get(`${id}-problem`);
  problem.textContent = message;
  problem.hidden = !message;
  get(id).setAttribute("aria-invalid", String(Boolean(message)));
}

/** The JSON of a field: {value} or {fault}; both are missing from an empty field. */
function read(id) {
  const text = get(id).value.trim();
  if (!text) return {};
  try {
    return { value: JSON.parse(text) };
  } catch (error) {
    return { fault: `This is not JSON: ${error.message}.` };
  }
}

function toolsOf(value) {
  const list = Array.isArray(value) ? value : [value];
  if (!list.every((one) => typeof one === "object" && one !== null)) throw new Error("Enter a list of tools, [{…}, {…}].");
  // A bare function is what most people have at hand.
  const tools = list.map((one) => (one.type === "function" ? one : { type: "function", function: one }));
  const nameless = tools.findIndex((one) => typeof one.function?.name !== "string");
  if (nameless >= 0) throw new Error(`Tool ${nameless + 1} has no name: {"name": "…", "parameters": {…}}.`);
  return tools;
}

function schemaOf(value) {
  if (typeof value !== "object" || value === null || Array.isArray(value)) throw new Error('Enter a JSON schema, {"type": "object", …}.');
  if (value.type === "json_schema" && value.json_schema) return value;
  return { type: "json_schema", json_schema: { name: "answer", schema: value, strict: true } };
}

/** Returns {tools, response_format}, each only where its field is filled in; null if one has a fault. */
export function chatOptions() {
  const options = {};
  let ok = true;
  for (const [id, name, make] of [
    ["tools", "tools", toolsOf],
    ["schema", "response_format", schemaOf],
  ]) {
    let { value, fault } = read(id);
    if (value !== undefined) {
      try {
        options[name] = make(value);
      } catch (error) {
        fault = error.message;
      }
    }
    show(id, fault ?? "");
    if (fault) ok = false;
  }
  return ok ? options : null;
}
