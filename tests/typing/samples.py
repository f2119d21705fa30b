"""What users write, with the types that they see. Checked, never executed."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any, assert_type

from pydantic import BaseModel

from tunesmith import (
    AsyncClient,
    AsyncPage,
    AsyncPaginator,
    AsyncStream,
    Client,
    MapResult,
    Page,
    Stream,
)
from tunesmith.transport.responses import APIResponse, AsyncStreamedResponse, StreamedResponse
from tunesmith.types import (
    ChatCompletion,
    ChatCompletionChunk,
    Completion,
    FileObject,
    FineTune,
    FineTuneEvent,
    FineTuningJob,
    FineTuningJobEvent,
    Model,
    ParsedChatCompletion,
)


class Sentiment(BaseModel):
    label: str


def blocking(client: Client, flag: bool) -> None:
    assert_type(client.files.create(file="train.jsonl", purpose="fine-tune"), FileObject)
    assert_type(client.files.list(limit=3), Page[FileObject])
    assert_type(client.fine_tuning.jobs.create(model="m", training_file="file-1"), FineTuningJob)
    assert_type(client.fine_tuning.jobs.retrieve("ftjob-1", timeout=3.0), FineTuningJob)
    assert_type(client.fine_tuning.jobs.wait("ftjob-1", on_event=print), FineTuningJob)
    assert_type(client.fine_tuning.jobs.events("ftjob-1"), Iterator[FineTuningJobEvent])
    assert_type(client.fine_tunes.create(training_file="a.jsonl", n_epochs=2), FineTune)
    assert_type(client.fine_tunes.stream_events("ft-1"), Stream[FineTuneEvent])
    assert_type(client.completions.create(model="m", prompt="p"), Completion)
    assert_type(client.completions.create(model="m", prompt="p", stream=False), Completion)
    assert_type(client.completions.create(model="m", prompt="p", stream=True), Stream[Completion])
    assert_type(
        client.completions.create(model="m", prompt="p", stream=flag),
        Completion | Stream[Completion],
    )
    assert_type(
        client.chat.completions.create(model="m", messages=[{"role": "user", "content": "a"}]),
        ChatCompletion,
    )
    assert_type(
        client.chat.completions.create(model="m", messages=[], stream=True),
        Stream[ChatCompletionChunk],
    )
    assert_type(
        client.chat.completions.parse(model="m", messages=[], response_format=Sentiment),
        ParsedChatCompletion[Sentiment],
    )
    assert_type(client.completions.map(["a"], model="m"), Iterator[MapResult[Completion]])
    assert_type(
        client.models.with_raw_response.retrieve("m"),
        APIResponse[Model],
    )
    assert_type(client.models.with_raw_response.retrieve("m").parse(), Model)
    assert_type(
        client.with_raw_response.models.retrieve("m"),
        APIResponse[Model],
    )
    assert_type(client.models.with_streaming_response.retrieve("m"), StreamedResponse[Model])
    assert_type(client.with_options(timeout=3), Client)
    for job in client.fine_tuning.jobs.list():
        assert_type(job, FineTuningJob)


async def asynchronous(client: AsyncClient, flag: bool) -> None:
    assert_type(await client.files.create(file=b"", purpose="fine-tune"), FileObject)
    assert_type(client.files.list(), AsyncPaginator[FileObject])
    assert_type(await client.files.list(), AsyncPage[FileObject])
    async for file in client.files.list():
        assert_type(file, FileObject)
    assert_type(await client.fine_tuning.jobs.wait("ftjob-1", timeout=3), FineTuningJob)
    assert_type(client.fine_tuning.jobs.events("ftjob-1"), AsyncIterator[FineTuningJobEvent])
    assert_type(await client.fine_tunes.stream_events("ft-1"), AsyncStream[FineTuneEvent])
    assert_type(await client.completions.create(model="m", prompt="p"), Completion)
    assert_type(
        await client.completions.create(model="m", prompt="p", stream=True),
        AsyncStream[Completion],
    )
    assert_type(
        await client.chat.completions.create(model="m", messages=[], stream=flag),
        ChatCompletion | AsyncStream[ChatCompletionChunk],
    )
    assert_type(client.completions.map(["a"], model="m"), AsyncIterator[MapResult[Completion]])
    assert_type(
        await client.models.with_raw_response.retrieve("m"),
        APIResponse[Model],
    )
    assert_type(client.models.with_streaming_response.retrieve("m"), AsyncStreamedResponse[Model])
    extra: dict[str, Any] = {"a": 1}
    await client.models.retrieve("m", extra_body=extra, extra_headers={"a": "b"})
