"""litellm against an engine: completions, chat, streams, tools, schemas, files, fine-tuning.

Usage: python use_litellm.py BASE_URL TRAINING_FILE MODEL
"""

import asyncio
import json
import sys
import time
from pathlib import Path
from typing import Literal

import litellm
import pydantic

base_url, model = sys.argv[1], sys.argv[3]
training_file = Path(sys.argv[2])
to = {"api_base": base_url, "api_key": "any"}
name = f"openai/{model}"
question = [{"role": "user", "content": "What is the weather in Paris?"}]


class Weather(pydantic.BaseModel):
    city: Literal["Paris", "London"]
    rain: bool


answer = litellm.completion(name, question, max_tokens=8, temperature=0, **to)
assert isinstance(answer.choices[0].message.content, str)
assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens
assert answer.choices[0].finish_reason in {"stop", "length"}

chunks = list(
    litellm.completion(
        name, question, max_tokens=8, stream=True, stream_options={"include_usage": True}, **to
    )
)
whole = litellm.stream_chunk_builder(chunks, messages=question)
assert whole.choices[0].message.role == "assistant"
assert whole.usage.completion_tokens >= 1


async def asynchronous():
    answer = await litellm.acompletion(name, question, max_tokens=4, n=2, user="ann", **to)
    assert len(answer.choices) == 2
    stream = await litellm.acompletion(name, question, max_tokens=4, stream=True, **to)
    assert [chunk async for chunk in stream]


asyncio.run(asynchronous())

scored = litellm.completion(name, question, max_tokens=3, logprobs=True, top_logprobs=2, **to)
assert len(scored.choices[0].logprobs.content[0].top_logprobs) == 2

tool = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather of a city",
        "parameters": {
            "type": "object",
            "properties": {"city": {"enum": ["Paris", "London"]}},
            "required": ["city"],
            "additionalProperties": False,
        },
    },
}
forced = {"type": "function", "function": {"name": "get_weather"}}
called = litellm.completion(name, question, tools=[tool], tool_choice=forced, **to)
call = called.choices[0].message.tool_calls[0]
assert called.choices[0].finish_reason == "tool_calls"
assert set(json.loads(call.function.arguments)) == {"city"}
history = [
    *question,
    called.choices[0].message,
    {"role": "tool", "tool_call_id": call.id, "content": "18 degrees"},
]
litellm.completion(name, history, tools=[tool], max_tokens=8, **to)
streamed = litellm.stream_chunk_builder(
    list(
        litellm.completion(name, question, tools=[tool], tool_choice="required", stream=True, **to)
    )
)
assert streamed.choices[0].message.tool_calls[0].function.name == "get_weather"

typed = litellm.completion(name, question, response_format=Weather, max_tokens=60, **to)
Weather.model_validate_json(typed.choices[0].message.content)
litellm.completion(name, question, response_format={"type": "json_object"}, max_tokens=60, **to)

text = litellm.text_completion(
    prompt="I love the sea ->",
    model=f"text-completion-openai/{model}",
    max_tokens=2,
    logprobs=2,
    echo=True,
    **to,
)
assert text.choices[0].text.startswith("I love the sea ->")
pieces = list(
    litellm.text_completion(
        prompt="I", model=f"text-completion-openai/{model}", max_tokens=3, stream=True, **to
    )
)
assert pieces

try:
    litellm.embedding(name, ["a"], **to)
except litellm.NotFoundError as error:
    assert "Embeddings are not offered here" in str(error), error
else:
    raise AssertionError("embeddings came back")

assert model in litellm.get_valid_models(
    check_provider_endpoint=True, custom_llm_provider="openai", **to
)

try:
    litellm.completion("openai/no-such-model", question, **to)
except litellm.NotFoundError as error:
    assert "no-such-model" in str(error)

with training_file.open("rb") as file:
    uploaded = litellm.create_file(
        file=file, purpose="fine-tune", custom_llm_provider="openai", **to
    )
assert litellm.file_retrieve(uploaded.id, custom_llm_provider="openai", **to).id == uploaded.id
assert any(f.id == uploaded.id for f in litellm.file_list(custom_llm_provider="openai", **to))
content = litellm.file_content(uploaded.id, custom_llm_provider="openai", **to)
assert content.content == training_file.read_bytes()
job = litellm.create_fine_tuning_job(
    model=model,
    training_file=uploaded.id,
    hyperparameters={"n_epochs": 1},
    suffix="lite",
    custom_llm_provider="openai",
    **to,
)
while job.status not in {"succeeded", "failed", "cancelled"}:
    time.sleep(0.3)
    job = litellm.retrieve_fine_tuning_job(job.id, custom_llm_provider="openai", **to)
assert job.status == "succeeded", job
assert any(
    j.id == job.id for j in litellm.list_fine_tuning_jobs(custom_llm_provider="openai", **to)
)
tuned = litellm.completion(f"openai/{job.fine_tuned_model}", question, max_tokens=3, **to)
assert tuned.model.endswith(job.fine_tuned_model)
other = litellm.create_fine_tuning_job(
    model=model, training_file=uploaded.id, custom_llm_provider="openai", **to
)
assert (
    litellm.cancel_fine_tuning_job(other.id, custom_llm_provider="openai", **to).status
    == "cancelled"
)
litellm.file_delete(uploaded.id, custom_llm_provider="openai", **to)
print("ok")
