"""What users write, with the types that they see. Checked, never executed."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any, Literal, assert_type

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
    Timeout,
    omit,
    pydantic_function_tool,
)
from tunesmith.core.modes import Async, Sync
from tunesmith.resources.chat_streams import AsyncChatCompletionStream, ChatCompletionStream
from tunesmith.resources.file_content import FileBytes
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
    ParsedFunction,
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


def answers(client: Client) -> None:
    chat = client.chat.completions
    with chat.stream(model="m", messages=[]) as stream:
        assert_type(stream, ChatCompletionStream[None])
        for event in stream:
            if event.type == "content.delta":
                assert_type(event.delta, str)
        assert_type(stream.get_final_completion(), ParsedChatCompletion[None])
        assert_type(stream.response.is_closed, bool)
    with chat.stream(model="m", messages=[], response_format={"type": "json_object"}) as loose:
        assert_type(loose.until_done(), ChatCompletionStream[None])
    with chat.stream(model="m", messages=[], response_format=omit, temperature=0) as plain:
        assert_type(plain.get_final_completion().choices[0].message.content, str | None)
    with chat.stream(model="m", messages=[], response_format=Sentiment) as typed:
        assert_type(typed.get_final_completion(), ParsedChatCompletion[Sentiment])
    parsed = chat.parse(model="m", messages=[], response_format=list[Sentiment])
    assert_type(parsed, ParsedChatCompletion[list[Sentiment]])
    optional = chat.parse(model="m", messages=[], response_format=Sentiment | None)
    assert_type(optional.choices[0].message.parsed, Sentiment | None)
    for call in parsed.choices[0].message.tool_calls or ():
        assert_type(call.function, ParsedFunction | None)
    choice = chat.parse(
        model="m", messages=[], response_format=Literal["yes", "no"],
        tools=[pydantic_function_tool(Sentiment)],
    )  # fmt: skip
    assert_type(choice, ParsedChatCompletion[Literal["yes", "no"]])


def conversations(client: Client, prompt: str) -> None:
    inferred = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": prompt}]
    texts: list[dict[str, str]] = inferred
    parts: list[dict[str, object]] = [{"role": "user", "content": [{"type": "text"}]}]
    answered: ChatCompletion = client.chat.completions.create(model="m", messages=inferred)
    client.chat.completions.create(model="m", messages=texts)
    client.chat.completions.create(model="m", messages=parts)
    client.chat.completions.create(model="m", messages=[answered.choices[0].message, *inferred])


async def asynchronous_answers(client: AsyncClient) -> None:
    chat = client.chat.completions
    async with chat.stream(model="m", messages=[]) as stream:
        assert_type(stream, AsyncChatCompletionStream[None])
        async for event in stream:
            if event.type == "tool_calls.function.arguments.done":
                assert_type(event.parsed_arguments, object | None)
        assert_type(await stream.get_final_completion(), ParsedChatCompletion[None])
    async with chat.stream(model="m", messages=[], response_format=list[Sentiment]) as typed:
        assert_type(await typed.get_final_completion(), ParsedChatCompletion[list[Sentiment]])
    raw = await client.files.with_raw_response.list()
    assert_type(raw.parse(), AsyncPage[FileObject])
    assert_type(raw.http_request.headers["accept"], str)
    async with client.files.with_streaming_response.content("file-1") as response:
        assert_type(await response.parse(), bytes)
    assert_type(await client.files.content("file-1"), FileBytes)


def settings(client: Client) -> None:
    client.api_key = "key"
    client.api_key = lambda: "key"
    client.timeout = 3
    client.max_retries = 0
    client.base_url = "http://127.0.0.1:8712/v1"
    client.organization = client.project = None
    assert_type(client.api_key, str | None)
    assert_type(client.timeout, Timeout)
