// A request in Python, for curl and for Node: of the playground, and of any element with `data-request`.
// The key comes from the environment.

const base = `${location.origin}/v1`;

/** A value as Python writes it. JSON's strings and numbers are Python's, its literals are not. */
function python(value, indent) {
  if (value === true) return "True";
  if (value === false) return "False";
  if (value === null) return "None";
  if (Array.isArray(value)) {
    if (!value.some((it) => typeof it === "object")) return `[${value.map((it) => python(it, indent)).join(", ")}]`;
    const inner = `${indent}    `;
    return `[\n${value.map((it) => `${inner}${python(it, inner)},\n`).join("")}${indent}]`;
  }
  if (typeof value === "object") {
    return `{${Object.entries(value).map(([key, it]) => `${JSON.stringify(key)}: ${python(it, indent)}`).join(", ")}}`;
  }
  return JSON.stringify(value);
}

function pythonCode(chat, body) {
  const call = chat ? "chat.completions.create" : "completions.create";
  const lines = Object.entries(body).map(([name, value]) => `        ${name}=${python(value, "        ")},\n`);
  const message = "answer.choices[0].message";
  const reply = body.tools ? `${message}.tool_calls or ${message}.content` : `${message}.content`;
  const answerText = chat ? reply : "answer.choices[0].text";
  return `from tunesmith import Client

with Client(base_url=${JSON.stringify(base)}) as client:  # key: TUNESMITH_API_KEY
    answer = client.${call}(
${lines.join("")}    )
    print(${answerText})
`;
}

function curlCode(chat, body) {
  const path = chat ? "chat/completions" : "completions";
  const quoted = JSON.stringify(body, null, 2).replaceAll("'", "'\\''");
  return `curl ${base}/${path} \\
  -H "Authorization: Bearer $TUNESMITH_API_KEY" \\
  -H "Content-Type: application/json" \\
  -d '${quoted}'
`;
}

function nodeCode(chat, body) {
  const call = chat ? "chat.completions.create" : "completions.create";
  const message = "answer.choices[0].message";
  const reply = body.tools ? `${message}.tool_calls ?? ${message}.content` : `${message}.content`;
  const answerText = chat ? reply : "answer.choices[0].text";
  const text = JSON.stringify(body, null, 2).replace(/^( *)"([a-z_]+)":/gm, "$1$2:");
  return `import OpenAI from "openai";

const client = new OpenAI({
  baseURL: ${JSON.stringify(base)},
  apiKey: process.env.TUNESMITH_API_KEY,
});
const answer = await client.${call}(${text});
console.log(${answerText});
`;
}

/** Writes the code of a request into the tabs of an element. */
export function showSnippets(box, body) {
  const chat = "messages" in body;
  const written = [pythonCode(chat, body), curlCode(chat, body), nodeCode(chat, body)];
  box.querySelectorAll("code").forEach((code, index) => {
    code.textContent = written[index];
  });
}

for (const box of document.querySelectorAll("[data-request]")) {
  showSnippets(box, JSON.parse(box.dataset.request));
}
