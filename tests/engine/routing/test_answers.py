"""What two answers say, and how they agree."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tunesmith.engine.routing.answers import agreement_of, read_answer


def chat(*texts: str | None, calls: list[tuple[str, str]] | None = None) -> bytes:
    tool_calls = [
        {"id": "x", "type": "function", "function": {"name": name, "arguments": arguments}}
        for name, arguments in calls or ()
    ]
    choices = [
        {
            "index": index,
            "message": {"role": "assistant", "content": text, "tool_calls": tool_calls or None},
            "finish_reason": "stop",
        }
        for index, text in enumerate(texts)
    ]
    return json.dumps({"choices": choices, "usage": {"total_tokens": 3}}).encode()


def compare(old: bytes, new: bytes) -> tuple[Any, ...]:
    found = agreement_of(read_answer(old, is_stream=False), read_answer(new, is_stream=False))
    return found.text, found.normalized, found.calls, found.label


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (chat("positive"), chat("positive"), (True, True, None, True)),
        (chat("positive"), chat(" Positive.\n"), (False, True, None, True)),
        (chat("positive"), chat("negative"), (False, False, None, False)),
        (chat('{"a": 1, "b": 2}'), chat('{"b":2,"a":1}'), (False, True, None, True)),
        (chat("a " * 80), chat("a " * 80), (True, True, None, None)),
        (chat("a", "b"), chat("a"), (False, False, None, False)),
        (
            chat(None, calls=[("f", '{"a": 1, "b": 2}')]),
            chat(None, calls=[("f", '{"b":2,"a":1}')]),
            (True, True, True, None),
        ),
        (chat(None, calls=[("f", "{}")]), chat("no"), (False, False, False, None)),
        (chat("no"), chat(None, calls=[("f", "{}")]), (False, False, False, False)),
    ],
)
def test_answers_agree(old: bytes, new: bytes, expected: tuple[Any, ...]):
    assert compare(old, new) == expected


def test_a_stream_says_what_its_chunks_say_together():
    rest = {"index": 0, "function": {"arguments": 'a":1}'}}
    chunks: list[dict[str, Any]] = [
        {"choices": [{"index": 0, "delta": {"role": "assistant", "content": "a"}}]},
        {"choices": [{"index": 1, "delta": {"content": "x"}}]},
        {"choices": [{"index": 0, "delta": {"content": "b"}, "finish_reason": "stop"}]},
        {
            "choices": [
                {
                    "index": 1,
                    "delta": {
                        "tool_calls": [{"index": 0, "function": {"name": "f", "arguments": '{"'}}]
                    },
                }
            ]
        },
        {"choices": [{"index": 1, "delta": {"tool_calls": [rest]}}]},
        {"choices": [], "usage": {"total_tokens": 7}},
    ]
    content = b"".join(b"data: %b\n\n" % json.dumps(chunk).encode() for chunk in chunks)
    answer = read_answer(content + b"data: [DONE]\n\n", is_stream=True)

    assert answer.texts == ["ab", "x"]
    assert answer.calls == [("f", '{"a":1}')]
    assert (answer.finish_reasons, answer.usage) == (["stop"], {"total_tokens": 7})


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b'{"choices": 1}', b'{"choices": [1]}', b"\xff", b"[" * 100_000]
)
def test_what_cannot_be_read_says_nothing(content: bytes):
    for is_stream in (False, True):
        assert read_answer(content, is_stream=is_stream).texts == []
