// A program with an old model name, as it was written for the hosted service.
// Usage: node use_old_name.mjs BASE_URL NAME; with `until-local` it goes on asking on one client
// until the new model answers.
import OpenAI from "openai";

const [baseURL, model, mode] = process.argv.slice(2);
const client = new OpenAI({ baseURL, apiKey: "any", maxRetries: mode ? 0 : 2 });
const messages = [{ role: "user", content: "I love it" }];

async function ask() {
  const { data, response } = await client.chat.completions.create({ model, messages, seed: 1 }).withResponse();
  let text = "";
  for await (const chunk of await client.chat.completions.create({ model, messages, stream: true })) {
    text += chunk.choices[0]?.delta.content ?? "";
  }
  if (!data.choices[0].message.content || !text) throw new Error(JSON.stringify(data));
  const side = response.headers.get("x-tunesmith-side");
  console.log(side, data.model);
  return side;
}

let side;
do {
  side = await ask();
} while (mode === "until-local" && side !== "local");
