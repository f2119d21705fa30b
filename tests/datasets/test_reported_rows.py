"""Rows from public bug reports of other programs: what became of them there, and what here."""

from __future__ import annotations

import json

import pytest

from tunesmith import datasets
from tunesmith.datasets.conversion import convert_row

USER = {"role": "user", "content": "q"}
ANSWER = {"role": "assistant", "content": "a"}
BAD = {"role": "assistant", "content": "b"}
SYSTEM = {"role": "system", "content": "s"}


def turn(speaker, value):
    return {"from": speaker, "value": value}


def chat(*messages, **fields):
    return {"messages": list(messages), **fields}


def preference(*messages):
    return {
        "input": {"messages": list(messages)},
        "preferred_output": [ANSWER],
        "non_preferred_output": [BAD],
    }


TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
CALL = {"id": "call_0", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}
CALLING = {"role": "assistant", "content": None, "tool_calls": [CALL]}
RESULT = {"role": "tool", "tool_call_id": "call_0", "content": "r"}

CONVERTED = {
    "axolotl#752: a turn from 'assistant'": (
        {"conversations": [turn("human", "q"), turn("assistant", "a")]},
        chat(USER, ANSWER),
    ),
    "LlamaFactory#6878: a turn from 'user'": (
        {"conversations": [turn("user", "q"), turn("gpt", "a")]},
        chat(USER, ANSWER),
    ),
    "NeMo Automodel#2375: role and content under 'conversations'": (
        {"conversations": [USER, ANSWER]},
        chat(USER, ANSWER),
    ),
    "AngelSlim#7: 'from' where 'role' is expected": (
        {"conversations": [turn("system", "s"), turn("human", "q"), turn("gpt", "a")]},
        chat(SYSTEM, USER, ANSWER),
    ),
    "MedicalGPT#294: 'conversation', not 'conversations'": (
        {"conversation": [turn("human", "q"), turn("gpt", "a")]},
        chat(USER, ANSWER),
    ),
    "AutoAct#6: 'input' and 'output' only": ({"input": "q", "output": "a"}, chat(USER, ANSWER)),
    "LlamaFactory#3330: calls as turns, tools as text": (
        {
            "conversations": [
                turn("human", "q"),
                turn("function_call", '{"name": "f", "arguments": {"a": 1}}'),
                turn("observation", "r"),
                turn("gpt", "a"),
            ],
            "tools": json.dumps([TOOL["function"]]),
        },
        chat(USER, CALLING, RESULT, ANSWER, tools=[TOOL]),
    ),
    "easy-dataset#549: the input of Alpaca rows is lost": (
        {"instruction": "q", "input": "i", "output": "a"},
        chat({"role": "user", "content": "q\ni"}, ANSWER),
    ),
    "LlamaFactory#7343: Alpaca rows without input": (
        {"instruction": "q", "output": "a"},
        chat(USER, ANSWER),
    ),
    "LlamaFactory#2452: Alpaca rows with system and history": (
        {
            "instruction": "q",
            "input": "",
            "output": "a",
            "system": "s",
            "history": [["q", "a"]],
        },
        chat(SYSTEM, USER, ANSWER, USER, ANSWER),
    ),
    "question_extractor#4: question and answer": (
        {"question": "q", "answer": "a"},
        chat(USER, ANSWER),
    ),
    "trl#1886: the prompt as text, and again inside both answers": (
        {"prompt": "q", "chosen": [USER, ANSWER], "rejected": [USER, BAD]},
        preference(USER),
    ),
    "axolotl#2647: both answers with their conversation": (
        {"chosen": [SYSTEM, USER, ANSWER], "rejected": [SYSTEM, USER, BAD]},
        preference(SYSTEM, USER),
    ),
    "axolotl#2415: messages beside chosen and rejected": (
        {"messages": [USER], "chosen": ANSWER, "rejected": BAD},
        preference(USER),
    ),
    "trl#2164: dialogues in one text": (
        {
            "chosen": "\n\nHuman: q\n\nAssistant: a",
            "rejected": "\n\nHuman: q\n\nAssistant: b",
        },
        preference(USER),
    ),
    "foundry samples: system, question, chosen, rejected": (
        {"system": "s", "question": "q", "chosen": "a", "rejected": "b"},
        preference(SYSTEM, USER),
    ),
}


@pytest.mark.parametrize("report", CONVERTED)
def test_a_reported_row_is_converted(report):
    row, wanted = CONVERTED[report]
    target = "chat" if "messages" in wanted else "preference"
    assert convert_row(row, target) == ([wanted], [])
    dataset = datasets.Dataset.from_rows([row])
    assert dataset.shape == target
    assert dataset.convert(target).check().ok


ALIGNED = {
    "type": "function",
    "function": {
        "name": "f",
        "description": None,
        "parameters": {
            "type": "object",
            "properties": {"a": {"type": "integer", "default": None}, "b": None},
        },
    },
}

MENDED = {
    "smol-course#260: a question after the last answer": (
        chat(USER, ANSWER, USER),
        "cut-unanswered-turns",
        chat(USER, ANSWER),
    ),
    "oumi#2599: arguments as an object": (
        chat(
            USER,
            {**CALLING, "tool_calls": [{**CALL, "function": {"name": "f", "arguments": {"a": 1}}}]},
        ),
        "encode-arguments",
        chat(USER, CALLING),
    ),
    "forgecode#2764: arguments encoded twice": (
        chat(
            USER,
            {
                **CALLING,
                "tool_calls": [
                    {**CALL, "function": {"name": "f", "arguments": json.dumps('{"a": 1}')}}
                ],
            },
        ),
        "unwrap-arguments",
        chat(USER, CALLING),
    ),
    "ms-swift#10110: nulls of other tools in a schema": (
        chat(USER, CALLING, tools=[ALIGNED]),
        "drop-null-keys",
        chat(
            USER,
            CALLING,
            tools=[
                {
                    "type": "function",
                    "function": {
                        "name": "f",
                        "parameters": {
                            "type": "object",
                            "properties": {"a": {"type": "integer", "default": None}},
                        },
                    },
                }
            ],
        ),
    ),
    "transformers#30621: calls without id, type and function": (
        chat(
            USER,
            {"role": "assistant", "tool_calls": [{"name": "f", "arguments": '{"a": 1}'}]},
            {"role": "tool", "content": "r"},
            ANSWER,
        ),
        "complete-tool-calls",
        chat(USER, {"role": "assistant", "tool_calls": [CALL]}, {**RESULT}, ANSWER),
    ),
    "OpenPipe#338: function_call for tool_calls": (
        chat(USER, {"role": "assistant", "content": None, "function_call": CALL["function"]}),
        "function-call-to-tool-calls",
        chat(USER, CALLING),
    ),
    "openai-cookbook: the first turns are the assistant's": (
        chat(SYSTEM, ANSWER, USER, ANSWER, USER),
        "cut-unanswered-turns",
        chat(SYSTEM, ANSWER, USER, ANSWER),
    ),
}


@pytest.mark.parametrize("report", MENDED)
def test_a_reported_row_is_mended(report):
    row, fix, wanted = MENDED[report]
    plan = datasets.Dataset.from_rows([row]).plan()
    assert [one.id for one in plan.fixes] == [fix]
    assert [one.value for one in plan.apply()] == [wanted]


def test_two_answers_in_a_row_after_a_call_are_no_error():
    """Reported as microsoft-foundry/fine-tuning#23: the service refuses it, the schema does not."""
    row = chat(USER, CALLING, RESULT, ANSWER, ANSWER, tools=[TOOL])
    assert datasets.Dataset.from_rows([row]).check().ok


def test_an_answer_by_the_user_is_an_error_with_its_place():
    """Reported as trl#2385: the rejected answer has the role of the user."""
    rejected = [{"role": "user", "content": "b"}]
    row = {"prompt": [USER], "chosen": [ANSWER], "rejected": rejected, "system": [SYSTEM]}
    (converted,), lost = convert_row(row, "preference")
    assert lost == []
    assert converted["input"]["messages"] == [SYSTEM, USER]
    report = datasets.Dataset.from_rows([converted]).check()
    (error,) = report.errors
    assert error.examples[0].path == "$.non_preferred_output[0].role"


@pytest.mark.parametrize("name", ["turns.jsonl", "turns.json"])
def test_turns_without_their_conversation_are_refused_by_name(tmp_path, name):
    """Reported as unsloth#321: lists of turns where rows should be."""
    path = tmp_path / name
    conversation = [turn("human", "q"), turn("gpt", "a")]
    path.write_text((json.dumps(conversation) + "\n") * 3)
    error = next(one for one in datasets.check_file(path).errors if one.id != "file-format")
    assert error.id == "foreign-format"
    assert "belongs into a list under 'messages'" in str(error)
    with pytest.raises(datasets.DatasetError, match="single turn"):
        datasets.read(path).plan()


def test_ultrachat_rows_keep_what_a_chat_row_has():
    """Reported as mistralai/cookbook#60: a prompt and its id beside the messages."""
    row = {"prompt": "q", "prompt_id": "x", "messages": [USER, ANSWER]}
    report = datasets.Dataset.from_rows([row]).check()
    assert report.ok
    assert {one.path for one in report.warnings[0].examples} == {"$.prompt", "$.prompt_id"}
    assert convert_row(row, "sharegpt").lost == ["'prompt'", "'prompt_id'"]


@pytest.mark.parametrize(
    ("row", "lost"),
    [
        ({"conversations": [turn("human", "q"), {**turn("gpt", "a"), "loss": True}]}, "'loss'"),
        (
            {"contents": [
                {"role": "user", "parts": [{"text": "q"}]},
                {"role": "model", "parts": [{"text": "a", "thoughtSignature": "x"}]}]},
            "'thoughtSignature'",
        ),
        (
            {"messages": [USER, {"role": "assistant", "content": [
                {"type": "thinking", "thinking": "t"}, {"type": "text", "text": "a"}]}]},
            "thinking",
        ),
        (
            {"system": "s", "messages": [{"role": "user", "content": [
                {"type": "text", "text": "q", "cache_control": {"type": "ephemeral"}}]}, ANSWER]},
            "'cache_control'",
        ),
        ({"prompt": "q", "chosen": "a", "rejected": "b", "messages": [USER, ANSWER]}, "'messages'"),
    ],
)  # fmt: skip
def test_what_parts_and_turns_lose_is_named(row, lost):
    target = datasets.Dataset.from_rows([row]).shape
    assert any(lost in phrase for phrase in convert_row(row, target).lost)


def test_the_weight_of_a_turn_is_kept():
    turns = [turn("human", "q"), {**turn("gpt", "a"), "weight": 0}, turn("human", "q")]
    row = {"conversations": [*turns, turn("gpt", "a")]}
    ((converted,), lost) = convert_row(row, "chat")
    assert lost == []
    assert [message.get("weight") for message in converted["messages"]] == [None, 0, None, None]


def test_results_of_calls_find_their_call_by_id():
    """Gemini's results may come in another order than the calls, each with the id of its call."""
    calls = [{"functionCall": {"name": "f", "args": {"n": n}, "id": f"i{n}"}} for n in (1, 2)]
    results = [
        {"functionResponse": {"name": "f", "id": f"i{n}", "response": {"output": f"r{n}"}}}
        for n in (2, 1)
    ]
    row = {
        "contents": [
            {"role": "user", "parts": [{"text": "q"}]},
            {"role": "model", "parts": calls},
            {"role": "function", "parts": results},
            {"role": "model", "parts": [{"text": "a"}]},
        ]
    }
    ((converted,), _) = convert_row(row, "chat")
    answers = {one.get("tool_call_id"): one["content"] for one in converted["messages"][2:4]}
    assert answers == {"i1": "r1", "i2": "r2"}
