"""Recordings made by hand: prompts, responses as services answer them, and both together."""

import json

from tunesmith.migrate import Prompt
from tunesmith.migrate.recordings import RecordedAnswer, Recording, answer_key


def chat(text="", *, calls=(), finish="stop", logprobs=None, refusal=None, usage=None):
    """Return a chat completion as a service answers it."""
    message = {"role": "assistant", "content": text or None, "refusal": refusal}
    if calls:
        message["tool_calls"] = [
            {"id": f"call_{number}", "type": "function",
             "function": {"name": name, "arguments": json.dumps(arguments)}}
            for number, (name, arguments) in enumerate(calls)
        ]  # fmt: skip
    tokens = None
    if logprobs is not None:
        tokens = {
            "content": [
                {"token": token, "logprob": logprob, "bytes": list(token.encode()),
                 "top_logprobs": [{"token": name, "logprob": one, "bytes": None}
                                  for name, one in (top or {}).items()]}
                for token, logprob, top in logprobs
            ]
        }  # fmt: skip
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": "m",
        "choices": [{"index": 0, "message": message, "finish_reason": finish, "logprobs": tokens}],
        "usage": usage or {"prompt_tokens": 5, "completion_tokens": 3, "total_tokens": 8},
    }


def question(text, **fields):
    """Return a prompt of one user's message."""
    reference = fields.pop("reference", None)
    conversation = fields.pop("conversation", "")
    source = fields.pop("source", "validation")
    item = fields.pop("item", None)
    body = {"messages": [{"role": "user", "content": text}], **fields}
    return Prompt(body, source, conversation, reference, item, origin=f"valid.jsonl:{text}")


def recording(model, answers, repeats=()):
    """Return a recording of (prompt, response) pairs; an error is given as a text."""
    made = Recording(model, facts={"model": model})
    for repeat, pairs in enumerate((answers, repeats)):
        for prompt, response in pairs:
            made.prompts[prompt.id] = prompt
            key = answer_key(model, prompt.body, repeat)
            failed = isinstance(response, str)
            made.answers[prompt.id, repeat] = RecordedAnswer(
                key, prompt.id, repeat,
                None if failed else response,
                {"message": response, "is_final": True} if failed else None,
                seconds=0.5,
            )  # fmt: skip
    return made
