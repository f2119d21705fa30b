// Sends a request to one model and reads its answer as a stream (server-sent events over fetch).

const token = () => document.querySelector("meta[name=form-token]").content;

/** Yields the data of each event of a response body; fails if the body ends without [DONE]. */
async function* events(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) throw new Error("The answer is incomplete: the connection to the engine was lost.");
    rest += value;
    const blocks = rest.split("\n\n");
    rest = blocks.pop();
    for (const block of blocks) {
      const data = block
        .split("\n")
        .filter((line) => line.startsWith("data:"))
        .map((line) => line.slice(5).trimStart())
        .join("\n");
      if (data === "[DONE]") return;
      if (data) yield JSON.parse(data);
    }
  }
}

/** Returns [{token, probability}] of a chunk's first scored position, likeliest first. */
function probabilities(choice) {
  const { logprobs } = choice;
  let pairs = null;
  if (logprobs?.top_logprobs?.[0]) pairs = Object.entries(logprobs.top_logprobs[0]);
  else if (logprobs?.content?.[0]) pairs = logprobs.content[0].top_logprobs.map((it) => [it.token, it.logprob]);
  if (!pairs?.length) return null;
  return pairs
    .map(([text, logprob]) => ({ token: text, probability: Math.exp(logprob) }))
    .sort((one, other) => other.probability - one.probability);
}

/** Adds a piece of a tool call to the call that it belongs to. */
function addCall(calls, piece) {
  const call = (calls[piece.index ?? 0] ??= { id: "", name: "", arguments: "" });
  call.id ||= piece.id ?? "";
  call.name ||= piece.function?.name ?? "";
  call.arguments += piece.function?.arguments ?? "";
}

async function errorMessage(response) {
  try {
    return (await response.json()).error.message;
  } catch {
    return `The engine answered with status ${response.status}.`;
  }
}

/**
 * Sends the request and calls `on` as the answer arrives: text(piece), thought(piece),
 * tops(probabilities).
 * Returns {first, total, usage, reason, calls}, times in seconds; first is null for an empty
 * answer. Calls of tools are {id, name, arguments}, the arguments as the text that the model wrote.
 */
export async function ask(path, body, signal, on) {
  const began = performance.now();
  const seconds = () => (performance.now() - began) / 1000;
  const response = await fetch(`/dashboard/v1/${path}`, {
    method: "POST",
    signal,
    headers: { "content-type": "application/json", "x-form-token": token() },
    body: JSON.stringify({ ...body, stream: true, stream_options: { include_usage: true } }),
  });
  if (!response.ok) throw new Error(await errorMessage(response));
  const result = { first: null, total: 0, usage: null, reason: null, calls: [] };
  let scored = false;
  for await (const chunk of events(response.body)) {
    if (chunk.error) throw new Error(chunk.error.message);
    if (chunk.usage) result.usage = chunk.usage;
    const choice = chunk.choices[0];
    if (!choice) continue;
    const piece = choice.text ?? choice.delta?.content ?? "";
    const tops = scored ? null : probabilities(choice);
    const thought = choice.delta?.reasoning_content ?? "";
    const calls = choice.delta?.tool_calls ?? [];
    if (result.first === null && (piece || thought || tops || calls.length)) result.first = seconds();
    for (const call of calls) addCall(result.calls, call);
    if (tops) {
      scored = true;
      on.tops(tops);
    }
    if (thought) on.thought(thought);
    if (piece) on.text(piece);
    if (choice.finish_reason) result.reason = choice.finish_reason;
  }
  result.total = seconds();
  return result;
}
