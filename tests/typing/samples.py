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
from tunesmith.core.modes import Async, Sync
from tunesmith.results import Results
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
    job = client.fine_tuning.jobs.create(model="m", training_file="file-1")
    assert_type(job, FineTuningJob[Sync])
    assert_type(client.fine_tuning.jobs.retrieve("ftjob-1", timeout=3.0), FineTuningJob[Sync])
    assert_type(client.fine_tuning.jobs.wait(job, on_event=print), FineTuningJob[Sync])
    assert_type(client.fine_tuning.jobs.follow("ftjob-1"), FineTuningJob[Sync])
    assert_type(client.fine_tuning.jobs.results("ftjob-1"), Results)
    assert_type(job.refresh(timeout=3.0), FineTuningJob[Sync])
    assert_type(job.wait(on_event=lambda event: event.data), FineTuningJob[Sync])
    assert_type(job.pause().resume().follow().cancel(), FineTuningJob[Sync])
    assert_type(job.iter_events(), Iterator[FineTuningJobEvent])
    assert_type(job.results(), Results)
    raw = client.fine_tuning.jobs.with_raw_response.retrieve("ftjob-1").parse()
    assert_type(raw.refresh().id, str)
    kept: FineTuningJob = job
    whatever(kept)
    assert_type(client.fine_tuning.jobs.events("ftjob-1"), Iterator[FineTuningJobEvent])
    assert_type(client.fine_tunes.create(training_file="a.jsonl", n_epochs=2), FineTune[Sync])
    assert_type(client.fine_tunes.retrieve("ft-1").cancel(), FineTune[Sync])
    assert_type(client.fine_tunes.retrieve("ft-1").iter_events(), Iterator[FineTuneEvent])
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
    for one in client.fine_tuning.jobs.list():
        assert_type(one.refresh(), FineTuningJob[Sync])


def whatever(job: FineTuningJob) -> None:
    """Take a job of either mode."""
    assert_type(job.fine_tuned_model, str | None)


async def asynchronous(client: AsyncClient, flag: bool) -> None:
    assert_type(await client.files.create(file=b"", purpose="fine-tune"), FileObject)
    assert_type(client.files.list(), AsyncPaginator[FileObject])
    assert_type(await client.files.list(), AsyncPage[FileObject])
    async for file in client.files.list():
        assert_type(file, FileObject)
    job = await client.fine_tuning.jobs.wait("ftjob-1", timeout=3)
    assert_type(job, FineTuningJob[Async])
    assert_type(await job.refresh(), FineTuningJob[Async])
    assert_type(await job.follow(timeout=3), FineTuningJob[Async])
    assert_type(job.iter_events(), AsyncIterator[FineTuningJobEvent])
    assert_type(await job.results(), Results)
    async for one in client.fine_tunes.list():
        assert_type(await one.cancel(), FineTune[Async])
    whatever(job)
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
