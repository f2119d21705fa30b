"""Conversations with tools, for chat templates that know none."""

from __future__ import annotations

import json

from tunesmith.engine.domain.answer_syntax import AnswerSyntax
from tunesmith.engine.domain.tool_messages import calls_as_text, results_as_text, with_definitions
from tunesmith.engine.serving.answer_parser import AnswerParser, TextSpan

TOOL = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}
QUESTION = {"role": "user", "content": "The weather?"}


def call(arguments):
    return {"id": "1", "type": "function", "function": {"name": "weather", "arguments": arguments}}


def test_definitions_come_into_the_system_message():
    seen = with_definitions([{"role": "system", "content": "Be brief."}, QUESTION], [TOOL])

    assert [message["role"] for message in seen] == ["system", "user"]
    assert seen[0]["content"].startswith("Be brief.\n\n")
    assert json.dumps(TOOL) in seen[0]["content"]
    assert with_definitions([QUESTION], [TOOL])[0]["role"] == "system"


def test_definitions_come_into_the_question_where_there_is_no_system_message():
    [seen] = with_definitions([QUESTION], [TOOL], "user")
    assert seen["content"].endswith("\n\nThe weather?")
    assert json.dumps(TOOL) in seen["content"]


def test_a_call_is_written_as_the_parser_reads_it():
    message = {"role": "assistant", "content": "", "tool_calls": [call({"place": "sea"})]}
    seen = calls_as_text(message)

    parser = AnswerParser(AnswerSyntax(None, "hermes"), {"weather": {}}, parallel=True)
    parser.advance(seen["content"], final=True)
    calls = [part for part in parser.parts if not isinstance(part, TextSpan)]
    assert calls[0].name == "weather"
    assert json.loads("".join(part.arguments for part in calls)) == {"place": "sea"}
    assert "tool_calls" not in seen
    assert message["content"] == ""  # the caller's message is not changed


def test_results_become_one_turn_of_the_user_and_text_stays():
    turn = {"role": "assistant", "content": "Let me see.", "tool_calls": [call({}), call({})]}
    seen = calls_as_text(turn)
    assert seen["content"].startswith("Let me see.\n<tool_call>")
    assert seen["content"].count("<tool_call>") == 2

    results = [{"role": "tool", "tool_call_id": "1", "content": text} for text in ("calm", "hot")]
    assert results_as_text([seen, *results]) == [
        seen,
        {
            "role": "user",
            "content": "<tool_response>\ncalm\n</tool_response>\n"
            "<tool_response>\nhot\n</tool_response>",
        },
    ]


def test_a_conversation_without_tools_is_unchanged():
    messages = [QUESTION, {"role": "assistant", "content": "Calm."}]

    assert results_as_text(messages) == messages
    assert [calls_as_text(message) for message in messages] == messages
