"""Calls and tools: arguments are an object that fits the tool, and tools count as tokens."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tunesmith.datasets import PROFILES, Dataset, check_file, read, tokens
from tunesmith.datasets.destinations import TokenLimit
from tunesmith.datasets.row_formats.tool_arguments import first_misfit

CASES = Path(__file__).parent / "cases"
WEATHER = {
    "type": "object",
    "properties": {
        "city": {"type": "string"},
        "days": {"type": "integer"},
        "unit": {"enum": ["C", "F"]},
        "tags": {"type": "array", "items": {"type": "string"}},
        "place": {"$ref": "#/$defs/place"},
        "when": {"anyOf": [{"type": "string"}, {"type": "null"}]},
    },
    "required": ["city"],
    "additionalProperties": False,
    "$defs": {"place": {"type": "object", "required": ["lat"]}},
}


def row(arguments, schema=WEATHER, **message):
    function = {"name": "weather", "description": "Weather of a city", "parameters": schema}
    call = {"name": "weather", "arguments": arguments}
    return {
        "messages": [
            {"role": "user", "content": "the weather?"},
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [{"id": "c1", "type": "function", "function": call}],
                **message,
            },
        ],
        "tools": [{"type": "function", "function": function}],
    }


def findings(*rows, **options):
    report = Dataset.from_rows(rows).check(**options)
    return {finding.id: finding for finding in report.findings if finding.id != "row-count"}


def test_arguments_that_fit_are_no_finding():
    assert findings(row('{"city": "Oslo", "days": 2.0, "unit": "C", "when": null}')) == {}


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ('"{\\"city\\": \\"Oslo\\"}"', "not a string: it was encoded twice"),
        ('"Oslo"', "not a string"),
        ('["Oslo"]', "not an array"),
        ("null", "not null"),
        ("7", "not a number"),
    ],
)
def test_arguments_are_a_json_object(arguments, reason):
    found = findings(row(arguments))["tool-arguments-object"]
    assert found.severity == "error"
    assert found.message.endswith(reason)
    assert found.examples[0].path == "$.messages[1].tool_calls[0].function.arguments"


def test_case_arguments_encoded_twice_are_an_error():
    report = check_file(CASES / "chat-arguments-twice-encoded.jsonl")
    (found,) = report.errors
    assert found.id == "tool-arguments-object"
    assert "encoded twice" in found.message


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ("{}", "$ has no 'city', which is required"),
        ('{"city": 7}', "$.city must be a string, not a number"),
        ('{"city": "Oslo", "days": 1.5}', "$.days must be an integer, not a number"),
        ('{"city": "Oslo", "days": true}', "$.days must be an integer, not a boolean"),
        ('{"city": "Oslo", "unit": "K"}', "$.unit must be one of 'C', 'F'"),
        ('{"city": "Oslo", "tags": ["a", 1]}', "$.tags[1] must be a string, not a number"),
        ('{"city": "Oslo", "place": {}}', "$.place has no 'lat', which is required"),
        ('{"city": "Oslo", "when": 1}', "$.when must be a string, not a number"),
        ('{"city": "Oslo", "hour": 1}', "$ has 'hour', which the schema does not know"),
    ],
)
def test_arguments_fit_the_schema_of_their_tool(arguments, reason):
    found = findings(row(arguments))["tool-arguments-schema"]
    assert found.severity == "warning"
    assert found.message.endswith(f"the arguments of 'weather' do not fit its schema: {reason}")


@pytest.mark.parametrize(
    "schema",
    [
        {},
        {"type": ["object", "null"]},
        {"$ref": "#"},
        {"$ref": "#/nowhere"},
        {"$ref": "https://example.com/schema"},
        {"required": 7, "properties": [], "enum": {}},
        {"anyOf": [{"$ref": "#"}, {"$ref": "#"}]},
        {"properties": {"city": {"pattern": "(a+)+$"}}},
    ],
)
def test_a_schema_that_says_nothing_forbids_nothing_and_ends(schema):
    assert findings(row('{"city": "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa!"}', schema)) == {}


NAMES = st.sampled_from("ab")
SCHEMAS = st.recursive(
    st.sampled_from(
        [
            {},
            {"type": "string"},
            {"type": "integer"},
            {"type": ["number", "null"]},
            {"type": "boolean"},
            {"enum": [1, "a", None, True]},
            {"const": 1},
        ]
    ),
    lambda inner: st.one_of(
        st.fixed_dictionaries(
            {
                "type": st.just("object"),
                "properties": st.dictionaries(st.sampled_from("ab"), inner),
            },
            optional={
                "required": st.lists(NAMES, max_size=2, unique=True),
                "additionalProperties": st.one_of(st.booleans(), inner),
            },
        ),
        st.fixed_dictionaries({"type": st.just("array"), "items": inner}),
        st.fixed_dictionaries({"anyOf": st.lists(inner, min_size=1, max_size=2)}),
        st.fixed_dictionaries({"allOf": st.lists(inner, min_size=1, max_size=2)}),
    ),
    max_leaves=6,
)
VALUES = st.recursive(
    st.sampled_from([None, True, False, 0, 1, 1.0, 1.5, "a", "b"]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from("abc"), inner),
    max_leaves=5,
)


@settings(max_examples=300, deadline=None)
@given(SCHEMAS, VALUES)
def test_the_check_agrees_with_a_full_json_schema_library(schema, value):
    jsonschema = pytest.importorskip("jsonschema")
    fits = jsonschema.Draft202012Validator(schema).is_valid(value)
    assert (first_misfit(value, schema) == "") == fits


def test_tools_count_as_tokens_and_in_the_limit(tmp_path):
    described = {**WEATHER, "description": "where and when. " * 600}
    path = tmp_path / "train.jsonl"
    rows = [row('{"city": "Oslo"}'), row('{"city": "Oslo"}', described)]
    path.write_text("".join(json.dumps(each) + "\n" for each in rows))
    report = check_file(path, count_tokens=True)
    expected = sum(
        tokens.estimate_message_tokens(each["messages"], "cl100k_base", tools=each["tools"])
        for each in rows
    )
    held = tokens.count(json.dumps(rows[1]["tools"][0]), "cl100k_base")
    assert report.tokens == expected
    assert report.longest_row > held > 2_048
    for options in ({}, {"count_tokens": True}):
        (found,) = (f for f in check_file(path, **options).findings if f.id == "token-limit")
        assert [location.line for location in found.examples] == [2]


def test_a_line_without_spaces_is_counted_with_them(tmp_path):
    """A line of fewer bytes than the limit may hold more tokens than that with spaces in it."""
    numbers = {"enum": [[n] for n in range(100)] * 3}
    value = row('{"city": "Oslo"}', numbers)
    path = tmp_path / "train.jsonl"
    path.write_text(json.dumps(value, separators=(",", ":")) + "\n")
    exact = tokens.estimate_message_tokens(value["messages"], "cl100k_base", tools=value["tools"])
    assert check_file(path, count_tokens=True).longest_row == exact
    profile = replace(PROFILES["engine"], limits={"chat": TokenLimit(exact - 1, "cl100k_base")})
    assert "token-limit" in {finding.id for finding in check_file(path, profile).findings}


def test_tools_of_a_preference_row_and_functions_count_too():
    chat = row('{"city": "Oslo"}')
    answer = [{"role": "assistant", "content": "fine"}]
    other = [{"role": "assistant", "content": "bad"}]
    preference = {
        "input": {"messages": chat["messages"][:1], "tools": chat["tools"]},
        "preferred_output": answer,
        "non_preferred_output": other,
    }
    old = {
        "messages": [chat["messages"][0], *answer],
        "functions": [chat["tools"][0]["function"]],
    }
    for value in (preference, old):
        report = Dataset.from_rows([value]).check(count_tokens=True)
        assert report.tokens > tokens.count(json.dumps(WEATHER), "gpt-4")


def test_null_fields_of_structs_in_parquet_are_absent_keys(tmp_path):
    arrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    plain = {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}
    rows = [plain, row('{"city": "Oslo"}', {"type": "object"})]
    table = arrow.Table.from_pylist(rows)
    assert "tool_calls" in table.to_pylist()[0]["messages"][0]
    path = tmp_path / "train.parquet"
    parquet.write_table(table, path)
    for source in (path, table):
        dataset = read(source)
        assert dataset.check().errors == []
        assert next(iter(dataset)).value == plain
        assert "content" not in list(dataset)[1].value["messages"][1]


def test_null_columns_of_flat_rows_stay():
    arrow = pytest.importorskip("pyarrow")
    table = arrow.Table.from_pylist([{"prompt": "a", "completion": None}])
    assert next(iter(read(table))).value == {"prompt": "a", "completion": None}


def test_report_a_published_example_calls_its_function_with_a_value_outside_the_enumeration():
    # openai-cookbook#812 and azure-docs#120001: both show "celcius" beside "celsius" in the enum.
    call = {
        "name": "get_current_weather",
        "arguments": '{"location": "San Francisco, USA", "format": "celcius"}',
    }
    schema = {
        "type": "object",
        "properties": {
            "location": {"type": "string"},
            "format": {"type": "string", "enum": ["celsius", "fahrenheit"]},
        },
        "required": ["location", "format"],
    }
    value = {
        "messages": [
            {"role": "user", "content": "What is the weather in San Francisco?"},
            {"role": "assistant", "function_call": call},
        ],
        "functions": [{"name": "get_current_weather", "parameters": schema}],
    }
    found = findings(value)
    assert list(found) == ["tool-arguments-schema"]
    assert found["tool-arguments-schema"].message.endswith(
        "$.format must be one of 'celsius', 'fahrenheit'"
    )
    value["functions"] = [{"name": "other"}]
    assert "tool-undeclared" in findings(value)


def test_report_a_tool_without_its_type_is_named():
    # openai-cookbook#1248
    value = row('{"city": "Oslo"}')
    del value["tools"][0]["type"]
    assert findings(value)["tool-type"].examples[0].path == "$.tools[0].type"


def test_report_tools_of_different_shape_survive_arrow():
    # ms-swift#10125: the fields of other tools come back as null and reach the template.
    arrow = pytest.importorskip("pyarrow")
    other = {"type": "object", "properties": {"day": {"type": "string"}}}
    rows = [
        row('{"city": "Oslo"}', {"type": "object", "properties": {"city": {"type": "string"}}}),
        row('{"day": "Monday"}', other),
    ]
    table = arrow.Table.from_pylist(rows)
    read_back = [each.value for each in read(table)]
    assert read_back[1]["tools"] == rows[1]["tools"]
    assert findings(*read_back) == {}
