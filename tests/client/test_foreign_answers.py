"""Answers and streams of other servers, as public reports show them, over a real socket."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

import tunesmith
from http_stub import HANG_UP, answer, raw, sse
from tunesmith.types import ChatCompletionChunk

pytestmark = pytest.mark.both_transports

STREAM_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n"


def ask(mode: Any, client: Any) -> Any:
    return mode.run(client.chat.completions.create(model="m", messages=[]))


def chunks_of(mode: Any, client: Any) -> list[ChatCompletionChunk]:
    return mode.items(client.chat.completions.create(model="m", messages=[], stream=True))


def streamed(mode: Any, client: Any, **options: Any) -> tuple[list[Any], Any]:
    """The events of `stream`, and the final completion."""
    manager = client.chat.completions.stream(model="m", messages=[], **options)

    async def of_async() -> tuple[list[Any], Any]:
        async with manager as stream:
            return [event async for event in stream], await stream.get_final_completion()

    if mode.runner:
        return mode.runner.run(of_async())
    with manager as stream:
        return list(stream), stream.get_final_completion()


def delta(content: Any = None, finish: Any = None, **more: Any) -> dict[str, Any]:
    fields = {"content": content, **more} if content is not None else more
    return {"id": "c", "choices": [{"index": 0, "delta": fields, "finish_reason": finish}]}


def calls(*pieces: dict[str, Any]) -> dict[str, Any]:
    return delta(tool_calls=list(pieces))


def function(name: str | None, arguments: Any, **more: Any) -> dict[str, Any]:
    return {"function": {"name": name, "arguments": arguments}, **more}


# Whole answers.


def test_a_job_of_azure(mode, stub, job):
    """litellm#24687: `organization_id` and `result_files` are null; the job exists all the same."""
    bare = {**job, "organization_id": None, "result_files": None}
    stub.handle = lambda request: answer({"data": None} if "/events" in request.path else bare)
    client = mode.client(stub.url)
    made = mode.run(client.fine_tuning.jobs.create(model="m", training_file="file-1"))
    assert (made.id, made.organization_id, made.result_files) == ("ftjob-1", "", [])
    assert mode.run(client.fine_tuning.jobs.wait("ftjob-1")).status == "succeeded"
    assert mode.run(client.fine_tuning.jobs.wait("ftjob-1", on_event=print)).id == "ftjob-1"


@pytest.mark.parametrize("shared", [True, False])
def test_wait_does_not_repeat_an_answer_that_cannot_be_read(mode, stub, job, shared):
    stub.handle = lambda _: answer({**job, "status": None})
    client = mode.client(stub.url)
    more = {} if shared else {"on_event": print}
    began = time.monotonic()
    with pytest.raises(
        tunesmith.APIResponseValidationError, match="It holds id 'ftjob-1'"
    ) as caught:
        mode.run(client.fine_tuning.jobs.wait("ftjob-1", poll=0.01, **more))
    assert caught.value.decoded["training_file"] == "file-1"
    assert len(stub.requests) == 1
    assert time.monotonic() - began < 5


@pytest.mark.parametrize("call", ["wait", "events", "on_event"])
def test_the_legacy_api_does_not_repeat_it_either(mode, stub, call):
    stub.handle = lambda _: answer({"id": "ft-1", "training_files": ["file-1"]})
    fine_tunes = mode.client(stub.url).fine_tunes

    def follow() -> Any:
        if call == "events":
            return mode.items(fine_tunes.events("ft-1", poll=0.01))
        return mode.run(fine_tunes.wait("ft-1", on_event=print if call == "on_event" else None))

    with pytest.raises(tunesmith.APIResponseValidationError, match="id 'ft-1'") as caught:
        follow()
    assert caught.value.decoded["id"] == "ft-1"
    assert len(stub.requests) <= 2


def test_times_that_are_none_are_shown_all_the_same(mode, stub):
    found = [{"id": "a"}, {"id": "b", "created": 1712345678901234567}]
    stub.then(answer({"data": found}))
    page = mode.run(mode.client(stub.url).models.list())
    assert "1712345678901234567" in page._repr_html_()


def test_wait_outlasts_a_proxy_page(mode, stub, job):
    page = raw(
        b"HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: 21\r\n\r\n<html>starting</html>"
    )
    stub.then(page, page, answer(job), page, answer({"data": []}))
    client = mode.client(stub.url)
    ended = mode.run(client.fine_tuning.jobs.wait("ftjob-1", poll=0.01, on_event=print))
    assert ended.status == "succeeded"


def test_one_unreadable_job_does_not_hide_the_others(mode, stub, job):
    listed = {"object": "list", "data": [{**job, "id": "ftjob-9", "status": None}]}

    def handle(request):
        name = request.path.partition("?")[0].rpartition("/")[2]
        return answer(listed if name == "jobs" else {**job, "id": name})

    stub.handle = handle
    client = mode.client(stub.url)
    names = [f"ftjob-{n}" for n in range(6)]
    if mode.runner:
        import asyncio

        async def all_of_them() -> list[Any]:
            return await asyncio.gather(
                *(client.fine_tuning.jobs.wait(one, poll=0.01) for one in names)
            )

        assert [one.id for one in mode.runner.run(all_of_them())] == names
    else:
        from concurrent.futures import ThreadPoolExecutor

        with ThreadPoolExecutor(6) as pool:
            found = pool.map(lambda one: client.fine_tuning.jobs.wait(one, poll=0.01), names)
            assert [one.id for one in found] == names


def test_events_without_ids_come_once(mode, stub, job):
    events = [{"message": f"step {n}", "created_at": n} for n in (2, 1)]

    def handle(request):
        if "/events" in request.path:
            return answer({"object": "list", "data": events})
        return answer({**job, "status": "succeeded" if len(stub.requests) > 6 else "running"})

    stub.handle = handle
    found = mode.items(mode.client(stub.url).fine_tuning.jobs.events("ftjob-1", poll=0.01))
    assert [event.message for event in found] == ["step 1", "step 2"]


def test_events_that_come_oldest_first(mode, stub, job):
    """Azure's specification shows them so; the hosted service sends the newest first."""
    sent = [{"id": f"e-{n}", "message": f"step {n}", "created_at": n} for n in range(1, 6)]
    half = [True]

    def handle(request):
        if "/events" not in request.path:
            half[0] = len(stub.requests) < 6
            return answer({**job, "status": "running" if half[0] else "succeeded"})
        known = sent[:3] if half[0] else sent
        later = [event for event in known if f"after={event['id']}&" in f"{request.path}&"]
        rest = known[known.index(later[0]) + 1 :] if later else known
        return answer({"object": "list", "data": rest[:2], "has_more": len(rest) > 2})

    stub.handle = handle
    found = mode.items(mode.client(stub.url).fine_tuning.jobs.events("ftjob-1", poll=0.01))
    assert [event.message for event in found] == [f"step {n}" for n in range(1, 6)]


@pytest.mark.parametrize(
    "usage",
    [{"prompt_tokens": 11, "completion_tokens": None, "total_tokens": None},  # bifrost#5425
     {"prompt_tokens": 11, "total_tokens": 11},  # vercel/ai#2763, livekit/agents#6596
     {"prompt_tokens": 11.0, "completion_tokens": 0.0, "total_tokens": "n/a"}],
)  # fmt: skip
def test_usage_with_gaps(mode, stub, usage):
    stub.then(answer({"choices": [{"message": {"content": "hi"}}], "usage": usage}))
    read = ask(mode, mode.client(stub.url)).usage
    assert (read.prompt_tokens, read.completion_tokens, read.total_tokens) == (11, 0, 11)


def test_an_answer_that_is_nothing_but_choices(mode, stub):
    """guardrails#1415, letta#1256, pydantic-ai#2996: no id, created, model, index, finish_reason."""
    stub.then(answer({"id": None, "model": None, "choices": [{"message": {"content": "hi"}}]}))
    read = ask(mode, mode.client(stub.url))
    assert read.choices[0].message.content == "hi"
    assert (read.id, read.created, read.model, read.choices[0].index) == ("", 0, "", 0)
    assert (read.choices[0].finish_reason, read.choices[0].message.role) == ("", "assistant")


def test_null_choices_are_no_answer(mode, stub):
    """langchain#35236: an answer without an answer is an error with what was decoded."""
    stub.then(answer({"id": "gen-1", "choices": None, "usage": {"total_tokens": 3}}))
    with pytest.raises(
        tunesmith.APIResponseValidationError, match="choices.*It holds id 'gen-1'"
    ) as caught:
        ask(mode, mode.client(stub.url))
    assert caught.value.decoded["usage"] == {"total_tokens": 3}


@pytest.mark.parametrize(
    "content",
    [{"error": {"message": "No endpoints found", "code": 502}},  # OpenRouter, python-sdk#44
     {"error": {"message": "No endpoints found", "code": 502}, "choices": [], "id": "gen-1"},
     {"object": "error", "message": "No endpoints found", "code": 502},  # older vLLM
     [{"error": {"message": "No endpoints found", "code": 502}}],  # Gemini, magentic#382
     {"error": "No endpoints found"}],
)  # fmt: skip
def test_an_error_with_status_200_is_reported(mode, stub, content):
    stub.then(answer(content, 200, x_request_id="req-1"))
    with pytest.raises(tunesmith.APIResponseValidationError, match="No endpoints found") as caught:
        ask(mode, mode.client(stub.url))
    assert caught.value.request_id == "req-1"
    assert caught.value.code in {502, None}


def test_arguments_as_an_object(mode, stub):
    """text-generation-inference#2136: arguments are not JSON text but the object itself."""
    call = {
        "id": "0",
        "type": "function",
        "function": {"name": "f", "description": None, "arguments": {"x": "T1"}},
    }
    stub.then(answer({"choices": [{"message": {"content": None, "tool_calls": [call]}}]}))
    read = ask(mode, mode.client(stub.url)).choices[0].message.tool_calls[0]
    assert json.loads(read.function.arguments) == {"x": "T1"}


THOUGHTS = [{"type": "thinking", "thinking": [{"type": "text", "text": "hm"}], "closed": True}]


def test_content_in_parts(mode, stub):
    """vercel/ai#8012, agent-framework#6978: Mistral's reasoning models send a list."""
    parts = [*THOUGHTS, {"type": "text", "text": "be"}, {"type": "reference", "reference_ids": [1]},
             {"type": "text", "text": "st"}]  # fmt: skip
    stub.then(answer({"choices": [{"message": {"content": parts}}]}))
    message = ask(mode, mode.client(stub.url)).choices[0].message
    assert (message.content, message.content_parts) == ("best", parts)


def test_a_message_with_gaps_can_be_sent_back(mode, stub):
    """What was assumed of an answer is sent with it: the tool's answer refers to it."""
    calls = [{"function": {"name": "f", "arguments": {"x": 1}}}]
    parts = [*THOUGHTS, {"type": "text", "text": "hm"}]
    stub.handle = lambda _: answer(
        {"choices": [{"message": {"content": parts, "tool_calls": calls}}]}
    )
    client = mode.client(stub.url)
    message = ask(mode, client).choices[0].message
    tool = {"role": "tool", "tool_call_id": message.tool_calls[0].id, "content": "1"}
    mode.run(client.chat.completions.create(model="m", messages=[message, tool]))
    back = stub.requests[1].json["messages"]
    assert back[0] == {
        "role": "assistant", "content": parts, "tool_calls": [
            {"id": "call_0", "type": "function", "function": {"name": "f", "arguments": '{"x": 1}'}}],
    }  # fmt: skip
    assert back[1]["tool_call_id"] == "call_0"


def test_logprobs_with_gaps(mode, stub):
    """litellm#21932: `top_logprobs` is null. sglang#20323: so are impossible probabilities."""
    content = [{"token": "a", "logprob": None, "top_logprobs": None}]
    stub.then(
        answer({"choices": [{"message": {"content": "a"}, "logprobs": {"content": content}}]})
    )
    client = mode.client(stub.url)
    read = ask(mode, client).choices[0].logprobs.content[0]
    assert read.top_logprobs == []
    assert read.logprob != read.logprob
    logprobs = {"tokens": ["a"], "token_logprobs": [None], "top_logprobs": [{"a": -0.1, "b": None}]}
    stub.then(answer({"choices": [{"text": "a", "logprobs": logprobs}]}))
    read = mode.run(client.completions.create(model="m", prompt="p")).choices[0].logprobs
    assert set(read.top_logprobs[0]) == {"a", "b"}


@pytest.mark.parametrize(
    "content",
    [{"object": "list", "data": [{"id": "m", "object": "model"}]},  # any-llm#1085
     {"data": [{"id": "m", "object": "model", "owned_by": "organization_owner"}]},  # LM Studio, koog#139
     [{"id": "m", "type": "chat", "created": 0}],  # Together sends the bare array
     {"object": "list", "data": [{"id": "m", "created": 1.7e9, "owned_by": None}]}],
)  # fmt: skip
def test_models_of_other_servers(mode, stub, content):
    stub.handle = lambda _: answer(content)
    client = mode.client(stub.url)
    assert [one.id for one in mode.items(client.models.list())] == ["m"]


def test_an_empty_list_may_be_null(mode, stub):
    stub.then(answer({"object": "list", "data": None}))
    assert mode.items(mode.client(stub.url).models.list()) == []


def test_a_deletion_without_a_body(mode, stub):
    """Azure confirms deletions with status 204 alone."""
    stub.handle = lambda _: raw(b"HTTP/1.1 204 No Content\r\n\r\n")
    client = mode.client(stub.url)
    gone = mode.run(client.files.delete("file-1"))
    assert (gone.id, gone.deleted) == ("file-1", True)
    assert mode.run(client.models.delete("ft:m:org")).id == "ft:m:org"


def test_an_end_mark_after_a_whole_answer(mode, stub):
    """9router#3492: valid JSON with `data: [DONE]` behind it."""
    body = b'\n\n{"choices": [{"message": {"content": "hi"}}]}\n\ndata: [DONE]\n\n'
    stub.then(raw(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)))  # fmt: skip
    assert ask(mode, mode.client(stub.url)).choices[0].message.content == "hi"


@pytest.mark.parametrize(
    ("body", "named"),
    [(b'data: {"choices": []}\n\ndata: [DONE]\n\n', "an event stream, which was not asked for"),
     (b"<!DOCTYPE html><p>Sign in</p>", "a web page"), (b"", "empty")],
)  # fmt: skip
def test_a_body_that_is_no_json_is_named_for_what_it_is(mode, stub, body, named):
    stub.then(raw(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)))
    with pytest.raises(tunesmith.APIResponseValidationError, match=named) as caught:
        ask(mode, mode.client(stub.url))
    assert caught.value.decoded is None


def test_half_characters_in_a_whole_answer(mode, stub):
    """llama.cpp#27543 and others: a text that is cut between the bytes of a character."""
    body = b'{"choices": [{"message": {"content": "a\xf0\x9f \\ud83d"}}]}'
    stub.then(raw(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)))
    assert ask(mode, mode.client(stub.url)).choices[0].message.content == "a� �"


# Streams.


def test_azure_chunks_without_delta(mode, stub):
    """openai-python#2313, langchain#18977: filter results come in chunks of their own."""
    bare = {"id": "", "object": "", "created": 0, "model": "", "usage": None}
    stub.handle = lambda _: sse(
        {**bare, "choices": [], "prompt_filter_results": [{"prompt_index": 0}]},
        {**delta("hi"), "model": "gpt-4o", "created": 5},
        {**bare, "choices": [{"index": 0, "finish_reason": None, "content_filter_offsets": {"end_offset": 44}}]},
        delta(finish="stop"),
    )  # fmt: skip
    client = mode.client(stub.url)
    chunks = chunks_of(mode, client)
    assert chunks[2].choices[0].delta.content is None
    _, final = streamed(mode, client)
    assert (final.id, final.model, final.created) == ("c", "gpt-4o", 5)
    assert final.choices[0].message.content == "hi"
    assert final.choices[0].content_filter_offsets == {"end_offset": 44}
    assert final.prompt_filter_results == [{"prompt_index": 0}]


def test_chunks_without_bookkeeping(mode, stub):
    """openai-python#2806 and others: neither id, created, model, index nor finish_reason."""
    stub.handle = lambda _: sse(
        {"choices": [{"delta": {"content": "a"}}, {"delta": {"content": "b"}}]},
        {"choices": None, "usage": None}, {"usage": {"prompt_tokens": 1, "completion_tokens": None}},
    )  # fmt: skip
    client = mode.client(stub.url)
    assert [len(one.choices) for one in chunks_of(mode, client)] == [2, 0, 0]
    events, final = streamed(mode, client)
    assert [one.message.content for one in final.choices] == ["a", "b"]
    assert final.usage.total_tokens == 1
    assert [event.content for event in events if event.type == "content.done"] == ["a", "b"]


@pytest.mark.parametrize(
    "beat",
    [b"data:\n\n", b"data: \n\n", b"data: {}\n\n", b"data: null\n\n", b":\n\n", b"event: keepalive\ndata:\n\n",
     b'data: {"type": "ping"}\n\n',  # anthropic-sdk-typescript#734
     b'data: {"type": "keepalive", "sequence_number": 3}\n\n',  # agenthub#174
     b"data: : OPENROUTER PROCESSING\n\n",  # llm-gateway#2053
     b'event: ping\ndata: {"type": "ping"}\n\n'],
)  # fmt: skip
def test_heartbeats_are_nothing(mode, stub, beat):
    """hermes-agent#111887, pi#2466: a bare `data:`, or a null one, while the model thinks."""
    stub.handle = lambda _: sse(beat, delta("a"), beat, beat, delta("b"), beat)
    client = mode.client(stub.url)
    assert [one.choices[0].delta.content for one in chunks_of(mode, client)] == ["a", "b"]


def test_events_that_are_framed_twice(mode, stub):
    """aprender#2015, openclaw#96497: `data: data: {…}`, the end mark as well."""
    chunk = b'data: data: {"choices": [{"delta": {"content": "a"}}]}\n\n'
    stub.handle = lambda _: sse(chunk, b"data: data: [DONE]\n\n", done=False)
    assert chunks_of(mode, mode.client(stub.url))[0].choices[0].delta.content == "a"


@pytest.mark.parametrize("end", [b"", b"\n", b"\r\n", b"\r"])
@pytest.mark.parametrize(
    "last", [b'data: {"choices": [{"delta": {"content": "b"}}]}', b"data: [DONE]"]
)
def test_the_end_without_a_blank_line_is_an_end(mode, stub, last, end):
    """openai-node#2725: nothing after the last event is lost."""
    stub.handle = lambda _: raw(
        STREAM_HEAD, b"data: %b\n\n" % json.dumps(delta("a")).encode(), last + end, HANG_UP
    )
    client = mode.client(stub.url, require_stream_end=False)
    contents = [one.choices[0].delta.content for one in chunks_of(mode, client)]
    assert contents == (["a"] if b"DONE" in last else ["a", "b"])
    strict = client.with_options(require_stream_end=True)
    if b"DONE" in last:
        assert len(chunks_of(mode, strict)) == 1
    else:
        with pytest.raises(tunesmith.StreamTruncatedError, match="after 2 events"):
            chunks_of(mode, strict)


@pytest.mark.parametrize("lenient", [True, False])
def test_half_an_event_is_a_truncation(mode, stub, lenient):
    stub.handle = lambda _: raw(STREAM_HEAD, b'data: {"choices": []}\n\ndata: {"choi', HANG_UP)
    client = mode.client(stub.url, require_stream_end=not lenient)
    with pytest.raises(tunesmith.StreamTruncatedError, match="in the middle of an event, after 1"):
        chunks_of(mode, client)


@pytest.mark.parametrize(
    ("body", "named"),
    [(b'{"error": {"message": "prompt too long", "code": "ctx"}}', "JSON in place of an event stream, with an error: prompt too long"),
     (b'{"object": "error", "message": "prompt too long"}', "with an error: prompt too long"),
     (b'{"id": "chatcmpl-7", "choices": []}', "JSON in place.*with id 'chatcmpl-7'.*may not stream"),
     (b"\xef\xbb\xbf <html><p>data: 1\n\n</p></html>", "a web page"),
     (b"Internal Server Error", "in place of an event stream.*Internal Server Error"),
     (b'{"response": "a"}\n{"response": "b"}\n', "in place of an event stream"),
     (b"[" * 200_000, "in place of an event stream")],
)  # fmt: skip
@pytest.mark.parametrize("kind", [b"application/json", b"text/event-stream"])
def test_an_answer_that_is_no_stream_is_named_for_what_it_is(mode, stub, body, named, kind):
    """sglang#2810, chatGPTBox#294: JSON, a page or plain text where events were asked for."""
    head = b"HTTP/1.1 200 OK\r\ncontent-type: %b\r\ncontent-length: %d\r\n\r\n" % (kind, len(body))
    stub.handle = lambda _: raw(head + body)
    client = mode.client(stub.url, max_connections=1)
    for _ in range(2):
        with pytest.raises(tunesmith.APIResponseValidationError, match=named):
            chunks_of(mode, client)
    stub.handle = lambda _: sse(delta("a"))
    assert len(chunks_of(mode, client)) == 1


@pytest.mark.parametrize("kind", [b"text/plain", b"application/octet-stream", b"application/json"])
def test_a_stream_with_the_wrong_content_type_is_read(mode, stub, kind):
    stub.then(raw(b"HTTP/1.1 200 OK\r\ncontent-type: %b\r\nconnection: close\r\n\r\n" % kind,
                  b'data:{"choices":[{"delta":{"content":"a"}}]}\n\ndata:[DONE]\n\n', HANG_UP))  # fmt: skip
    assert chunks_of(mode, mode.client(stub.url))[0].choices[0].delta.content == "a"


@pytest.mark.parametrize(
    "event",
    [{"id": "gen-1", "choices": [{"index": 0, "delta": {"content": ""}, "finish_reason": "error"}],
      "error": {"code": "busy", "message": "Provider disconnected"}},  # OpenRouter
     {"id": "gen-1", "choices": [], "error": {"code": "busy", "message": "Provider disconnected"}},  # OmniRoute#8210
     {"object": "error", "message": "Provider disconnected", "code": "busy"},
     b'error: {"code": "busy", "message": "Provider disconnected"}\n\n',  # llama.cpp, coddy-agent#106
     b'data: {"choices": [{"del\ndata: {"error": {"code": "busy", "message": "Provider disconnected"}}\n\n',  # sub2api#1471
     b'event: error\ndata: {"code": "busy", "message": "Provider disconnected"}\n\n'],
)  # fmt: skip
@pytest.mark.parametrize("done", [True, False])
def test_errors_in_mid_stream(mode, stub, event, done):
    stub.handle = lambda _: sse(delta("a"), event, done=done)
    client = mode.client(stub.url)
    with pytest.raises(tunesmith.APIError, match="Provider disconnected") as caught:
        chunks_of(mode, client)
    assert caught.value.code == "busy"


def test_an_event_that_cannot_be_read_has_its_ids(mode, stub):
    stub.then(sse({"id": "c-7", "choices": [{"delta": 5}]}))
    with pytest.raises(tunesmith.APIResponseValidationError, match="It holds id 'c-7'") as caught:
        chunks_of(mode, mode.client(stub.url))
    assert caught.value.decoded["id"] == "c-7"


def test_half_characters_in_a_stream(mode, stub):
    stub.then(sse(b'data: {"choices": [{"delta": {"content": "a\xf0\x9f"}}]}\n\n', delta("\ud83d")))
    contents = [one.choices[0].delta.content for one in chunks_of(mode, mode.client(stub.url))]
    assert contents == ["a�", "�"]


# The helper that joins the chunks.


def joined(mode: Any, stub: Any, *events: Any) -> Any:
    stub.handle = lambda _: sse(*events, delta(finish="tool_calls"))
    return streamed(mode, mode.client(stub.url))[1].choices[0].message


@pytest.mark.parametrize("empty", ["", "null"])
def test_an_empty_finish_reason_is_none(mode, stub, empty):
    """ollama#4357, sglang#3912, AIShell#350: "" or "null" in place of null."""
    stub.handle = lambda _: sse(delta("a", empty), delta("b", empty), delta(finish="stop"))
    events, final = streamed(mode, mode.client(stub.url))
    assert [event.content for event in events if event.type == "content.done"] == ["ab"]
    assert final.choices[0].finish_reason == "stop"


def test_fields_that_are_not_known_are_kept(mode, stub):
    message = joined(
        mode, stub,
        delta(reasoning_content="I ", reasoning_details=[{"type": "reasoning.text", "index": 0, "text": "I ", "format": "x"}]),
        delta(reasoning_content="think", reasoning_details=[{"type": "reasoning.text", "index": 0, "text": "think"}]),
        delta("so", annotations=[{"type": "url_citation", "url_citation": {"url": "a"}}]),
        delta(annotations=[{"type": "url_citation", "url_citation": {"url": "b"}}], audio={"id": "au", "transcript": "s"}),
        delta(audio={"id": "au", "transcript": "o"}),
        {**delta(), "citations": ["x"], "obfuscation": "zzz"},
    )  # fmt: skip
    assert message.reasoning_content == "I think"
    assert message.reasoning_details == [
        {"type": "reasoning.text", "index": 0, "text": "I think", "format": "x"}
    ]
    assert [one["url_citation"]["url"] for one in message.annotations] == ["a", "b"]
    assert message.audio == {"id": "au", "transcript": "so"}


def test_thoughts_in_content_parts_are_kept(mode, stub):
    """n8n#37352: the delta's content is a list, first of thoughts, then of text."""
    message = joined(
        mode, stub, delta(THOUGHTS), delta([{"type": "text", "text": "o"}]), delta("k")
    )
    assert message.content == "ok"
    assert message.content_parts == [*THOUGHTS, {"type": "text", "text": "o"}]


def test_a_name_that_is_sent_again_is_not_repeated(mode, stub):
    """hermes-agent#8259: the whole name stands in every chunk."""
    message = joined(
        mode, stub,
        calls(function("read_file", "", index=0, id="call_1")),
        calls(function("read_file", '{"a":', index=0, id="call_1")),
        calls(function("read_file", " {}}", index=0, id="call_1")),
        calls(function("read_file", "", index=0)),
    )  # fmt: skip
    (call,) = message.tool_calls
    assert (call.function.name, call.function.arguments) == ("read_file", '{"a": {}}')


@pytest.mark.parametrize("index", [{}, {"index": 0}, {"index": None}])
@pytest.mark.parametrize("ids", [["a", "b"], ["", ""], [None, None]])
@pytest.mark.parametrize("names", [["f", "g"], ["f", "f"]])
def test_calls_that_share_an_index_or_have_none(mode, stub, index, ids, names):
    """ollama#7881, sglang#5661, hermes-agent#62940 and #57939: whole calls, one in each chunk."""
    message = joined(
        mode, stub,
        *(calls(function(name, f'{{"n": {n}}}', id=one, **index))
          for n, (name, one) in enumerate(zip(names, ids, strict=True))),
    )  # fmt: skip
    assert [(one.function.name, json.loads(one.function.arguments)["n"]) for one in message.tool_calls] == [
        (names[0], 0), (names[1], 1)]  # fmt: skip
    assert [one.id for one in message.tool_calls] == (ids if ids[0] else ["call_0", "call_1"])


def test_two_calls_without_index_in_one_chunk(mode, stub):
    message = joined(mode, stub, calls(function("f", "{}"), function("g", {"x": 1})))
    assert [(one.function.name, one.function.arguments) for one in message.tool_calls] == [
        ("f", "{}"), ("g", '{"x": 1}')]  # fmt: skip


def test_an_id_that_changes_with_every_piece(mode, stub):
    """hermes-agent#5254: LM Studio and older vLLM give each piece an id of its own."""
    message = joined(
        mode, stub, calls(function("f", "", index=0, id="1")), calls(function("", '{"a"', index=0, id="2")),
        calls(function(None, ": 1}", index=0, id="3")),
    )  # fmt: skip
    (call,) = message.tool_calls
    assert (call.id, call.function.arguments) == ("1", '{"a": 1}')


def test_interleaved_calls_with_indices(mode, stub):
    message = joined(
        mode, stub,
        calls(function("f", "", index=0, id="a"), function("g", "", index=1, id="b")),
        calls(function(None, '{"x"', index=1)), calls(function(None, '{"y"', index=0)),
        calls(function(None, ": 1}", index=1), function(None, ": 2}", index=0)),
    )  # fmt: skip
    assert [one.function.arguments for one in message.tool_calls] == ['{"y": 2}', '{"x": 1}']


def test_tool_calls_without_their_list(mode, stub):
    """text-generation-inference#2794: the delta has the call itself."""
    one = function("f", "{", index=0, id="", type="function")
    message = joined(
        mode, stub, delta(tool_calls=one), delta(tool_calls={**one, "function": {"arguments": "}"}})
    )
    assert [(call.function.name, call.function.arguments) for call in message.tool_calls] == [
        ("f", "{}")
    ]
