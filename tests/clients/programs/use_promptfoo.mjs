// promptfoo against an engine: chat, completions, tools, a schema, a model as judge.
// Usage: node use_promptfoo.mjs BASE_URL TRAINING_FILE MODEL

import assert from "node:assert/strict";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";

const folder = fs.mkdtempSync(path.join(os.tmpdir(), "promptfoo-"));
Object.assign(process.env, {
  PROMPTFOO_CONFIG_DIR: folder, PROMPTFOO_DISABLE_TELEMETRY: "1", PROMPTFOO_DISABLE_UPDATE: "1",
  PROMPTFOO_DISABLE_SHARING: "1", PROMPTFOO_CACHE_ENABLED: "false", PROMPTFOO_DISABLE_REMOTE_GENERATION: "1",
  PROMPTFOO_SELF_HOSTED: "1",
});
const { default: promptfoo } = await import("promptfoo");

const [apiBaseUrl, , name] = process.argv.slice(2);
const to = { apiBaseUrl, apiKey: "any", max_tokens: 8 };
const schema = {
  type: "object",
  properties: { name: { enum: ["Paris", "London"] }, large: { type: "boolean" } },
  required: ["name", "large"],
  additionalProperties: false,
};
const weather = {
  type: "function",
  function: {
    name: "weather",
    parameters: {
      type: "object",
      properties: { city: { enum: ["Paris", "London"] } },
      required: ["city"],
      additionalProperties: false,
    },
  },
};
const providers = [
  { id: `openai:chat:${name}`, label: "chat", config: to },
  { id: `openai:completion:${name}`, label: "completion", config: to },
  {
    id: `openai:chat:${name}`, label: "schema",
    config: {
      ...to, max_tokens: 200,
      response_format: { type: "json_schema", json_schema: { name: "city", schema, strict: true } },
    },
  },
  {
    id: `openai:chat:${name}`, label: "tool",
    config: { ...to, max_tokens: 200, tools: [weather], tool_choice: "required" },
  },
];
const judge = { id: `openai:chat:${name}`, config: { ...to, max_tokens: 200 } };
const summary = await promptfoo.evaluate(
  {
    prompts: ["The capital of {{country}}?"],
    providers,
    tests: [
      { vars: { country: "France" }, assert: [{ type: "latency", threshold: 60000 }] },
      { vars: { country: "England" }, assert: [{ type: "javascript", value: "true" }] },
    ],
    sharing: false,
    writeLatestResults: false,
  },
  { maxConcurrency: 4, showProgressBar: false, cache: false },
);
const results = summary.results.results ?? summary.results;
assert.equal(results.length, 8);
for (const result of results) {
  assert.ok(!result.error, `${result.provider.label}: ${result.error}`);
  const { output, tokenUsage } = result.response;
  assert.ok(tokenUsage.total >= 1, JSON.stringify(result.response));
  if (result.provider.label === "schema") {
    const answer = typeof output === "string" ? JSON.parse(output) : output;
    assert.deepEqual(Object.keys(answer).sort(), ["large", "name"]);
  }
  if (result.provider.label === "tool") {
    assert.equal(output[0].function?.name, "weather", JSON.stringify(result.response));
  }
}
const judged = await promptfoo.evaluate(
  {
    prompts: ["Hello"],
    providers: [providers[0]],
    tests: [{ assert: [{ type: "llm-rubric", value: "It is a greeting", provider: judge }] }],
    sharing: false,
    writeLatestResults: false,
  },
  { showProgressBar: false, cache: false },
);
const [one] = judged.results.results ?? judged.results;
console.log("judge:", one.gradingResult?.reason ?? one.error);
fs.rmSync(folder, { recursive: true, force: true });
console.log("ok");
process.exit(0);
