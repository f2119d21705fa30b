"""The guide's workflow with the current openai-python, unchanged but for the base URL.

Usage: python openai_python.py BASE_URL TRAINING_FILE
"""

import sys
import time
from pathlib import Path

import openai

client = openai.OpenAI(base_url=sys.argv[1], api_key="any")
path = Path(sys.argv[2])

# Files.
file = client.files.create(file=path, purpose="fine-tune")
assert file.filename == path.name
assert file.bytes == path.stat().st_size
assert client.files.retrieve(file.id).purpose == "fine-tune"
assert file.id in [listed.id for listed in client.files.list(limit=2)]
assert client.files.content(file.id).read() == path.read_bytes()
spare = client.files.create(
    file=("spare.jsonl", b"{}"),
    purpose="fine-tune",
    expires_after={"anchor": "created_at", "seconds": 3600},
)
assert client.files.delete(spare.id).deleted
for act in (
    lambda: client.files.retrieve(spare.id),
    lambda: client.fine_tuning.jobs.create(training_file=file.id, model="nobody"),
    lambda: client.models.retrieve("ft:nobody:x::y"),
):
    try:
        act()
    except openai.NotFoundError as error:
        assert error.code, error
        assert error.request_id, error
    else:
        raise AssertionError("an error was expected")

# A job of the fine-tuning jobs API, followed by polling its events.
job = client.fine_tuning.jobs.create(
    training_file=file.id,
    model="gpt-4o-mini-2024-07-18",
    method={"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 1}}},
    suffix="clients",
    seed=3,
    metadata={"client": "python"},
)
assert job.status == "validating_files"
while job.status not in ("succeeded", "failed", "cancelled"):
    time.sleep(0.2)
    job = client.fine_tuning.jobs.retrieve(job.id)
assert job.status == "succeeded", job.error
messages = [event.message for event in client.fine_tuning.jobs.list_events(job.id, limit=5)]
assert messages[0] == "The job has successfully completed"
assert messages[-1] == f"Created fine-tuning job: {job.id}"
assert any(
    event.type == "metrics" and event.data["train_loss"]
    for event in client.fine_tuning.jobs.list_events(job.id)
)
assert client.fine_tuning.jobs.list(limit=1, metadata={"client": "python"}).data[0].id == job.id
checkpoint = client.fine_tuning.jobs.checkpoints.list(job.id).data[0]
assert checkpoint.metrics.train_loss is not None
results = client.files.content(job.result_files[0]).text
assert results.startswith("step,elapsed_tokens,elapsed_examples,training_loss")
try:
    client.fine_tuning.jobs.cancel(job.id)
except openai.BadRequestError as error:
    assert "already succeeded" in str(error)

# Pause, resume, cancel.
long = client.fine_tuning.jobs.create(
    training_file=file.id, model="gpt-3.5-turbo", hyperparameters={"n_epochs": 50}
)
if hasattr(client.fine_tuning.jobs, "pause"):
    assert client.fine_tuning.jobs.pause(long.id).status == "paused"
    assert client.fine_tuning.jobs.resume(long.id).status in ("queued", "validating_files")
assert client.fine_tuning.jobs.cancel(long.id).status == "cancelled"

# Its model, and the checkpoint's.
model = job.fine_tuned_model
assert client.models.retrieve(model).id == model
assert model in [listed.id for listed in client.models.list()]
answer = client.completions.create(
    model=model, prompt="I love it ->", max_tokens=2, temperature=0, logprobs=2, stop=["\n\n"]
)
logprobs = answer.choices[0].logprobs
assert logprobs is not None
assert len(logprobs.tokens) == len(logprobs.token_logprobs) == len(logprobs.top_logprobs)
assert answer.usage.completion_tokens <= 2
assert len(client.completions.create(model="ada", prompt=["a", "b"], n=5).choices) == 10
echoed = client.completions.create(
    model=model, prompt="I love", max_tokens=1, echo=True, logprobs=0
)
assert echoed.choices[0].text.startswith("I love")
whole = client.completions.create(model=model, prompt="I", max_tokens=5, temperature=0)
pieces = list(
    client.completions.create(model=model, prompt="I", max_tokens=5, temperature=0, stream=True)
)
assert "".join(piece.choices[0].text for piece in pieces) == whole.choices[0].text
chat = client.chat.completions.create(
    model=checkpoint.fine_tuned_model_checkpoint,
    messages=[{"role": "user", "content": "hello"}],
    max_tokens=4,
    logprobs=True,
    top_logprobs=2,
)
assert chat.choices[0].message.role == "assistant"
chunks = list(
    client.chat.completions.create(
        model=model,
        messages=[{"role": "user", "content": "hello"}],
        max_tokens=4,
        stream=True,
        stream_options={"include_usage": True},
    )
)
assert chunks[0].choices[0].delta.role == "assistant"
assert chunks[-1].choices == []
assert chunks[-1].usage.completion_tokens >= 1
assert client.models.delete(model).deleted

print("openai-python", openai.__version__, "ok")
