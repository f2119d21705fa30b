"""Messages in the one form in which they are counted, learned and served."""

from __future__ import annotations

import copy

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tunesmith.datasets import tokens
from tunesmith.datasets.chat_messages import MessageError, normalize_messages, normalize_tools

QUESTION = {"role": "user", "content": "The weather?"}


def call(arguments):
    function = {"name": "weather", "arguments": arguments}
    return {"id": "c1", "type": "function", "function": function}


@pytest.mark.parametrize("arguments", ['{"city": "Oslo"}', {"city": "Oslo"}])
@pytest.mark.parametrize("content", [{}, {"content": None}, {"content": ""}, {"content": []}])
def test_arguments_become_an_object_and_content_a_text(arguments, content):
    message = {"role": "assistant", **content, "tool_calls": [call(arguments)], "weight": 1}
    before = copy.deepcopy(message)
    [seen] = normalize_messages([message])
    assert seen == {
        "role": "assistant",
        "content": "",
        "tool_calls": [call({"city": "Oslo"})],
    }
    assert message == before


def test_parts_of_text_are_joined():
    parts = [{"type": "text", "text": "Hel"}, {"type": "text", "text": "lo"}]
    refusal = {"role": "assistant", "content": [{"type": "refusal", "refusal": "No."}]}
    other = {"role": "assistant", "content": None, "refusal": "No."}
    seen = normalize_messages([{"role": "user", "content": parts}, refusal, other])
    assert [message["content"] for message in seen] == ["Hello", "No.", "No."]


def test_the_older_form_of_calls_becomes_the_newer():
    function = {"name": "weather", "arguments": '{"city": "Oslo"}'}
    call_message, result = normalize_messages(
        [
            {"role": "assistant", "content": None, "function_call": function},
            {"role": "function", "name": "weather", "content": "calm"},
        ]
    )
    assert call_message["tool_calls"][0]["function"]["arguments"] == {"city": "Oslo"}
    assert result["role"] == "tool"
    assert result["tool_call_id"] == call_message["tool_calls"][0]["id"]
    assert normalize_tools(None, [{"name": "weather"}]) == [
        {"type": "function", "function": {"name": "weather"}}
    ]


@pytest.mark.parametrize("name", ["reasoning_content", "reasoning", "thinking"])
def test_reasoning_has_one_name(name):
    [seen] = normalize_messages([{"role": "assistant", "content": "Paris.", name: "France."}])
    assert seen == {"role": "assistant", "content": "Paris.", "reasoning_content": "France."}


@pytest.mark.parametrize(
    ("message", "path", "reason"),
    [
        ({"role": "wizard", "content": "x"}, "messages[1].role", "must be one of"),
        ("hello", "messages[1].role", "must be one of"),
        ({"role": ["user"], "content": "x"}, "messages[1].role", "must be one of"),
        ({"role": "user"}, "messages[1].content", "must be a string"),
        ({"role": "user", "content": []}, "messages[1].content", "must be a string"),
        (
            {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]},
            "messages[1].content[0]",
            "read text only",
        ),
        ({"role": "assistant", "tool_calls": "x"}, "messages[1].tool_calls", "must be a list"),
        ({"role": "assistant", "tool_calls": ["x"]}, "messages[1].tool_calls[0]", "function"),
        (
            {"role": "assistant", "tool_calls": [call("{no")]},
            "messages[1].tool_calls[0].function.arguments",
            "not valid JSON",
        ),
        (
            {"role": "assistant", "tool_calls": [call("[1]")]},
            "messages[1].tool_calls[0].function.arguments",
            "JSON object",
        ),
        (
            {"role": "assistant", "content": "x", "reasoning_content": 3},
            "messages[1].reasoning_content",
            "must be a string",
        ),
    ],
)
def test_what_has_no_such_form_is_named(message, path, reason):
    with pytest.raises(MessageError, match=reason) as caught:
        normalize_messages([QUESTION, message])
    assert caught.value.path == path
    assert str(copy.copy(caught.value)) == str(caught.value)


@pytest.mark.parametrize("tools", [["x"], [{"type": "custom"}], [{"type": "function"}], "x"])
def test_a_tool_that_is_no_function_is_named(tools):
    with pytest.raises(MessageError, match="tools"):
        normalize_tools(tools)


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["role", "content", "type", "text", "tool_calls", "function", "name", "arguments"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@settings(max_examples=300, deadline=None)
@given(st.lists(ANYTHING, max_size=3))
def test_anything_is_normalized_or_refused_with_its_place(messages):
    try:
        seen = normalize_messages(messages)
    except MessageError as error:
        place = error.path
    else:
        place = "messages["
        assert normalize_messages(seen) == seen
        assert all(isinstance(message["content"], str) for message in seen)
    assert place.startswith("messages[")


def test_the_form_of_a_message_does_not_change_its_tokens():
    parts = [{"type": "text", "text": "The weather"}, {"type": "text", "text": "?"}]
    forms = [
        [QUESTION, {"role": "assistant", "tool_calls": [call('{"city":"Oslo"}')]}],
        [
            {"role": "user", "content": parts},
            {"role": "assistant", "content": None, "tool_calls": [call({"city": "Oslo"})]},
        ],
    ]
    assert len({tokens.estimate_message_tokens(form) for form in forms}) == 1


def test_images_are_left_out_of_the_count():
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
    text = {"type": "text", "text": "The weather?"}
    with_image = [{"role": "user", "content": [text, image]}]
    assert tokens.estimate_message_tokens(with_image) == tokens.estimate_message_tokens([QUESTION])
