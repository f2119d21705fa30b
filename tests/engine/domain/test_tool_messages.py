"""Conversations with tools, for chat templates that know none."""

from __future__ import annotations

import json

import pytest

from tunesmith.engine.domain.tool_messages import with_tools_as_text
from tunesmith.engine.serving.tool_call_parser import ToolCall, ToolCallParser

TOOL = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}
QUESTION = {"role": "user", "content": "The weather?"}


def call(arguments):
    return {"id": "1", "type": "function", "function": {"name": "weather", "arguments": arguments}}


def test_definitions_come_into_the_system_message():
    seen = with_tools_as_text([{"role": "system", "content": "Be brief."}, QUESTION], [TOOL])

    assert [message["role"] for message in seen] == ["system", "user"]
    assert seen[0]["content"].startswith("Be brief.\n\n")
    assert json.dumps(TOOL) in seen[0]["content"]
    assert with_tools_as_text([QUESTION], [TOOL])[0]["role"] == "system"


@pytest.mark.parametrize("arguments", ['{"place": "sea"}', {"place": "sea"}])
def test_a_call_is_written_as_the_parser_reads_it(arguments):
    message = {"role": "assistant", "content": None, "tool_calls": [call(arguments)], "weight": 1}
    [seen] = with_tools_as_text([message], None)

    parser = ToolCallParser({"weather"})
    assert parser.push(seen["content"]) == ""
    assert parser.finish() == ("", [ToolCall("weather", '{"place": "sea"}')])
    assert seen["weight"] == 1
    assert "tool_calls" not in seen
    assert message["content"] is None  # the caller's message is not changed


def test_a_result_becomes_a_turn_of_the_user_and_text_stays():
    messages = [
        {"role": "assistant", "content": "Let me see.", "tool_calls": [call("{}"), call("{}")]},
        {"role": "tool", "tool_call_id": "1", "content": [{"type": "text", "text": "calm"}]},
    ]
    turn, result = with_tools_as_text(messages, [])

    assert turn["content"].startswith("Let me see.\n<tool_call>")
    assert turn["content"].count("<tool_call>") == 2
    assert result == {"role": "user", "content": "<tool_response>\ncalm\n</tool_response>"}


def test_a_conversation_without_tools_is_unchanged():
    messages = [QUESTION, {"role": "assistant", "content": "Calm."}]

    assert with_tools_as_text(messages, None) == messages
