"""Calls are separated from text, however the text arrives."""

from __future__ import annotations

import pytest

from tunesmith.engine.serving.tool_call_parser import ToolCall, ToolCallParser, uses_call_tags

CALL = '<tool_call>\n{"name": "weather", "arguments": {"place": "sea"}}\n</tool_call>'
WEATHER = ToolCall("weather", '{"place": "sea"}')


@pytest.mark.parametrize(
    ("text", "plain", "calls"),
    [
        ("The sea is calm.", "The sea is calm.", []),
        (CALL, "", [WEATHER]),
        ("I look. " + CALL, "I look. ", [WEATHER]),
        (CALL + "\n" + CALL, "", [WEATHER, WEATHER]),
        (CALL.removesuffix("</tool_call>"), "", [WEATHER]),
        ('{"name": "weather", "parameters": {"place": "sea"}}', "", [WEATHER]),
        (' {"name": "weather", "arguments": "{}"}', "", [ToolCall("weather", "{}")]),
        ('{"name": "other", "parameters": {}}', '{"name": "other", "parameters": {}}', []),
        ("<tool_call>{broken</tool_call>", "<tool_call>{broken</tool_call>", []),
        ("a <tool is no call", "a <tool is no call", []),
        ("", "", []),
    ],
)
@pytest.mark.parametrize("step", [1, 5, 1000])
def test_text_and_calls(text, plain, calls, step):
    answer = ToolCallParser({"weather"})
    given = "".join(answer.push(text[place : place + step]) for place in range(0, len(text), step))
    rest, found = answer.finish()
    assert given + rest == plain
    assert found == calls


def test_plain_text_is_not_kept_back():
    answer = ToolCallParser({"weather"})
    assert answer.push("The sea") == "The sea"
    assert answer.push(" is <tool_") == " is "


def test_the_template_shows_the_form_of_calls():
    assert uses_call_tags("{{ '<tool_call>' }} parameters")
    assert not uses_call_tags('{"name": function name, "parameters": dictionary}')
