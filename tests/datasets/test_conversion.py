"""The formats people have: recognised, named, converted both ways, nothing lost unsaid."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.script import Script

from tunesmith import datasets
from tunesmith.cli import main
from tunesmith.datasets.conversion import CONVERTIBLE, NotConvertibleError, convert_row
from tunesmith.datasets.dataset_errors import BrokenRowError, DatasetError
from tunesmith.datasets.prepare import prepare_data
from tunesmith.datasets.recognition import DATA_FORMATS, recognise

CASES = Path(__file__).parent / "cases"

USER = {"role": "user", "content": "q"}
ANSWER = {"role": "assistant", "content": "a"}
SYSTEM = {"role": "system", "content": "s"}
CHAT = {"messages": [SYSTEM, USER, ANSWER, {"role": "user", "content": "q2"}, ANSWER]}
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}}
WEATHER = {
    "type": "function",
    "function": {"name": "weather", "description": "w", "parameters": SCHEMA},
}


def call(number, city):
    arguments = json.dumps({"city": city}, ensure_ascii=False)
    function = {"name": "weather", "arguments": arguments}
    return {"id": f"call_{number}", "type": "function", "function": function}


def result(number, text):
    return {"role": "tool", "tool_call_id": f"call_{number}", "content": text}


CALLS = {
    "messages": [
        USER,
        {"role": "assistant", "content": None, "tool_calls": [call(0, "Rome"), call(1, "Oslo")]},
        result(0, "sunny"),
        result(1, '{"sky": "grey"}'),
        ANSWER,
    ],
    "tools": [WEATHER],
}


def to(target, row):
    """Convert one row that becomes one row, and of which nothing is lost."""
    (converted,), lost = convert_row(row, target)
    assert lost == []
    return converted


def copy(name, folder):
    path = folder / name
    path.write_bytes((CASES / name).read_bytes())
    return path


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


# Recognised and named


@pytest.mark.parametrize(
    ("name", "row"),
    [
        ("prompt_completion", {"prompt": "q", "completion": "a"}),
        ("prompt_completion", {"prompt": "q", "completion": "a", "label": "spam"}),
        ("chat", CHAT),
        ("chat", {"messages": json.dumps(CHAT["messages"])}),
        ("chat", {"messages": [USER, ANSWER, USER]}),
        ("preference", {"input": {"messages": [USER]}, "preferred_output": [ANSWER]}),
        ("reinforcement", {"messages": [USER], "answer": "4"}),
        ("reinforcement", {"messages": [USER]}),
        ("reinforcement", {"messages": [SYSTEM, USER, ANSWER, USER], "answer": "4"}),
        ("alpaca", {"instruction": "q", "input": "", "output": "a"}),
        ("alpaca", {"instruction": "q", "output": "a", "history": [["x", "y"]]}),
        ("alpaca", {"instruction": "q", "chosen": "a", "rejected": "b"}),
        ("sharegpt", {"conversations": [{"from": "human", "value": "q"}]}),
        ("sharegpt", {"conversations": '[{"from": "human", "value": "q"}]'}),
        ("sharegpt", {"conversation": [USER, ANSWER]}),
        ("trl_preference", {"prompt": "q", "chosen": "a", "rejected": "b"}),
        ("trl_preference", {"chosen": [USER, ANSWER], "rejected": [USER, SYSTEM]}),
        ("trl_prompt_completion", {"prompt": [USER], "completion": [ANSWER]}),
        ("trl_prompt", {"prompt": [USER], "ground_truth": "4"}),
        ("trl_stepwise", {"prompt": "q", "completions": ["a"], "labels": [True]}),
        ("kto", {"prompt": "q", "completion": "a", "label": False}),
        ("kto", {"prompt": "q", "completion": "a", "label": "True"}),
        ("kto", {"messages": [USER, ANSWER], "label": True}),
        ("anthropic", {"system": "s", "messages": [USER, ANSWER]}),
        ("anthropic", {"messages": [{"role": "user", "content": [{"type": "tool_result"}]}]}),
        ("gemini", {"contents": [{"role": "user", "parts": [{"text": "q"}]}]}),
        ("question_answer", {"Question": "q", "Answer": "a"}),
        ("question_answer", {"instruction": "q", "context": "c", "response": "a"}),
        ("question_answer", {"prompt": "q", "response": "a"}),
        ("input_output", {"input": "q", "output": "a"}),
        ("text", {"text": "a", "meta": {"url": "x"}}),
        ("tokenized", {"input_ids": [1], "labels": [1]}),
    ],
)
def test_a_format_is_recognised_by_its_keys(name, row):
    assert recognise(row).name == name


@pytest.mark.parametrize("row", [{}, {"text": "a", "label": "b"}, {"a": 1}, {"conversations": []}])
def test_other_rows_are_of_no_known_format(row):
    assert recognise(row) is None


@pytest.mark.parametrize(
    ("file", "name", "shape"),
    [
        ("alpaca.json", "alpaca", "chat"),
        ("sharegpt.jsonl", "sharegpt", "chat"),
        ("trl-preference.jsonl", "trl_preference", "preference"),
        ("kto.jsonl", "kto", "chat"),
    ],
)
def test_a_check_of_the_cases_names_their_format_once_a_row(file, name, shape):
    dataset = datasets.read(CASES / file)
    assert dataset.data_format == name
    report = datasets.check_file(CASES / file)
    assert report.shape == shape
    finding = next(one for one in report.errors if one.id == "foreign-format")
    assert finding.count == len(dataset)
    assert DATA_FORMATS[name].label in str(finding)
    assert f"convert it to {shape} rows" in str(finding)
    assert "convert" in finding.fix
    assert {one.id for one in report.errors} <= {"foreign-format", "file-format"}


@pytest.mark.parametrize("file", ["alpaca.json", "sharegpt.jsonl", "trl-preference.jsonl"])
def test_the_cases_are_sound_once_they_are_converted(file):
    dataset = datasets.read(CASES / file)
    converted = dataset.convert(dataset.shape)
    assert len(converted) == len(dataset)
    assert converted.check().ok


def test_reinforcement_rows_are_not_taken_for_chat():
    report = datasets.read(CASES / "reinforcement-messages-only.jsonl").check("openai")
    assert report.shape == "reinforcement"
    assert report.ok


def test_messages_without_any_answer_are_reinforcement_rows_and_that_is_said():
    rows = [{"messages": [{"role": "user", "content": f"What is {k}+{k}?"}]} for k in range(50)]
    report = datasets.Dataset.from_rows(rows).check("openai")
    assert report.ok
    assert report.shape == "reinforcement"
    (finding,) = [one for one in report.findings if one.id == "grader-fields-missing"]
    assert (finding.severity, finding.count) == ("info", 50)


def test_a_chat_row_without_an_answer_among_others_is_still_an_error():
    rows = [CHAT, CHAT, {"messages": [USER]}]
    report = datasets.Dataset.from_rows(rows).check()
    assert [finding.id for finding in report.errors] == ["assistant-missing"]


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"instruction": "q", "input": "", "output": "a"}, ["Alpaca", "to='chat'"]),
        ({"prompt": "q", "chosen": "a", "rejected": "b"}, ["TRL preference", "to='preference'"]),
        ({"prompt": "q", "completions": ["a"]}, ["stepwise", "cannot be converted"]),
        ({"input_ids": [1]}, ["tokenized", "cannot be converted"]),
        ({"Question": "q", "Answer": "a"}, ["question and answer", "--prompt NAME"]),
    ],
)
def test_a_plan_refuses_by_name_and_says_the_way_out(row, words):
    with pytest.raises(DatasetError) as caught:
        datasets.Dataset.from_rows([row] * 3).plan()
    assert all(word in str(caught.value) for word in words)


@pytest.mark.parametrize(
    "row",
    [
        {"conversations": [{"from": "human", "value": "q"}], "chosen": {}, "rejected": {}},
        {"instruction": "q", "chosen": "a", "rejected": "b"},
    ],
)
def test_a_preference_of_alpaca_or_sharegpt_is_to_become_a_preference(row):
    dataset = datasets.Dataset.from_rows([row])
    assert dataset.shape == "preference"
    assert dataset.recognised.label.endswith("preference")


@pytest.mark.parametrize(
    "row",
    [
        {"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]},
        {"id": "1", "conversations": [{"from": "human", "value": "q"}]},
        {"contents": [{"role": "user", "parts": [{"text": "q"}]}]},
        {"messages": [USER, ANSWER]},
    ],
)
@pytest.mark.parametrize("indent", [None, 1])
@pytest.mark.parametrize("ending", ["json", "jsonl"])
def test_a_file_of_one_conversation_is_one_row(tmp_path, row, indent, ending):
    path = tmp_path / f"one.{ending}"
    path.write_text(json.dumps(row, indent=indent))
    assert [one.value for one in datasets.read(path)] == [row]


# Converted


@pytest.mark.parametrize(
    ("row", "messages"),
    [
        (
            {"instruction": "Add", "input": "1 1", "output": "2", "system": "s"},
            [
                SYSTEM,
                {"role": "user", "content": "Add\n1 1"},
                {"role": "assistant", "content": "2"},
            ],
        ),
        (
            {"instruction": "q2", "input": "", "output": "a", "history": [["q", "a"]]},
            [USER, ANSWER, {"role": "user", "content": "q2"}, ANSWER],
        ),
        (
            {"system": "s", "conversations": [
                {"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]},
            [SYSTEM, USER, ANSWER],
        ),
        (
            {"conversations": [{"from": "system", "value": "s"}, {"role": "user", "content": "q"},
                               {"from": "chatgpt", "value": "a"}]},
            [SYSTEM, USER, ANSWER],
        ),
        ({"prompt": [SYSTEM, USER], "completion": [ANSWER]}, [SYSTEM, USER, ANSWER]),
        ({"system": "s", "messages": [USER, ANSWER]}, [SYSTEM, USER, ANSWER]),
        (
            {"system": [{"type": "text", "text": "s"}], "messages": [
                {"role": "user", "content": [{"type": "text", "text": "q"}]}, ANSWER]},
            [SYSTEM, USER, ANSWER],
        ),
        (
            {"systemInstruction": {"parts": [{"text": "s"}]}, "contents": [
                {"role": "user", "parts": [{"text": "q"}]},
                {"role": "model", "parts": [{"text": "a"}]}]},
            [SYSTEM, USER, ANSWER],
        ),
        (
            {"Question": "q", "Context": "c", "Answer": "a"},
            [{"role": "user", "content": "c\nq"}, ANSWER],
        ),
        (
            {"instruction": "q", "context": "c", "response": "a"},
            [{"role": "user", "content": "q\nc"}, ANSWER],
        ),
        ({"input": "q", "output": "a"}, [USER, ANSWER]),
        ({"prompt": "q", "completion": "a"}, [USER, ANSWER]),
        ({"text": "a"}, [ANSWER]),
        ({"messages": json.dumps([USER, ANSWER])}, [USER, ANSWER]),
    ],
)  # fmt: skip
def test_to_chat(row, messages):
    assert to("chat", row) == {"messages": messages}


SHAREGPT_CALLS = {
    "conversations": [
        {"from": "human", "value": "q"},
        {
            "from": "function_call",
            "value": json.dumps(
                [
                    {"name": "weather", "arguments": {"city": "Rome"}},
                    {"name": "weather", "arguments": {"city": "Oslo"}},
                ]
            ),
        },
        {
            "from": "observation",
            "value": 'sunny\n</tool_response>\n<tool_response>\n{"sky": "grey"}',
        },
        {"from": "gpt", "value": "a"},
    ],
    "tools": json.dumps([WEATHER["function"]]),
}
HERMES_CALLS = {
    "conversations": [
        {"from": "human", "value": "q"},
        {
            "from": "gpt",
            "value": "<tool_call>\n{'name': 'weather', 'arguments': {'city': 'Rome'}}\n</tool_call>"
            '\n<tool_call>{"name": "weather", "arguments": {"city": "Oslo"}}</tool_call>',
        },
        {
            "from": "tool",
            "value": "<tool_response>\nsunny\n</tool_response>\n<tool_response>\n"
            '{"sky": "grey"}\n</tool_response>',
        },
        {"from": "gpt", "value": "a"},
    ],
    "tools": json.dumps([WEATHER]),
}
ANTHROPIC_CALLS = {
    "messages": [
        USER,
        {
            "role": "assistant",
            "content": [
                {"type": "tool_use", "id": "call_0", "name": "weather", "input": {"city": "Rome"}},
                {"type": "tool_use", "id": "call_1", "name": "weather", "input": {"city": "Oslo"}},
            ],
        },
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": "call_0", "content": "sunny"},
                {"type": "tool_result", "tool_use_id": "call_1", "content": '{"sky": "grey"}'},
            ],
        },
        ANSWER,
    ],
    "tools": [{"name": "weather", "description": "w", "input_schema": SCHEMA}],
}
GEMINI_CALLS = {
    "contents": [
        {"role": "user", "parts": [{"text": "q"}]},
        {
            "role": "model",
            "parts": [
                {"functionCall": {"name": "weather", "args": {"city": "Rome"}}},
                {"functionCall": {"name": "weather", "args": {"city": "Oslo"}}},
            ],
        },
        {
            "role": "user",
            "parts": [
                {"functionResponse": {"name": "weather", "response": {"output": "sunny"}}},
                {"functionResponse": {"name": "weather", "response": {"sky": "grey"}}},
            ],
        },
        {"role": "model", "parts": [{"text": "a"}]},
    ],
    "tools": [
        {
            "functionDeclarations": [
                {
                    "name": "weather",
                    "description": "w",
                    "parameters": {
                        "type": "OBJECT",
                        "properties": {"city": {"type": "STRING"}},
                    },
                }
            ]
        }
    ],
}


@pytest.mark.parametrize("row", [SHAREGPT_CALLS, HERMES_CALLS, ANTHROPIC_CALLS, GEMINI_CALLS])
def test_calls_of_tools_to_chat(row):
    assert to("chat", row) == CALLS
    assert datasets.Dataset.from_rows([CALLS]).check().ok


@pytest.mark.parametrize(
    ("target", "row"),
    [("sharegpt", SHAREGPT_CALLS), ("anthropic", ANTHROPIC_CALLS), ("gemini", GEMINI_CALLS)],
)
def test_calls_of_tools_from_chat(target, row):
    assert to(target, CALLS) == row


def test_trl_has_arguments_as_objects():
    row = to("trl_prompt_completion", CALLS)
    assert row["prompt"][1]["tool_calls"][0]["function"]["arguments"] == {"city": "Rome"}
    assert row["tools"] == [WEATHER]
    assert to("chat", row) == CALLS


PREFERENCE = {
    "input": {"messages": [USER]},
    "preferred_output": [ANSWER],
    "non_preferred_output": [{"role": "assistant", "content": "b"}],
}


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "q", "chosen": "a", "rejected": "b"},
        {"prompt": [USER], "chosen": [ANSWER], "rejected": [{"role": "gpt", "content": "b"}]},
        {"chosen": [USER, ANSWER], "rejected": [USER, {"role": "assistant", "content": "b"}]},
        {"prompt": "q", "chosen": [USER, ANSWER],
         "rejected": [USER, {"role": "assistant", "content": "b"}]},
        {"instruction": "q", "input": "", "chosen": "a", "rejected": "b"},
        {"conversations": [{"from": "human", "value": "q"}],
         "chosen": {"from": "gpt", "value": "a"}, "rejected": {"from": "gpt", "value": "b"}},
        {"messages": [USER], "chosen": ANSWER, "rejected": {"role": "assistant", "content": "b"}},
    ],
)  # fmt: skip
def test_to_preference(row):
    assert to("preference", row) == PREFERENCE


def test_a_preference_becomes_two_labelled_rows_or_its_good_answer():
    rows, lost = convert_row(PREFERENCE, "kto")
    assert [row["label"] for row in rows] == [True, False]
    assert lost == []
    assert convert_row(PREFERENCE, "chat") == (
        [{"messages": [USER, ANSWER]}],
        ["the rejected answer"],
    )


def test_a_bad_answer_is_never_something_to_imitate():
    dataset = datasets.read(CASES / "kto.jsonl", to="chat")
    with pytest.raises(BrokenRowError, match=r"line 1.*labelled as bad"):
        list(dataset)
    assert [row.value["messages"][1]["content"] for row in dataset.readable_rows()] == list("135")
    errors = dataset.check().errors
    assert [(one.id, one.count) for one in errors] == [("row-not-converted", 3)]
    plan = dataset.plan()
    assert plan.fixes[0].count == 3
    assert "labelled as bad" in plan.diff()


@pytest.mark.parametrize(
    ("row", "target", "reason"),
    [
        (CHAT, "preference", "a preference needs two"),
        (CHAT, "kto", "nothing says whether"),
        (CHAT, "prompt_completion", "more than one question"),
        (CALLS, "alpaca", "calls tools|tool message|by turns"),
        ({"messages": [USER], "answer": "4"}, "chat", "no answer to learn"),
        ({"chosen": "qa", "rejected": "qb"}, "preference", "no 'prompt'"),
        ({"conversations": [{"from": "alien", "value": "q"}]}, "chat", "'alien' is not known"),
        ({"instruction": "q", "output": ""}, "chat", "'output' is empty"),
        ({"question": "q", "answer": {"text": ["a"]}}, "chat", "'answer' is not a text"),
        ({"input_ids": [1]}, "chat", "cannot be converted"),
        ({"a": 1, "b": 2}, "chat", "no known format; its keys are 'a', 'b'"),
    ],
)
def test_a_refusal_names_both_formats_and_the_reason(row, target, reason):
    with pytest.raises(NotConvertibleError, match=reason) as caught:
        convert_row(row, target)
    if recognise(row):
        assert recognise(row).label in str(caught.value)
        assert DATA_FORMATS[target].label in str(caught.value)


@pytest.mark.parametrize(
    ("row", "target", "lost"),
    [
        ({**CHAT, "id": 7}, "sharegpt", ["'id'"]),
        ({**CHAT, "parallel_tool_calls": False}, "alpaca", ["'parallel_tool_calls'"]),
        ({"messages": [USER, {**ANSWER, "weight": 0}]}, "alpaca", ["'weight' of messages"]),
        ({"messages": [USER, {**ANSWER, "weight": 1}]}, "alpaca", []),
        ({"messages": [SYSTEM, USER, ANSWER]}, "prompt_completion", ["the system message"]),
        ({"instruction": "q", "output": "a", "id": 0}, "chat", ["'id'"]),
        ({"messages": [USER], "answer": "4"}, "trl_prompt", []),
    ],
)
def test_what_is_left_out_is_named(row, target, lost):
    assert convert_row(row, target).lost == lost


def test_a_loss_is_a_warning_with_its_place():
    rows = [{**CHAT, "id": 1}, CHAT]
    dataset = datasets.Dataset.from_rows(rows).convert("sharegpt")
    assert len(dataset) == 2
    (finding,) = [one for one in dataset.check().findings if one.id == "conversion-loss"]
    assert (finding.severity, finding.count) == ("warning", 1)
    assert finding.examples[0].message == "'id' left out"


def test_markers_are_no_part_of_the_texts():
    prompt_format = datasets.PromptFormat("\n\n###\n\n", " ", " END")
    dataset = datasets.Dataset.from_rows([prompt_format.row("q", "a")], prompt_format=prompt_format)
    assert dataset.convert("chat").rows[0].value == {"messages": [USER, ANSWER]}
    assert dataset.convert("prompt_completion").prompt_format == prompt_format


def test_rows_of_several_formats_are_read_each_by_its_own():
    rows = [
        {"instruction": "q", "input": "", "output": "a"},
        {"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]},
        {"messages": [USER, ANSWER]},
    ]
    converted = datasets.Dataset.from_rows(rows).convert("chat")
    assert [row.value for row in converted] == [{"messages": [USER, ANSWER]}] * 3


def test_there_are_only_the_formats_that_there_are():
    dataset = datasets.Dataset.from_rows([CHAT])
    with pytest.raises(DatasetError, match=r"no format 'vicuna'.*sharegpt"):
        dataset.convert("vicuna")
    with pytest.raises(DatasetError, match="'tokenized'"):
        dataset.convert("tokenized")


# Properties

TEXT = st.text(st.sampled_from("ab\n{}[]\"'<>é"), max_size=6)
# Texts that are JSON are texts all the same.
JSON_TEXTS = st.sampled_from(['["w"]', '{"w": 1}', '"w"', "['w']", "[]", '{"output": "w"}', "null"])
WORDS = TEXT.map(lambda text: f"w{text}") | JSON_TEXTS
NUMBERED = st.integers(1, 2)


@st.composite
def conversations(draw):
    """Draw a valid conversation: system or not, turns, some of them with calls of tools."""
    messages = [{"role": "system", "content": draw(WORDS)}] if draw(st.booleans()) else []
    number = 0
    called = False
    for _ in range(draw(NUMBERED)):
        messages.append({"role": "user", "content": draw(WORDS)})
        if draw(st.booleans()):
            called = True
            count = draw(NUMBERED)
            calls = [call(number + k, draw(WORDS)) for k in range(count)]
            messages.append({"role": "assistant", "content": None, "tool_calls": calls})
            messages += [result(number + k, draw(WORDS)) for k in range(count)]
            number += count
        messages.append({"role": "assistant", "content": draw(WORDS)})
    return {"messages": messages, **({"tools": [WEATHER]} if called else {})}


@given(conversations(), st.sampled_from(CONVERTIBLE))
@settings(max_examples=300)
def test_chat_and_back_loses_nothing_that_is_not_named(row, target):
    try:
        rows, lost = convert_row(row, target)
    except NotConvertibleError:
        return  # refused, with its reason
    if lost:
        return
    (converted,) = rows
    assert to("chat", converted) == row


FOREIGN = st.one_of(
    st.fixed_dictionaries(
        {"instruction": WORDS, "output": WORDS},
        optional={
            "input": TEXT,
            "system": TEXT,
            "history": st.lists(st.tuples(WORDS, WORDS).map(list), max_size=2),
            "id": NUMBERED,
        },
    ),
    st.fixed_dictionaries({"instruction": WORDS, "chosen": WORDS, "rejected": WORDS}),
    st.fixed_dictionaries({"prompt": WORDS, "chosen": WORDS, "rejected": WORDS, "score": TEXT}),
    st.fixed_dictionaries({"prompt": WORDS, "completion": WORDS, "label": st.booleans()}),
    st.fixed_dictionaries({"question": WORDS, "answer": WORDS}, optional={"context": TEXT}),
    st.fixed_dictionaries({"input": WORDS, "output": WORDS}, optional={"system": TEXT}),
    st.fixed_dictionaries({"text": WORDS}, optional={"url": WORDS}),
    st.builds(
        lambda row, target: convert_row(row, target).rows[0],
        conversations(),
        st.sampled_from(["sharegpt", "anthropic", "gemini", "trl_prompt_completion"]),
    ),
)


def leaves(value):
    """Yield every text of a row that is not a name, JSON inside a text included."""
    if isinstance(value, dict):
        for item in value.values():
            yield from leaves(item)
    elif isinstance(value, list):
        for item in value:
            yield from leaves(item)
    elif isinstance(value, str) and value.startswith("w"):
        yield from value.split("\n</tool_response>\n<tool_response>\n")


@given(FOREIGN, st.sampled_from(CONVERTIBLE))
@settings(max_examples=400)
def test_every_text_comes_out_or_its_loss_is_named(row, target):
    try:
        rows, lost = convert_row(row, target)
    except NotConvertibleError:
        return
    written = json.dumps(rows, ensure_ascii=False).replace("\\", "")
    missing = [
        text
        for text in leaves(row)
        if json.dumps(text, ensure_ascii=False)[1:-1].replace("\\", "") not in written
    ]
    assert not missing or lost
    for one in rows:
        # What was written is recognised again: as itself, unless nothing tells it apart.
        assert recognise(one).name in {target, "chat", "anthropic"}


@given(FOREIGN)
@settings(max_examples=200)
def test_there_and_back_and_there_again_is_the_same(row):
    source = recognise(row)
    try:
        hub, lost = convert_row(row, source.target)
        back, _ = convert_row(hub[0], source.name)
    except NotConvertibleError:
        return
    if not lost:
        assert convert_row(back[0], source.target).rows == hub


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 2) | st.floats(allow_nan=False) | TEXT,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                "role content from value parts text type name args functionCall tool_calls "
                "function arguments functionResponse source input id system image_url".split()
            ),
            inner,
            max_size=3,
        )
    ),
    max_leaves=8,
)
KEYS = st.sampled_from(
    "messages conversations conversation prompt completion chosen rejected label instruction "
    "input output history system tools contents systemInstruction question answer text input_ids "
    "completions preferred_output non_preferred_output".split()
)


@given(st.dictionaries(KEYS, ANYTHING, max_size=5), st.sampled_from(CONVERTIBLE))
@settings(max_examples=600)
def test_any_row_is_converted_or_refused(row, target):
    try:
        rows, _ = convert_row(row, target)
    except NotConvertibleError:
        rows = []
    assert all(isinstance(one, dict) for one in rows)
    datasets.Dataset.from_rows([row]).check()


@given(st.dictionaries(KEYS, ANYTHING, max_size=5), st.sampled_from(CONVERTIBLE))
@settings(max_examples=300)
def test_any_row_is_read_as_what_the_user_says_or_refused(row, source):
    try:
        rows, _ = convert_row(row, "gemini", source)
    except NotConvertibleError:
        rows = []
    assert all(isinstance(one, dict) for one in rows)


@given(st.lists(st.dictionaries(KEYS, ANYTHING, max_size=4), max_size=5))
def test_rows_in_are_rows_out_plus_rows_named(rows):
    dataset = datasets.Dataset.from_rows(rows).convert("chat")
    batches = list(dataset.source.batches())
    named = [
        fault for batch in batches for fault in batch.faults if fault.id == "row-not-converted"
    ]
    assert len(rows) == sum(len(batch.values) for batch in batches) + len(named)


# Templates


def test_a_template_over_several_columns(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text('title,body,verdict,id\nA,"x, y",good,1\nB,z,bad,2\n')
    template = {
        "system": "Judge {{strictly}}.",
        "user": "{title}: {body}",
        "assistant": "{verdict}",
    }
    dataset = datasets.read(path, template=template)
    assert dataset.rows[0].value == {
        "messages": [
            {"role": "system", "content": "Judge {strictly}."},
            {"role": "user", "content": "A: x, y"},
            {"role": "assistant", "content": "good"},
        ]
    }
    (loss,) = [one for one in dataset.check().findings if one.id == "conversion-loss"]
    assert loss.count == 2
    pairs = datasets.read(path, template={"prompt": "{title}", "completion": "{verdict}"})
    assert pairs.rows[1].value == {"prompt": "B", "completion": "bad"}


def test_a_template_and_a_format_together(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text("a,b\nq,a\n")
    dataset = datasets.read(path, template={"user": "{a}", "assistant": "{b}"}, to="alpaca")
    assert dataset.rows[0].value == {"instruction": "q", "input": "", "output": "a"}


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        ({"user": "{a}"}, "'user' and 'assistant'"),
        ({"user": "{a}", "answer": "{b}"}, "'user', 'answer'"),
        ({"user": "{a", "assistant": "{b}"}, "brace at character 1"),
        ({"user": "a}", "assistant": "{b}"}, "brace at character 2"),
    ],
)
def test_a_template_with_a_fault_is_refused_at_once(template, reason):
    with pytest.raises(DatasetError, match=reason):
        datasets.read([{"a": "q", "b": "a"}], template=template)


def test_a_column_that_is_not_there_names_those_that_are():
    dataset = datasets.read([{"a": "q"}], template={"user": "{a}", "assistant": "{b}"})
    with pytest.raises(BrokenRowError, match="no column 'b'; there are 'a'"):
        list(dataset)


def test_columns_and_a_template_do_not_go_together():
    with pytest.raises(DatasetError, match="either"):
        datasets.read([], prompt="a", template={"user": "{a}", "assistant": "{b}"})


def test_a_table_to_chat(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text("text,label\nq,a\n")
    dataset = datasets.read(path, prompt="text", completion="label", to="chat")
    assert dataset.rows[0].value == {"messages": [USER, ANSWER]}
    held = tmp_path / "held.csv"
    held.write_text('messages\n"' + json.dumps([USER, ANSWER]).replace('"', '""') + '"\n')
    assert datasets.read(held, to="chat").rows[0].value == {"messages": [USER, ANSWER]}


# Prepare asks


def test_prepare_asks_and_converts(tmp_path):
    script = Script()
    prepared = prepare_data(copy("alpaca.json", tmp_path), script)
    assert script.said[0].startswith("The rows have the format Alpaca")
    assert "Convert them to chat rows" in script.asked[0]
    assert '"instruction"' in script.asked[0]
    rows = datasets.read(prepared.training).rows
    assert len(rows) == 12
    assert rows[1].value["messages"][0]["content"] == "Translate to French, number 1\nword 1"


def test_prepare_offers_the_next_format_and_refuses_by_name(tmp_path):
    path = copy("alpaca.json", tmp_path)
    script = Script("no", "yes")
    prepared = prepare_data(path, script)
    assert "Convert them to prompt/completion rows" in script.asked[1]
    assert prepared.prompt_format is not None
    with pytest.raises(DatasetError, match="format Alpaca"):
        prepare_data(path, Script("no", "no"))


def test_a_column_that_named_columns_leave_out_is_asked_about(tmp_path):
    path = copy("alpaca.json", tmp_path)
    script = Script("yes")
    prepared = prepare_data(path, script, prompt="instruction", completion="output")
    assert "'input' (6 rows)" in script.asked[0]
    text = prepared.training.read_text()
    assert all(f"word {number}" in text for number in range(1, 12, 2))
    other = prepare_data(path, Script("no"), prompt="instruction", completion="output")
    assert "word 1" not in other.training.read_text()


def test_what_conversion_leaves_out_is_said(tmp_path):
    script = Script()
    prepare_data(copy("kto.jsonl", tmp_path), script)
    said = "\n".join(script.said)
    assert "3 rows say something that the other format cannot say" in said
    assert "line 2: the label of the answer left out" in said
    assert "Leave out rows that cannot be converted (3 rows)" in said
    assert "labelled as bad" in said


# The command


@pytest.mark.parametrize("target", ["sharegpt", "anthropic", "gemini", "trl_prompt_completion"])
def test_convert_there_and_back(tmp_path, capsys, target):
    path = write(tmp_path / "chat.jsonl", [CHAT, CALLS])
    assert main(["tools", "convert", str(path), "--to", target]) == 0
    written = tmp_path / f"chat_{target}.jsonl"
    back = tmp_path / "back.jsonl"
    assert main(["tools", "convert", str(written), "--to", "chat", "-o", str(back)]) == 0
    assert [row.value for row in datasets.read(back)] == [CHAT, CALLS]
    assert "2 rows" in capsys.readouterr().out


def test_convert_writes_nothing_where_a_row_cannot_be_converted(tmp_path, capsys):
    path = copy("kto.jsonl", tmp_path)
    assert main(["tools", "convert", str(path), "--to", "chat"]) == 1
    captured = capsys.readouterr()
    assert "3 rows cannot be converted" in captured.err
    assert "line 1, byte 0" in captured.err
    assert not (tmp_path / "kto_chat.jsonl").exists()
    assert main(["tools", "convert", str(path), "--to", "chat", "--partial"]) == 0
    assert len(datasets.read(tmp_path / "kto_chat.jsonl")) == 3


def test_convert_with_a_template(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text("a,b\nq,a\n")
    words = ["--template", "user={a}", "--template", "assistant={b}"]
    assert main(["tools", "convert", str(path), "--to", "chat", *words]) == 0
    assert datasets.read(tmp_path / "table_chat.jsonl").rows[0].value == {
        "messages": [USER, ANSWER]
    }


def test_convert_reads_what_prepare_reads(tmp_path):
    path = tmp_path / "table.csv"
    path.write_bytes("问,答\nq,好\n".encode("gbk"))
    words = ["--template", "user={问}", "--template", "assistant={答}", "--encoding", "gbk"]
    assert main(["tools", "convert", str(path), "--to", "chat", *words]) == 0
    rows = datasets.read(tmp_path / "table_chat.jsonl").rows
    assert rows[0].value["messages"][1]["content"] == "好"


def test_convert_overwrites_nothing(tmp_path):
    path = write(tmp_path / "chat.jsonl", [CHAT])
    for _ in range(2):
        assert main(["tools", "convert", str(path), "--to", "alpaca"]) == 0
    assert (tmp_path / "chat_alpaca (1).jsonl").exists()


def test_the_command_knows_all_formats():
    from tunesmith.cli import conversion

    assert set(conversion.FORMATS) == set(CONVERTIBLE)
