"""Streams: decoding, closing, errors in mid-stream, and the helpers above them."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import BaseModel

import tunesmith
from http_stub import HANG_UP, answer, raw, sse

pytestmark = pytest.mark.both_transports


class Sentiment(BaseModel):
    label: str
    score: float | None = None


def chunk(
    delta: dict[str, Any] | None = None, finish: str | None = None, **more: Any
) -> dict[str, Any]:
    choices = [{"index": 0, "delta": delta or {}, "finish_reason": finish}]
    return {"id": "c", "created": 1, "model": "m", "choices": choices, **more}


def test_a_stream_of_chunks(mode, stub):
    pieces = [
        chunk({"role": "assistant", "content": ""}),
        chunk({"content": "héllo"}),
        chunk(finish="stop"),
    ]
    stub.then(sse(*pieces, {**chunk(), "choices": [], "usage": {
        "prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}}))  # fmt: skip
    client = mode.client(stub.url)
    chunks = mode.items(client.chat.completions.create(model="m", messages=[], stream=True))
    assert [c.choices[0].delta.content for c in chunks[:3]] == ["", "héllo", None]
    assert chunks[3].usage.total_tokens == 3
    assert stub.requests[0].json["stream"] is True


def test_control_frames_are_skipped(mode, stub, completion):
    stub.then(
        sse(
            b": keep-alive\n\n",
            b"event: ping\ndata: {}\n\n",
            completion,
            b"retry: 10\n\n",
            b"id: 4\n\n",
        )
    )
    client = mode.client(stub.url)
    assert len(mode.items(client.completions.create(model="m", prompt="p", stream=True))) == 1


@pytest.mark.parametrize(
    "event",
    [b'data: {"error": {"message": "overloaded", "code": "busy"}}\n\n',
     b'event: error\ndata: {"message": "overloaded", "code": "busy"}\n\n'],
)  # fmt: skip
def test_an_error_in_mid_stream_is_raised(mode, stub, completion, event):
    stub.then(sse(completion, event))
    client = mode.client(stub.url, max_connections=1)
    with pytest.raises(tunesmith.APIError, match="overloaded") as caught:
        mode.items(client.completions.create(model="m", prompt="p", stream=True))
    assert caught.value.code == "busy"
    stub.then(sse(completion))
    assert len(mode.items(client.completions.create(model="m", prompt="p", stream=True))) == 1


def test_a_stream_without_its_end_mark(mode, stub, completion):
    stub.handle = lambda _: sse(completion, done=False)
    client = mode.client(stub.url)
    with pytest.raises(tunesmith.StreamTruncatedError, match="after 1 events"):
        mode.items(client.completions.create(model="m", prompt="p", stream=True))
    lenient = client.with_options(require_stream_end=False)
    assert len(mode.items(lenient.completions.create(model="m", prompt="p", stream=True))) == 1


@pytest.mark.every_transport
def test_a_server_that_keeps_the_body_open_after_the_end_mark(mode, stub, completion):
    stub.handle = lambda _: sse(completion, tail=[30])
    client = mode.client(stub.url, max_connections=1)
    for _ in range(2):
        assert len(mode.items(client.completions.create(model="m", prompt="p", stream=True))) == 1


@pytest.mark.every_transport
def test_the_connection_of_a_complete_stream_is_reused(mode, stub, completion):
    stub.handle = lambda _: sse(completion)
    client = mode.client(stub.url)
    for _ in range(4):
        mode.items(client.completions.create(model="m", prompt="p", stream=True))
    assert stub.connections == 1


@pytest.mark.every_transport
def test_an_abandoned_stream_frees_its_connection(mode, stub, completion):
    stub.handle = lambda _: sse(*[completion] * 50, done=False, tail=[30])
    client = mode.client(stub.url, max_connections=1)

    async def first() -> Any:
        stream = await client.completions.create(model="m", prompt="p", stream=True)
        async with stream:
            async for item in stream:
                return item

    for _ in range(3):
        if mode.runner:
            mode.runner.run(first())
        else:
            with client.completions.create(model="m", prompt="p", stream=True) as stream:
                next(stream)


def test_an_unexpected_event_is_quoted(mode, stub, completion):
    stub.then(sse(completion, {"id": "c"}))
    client = mode.client(stub.url)
    with pytest.raises(
        tunesmith.APIResponseValidationError, match="Event 2 of the stream.*choices"
    ):
        mode.items(client.completions.create(model="m", prompt="p", stream=True))


@pytest.mark.every_transport
def test_a_stream_that_breaks_is_a_truncation(mode, stub, completion):
    stub.handle = lambda _: sse(completion, done=False, tail=[b"ff\r\ndata: {", HANG_UP])
    client = mode.client(stub.url)
    with pytest.raises(tunesmith.StreamTruncatedError):
        mode.items(client.completions.create(model="m", prompt="p", stream=True))


def test_parse_into_a_type(mode, stub):
    reply = {"id": "c", "created": 1, "model": "m", "object": "chat.completion", "choices": [
        {"index": 0, "finish_reason": "stop",
         "message": {"role": "assistant", "content": '{"label": "positive", "score": 1}'}}]}  # fmt: skip
    stub.then(answer(reply))
    client = mode.client(stub.url)
    parsed = mode.run(
        client.chat.completions.parse(model="m", messages=[], response_format=Sentiment)
    )
    assert parsed.choices[0].message.parsed == Sentiment(label="positive", score=1)
    sent = stub.requests[0].json["response_format"]["json_schema"]
    assert (sent["name"], sent["strict"]) == ("Sentiment", True)
    assert sent["schema"]["required"] == ["label", "score"]
    assert sent["schema"]["additionalProperties"] is False
    reply["choices"][0]["finish_reason"] = "length"
    stub.then(answer(reply))
    with pytest.raises(tunesmith.LengthFinishReasonError):
        mode.run(client.chat.completions.parse(model="m", messages=[], response_format=Sentiment))
    reply["choices"][0].update(finish_reason="stop", message={"role": "assistant", "content": "no"})
    stub.then(answer(reply))
    with pytest.raises(tunesmith.APIResponseValidationError, match="not a Sentiment"):
        mode.run(client.chat.completions.parse(model="m", messages=[], response_format=Sentiment))


def test_a_stream_of_chat_events(mode, stub):
    call = {"index": 0, "id": "call_1", "function": {"name": "add", "arguments": '{"a":'}}
    stub.handle = lambda _: sse(
        chunk({"role": "assistant", "content": '{"label": "po'}),
        chunk({"content": 'sitive"}'}),
        chunk({"tool_calls": [call]}),
        chunk({"tool_calls": [{"index": 0, "function": {"arguments": " 1}"}}]}),
        chunk(finish="stop"),
    )
    client = mode.client(stub.url)

    async def of_async(manager: Any) -> Any:
        async with manager as stream:
            events = [event async for event in stream]
            return events, await stream.get_final_completion()

    manager = client.chat.completions.stream(model="m", messages=[], response_format=Sentiment)
    if mode.runner:
        events, final = mode.runner.run(of_async(manager))
    else:
        with manager as stream:
            events, final = list(stream), stream.get_final_completion()
    kinds = [event.type for event in events if event.type != "chunk"]
    assert kinds == [
        "content.delta", "content.delta", "tool_calls.function.arguments.delta",
        "tool_calls.function.arguments.delta", "content.done", "tool_calls.function.arguments.done",
    ]  # fmt: skip
    by_type = {event.type: event for event in events}
    assert by_type["content.done"].parsed == Sentiment(label="positive")
    assert by_type["tool_calls.function.arguments.done"].parsed_arguments == {"a": 1}
    assert final.choices[0].message.parsed.label == "positive"
    assert final.choices[0].message.tool_calls[0].function.arguments == '{"a": 1}'


def test_the_events_of_a_fine_tune_stream(mode, stub):
    events = [{"created_at": n, "level": "info", "message": f"event {n}"} for n in range(3)]
    stub.then(sse(*events))
    client = mode.client(stub.url)
    found = mode.items(client.fine_tunes.stream_events("ft-1"))
    assert [event.message for event in found] == ["event 0", "event 1", "event 2"]
    assert stub.requests[0].path == "/v1/fine-tunes/ft-1/events?stream=true"


def test_half_a_character_in_a_packet(mode, stub, completion):
    text = b'data: {"id":"c","created":1,"model":"m","choices":[{"index":0,"text":"\xc3\xa4\xf0\x9f\x98\x80"}]}\n\n'
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n"
    steps = [step for byte in text for step in (bytes([byte]), 0.0002)]
    stub.handle = lambda _: raw(head, *steps, b"data: [DONE]\n\n", HANG_UP)
    client = mode.client(stub.url)
    found = mode.items(client.completions.create(model="m", prompt="p", stream=True))
    assert found[0].choices[0].text == "ä😀"
