"""Every kind of answer against the fields of the published API, types taken strictly.

`tests/clients/public_schema.py` does the same with the types of the official client.
"""

from __future__ import annotations

import json
from typing import Annotated, Any, Generic, Literal, TypeVar

import httpx
import pytest
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

T = TypeVar("T")
Level = Literal["info", "warn", "error"]
Status = Literal["validating_files", "queued", "running", "succeeded", "failed", "cancelled"]


class Wire(BaseModel):
    model_config = ConfigDict(strict=True)


class File(Wire):
    id: Annotated[str, Field(pattern="^file-")]
    object: Literal["file"]
    bytes: int
    created_at: int
    filename: str
    purpose: Literal["fine-tune", "fine-tune-results"]
    status: Literal["uploaded", "processed", "error"]


class Listed(Wire, Generic[T]):
    object: Literal["list"]
    data: Annotated[list[T], Field(min_length=1)]


class Paged(Listed[T], Generic[T]):
    has_more: bool


class Files(Paged[File]):
    first_id: str
    last_id: str


class Deleted(Wire):
    id: str
    object: Literal["file", "model"]
    deleted: Literal[True]


class FineTuneEvent(Wire):
    object: Literal["fine-tune-event"]
    created_at: int
    level: Level
    message: str


class Hyperparams(Wire):
    n_epochs: int
    batch_size: int | None  # null until the training has started
    prompt_loss_weight: float
    learning_rate_multiplier: float | None


class FineTune(Wire):
    id: Annotated[str, Field(pattern="^ft-")]
    object: Literal["fine-tune"]
    created_at: int
    updated_at: int
    model: str
    fine_tuned_model: str | None
    organization_id: str
    status: Literal["pending", "created", "running", "succeeded", "failed", "cancelled"]
    hyperparams: Hyperparams
    training_files: list[File]
    validation_files: list[File]
    result_files: list[File]


class FineTuneWithEvents(FineTune):
    events: list[FineTuneEvent]


class Fault(Wire):
    code: str
    message: str
    param: str | None


class Values(Wire):
    n_epochs: int | Literal["auto"]
    batch_size: int | Literal["auto"]
    learning_rate_multiplier: float | Literal["auto"]


class Job(Wire):
    id: Annotated[str, Field(pattern="^ftjob-")]
    object: Literal["fine_tuning.job"]
    created_at: int
    model: str
    organization_id: str
    status: Status
    training_file: str
    validation_file: str | None
    result_files: list[str]
    seed: int
    hyperparameters: Values
    error: Fault | None
    fine_tuned_model: str | None
    finished_at: int | None
    trained_tokens: int | None


class JobEvent(Wire):
    id: Annotated[str, Field(pattern="^ftevent-")]
    object: Literal["fine_tuning.job.event"]
    created_at: int
    level: Level
    message: str
    type: Literal["message", "metrics"]
    data: dict[str, Any] | None


class Metrics(Wire):
    step: float
    train_loss: float
    train_mean_token_accuracy: float


class Checkpoint(Wire):
    id: Annotated[str, Field(pattern="^ftckpt_")]
    object: Literal["fine_tuning.job.checkpoint"]
    created_at: int
    fine_tuned_model_checkpoint: str
    fine_tuning_job_id: str
    step_number: int
    metrics: Metrics


class Checkpoints(Paged[Checkpoint]):
    first_id: str | None
    last_id: str | None


class Model(Wire):
    id: str
    object: Literal["model"]
    created: int
    owned_by: str


class Logprobs(Wire):
    tokens: list[str]
    token_logprobs: list[float | None]
    top_logprobs: list[dict[str, float] | None]
    text_offset: list[int]


class Usage(Wire):
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class Choice(Wire):
    text: str
    index: int
    logprobs: Logprobs | None
    finish_reason: Literal["stop", "length", "content_filter"]


class ChoicePart(Choice):
    finish_reason: Literal["stop", "length", "content_filter"] | None


class CompletionPart(Wire):
    id: Annotated[str, Field(pattern="^cmpl-")]
    object: Literal["text_completion"]
    created: int
    model: str
    choices: list[ChoicePart]


class Completion(CompletionPart):
    choices: list[Choice]
    usage: Usage


class ChatToken(Wire):
    token: str
    logprob: float
    bytes: list[int] | None
    top_logprobs: list[dict[str, Any]]


class ChatLogprobs(Wire):
    content: list[ChatToken] | None


class Message(Wire):
    role: Literal["assistant"]
    content: str | None
    refusal: str | None


class ChatChoice(Wire):
    index: int
    message: Message
    logprobs: ChatLogprobs | None
    finish_reason: Literal["stop", "length", "tool_calls", "content_filter", "function_call"]


class Chat(Wire):
    id: Annotated[str, Field(pattern="^chatcmpl-")]
    object: Literal["chat.completion"]
    created: int
    model: str
    choices: list[ChatChoice]
    usage: Usage


class ChatPart(Wire):
    index: int
    delta: dict[str, Any]
    logprobs: ChatLogprobs | None = None
    finish_reason: Literal["stop", "length", "tool_calls", "content_filter"] | None


class ChatChunk(Wire):
    id: Annotated[str, Field(pattern="^chatcmpl-")]
    object: Literal["chat.completion.chunk"]
    created: int
    model: str
    choices: list[ChatPart]
    usage: Usage | None = None


class Error(Wire):
    message: str
    type: str
    param: str | None = Field()
    code: str | None = Field()


class Envelope(Wire):
    error: Error


def checked(kind: Any, text: str) -> Any:
    return TypeAdapter(kind).validate_json(text, strict=True)


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("files", Files),
        ("files/{file}", File),
        ("fine-tunes", Listed[FineTune]),
        ("fine-tunes/{fine_tune}", FineTuneWithEvents),
        ("fine-tunes/{fine_tune}/events", Listed[FineTuneEvent]),
        ("fine_tuning/jobs", Paged[Job]),
        ("fine_tuning/jobs/{job}", Job),
        ("fine_tuning/jobs/{job}/events", Paged[JobEvent]),
        ("fine_tuning/jobs/{job}/checkpoints", Checkpoints),
        ("models", Listed[Model]),
        ("models/{model}", Model),
    ],
)
def test_what_is_read(
    http: httpx.Client, fine_tune: dict[str, Any], job: dict[str, Any], path: str, kind: Any
):
    named = {"file": job["training_file"], "fine_tune": fine_tune["id"], "job": job["id"]}
    answer = http.get(path.format(**named, model=job["fine_tuned_model"]))

    assert answer.status_code == 200
    checked(kind, answer.text)


def test_what_is_generated(http: httpx.Client):
    prompt = {"model": "ada", "prompt": ["I love", "I hate"], "max_tokens": 3, "logprobs": 2}
    talk = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "I"}], "max_tokens": 3}
    talk |= {"logprobs": True, "top_logprobs": 2}

    assert len(checked(Completion, http.post("completions", json=prompt).text).choices) == 2
    assert checked(Chat, http.post("chat/completions", json=talk).text).choices[0].logprobs
    for path, body, kind in (
        ("completions", prompt, CompletionPart),
        ("chat/completions", talk, ChatChunk),
    ):
        options = {"stream": True, "stream_options": {"include_usage": True}}
        answer = http.post(path, json=body | options)
        *parts, done = [line for line in answer.text.splitlines() if line]
        assert done == "data: [DONE]"
        chunks = [checked(kind, part.removeprefix("data: ")) for part in parts]
        assert {chunk.id for chunk in chunks} == {chunks[0].id}
        assert chunks[-1].choices == []
        assert json.loads(parts[-1].removeprefix("data: "))["usage"]["total_tokens"] > 0


def test_what_is_deleted_and_what_is_refused(http: httpx.Client, upload: Any):
    file = upload()
    checked(File, json.dumps(file))
    checked(Deleted, http.delete(f"files/{file['id']}").text)
    for answer in (
        http.get(f"files/{file['id']}"),
        http.get("nowhere"),
        http.put("models"),
        http.post("fine_tuning/jobs", json={"model": "ada"}),
        http.post("completions", content=b"{"),
    ):
        assert answer.status_code >= 400
        checked(Envelope, answer.text)
