// A program with an old model name, as it was written for the hosted service.
// Usage: node use_old_name.mjs BASE_URL NAME
import OpenAI from "openai";

const [baseURL, model] = process.argv.slice(2);
const client = new OpenAI({ baseURL, apiKey: "any" });
const messages = [{ role: "user", content: "I love it" }];
const { data, response } = await client.chat.completions.create({ model, messages, seed: 1 }).withResponse();
let text = "";
for await (const chunk of await client.chat.completions.create({ model, messages, stream: true })) {
  text += chunk.choices[0]?.delta.content ?? "";
}
if (!data.choices[0].message.content || !text) throw new Error(JSON.stringify(data));
console.log(response.headers.get("x-tunesmith-side"), data.model);
