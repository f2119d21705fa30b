// The guide's workflow with openai-node, the current one and 3.3 (`createCompletion`).
// Usage: node openai_node.mjs BASE_URL TRAINING_FILE

import assert from "node:assert/strict";
import fs from "node:fs";
import OpenAI, { toFile } from "openai";
import old from "openai-3";

const [baseURL, path] = process.argv.slice(2);
const client = new OpenAI({ baseURL, apiKey: "any" });
const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

const file = await client.files.create({ file: fs.createReadStream(path), purpose: "fine-tune" });
assert.equal(file.bytes, fs.statSync(path).size);
assert.equal(await (await client.files.content(file.id)).text(), fs.readFileSync(path, "utf8"));
const named = await client.files.create({
  file: await toFile(Buffer.from("{}"), "数据.jsonl"),
  purpose: "fine-tune",
});
assert.equal(named.filename, "数据.jsonl");
assert.equal((await client.files.delete(named.id)).deleted, true);
await assert.rejects(client.files.retrieve(named.id), (error) => error.status === 404);

let job = await client.fineTuning.jobs.create({
  training_file: file.id,
  model: "gpt-3.5-turbo",
  hyperparameters: { n_epochs: 1 },
});
while (!["succeeded", "failed", "cancelled"].includes(job.status)) {
  await pause(200);
  job = await client.fineTuning.jobs.retrieve(job.id);
}
assert.equal(job.status, "succeeded", JSON.stringify(job.error));
const messages = [];
for await (const event of client.fineTuning.jobs.listEvents(job.id, { limit: 5 })) {
  messages.push(event.message);
}
assert.equal(messages.at(-1), `Created fine-tuning job: ${job.id}`);
assert.equal(messages[0], "The job has successfully completed");
const checkpoints = await client.fineTuning.jobs.checkpoints.list(job.id);
assert.ok(checkpoints.data.length >= 1);

const model = job.fine_tuned_model;
assert.equal((await client.models.retrieve(model)).id, model);
const answer = await client.completions.create({ model, prompt: "I", max_tokens: 3, logprobs: 1 });
assert.ok(answer.choices[0].logprobs.tokens.length >= 1);
let text = "";
for await (const chunk of await client.completions.create({
  model, prompt: "I", max_tokens: 3, stream: true,
})) {
  text += chunk.choices[0].text;
}
const chat = await client.chat.completions.create({
  model, messages: [{ role: "user", content: "hello" }], max_tokens: 3,
});
assert.equal(chat.choices[0].message.role, "assistant");
let roles = 0;
for await (const chunk of await client.chat.completions.create({
  model, messages: [{ role: "user", content: "hello" }], max_tokens: 3, stream: true,
})) {
  if (chunk.choices[0]?.delta.role === "assistant") roles += 1;
}
assert.equal(roles, 1);

// The oldest client: its own names, percent-encoded model ids, bodies without a length.
const first = new old.OpenAIApi(new old.Configuration({ basePath: baseURL, apiKey: "any" }));
const upload = (await first.createFile(fs.createReadStream(path), "fine-tune")).data;
const fineTune = (await first.createFineTune({ training_file: upload.id, model: "ada", n_epochs: 1 }))
  .data;
const stream = await first.listFineTuneEvents(fineTune.id, true, { responseType: "stream" });
let body = "";
for await (const piece of stream.data) body += piece;
assert.ok(body.trimEnd().endsWith("data: [DONE]"));
assert.ok(body.includes("Fine-tune succeeded"), body);
const done = (await first.retrieveFineTune(fineTune.id)).data;
const completion = await first.createCompletion({
  model: done.fine_tuned_model, prompt: "I love it ->", max_tokens: 1,
});
assert.ok("text" in completion.data.choices[0]);
await assert.rejects(first.cancelFineTune(fineTune.id), (error) => error.response.status === 400);
assert.equal((await first.deleteModel(done.fine_tuned_model)).data.deleted, true);
assert.equal((await client.models.delete(model)).deleted, true);

console.log("openai-node ok");
