"""Our answers against the types of the current openai-python, taken strictly.

Usage: python public_schema.py BASE_URL TRAINING_FILE

The client itself takes what it gets; here a missing field, a wrong type or an unknown word
is an error. One erratum of the types is left out: a streamed completion's `finish_reason` is
null until its end.
"""

import json
import sys
import time
import urllib.request
from pathlib import Path

import openai
from openai.types import Completion, FileDeleted, FileObject, Model, ModelDeleted
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from openai.types.fine_tuning import FineTuningJob, FineTuningJobEvent
from openai.types.fine_tuning.jobs import FineTuningJobCheckpoint

client = openai.OpenAI(base_url=sys.argv[1], api_key="any")
path = Path(sys.argv[2])
checked = 0


def check(kind, data):
    global checked  # noqa: PLW0603 - a script's count
    kind.model_validate(data, strict=True)
    checked += 1
    return data


def get(place):
    return client.get(place, cast_to=object)


def post(place, **body):
    return client.post(place, cast_to=object, body=body)


def streamed(place, **body):
    request = urllib.request.Request(
        sys.argv[1] + place,
        json.dumps(body | {"stream": True}).encode(),
        {"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request) as answer:
        lines = [line for line in answer if line.startswith(b"data: {")]
    return [json.loads(line.removeprefix(b"data: ")) for line in lines]


file = client.files.create(file=path, purpose="fine-tune")
method = {"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 1}}}
made = post(
    "/fine_tuning/jobs", training_file=file.id, model="ada", method=method, metadata={"a": "b"}
)
job = check(FineTuningJob, made)
while job["finished_at"] is None:
    time.sleep(0.2)
    job = check(FineTuningJob, get(f"/fine_tuning/jobs/{job['id']}"))
assert job["status"] == "succeeded", job

check(FileObject, get(f"/files/{file.id}"))
for kind, place in (
    (FileObject, "/files"),
    (FineTuningJob, "/fine_tuning/jobs"),
    (FineTuningJobEvent, f"/fine_tuning/jobs/{job['id']}/events"),
    (FineTuningJobCheckpoint, f"/fine_tuning/jobs/{job['id']}/checkpoints"),
    (Model, "/models"),
):
    for item in get(place)["data"]:
        check(kind, item)
check(Model, get(f"/models/{job['fine_tuned_model']}"))

prompt = {"model": job["fine_tuned_model"], "prompt": "I love", "max_tokens": 3, "logprobs": 2}
talk = {"model": "ada", "messages": [{"role": "user", "content": "I"}], "max_tokens": 3}
check(Completion, post("/completions", **prompt))
check(ChatCompletion, post("/chat/completions", **talk, logprobs=True, top_logprobs=2))
for chunk in streamed("/completions", **prompt):
    for choice in chunk["choices"]:
        choice["finish_reason"] = choice["finish_reason"] or "stop"
    check(Completion, chunk)
for chunk in streamed("/chat/completions", **talk, stream_options={"include_usage": True}):
    check(ChatCompletionChunk, chunk)

check(ModelDeleted, client.delete(f"/models/{job['fine_tuned_model']}", cast_to=object))
check(FileDeleted, client.delete(f"/files/{file.id}", cast_to=object))
print(f"{checked} answers")
print("ok")
