"""Chat rows get their fixes, and prepare never calls bad chat data good."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.script import Script

from tunesmith import datasets
from tunesmith.cli import main
from tunesmith.datasets.prepare import prepare_data

CASES = Path(__file__).parent / "cases"
USER = {"role": "user", "content": "Weather in Rome?"}
ANSWER = {"role": "assistant", "content": "Sunny."}
WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    },
}


def call(arguments, **changes):
    function = {"name": "weather", "arguments": arguments}
    return {"id": "call_0", "type": "function", "function": function, **changes}


def calling(*calls, **changes):
    return {"role": "assistant", "tool_calls": list(calls), **changes}


def row(*messages, **fields):
    return {"messages": list(messages), **fields}


def plan_of(*rows):
    return datasets.Dataset.from_rows(rows).plan()


def fixed(*rows):
    return [one.value for one in plan_of(*rows).apply()]


def ids(plan):
    return [fix.id for fix in plan.fixes]


def copy(name, folder):
    path = folder / name
    path.write_bytes((CASES / name).read_bytes())
    return path


# The cases


@pytest.mark.parametrize(
    ("name", "fix", "shown"),
    [
        ("chat-role-human.jsonl", "map-roles", '"human" → "user"'),
        ("chat-arguments-object.jsonl", "encode-arguments", '{"city": "town 0"} → "{'),
        ("chat-messages-as-text.jsonl", "unwrap-texts", '"[{\\"role\\"'),
        ("chat-arguments-twice-encoded.jsonl", "unwrap-arguments", '→ "{\\"city\\": \\"town 0'),
    ],
)
def test_the_cases_are_told_shown_and_mended(tmp_path, name, fix, shown):
    path = copy(name, tmp_path)
    script = Script()
    prepared = prepare_data(path, script)
    plan = datasets.read(path).plan()
    assert ids(plan) == [fix]
    assert plan.fixes[0].count == 12
    assert shown in script.asked[0]
    assert prepared.report.ok
    assert datasets.check_file(prepared.training).ok
    assert len(prepared.training.read_text().splitlines()) == 12


@pytest.mark.parametrize(
    "name",
    ["chat-role-human.jsonl", "chat-arguments-object.jsonl", "chat-messages-as-text.jsonl"],
)
def test_whoever_declines_the_fix_and_keeps_the_rows_is_told_of_the_errors(tmp_path, name):
    script = Script("no", "no")  # not this fix, and not without the rows
    assert prepare_data(copy(name, tmp_path), script) is None
    assert any("a job would refuse the file" in text for text in script.said)
    assert script.said[-1] == "Nothing was written."
    assert "No changes are needed." not in script.said


def test_a_file_with_errors_is_written_only_on_request(tmp_path):
    path = copy("chat-role-human.jsonl", tmp_path)
    prepared = prepare_data(path, Script("no", "no", "yes", "yes"))
    assert [finding.id for finding in prepared.report.errors] == ["role-unknown"]
    assert prepared.training.read_bytes() == path.read_bytes()


def test_quiet_never_writes_rows_with_errors(tmp_path, capsys):
    path = tmp_path / "chat.jsonl"
    bad = row({"role": "narrator", "content": "x"}, ANSWER)
    path.write_text("".join(json.dumps(one) + "\n" for one in [row(USER, ANSWER), bad]))
    assert main(["tools", "fine_tunes.prepare_data", "-q", "-f", str(path)]) == 0
    output = capsys.readouterr().out
    assert "Leave out rows that still break a rule (1 row)" in output
    assert "line 2: $.messages[0].role: role 'narrator'" in output
    assert datasets.check_file(tmp_path / "chat_prepared.jsonl").ok


def test_quiet_fails_where_the_destination_takes_no_such_rows(tmp_path, capsys):
    path = copy("reinforcement-messages-only.jsonl", tmp_path)
    assert main(["tools", "fine_tunes.prepare_data", "-q", "-f", str(path)]) == 1
    assert "shape-unsupported" in capsys.readouterr().out
    assert not (tmp_path / "reinforcement-messages-only_prepared.jsonl").exists()


def test_where_every_row_is_beyond_repair_there_is_nothing_to_write(tmp_path):
    path = tmp_path / "chat.jsonl"
    path.write_text(json.dumps(row({"role": "narrator", "content": "x"}, ANSWER)) + "\n")
    script = Script()
    assert prepare_data(path, script) is None
    assert "file-empty" in script.said[-2]


# Each fix


@pytest.mark.parametrize(
    ("name", "role"),
    [
        ("human", "user"),
        ("Human", "user"),
        ("gpt", "assistant"),
        ("bot", "assistant"),
        ("Assistant", "assistant"),
        ("model", "assistant"),
        ("developer", "system"),
    ],
)
def test_roles_are_mapped(name, role):
    rows = fixed(row({"role": name, "content": "x"}, USER, ANSWER))
    assert rows[0]["messages"][0] == {"role": role, "content": "x"}


def test_an_unknown_role_is_not_guessed():
    plan = plan_of(row({"role": "narrator", "content": "x"}, ANSWER))
    assert ids(plan) == ["drop-invalid-rows"]
    assert "role 'narrator'" in plan.diff()


def test_sharegpt_names_inside_messages():
    rows = fixed(row({"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}))
    assert rows == [row({"role": "user", "content": "a"}, {"role": "assistant", "content": "b"})]


def test_texts_of_parts_may_be_called_value():
    parts = [{"type": "text", "value": "q"}, {"type": "text", "text": "q2"}]
    (value,) = fixed(row({"role": "user", "content": parts}, ANSWER))
    assert [part["text"] for part in value["messages"][0]["content"]] == ["q", "q2"]


def test_null_keys_are_dropped_and_null_values_stay():
    schema = {
        "type": "object",
        "properties": {"city": {"type": "string", "default": None, "enum": None}, "day": None},
    }
    tool = {"type": "function", "function": {"name": "weather", "parameters": schema}, "x": None}
    spoken = {**calling(call({"city": None, "day": None})), "name": None, "content": None}
    (value,) = fixed(row({**USER, "name": None, "tool_calls": None}, spoken, tools=[tool]))
    assert value["messages"][0] == USER
    assert value["messages"][1]["content"] is None
    assert "name" not in value["messages"][1]
    # An argument that the tool declares may be null; one that it does not have is a gap.
    arguments = value["messages"][1]["tool_calls"][0]["function"]["arguments"]
    assert json.loads(arguments) == {"city": None}
    assert value["tools"][0] == {
        "type": "function",
        "function": {
            "name": "weather",
            "parameters": {
                "type": "object",
                "properties": {"city": {"type": "string", "default": None, "enum": None}},
            },
        },
    }


def test_function_calls_become_tool_calls_and_their_answers_too():
    function = WEATHER["function"]
    spoken = {"role": "assistant", "content": None, "function_call": call("{}")["function"]}
    said = {"role": "function", "name": "weather", "content": "sunny"}
    (value,) = fixed(row(USER, spoken, said, ANSWER, functions=[function]))
    assert value == row(
        USER,
        {"role": "assistant", "content": None, "tool_calls": [call("{}")]},
        {"role": "tool", "content": "sunny", "tool_call_id": "call_0"},
        ANSWER,
        tools=[WEATHER],
    )
    assert plan_of(value).fixes == []


def test_calls_without_id_and_type_are_completed_in_order():
    bare = [{"function": {"name": "weather", "arguments": {"city": city}}} for city in "ab"]
    answers = [{"role": "tool", "content": city} for city in "ab"]
    (value,) = fixed(row(USER, calling(*bare), *answers, ANSWER, tools=[WEATHER["function"]]))
    calls = value["messages"][1]["tool_calls"]
    assert [one["id"] for one in calls] == ["call_0", "call_1"]
    assert [one["tool_call_id"] for one in value["messages"][2:4]] == ["call_0", "call_1"]
    assert value["tools"] == [WEATHER]
    assert datasets.Dataset.from_rows([value] * 10).check().ok


def test_a_new_id_is_one_that_no_call_has():
    (value,) = fixed(row(USER, calling(call("{}")), USER, calling(call("{}", id=None)), ANSWER))
    spoken = [value["messages"][index]["tool_calls"][0]["id"] for index in (1, 3)]
    assert spoken == ["call_0", "call_1"]


@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [
        ({"city": "Rome"}, {"city": "Rome"}),
        ('"{\\"city\\": \\"Rome\\"}"', {"city": "Rome"}),
        (json.dumps(json.dumps(json.dumps({"city": "Rome"}))), {"city": "Rome"}),
        ("{'city': 'Rome', 'now': True}", {"city": "Rome", "now": True}),
        (None, {}),
        ("", {}),
    ],
)
def test_arguments_become_the_text_of_one_object(arguments, wanted):
    (value,) = fixed(row(USER, calling(call(arguments)), tools=[WEATHER]))
    found = value["messages"][1]["tool_calls"][0]["function"]["arguments"]
    assert isinstance(found, str)
    assert json.loads(found) == wanted


def test_arguments_beyond_repair_leave_the_row_out_in_sight():
    plan = plan_of(row(USER, calling(call(5)), tools=[WEATHER]), row(USER, ANSWER))
    assert ids(plan) == ["drop-invalid-rows"]
    assert "must be a string that holds JSON" in plan.diff()


def test_turns_after_the_last_answer_are_cut_and_rows_without_one_dropped():
    plan = plan_of(row(USER, ANSWER, USER, USER), row(USER, ANSWER), row(USER, ANSWER, USER))
    assert ids(plan) == ["cut-unanswered-turns", "drop-duplicates"]
    assert [one.value for one in plan.apply()] == [row(USER, ANSWER)]
    assert "messages[2]" in plan.diff()
    assert fixed(row(USER, ANSWER), row(USER)) == [row(USER, ANSWER)]


@pytest.mark.parametrize(
    "text",
    [
        json.dumps([USER, ANSWER]),
        json.dumps(json.dumps([USER, ANSWER])),
        repr([USER, ANSWER]),
    ],
)
def test_messages_held_as_text(text):
    assert fixed({"messages": text}) == [row(USER, ANSWER)]


def test_tools_and_calls_held_as_text():
    spoken = {"role": "assistant", "tool_calls": json.dumps([call("{}")])}
    rows = fixed({"messages": [USER, spoken], "tools": json.dumps([json.dumps(WEATHER)])})
    assert rows == [row(USER, calling(call("{}")), tools=[WEATHER])]


def test_a_preference_row_is_mended_in_input_and_outputs():
    value = {
        "input": {"messages": json.dumps([{"role": "human", "content": "q"}])},
        "preferred_output": [{"role": "gpt", "content": "a", "name": None}],
        "non_preferred_output": [{"from": "gpt", "value": "b"}],
    }
    assert fixed(value) == [
        {
            "input": {"messages": [{"role": "user", "content": "q"}]},
            "preferred_output": [{"role": "assistant", "content": "a"}],
            "non_preferred_output": [{"role": "assistant", "content": "b"}],
        }
    ]


def test_valid_rows_need_nothing():
    rows = [
        row(USER, ANSWER),
        row(USER, calling(call('{"city":"Rome"}'), content=None), tools=[WEATHER]),
        row({"role": "user", "content": [{"type": "text", "text": "hi"}]}, {**ANSWER, "weight": 0}),
        row(USER, {**ANSWER, "name": "bot"}, parallel_tool_calls=False),
    ]
    assert plan_of(*rows).fixes == []


# The properties

ROLES = st.sampled_from(
    ["user", "human", "assistant", "gpt", "tool", "system", "narrator", None, 3]
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text("ab{}[]\"'", max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text("ab"), inner, max_size=2),
    max_leaves=4,
)
CALLS = st.fixed_dictionaries(
    {},
    optional={
        "id": st.sampled_from(["call_0", "call_1", None, ""]),
        "type": st.sampled_from(["function", None]),
        "function": st.fixed_dictionaries({"name": st.just("weather"), "arguments": JSON}) | JSON,
        "name": st.just("weather"),
        "arguments": JSON,
    },
)
MESSAGES = st.fixed_dictionaries(
    {},
    optional={
        "role": ROLES,
        "content": st.text("ab ", max_size=3) | JSON,
        "from": ROLES,
        "value": JSON,
        "name": JSON,
        "tool_calls": st.lists(CALLS, max_size=2) | JSON,
        "function_call": JSON | st.fixed_dictionaries({"name": st.just("w"), "arguments": JSON}),
        "tool_call_id": st.sampled_from(["call_0", None, ""]),
    },
)
HELD = st.lists(MESSAGES | JSON, max_size=4)
ROWS = st.fixed_dictionaries(
    {"messages": HELD | HELD.map(json.dumps) | JSON},
    optional={"tools": st.lists(JSON, max_size=2) | JSON, "functions": st.lists(JSON) | JSON},
)


@given(st.lists(ROWS, min_size=1, max_size=3))
def test_any_row_comes_out_valid_or_is_named_and_a_second_plan_changes_nothing(rows):
    dataset = datasets.Dataset.from_rows(rows)
    plan = dataset.plan()
    dropped = sum(
        fix.count for fix in plan.fixes if fix.id.startswith("drop-") and "null" not in fix.id
    )
    out = [one.value for one in plan.apply()]
    assert len(rows) == len(out) + dropped
    if out:
        again = datasets.Dataset.from_rows(out)
        assert [
            finding.id
            for finding in again.check(shape=dataset.shape).errors
            if finding.id != "shape-unsupported"
        ] == []
        if again.shape == dataset.shape:
            assert again.plan().fixes == []


@given(st.lists(ROWS, min_size=1, max_size=3))
def test_a_plan_that_is_declined_changes_nothing(rows):
    plan = datasets.Dataset.from_rows(rows).plan()
    while fixes := [fix.id for fix in plan.fixes if fix.enabled]:
        plan.disable(*fixes)  # the rows that it leaves may need another one
    assert [one.value for one in plan.apply()] == rows
