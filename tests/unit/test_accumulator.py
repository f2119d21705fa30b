"""The chat accumulator: any stream joins to its whole, each moment stays what it was, in linear work."""

from __future__ import annotations

import copy
import json
import pickle
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tunesmith.core import growing
from tunesmith.resources.chat_accumulator import ChatCompletionAccumulator
from tunesmith.types.chat import ChatCompletionChunk


def chunk(index: int = 0, finish: str | None = None, *, more: Any = None, **delta: Any) -> Any:
    choice = {"index": index, "delta": delta, "finish_reason": finish, **(more or {})}
    return ChatCompletionChunk.model_validate({"id": "c", "choices": [choice]})


def logprob(token: str) -> dict[str, Any]:
    return {"token": token, "logprob": -0.5, "bytes": None, "top_logprobs": []}


TEXT = st.text(alphabet="ab {}é", max_size=3)
PIECES = st.lists(
    st.one_of(
        st.builds(lambda n, text: chunk(n, content=text), st.integers(0, 1), TEXT),
        st.builds(lambda text: chunk(refusal=text), TEXT),
        st.builds(lambda text: chunk(reasoning_content=text), TEXT),
        st.builds(lambda text: chunk(content=text, more={"logprobs": {"content": [logprob(text)]}}), TEXT),
        st.builds(
            lambda n, text: chunk(tool_calls=[{"index": n, "id": f"call_{n}", "function": {"name": "f", "arguments": text}}]),
            st.integers(0, 2), st.text(alphabet="ab", max_size=3),
        ),
        st.builds(lambda n: chunk(details=[{"index": n, "text": "x"}]), st.integers(0, 2)),
    ),
    max_size=12,
)  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(PIECES)
def test_each_moment_stays_what_it_was(pieces):
    accumulator, copies, events = ChatCompletionAccumulator[Any](), [], []
    for piece in pieces:
        events.append(accumulator.add(piece)[0])
        copies.append(accumulator.snapshot.model_dump())
    assert [event.snapshot.model_dump() for event in events] == copies
    if pieces:
        assert accumulator.final().model_dump() == copies[-1]


@settings(max_examples=60, deadline=None)
@given(PIECES)
def test_texts_are_joined_from_all_deltas(pieces):
    accumulator = ChatCompletionAccumulator[Any]()
    deltas = [event for piece in pieces for event in accumulator.add(piece)]
    message = accumulator.snapshot.choices[0].message if pieces else None
    own = [one.choices[0].delta for one in pieces if one.choices[0].index == 0]
    if message is None or not own:
        return
    assert (message.content or "") == "".join(one.content or "" for one in own)
    assert (message.refusal or "") == "".join(one.refusal or "" for one in own)
    thoughts = [getattr(one, "reasoning_content", None) for one in own]
    assert (getattr(message, "reasoning_content", None) or "") == "".join(filter(None, thoughts))
    for call in message.tool_calls or ():
        texts = [
            piece.function.arguments
            for one in own
            for piece in one.tool_calls or ()
            if piece.id == call.id
        ]
        assert call.function.arguments == "".join(texts)
        assert call.function.name == "f"
    contents = [event for event in deltas if event.type == "content.delta"]
    assert all(event.snapshot.endswith(event.delta) for event in contents)


def test_the_fields_of_events():
    accumulator = ChatCompletionAccumulator[Any](dict)
    events = [
        *accumulator.add(chunk(content='{"a"')),
        *accumulator.add(chunk(content=": 1")),
        *accumulator.add(chunk(refusal="no")),
        *accumulator.add(chunk(tool_calls=[{"index": 0, "function": {"name": "f", "arguments": '{"x": [1'}}])),
        *accumulator.add(chunk(more={"logprobs": {"content": [logprob("a")], "refusal": [logprob("n")]}})),
    ]  # fmt: skip
    texts = [event for event in events if event.type == "content.delta"]
    assert [(event.delta, event.snapshot, event.parsed) for event in texts] == [
        ('{"a"', '{"a"', {}), (": 1", '{"a": 1', {"a": 1})]  # fmt: skip
    arguments = next(event for event in events if event.type.startswith("tool_calls"))
    assert (arguments.name, arguments.arguments_delta, arguments.parsed_arguments) == (
        "f",
        '{"x": [1',
        {"x": [1]},
    )
    logprobs = [event for event in events if event.type.startswith("logprobs")]
    assert [len(event.snapshot) for event in logprobs] == [1, 1]
    for event in events:
        assert pickle.loads(pickle.dumps(event)) == event == copy.copy(event)
        assert type(event).__name__ in repr(event)
    with pytest.raises(AttributeError, match="nothing"):
        _ = events[0].nothing


def test_the_work_for_a_chunk_does_not_grow(monkeypatch):
    # Counted, not timed: pieces of text and lists that are copied while chunks come in.
    copied = 0

    def counted(value: Any) -> Any:
        nonlocal copied
        copied += 1
        return real(value)

    real = growing.plain
    monkeypatch.setattr(growing, "plain", counted)
    monkeypatch.setattr("tunesmith.resources.chat_accumulator.plain", counted)
    accumulator = ChatCompletionAccumulator[Any]()
    for n in range(500):
        accumulator.add(chunk(content="a", more={"logprobs": {"content": [logprob("a")]}}))
        if n in {99, 499}:
            assert copied == 0
    assert len(accumulator.final().choices[0].logprobs.content) == 500
    assert copied > 0


@pytest.mark.parametrize(
    ("pieces", "name"),
    [(["get_", "weather"], "get_weather"), (["f", "f", "f"], "f"), (["get", "get_weather"], "get_weather"),
     (["", None, "f", ""], "f")],
)  # fmt: skip
def test_names(pieces, name):
    accumulator = ChatCompletionAccumulator[Any]()
    for piece in pieces:
        accumulator.add(chunk(function_call={"name": piece, "arguments": "{"}))
        accumulator.add(chunk(tool_calls=[{"index": 0, "function": {"name": piece}}]))
    message = accumulator.final().choices[0].message
    assert (message.function_call.name, message.tool_calls[0].function.name) == (name, name)
    assert message.function_call.arguments == "{" * len(pieces)


@pytest.mark.parametrize(
    "tree", [{"a": {"b": "x"}}, {"a": [{"index": 0, "t": "x"}]}, {"a": [1]}, {"a": 5}]
)
def test_unknown_fields_of_any_shape(tree):
    state: dict[str, Any] = {}
    for _ in range(2):
        for name, value in json.loads(json.dumps(tree)).items():
            growing.merge(state, name, value)
    assert growing.plain(growing.frozen(state)) in (
        {"a": {"b": "xx"}}, {"a": [{"index": 0, "t": "xx"}]}, {"a": [1, 1]}, {"a": 5},
    )  # fmt: skip
