// The Vercel AI SDK against an engine: text, streams, tools, objects, completions.
// Usage: node use_ai_sdk.mjs BASE_URL TRAINING_FILE MODEL

import assert from "node:assert/strict";
import { createOpenAI } from "@ai-sdk/openai";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { embed, generateText, Output, stepCountIs, streamText, tool } from "ai";
import { z } from "zod";

const [baseURL, , name] = process.argv.slice(2);
const openai = createOpenAI({ baseURL, apiKey: "any" });
const compatible = createOpenAICompatible({
  name: "tunesmith", baseURL, apiKey: "any", includeUsage: true, supportsStructuredOutputs: true,
});
const city = z.object({ name: z.enum(["Paris", "London"]), large: z.boolean() });

for (const model of [compatible.chatModel(name), openai.chat(name)]) {
  const short = { model, maxOutputTokens: 8, maxRetries: 0 };
  const answer = await generateText({
    ...short, system: "Be brief.", prompt: "Hello", temperature: 0, seed: 1, stopSequences: ["#"],
  });
  assert.equal(typeof answer.text, "string");
  assert.ok(answer.usage.outputTokens >= 1);
  assert.ok(["stop", "length"].includes(answer.finishReason), answer.finishReason);

  const stream = streamText({ ...short, prompt: "Hello", onError: ({ error }) => { throw error; } });
  let text = "";
  for await (const piece of stream.textStream) text += piece;
  assert.equal(text, await stream.text);
  assert.ok((await stream.usage).outputTokens >= 1);

  const seen = [];
  const weather = tool({
    description: "Weather of a city",
    inputSchema: z.object({ city: z.enum(["Paris", "London"]) }),
    execute: async ({ city }) => { seen.push(city); return `rain in ${city}`; },
  });
  const calling = await generateText({
    model, maxRetries: 0, prompt: "Weather in Paris?", tools: { weather }, stopWhen: stepCountIs(2),
    prepareStep: ({ stepNumber }) => ({ toolChoice: stepNumber === 0 ? "required" : "none" }),
    maxOutputTokens: 100,
  });
  assert.equal(calling.steps.length, 2);
  assert.equal(seen.length, 1);
  const streamed = streamText({
    model, maxRetries: 0, prompt: "Weather?", tools: { weather },
    toolChoice: { type: "tool", toolName: "weather" },
  });
  const calls = [];
  for await (const part of streamed.fullStream) if (part.type === "tool-call") calls.push(part);
  assert.equal(calls.length, 1);

  const typed = await generateText({
    model, maxRetries: 0, prompt: "A city?", output: Output.object({ schema: city }),
  });
  city.parse(typed.output);
  const partial = streamText({
    model, maxRetries: 0, prompt: "A city?", output: Output.object({ schema: city }),
  });
  let last;
  for await (const piece of partial.partialOutputStream) last = piece;
  city.parse(last);
}

for (const model of [compatible.completionModel(name), openai.completion(name)]) {
  const done = await generateText({ model, prompt: "I love it ->", maxOutputTokens: 3, maxRetries: 0 });
  assert.equal(typeof done.text, "string");
  const stream = streamText({ model, prompt: "I love it ->", maxOutputTokens: 3, maxRetries: 0 });
  let text = "";
  for await (const piece of stream.textStream) text += piece;
  assert.equal(text, await stream.text);
}

const embedding = embed({ model: compatible.embeddingModel(name), value: "a", maxRetries: 0 });
await assert.rejects(embedding, /Embeddings are not offered here/);
const responses = generateText({ model: openai(name), prompt: "Hello", maxRetries: 0 });
await assert.rejects(responses, /use \/v1\/chat\/completions/);
const unknown = generateText({ model: compatible("no-such-model"), prompt: "Hello", maxRetries: 0 });
await assert.rejects(unknown, /no-such-model/);
console.log("ok");
