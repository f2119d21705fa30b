"""Every valid row passes without a finding; every faulty one is found at its line."""

from __future__ import annotations

import copy
import json

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from tunesmith import datasets
from tunesmith.datasets.row_formats import problems
from tunesmith.datasets.rules import RULES

USER = {"role": "user", "content": "What is the weather?"}
ASSISTANT = {"role": "assistant", "content": "Sunny."}
TOOL = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    },
}


def call(arguments='{"city": "Oslo"}', name="get_weather", identifier="call_1"):
    function = {"name": name, "arguments": arguments}
    return {"id": identifier, "type": "function", "function": function}


CALLING = {"role": "assistant", "tool_calls": [call()]}
RESULT = {"role": "tool", "tool_call_id": "call_1", "content": "Sunny"}


def chat(*messages, **keys):
    return {"messages": [*messages], **keys}


IMAGE = {"type": "image_url", "image_url": {"url": "https://example.com/cat.png", "detail": "low"}}

VALID_CHAT = {
    "plain": chat(USER, ASSISTANT),
    "system first": chat({"role": "system", "content": "Be kind."}, USER, ASSISTANT),
    "tool call without content": chat(USER, CALLING, RESULT, ASSISTANT, tools=[TOOL]),
    "tool call with null content": chat(
        USER, CALLING | {"content": None}, RESULT, ASSISTANT, tools=[TOOL]
    ),
    "ends with the tool call": chat(USER, CALLING, tools=[TOOL]),
    "parallel calls": chat(
        USER,
        {"role": "assistant", "tool_calls": [call(), call(identifier="call_2")]},
        RESULT,
        RESULT | {"tool_call_id": "call_2"},
        ASSISTANT,
        tools=[TOOL],
        parallel_tool_calls=True,
    ),
    "image parts": chat(
        {"role": "user", "content": [{"type": "text", "text": "What is this?"}, IMAGE]}, ASSISTANT
    ),
    "consecutive user messages": chat(USER, USER, ASSISTANT),
    "weights": chat(USER, ASSISTANT | {"weight": 0}, USER, ASSISTANT | {"weight": 1}),
    "names": chat(USER | {"name": "ann"}, ASSISTANT | {"name": "bot"}),
    "refusal": chat(USER, {"role": "assistant", "content": None, "refusal": "I cannot."}),
    "refusal part": chat(
        USER, {"role": "assistant", "content": [{"type": "refusal", "refusal": "No."}]}
    ),
    "text parts": chat(USER, {"role": "assistant", "content": [{"type": "text", "text": "Hi"}]}),
    "legacy function call": chat(
        USER,
        {"role": "assistant", "function_call": {"name": "get_weather", "arguments": "{}"}},
        {"role": "function", "name": "get_weather", "content": "Sunny"},
        ASSISTANT,
        functions=[{"name": "get_weather", "parameters": {}}],
    ),
    "other scripts": chat({"role": "user", "content": "你好 😀 \u2028 é"}, ASSISTANT),
    "special tokens in the text": chat({"role": "user", "content": "<|im_start|>"}, ASSISTANT),
}

VALID_PREFERENCE = {
    "plain": {
        "input": {"messages": [USER]},
        "preferred_output": [ASSISTANT],
        "non_preferred_output": [{"role": "assistant", "content": "No idea."}],
    },
    "with tools": {
        "input": {"messages": [USER], "tools": [TOOL], "parallel_tool_calls": True},
        "preferred_output": [CALLING],
        "non_preferred_output": [ASSISTANT],
    },
}

VALID_REINFORCEMENT = {
    "with grader fields": {
        "messages": [{"role": "developer", "content": "Add."}, {"role": "user", "content": "1+1"}],
        "answer": 2,
        "tags": ["sum"],
    },
    "with tools": {"messages": [USER], "tools": [TOOL], "reference": {"value": "Sunny"}},
}

# Findings that may name a location without a fault there: advice on the number of rows.
ADVICE = {"row-count"}


def check(tmp_path, rows, profile="openai", **options):
    path = tmp_path / "rows.jsonl"
    lines = [row if isinstance(row, bytes) else json.dumps(row).encode() for row in rows]
    path.write_bytes(b"\n".join(lines) + b"\n")
    return datasets.check_file(path, profile, **options)


def distinct(row, number):
    """Return a copy of a row that is no duplicate of another one."""
    copied = copy.deepcopy(row)
    messages = copied.get("messages") or copied["input"]["messages"]
    first = messages[0]
    if isinstance(first["content"], str):
        first["content"] += f" ({number})"
    else:
        first["content"][0]["text"] += f" ({number})"
    return copied


@pytest.mark.parametrize("profile", ["engine", "openai"])
@pytest.mark.parametrize("name", VALID_CHAT)
def test_a_valid_chat_row_has_no_finding(tmp_path, name, profile):
    report = check(tmp_path, [distinct(VALID_CHAT[name], n) for n in range(12)], profile)
    assert {finding.id for finding in report.findings} <= ADVICE
    assert report.rows == 12


@pytest.mark.parametrize("name", VALID_PREFERENCE)
def test_a_valid_preference_row_has_no_finding(tmp_path, name):
    report = check(tmp_path, [distinct(VALID_PREFERENCE[name], n) for n in range(12)])
    assert report.shape == "preference"
    assert {finding.id for finding in report.findings} <= ADVICE


@pytest.mark.parametrize("name", VALID_REINFORCEMENT)
def test_a_valid_reinforcement_row_has_no_finding(tmp_path, name):
    report = check(tmp_path, [distinct(VALID_REINFORCEMENT[name], n) for n in range(12)])
    assert report.shape == "reinforcement"
    assert {finding.id for finding in report.findings} <= ADVICE | {"shape-retired"}


FAULTY_CHAT = {
    "weight of 2": ("weight-value", chat(USER, ASSISTANT | {"weight": 2})),
    "weight true": ("weight-value", chat(USER, ASSISTANT | {"weight": True})),
    "weight on a user message": ("weight-ignored", chat(USER | {"weight": 1}, ASSISTANT)),
    "all weights 0": ("weights-all-zero", chat(USER, ASSISTANT | {"weight": 0})),
    "no assistant": ("assistant-missing", chat(USER)),
    "ends on the user": ("last-message", chat(USER, ASSISTANT, USER)),
    "no messages": ("messages-empty", chat()),
    "messages is an object": ("field-type", {"messages": {"role": "user"}}),
    "a message is a text": ("field-type", chat("hello", ASSISTANT)),
    "no role": ("role-missing", chat({"content": "hi"}, ASSISTANT)),
    "unknown role": ("role-unknown", chat({"role": "human", "content": "hi"}, ASSISTANT)),
    "developer in supervised data": (
        "role-unknown",
        chat({"role": "developer", "content": "hi"}, USER, ASSISTANT),
    ),
    "unknown message key": ("unknown-field", chat(USER | {"id": 7}, ASSISTANT)),
    "unknown top key": ("unknown-field", chat(USER, ASSISTANT, model="gpt-4o")),
    "arguments are not JSON": (
        "tool-arguments-json",
        chat(USER, {"role": "assistant", "tool_calls": [call("{city: Oslo}")]}, tools=[TOOL]),
    ),
    "arguments are an object": (
        "tool-arguments-type",
        chat(USER, {"role": "assistant", "tool_calls": [call({"city": "Oslo"})]}, tools=[TOOL]),
    ),
    "undeclared tool": (
        "tool-undeclared",
        chat(USER, {"role": "assistant", "tool_calls": [call(name="other")]}, tools=[TOOL]),
    ),
    "orphan result": ("tool-result-orphan", chat(USER, RESULT, ASSISTANT, tools=[TOOL])),
    "unanswered call": ("tool-call-unanswered", chat(USER, CALLING, ASSISTANT, tools=[TOOL])),
    "call without id": (
        "tool-call-id-missing",
        chat(
            USER,
            {
                "role": "assistant",
                "tool_calls": [{"type": "function", "function": call()["function"]}],
            },
            tools=[TOOL],
        ),
    ),
    "empty content": ("content-empty", chat(USER, {"role": "assistant", "content": ""})),
    "blank content": ("content-empty", chat({"role": "user", "content": " \n"}, ASSISTANT)),
    "no content": ("content-missing", chat(USER, {"role": "assistant"})),
    "null user content": ("content-missing", chat({"role": "user", "content": None}, ASSISTANT)),
    "number as content": ("field-type", chat({"role": "user", "content": 7}, ASSISTANT)),
    "image in an assistant turn": (
        "part-type",
        chat(USER, {"role": "assistant", "content": [IMAGE]}),
    ),
    "audio part": (
        "part-untrainable",
        chat({"role": "user", "content": [{"type": "input_audio", "input_audio": {}}]}, ASSISTANT),
    ),
    "tool is not a function": ("tool-type", chat(USER, ASSISTANT, tools=[{"type": "web_search"}])),
    "mixed shapes": ("mixed-shapes", {"prompt": "a", "completion": " b"}),
    "array for a row": ("json-not-object", [USER, ASSISTANT]),
    "empty object": ("missing-field", {}),
}

FAULTY_LINES = {
    "duplicate keys": (
        "json-duplicate-key",
        b'{"messages": [], "messages": [{"role": "assistant", "content": "a"}]}',
    ),
    "duplicate keys within a message": (
        "json-duplicate-key",
        b'{"messages": [{"role": "user", "role": "assistant", "content": "a"}]}',
    ),
    "NaN": ("json-not-finite", b'{"messages": [{"role": "assistant", "content": "a"}], "x": NaN}'),
    "lone surrogate": (
        "lone-surrogate",
        b'{"messages": [{"role": "assistant", "content": "x\\ud83d"}]}',
    ),
    "control character": (
        "control-character",
        b'{"messages": [{"role": "assistant", "content": "x\\u0000"}]}',
    ),
    "blank line": ("blank-line", b"   "),
    "empty line": ("blank-line", b""),
    "broken line": ("json-syntax", b'{"messages": [{"role": "assistant", "content": "a}]}'),
    "cut line": ("json-syntax", b'{"messages": [{"role": "user"'),
    "two objects": ("json-syntax", b'{"messages": []}{"messages": []}'),
    "raw control character": ("json-syntax", b'{"messages": "\x01"}'),
    "Latin-1": ("encoding", b'{"messages": [{"role": "assistant", "content": "caf\xe9"}]}'),
    "deep nesting": ("json-too-deep", b'{"messages": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"),
}


@pytest.mark.parametrize("name", [*FAULTY_CHAT, *FAULTY_LINES])
def test_a_faulty_row_is_found_at_its_line(tmp_path, name):
    identifier, faulty = (FAULTY_CHAT | FAULTY_LINES)[name]
    rows = [distinct(VALID_CHAT["plain"], number) for number in range(12)]
    rows[6] = faulty
    report = check(tmp_path, rows)
    found = {finding.id: finding for finding in report.findings}
    assert identifier in found, report.to_text()
    assert [location.line for location in found[identifier].examples] == [7]
    elsewhere = [
        location
        for finding in report.findings
        for location in finding.examples
        if location.line != 7
    ]
    assert not elsewhere


@pytest.mark.parametrize("name", [*FAULTY_CHAT, *FAULTY_LINES])
def test_without_the_fast_decoder_the_same_is_found(tmp_path, name, without_extras):
    del without_extras
    test_a_faulty_row_is_found_at_its_line(tmp_path, name)


def test_duplicates_and_conflicts_are_found_at_their_lines(tmp_path):
    rows = [distinct(VALID_CHAT["plain"], number) for number in range(12)]
    rows[6] = rows[2]
    rows[8] = chat(rows[3]["messages"][0], {"role": "assistant", "content": "Rain."})
    report = check(tmp_path, rows)
    found = {finding.id: finding for finding in report.findings}
    assert [location.line for location in found["duplicate-rows"].examples] == [7]
    assert "line 3" in found["duplicate-rows"].examples[0].message
    assert [location.line for location in found["conflicting-completions"].examples] == [9]


PREFERENCE = VALID_PREFERENCE["plain"]
FAULTY_PREFERENCE = {
    "no input": ("missing-field", {k: v for k, v in PREFERENCE.items() if k != "input"}),
    "two outputs": ("output-count", PREFERENCE | {"preferred_output": [ASSISTANT, ASSISTANT]}),
    "output is an object": ("field-type", PREFERENCE | {"preferred_output": ASSISTANT}),
    "same outputs": ("outputs-identical", PREFERENCE | {"non_preferred_output": [ASSISTANT]}),
    "user output": ("role-unknown", PREFERENCE | {"preferred_output": [USER]}),
    "image": (
        "part-untrainable",
        PREFERENCE | {"input": {"messages": [{"role": "user", "content": [IMAGE]}]}},
    ),
}


@pytest.mark.parametrize("name", FAULTY_PREFERENCE)
def test_a_faulty_preference_row_is_found_at_its_line(tmp_path, name):
    identifier, faulty = FAULTY_PREFERENCE[name]
    rows = [distinct(PREFERENCE, number) for number in range(12)]
    rows[6] = faulty
    report = check(tmp_path, rows)
    found = {finding.id: finding for finding in report.findings}
    assert identifier in found, report.to_text()
    assert [location.line for location in found[identifier].examples] == [7]


TEXT = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1).filter(str.strip)
NAME = st.from_regex(r"[a-zA-Z0-9_-]{1,64}", fullmatch=True)
TEXT_PART = st.fixed_dictionaries({"type": st.just("text"), "text": TEXT})
IMAGE_PART = st.fixed_dictionaries(
    {
        "type": st.just("image_url"),
        "image_url": st.fixed_dictionaries(
            {"url": TEXT.map("https://example.com/{}".format)},
            optional={"detail": st.sampled_from(["auto", "low", "high"])},
        ),
    }
)
REFUSAL_PART = st.fixed_dictionaries({"type": st.just("refusal"), "refusal": TEXT})
ARGUMENTS = st.dictionaries(NAME, TEXT, max_size=2).map(json.dumps)
FUNCTION = st.fixed_dictionaries({"name": NAME, "arguments": ARGUMENTS})
CALL = st.fixed_dictionaries({"id": TEXT, "type": st.just("function"), "function": FUNCTION})


def message(role, content, **optional):
    return st.fixed_dictionaries({"role": st.just(role), "content": content}, optional=optional)


def parts(*kinds):
    return TEXT | st.lists(st.one_of(*kinds), min_size=1, max_size=3)


SYSTEM_MESSAGE = message("system", parts(TEXT_PART), name=NAME)
USER_MESSAGE = message("user", parts(TEXT_PART, IMAGE_PART), name=NAME)
WEIGHT = st.sampled_from([0, 1])
TALKING = message(
    "assistant",
    parts(TEXT_PART) | st.lists(REFUSAL_PART, min_size=1, max_size=1),
    name=NAME,
    weight=WEIGHT,
    refusal=st.none() | TEXT,
)
CALLING_MESSAGE = st.fixed_dictionaries(
    {"role": st.just("assistant"), "tool_calls": st.lists(CALL, min_size=1, max_size=2)},
    optional={"content": st.none() | TEXT, "weight": WEIGHT},
)
TOOL_MESSAGE = st.fixed_dictionaries(
    {"role": st.just("tool"), "tool_call_id": TEXT, "content": parts(TEXT_PART)}
)
ANY_MESSAGE = st.one_of(SYSTEM_MESSAGE, USER_MESSAGE, TALKING, CALLING_MESSAGE, TOOL_MESSAGE)
TOOLS = st.lists(
    st.fixed_dictionaries(
        {
            "type": st.just("function"),
            "function": st.fixed_dictionaries(
                {"name": NAME},
                optional={
                    "description": TEXT,
                    "parameters": st.dictionaries(NAME, TEXT),
                    "strict": st.none() | st.booleans(),
                },
            ),
        }
    ),
    max_size=2,
)
CHAT_ROW = st.builds(
    lambda before, answer, after, rest: {"messages": [*before, answer, *after], **rest},
    st.lists(ANY_MESSAGE, max_size=3),
    TALKING,
    st.lists(ANY_MESSAGE, max_size=2),
    st.fixed_dictionaries({}, optional={"tools": TOOLS, "parallel_tool_calls": st.booleans()}),
)
PLAIN_TEXT = parts(TEXT_PART)
PREFERENCE_ROW = st.fixed_dictionaries(
    {
        "input": st.fixed_dictionaries(
            {"messages": st.lists(message("user", PLAIN_TEXT), min_size=1, max_size=2)},
            optional={"tools": TOOLS, "parallel_tool_calls": st.booleans()},
        ),
        "preferred_output": st.lists(message("assistant", PLAIN_TEXT), min_size=1, max_size=1),
        "non_preferred_output": st.lists(message("assistant", PLAIN_TEXT), min_size=1, max_size=1),
    }
)
PAIR_ROW = st.fixed_dictionaries({"prompt": st.text(), "completion": st.text()})


def severities(row, shape):
    return {RULES[problem.id].severity for problem in problems(row, shape)}


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(CHAT_ROW)
def test_no_chat_row_that_the_schema_allows_has_an_error(row):
    assert "error" not in severities(row, "chat")


@settings(max_examples=40, deadline=None)
@given(PREFERENCE_ROW)
def test_no_preference_row_that_the_schema_allows_has_an_error(row):
    assert "error" not in severities(row, "preference")


@settings(max_examples=40, deadline=None)
@given(PAIR_ROW)
def test_no_prompt_completion_row_that_the_schema_allows_has_an_error(row):
    assert "error" not in severities(row, "prompt_completion")


# Any two rows differ in two bytes, so that damage to one does not make them the same.
VALID_LINES = [
    json.dumps(distinct(VALID_CHAT["plain"], f"{number:02}{number:02}")).encode()
    for number in range(12)
]


@settings(
    max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_damage_to_any_byte_is_harmless_or_located(tmp_path, data):
    whole = b"\n".join(VALID_LINES) + b"\n"
    position = data.draw(st.integers(0, len(whole) - 1))
    byte = data.draw(st.integers(0, 255))
    assume((position, byte) != (0, ord("[")))  # a file that begins so is a JSON array
    damaged = whole[:position] + bytes([byte]) + whole[position + 1 :]
    path = tmp_path / "damaged.jsonl"
    path.write_bytes(damaged)
    report = datasets.check_file(path, "engine")
    line = whole.count(b"\n", 0, position) + 1
    # A line end that is overwritten joins two lines; one that is written makes two of one.
    near = {line, line + 1}
    for finding in report.findings:
        assert finding.id in ADVICE or {location.line for location in finding.examples} <= near
    assert report.rows >= 10
    if report.rows < 12:
        assert not report.ok or report.warnings
