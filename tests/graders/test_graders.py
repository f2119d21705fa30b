"""Graders outside HTTP: definitions, templates, formulas, and the score of each kind."""

from __future__ import annotations

import contextlib
import json
import math
import pickle
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunesmith.graders import (
    Failure,
    GraderError,
    Grading,
    JudgeAnswer,
    PythonValue,
    grade,
    parse_grader,
    sample_of,
)
from tunesmith.graders.formula import Formula, FormulaError
from tunesmith.graders.templates import MissingVariableError, Template, TemplateError


def string_check(**fields: Any) -> dict[str, Any]:
    return {
        "type": "string_check",
        "name": "s",
        "input": "{{ sample.output_text }}",
        "reference": "{{ item.answer }}",
        "operation": "eq",
    } | fields


def score_model(**fields: Any) -> dict[str, Any]:
    message = {"role": "user", "content": "Score {{ sample.output_text }}"}
    return {"type": "score_model", "name": "m", "model": "judge", "input": [message]} | fields


def label_model(**fields: Any) -> dict[str, Any]:
    return score_model(type="label_model", labels=["good", "bad"], passing_labels=["good"]) | fields


@pytest.mark.parametrize(
    ("operation", "text", "reference", "score"),
    [
        ("eq", "Paris", "Paris", 1),
        ("eq", "paris", "Paris", 0),
        ("ne", "paris", "Paris", 1),
        ("ne", "Paris", "Paris", 0),
        ("neq", "paris", "Paris", 1),
        ("like", "in Paris, France", "Paris", 1),
        ("like", "Paris", "in Paris", 0),
        ("like", "in paris", "Paris", 0),
        ("ilike", "in PARIS", "paris", 1),
        ("ilike", "STRASSE", "straße", 1),
        ("ilike", "in Rome", "paris", 0),
    ],
)
def test_string_check(operation, text, reference, score):
    result = grade(string_check(operation=operation), text, {"answer": reference})
    assert (result.reward, result.passed, bool(result.errors)) == (score, score == 1, False)


CHOICE = {
    "role": "assistant",
    "content": None,
    "tool_calls": [
        {"id": "1", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}
    ],
}


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("{{ sample.output_text }}", '{"x": [1, "zwei"], "b": true}'),
        ("{{sample.output_json.x[1]}} and {{ item.n }}", "zwei and 1.5"),
        ("{{ sample.output_json.b }}{{ item.none }}", "truenull"),
        ("{{ item['a key'].z }}", "ü"),
        ('{{ item["a key"] }}', '{"z": "ü"}'),
        ("{{ item.list[0].q }}{{ item.list.0.q }}", "ww"),
        ("{{ item.evil }}", "{{ sample.output_text }}"),
        ("no braces } { {}", "no braces } { {}"),
        ('{"a": {"b": 1}}', '{"a": {"b": 1}}'),
        ("{{ sample.choices[0].message.role }}", "assistant"),
    ],
)
def test_templates_insert_what_their_paths_find(template, expected):
    sample = sample_of('{"x": [1, "zwei"], "b": true}')
    item = {
        "n": 1.5, "none": None, "a key": {"z": "ü"}, "list": [{"q": "w"}],
        "evil": "{{ sample.output_text }}",
    }  # fmt: skip
    assert Template.parse(template).render(sample, item) == expected


def test_templates_reach_tool_calls():
    sample = sample_of({"choices": [{"index": 0, "message": CHOICE}]})
    text = (
        "{{ sample.output_tools[0].function.name }} {{sample.output_tools[0].function.arguments}}"
    )
    assert Template.parse(text).render(sample, {}) == 'f {"a": 1}'
    assert sample_of(CHOICE)["output_tools"] == CHOICE["tool_calls"]


@pytest.mark.parametrize(
    "template",
    [
        "{{ }}", "{{ item }}", "{{ sample }}", "{{ other.x }}", "{{ sample.nothing }}",
        "{{ item.a b }}", "{{ item.__class__() }}", "{{ item.x | upper }}", "{{ 7 * 7 }}",
        "{{ item[x] }}", "{{ item..a }}", "{{ itemx.a }}", '{{"a": 1}}',
    ],
)  # fmt: skip
def test_what_is_no_path_is_refused(template):
    with pytest.raises(TemplateError):
        Template.parse(template)
    with pytest.raises(GraderError) as caught:
        parse_grader(string_check(reference=template))
    assert caught.value.param == "grader.reference"


@pytest.mark.parametrize(
    "path", ["item.a", "item.l[1]", "item.t.x", "item.l.x", "sample.output_audio.data"]
)
def test_paths_that_lead_nowhere_are_reported(path):
    with pytest.raises(MissingVariableError):
        Template.parse(f"{{{{ {path} }}}}").render(sample_of("x"), {"l": [1], "t": "text"})
    result = grade(string_check(input=f"{{{{ {path} }}}}", reference=""), "x", {"l": [1], "t": "t"})
    assert result.errors.invalid_variable_error
    assert (result.reward, result.passed) == (0, None)
    assert path in (result.explanation or "")


def test_a_sample_that_is_no_json_is_a_sample_parse_error():
    result = grade(string_check(input="{{ sample.output_json.a }}", reference="1"), "no json")
    assert result.errors.sample_parse_error
    assert not result.errors.invalid_variable_error


@given(st.text(alphabet="{} .aitemsple[]0'\"", max_size=60))
def test_templates_never_fail_otherwise(text):
    with contextlib.suppress(TemplateError, MissingVariableError):
        Template.parse(text).render(sample_of("x"), {"a": 1})


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1 + 2 * 3", 7), ("(1 + 2) * 3", 9), ("2 ^ 3 ^ 2", 512), ("-2 ^ 2", -4), ("2 ^ -1", 0.5),
        ("10 - 2 - 3", 5), ("8 / 4 / 2", 1), ("- - 3", 3), (".5 * a", 0.25), ("1e2", 100),
        ("min(a, b, 2)", 0.5), ("max(a, b)", 1), ("max(a)", 0.5), ("abs(a - b)", 0.5),
        ("floor(1.7) + ceil(1.2)", 3), ("exp(0) + sqrt(4) + log(1)", 3), ("a_b + a", 3.5),
        ("0.5 * a + 0.5 * b", 0.75),
    ],
)  # fmt: skip
def test_formulas(text, value):
    formula = Formula.parse(text)
    formula.check_names({"a", "b", "a_b"})
    assert math.isclose(formula.value({"a": 0.5, "b": 1.0, "a_b": 3.0}), value)


@pytest.mark.parametrize(
    "text",
    [
        "", "1 +", "(1", "1)", "a b", "f(1)", "__import__('os')", "a.b", "a[0]", "min()", "abs(1, 2)",
        "1 if a else 2", "a == b", "lambda: 1", "'a'", "a; b", "unknown", "()", "1 ** 2", "a // b",
        "(" * 200 + "1" + ")" * 200, "1+" * 3000 + "1",
    ],
)  # fmt: skip
def test_what_is_no_formula_is_refused(text):
    with pytest.raises(FormulaError):
        Formula.parse(text).check_names({"a", "b"})


@pytest.mark.parametrize(
    "text",
    [
        "1 / a",
        "log(a)",
        "sqrt(0 - 1)",
        "10 ^ 10 ^ 10",
        "exp(1000)",
        "1e308 * 10",
        "a ^ -1",
        "floor(1e308 * 10)",
    ],
)
def test_formulas_without_a_value(text):
    with pytest.raises(FormulaError):
        Formula.parse(text).value({"a": 0.0})


@given(st.text(alphabet="ab+-*/^(), minexp.0123", max_size=40))
def test_formulas_never_fail_otherwise(text):
    try:
        formula = Formula.parse(text)
        formula.check_names({"a", "b"})
        assert math.isfinite(formula.value({"a": 0.5, "b": 0.0}))
    except FormulaError:
        pass


def test_long_flat_formulas_are_computed():
    assert Formula.parse("+".join(["1"] * 2000)).value({}) == 2000


def test_the_published_multi_grader():
    part = {"type": "string_check", "operation": "eq"}
    grader = {
        "type": "multi",
        "graders": {
            "function_name": part | {
                "name": "function_name",
                "input": "get_acceptors",
                "reference": "{{sample.output_tools[0].function.name}}",
            },
            "arguments": part | {
                "name": "arguments",
                "input": '{"smiles": "{{item.smiles}}"}',
                "reference": "{{sample.output_tools[0].function.arguments}}",
            },
        },
        "calculate_output": "0.5 * function_name + 0.5 * arguments",
    }  # fmt: skip
    for name, arguments, reward in (
        ("get_acceptors", '{"smiles": "C"}', 1),
        ("get_acceptors", '{"smiles": "D"}', 0.5),
        ("other", '{"smiles": "D"}', 0),
    ):
        call = {"function": {"name": name, "arguments": arguments}}
        message = {"role": "assistant", "content": None, "tool_calls": [call]}
        result = grade(grader, message, {"smiles": "C"})
        assert result.reward == reward
    assert result.sub_rewards == {"function_name": 0, "arguments": 0}
    assert grade(grader, "no tools", {"smiles": "C"}).errors.invalid_variable_error


def test_a_multi_grader_takes_a_list_and_a_single_grader():
    for graders in ([string_check(name="s")], string_check(name="s"), {"s": string_check()}):
        grader = {"type": "multi", "name": "all", "graders": graders, "calculate_output": "2 * s"}
        assert grade(grader, "a", {"answer": "a"}).reward == 2


def test_a_formula_without_a_value_is_reported():
    grader = {
        "type": "multi", "graders": {"s": string_check()}, "calculate_output": "1 / s",
    }  # fmt: skip
    result = grade(grader, "a", {"answer": "b"})
    assert result.errors.formula_parse_error
    assert result.reward == 0
    assert "division" in (result.explanation or "")


@pytest.mark.parametrize(
    ("definition", "param", "words"),
    [
        (None, "grader", ""),
        ({}, "grader.type", "string_check"),
        ({"type": "embedding"}, "grader.type", "one of"),
        (string_check(operation="is"), "grader.operation", "eq"),
        (string_check(extra=1), "grader.extra", "no field"),
        ({"type": "string_check", "name": "s"}, "grader.input", "missing"),
        (string_check(input=1), "grader.input", "string"),
        (score_model(range=[1, 0]), "grader.range", "least"),
        (score_model(range=[0]), "grader.range", "2"),
        (score_model(input=[]), "grader.input", "1"),
        (score_model(input=[{"role": "tool", "content": "a"}]), "grader.input[0].role", "user"),
        (
            score_model(input=[{"role": "user", "content": [{"type": "input_image"}]}]),
            "grader.input[0].content",
            "text",
        ),
        (score_model(sampling_params={"temperature": 3}), "grader.sampling_params.temperature", "2"),
        (label_model(passing_labels=["fine"]), "grader.passing_labels", "fine"),
        (label_model(labels=["good", "good"]), "grader.labels", "twice"),
        ({"type": "python", "source": "x" * 300_000}, "grader.source", "bytes"),
        ({"type": "multi", "graders": {}, "calculate_output": "1"}, "grader.graders", "1"),
        (
            {"type": "multi", "graders": {"a": string_check()}, "calculate_output": "b"},
            "grader.calculate_output",
            "'b' is no grader",
        ),
        (
            {"type": "multi", "graders": {"a": {"type": "multi"}}, "calculate_output": "a"},
            "grader.graders.a.type",
            "inside a multi",
        ),
        (
            {"type": "multi", "graders": {"a": string_check(operation="x")}, "calculate_output": "a"},
            "grader.graders.a.operation",
            "eq",
        ),
        (
            {"type": "multi", "graders": [{"type": "string_check"}], "calculate_output": "a"},
            "grader.graders",
            "name",
        ),
    ],
)  # fmt: skip
def test_what_cannot_run_is_refused_with_its_place(definition, param, words):
    with pytest.raises(GraderError) as caught:
        parse_grader(definition)
    assert caught.value.param == param
    assert words in str(caught.value)
    again = pickle.loads(pickle.dumps(caught.value))
    assert (str(again), again.param) == (str(caught.value), param)


@pytest.mark.parametrize(
    ("answer", "reward", "flag"),
    [
        ('{"result": 7.5}', 7.5, None),
        ('{"result": 11}', 10, None),
        ('{"result": -3}', 2, None),
        ("4", 4, None),
        ('{"result": "4"}', 0, "model_grader_parse_error"),
        ('{"result": true}', 0, "model_grader_parse_error"),
        ('{"result": NaN}', 0, "model_grader_parse_error"),
        ("four", 0, "model_grader_parse_error"),
        ('{"result": 1', 0, "model_grader_parse_error"),
    ],
)
def test_a_judges_score_is_kept_within_its_range(answer, reward, flag):
    usage = {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7}
    grader = score_model(range=[2, 10], pass_threshold=4)
    result = grade(grader, "x", judge=lambda _: JudgeAnswer(answer, usage))
    assert result.reward == reward
    assert result.passed == (None if flag else reward >= 4)
    assert flag is None or getattr(result.errors, flag)
    wire = result.to_wire(0.5)
    assert wire["metadata"]["token_usage"] == 7
    assert wire["metadata"]["sampled_model_name"] == "judge"
    assert wire["model_grader_token_usage_per_model"] == {"judge": usage}


def test_a_judge_is_asked_what_the_grader_says():
    sampling = {"temperature": 0, "top_p": 0.5, "seed": 3, "max_completions_tokens": 9}
    parts = [
        {"type": "input_text", "text": "Is {{ item.a }}"},
        {"type": "output_text", "text": "?"},
    ]
    grader = score_model(
        input=[
            {"role": "developer", "content": "Be fair.", "type": "message"},
            {"role": "user", "content": parts},
            {"role": "user", "content": parts[0]},
        ],
        sampling_params=sampling,
        range=[1, 5],
    )
    (request,) = Grading(
        parse_grader(grader), sample_of("x"), {"a": "it {{ item.b }}"}
    ).tasks.values()
    assert request.messages == [
        {"role": "developer", "content": "Be fair."},
        {"role": "user", "content": "Is it {{ item.b }}?"},
        {"role": "user", "content": "Is it {{ item.b }}"},
    ]
    assert request.sampling == sampling
    number = request.schema["properties"]["result"]
    assert number == {"type": "number", "minimum": 1, "maximum": 5}


@pytest.mark.parametrize(
    ("outcome", "flag"),
    [
        (JudgeAnswer("No.", is_refusal=True), "model_grader_refusal_error"),
        (Failure("gone"), "model_grader_server_error"),
        (JudgeAnswer('{"result": "fine"}'), "model_grader_parse_error"),
    ],
)
def test_judges_that_do_not_answer(outcome, flag):
    result = grade(label_model(), "x", judge=lambda _: outcome)
    assert getattr(result.errors, flag)
    assert (result.reward, result.passed) == (0, None)


@pytest.mark.parametrize(("label", "reward"), [("good", 1), ("bad", 0)])
def test_labels(label, reward):
    answer = JudgeAnswer(json.dumps({"result": label}))
    result = grade(label_model(), "x", judge=lambda _: answer)
    assert (result.reward, result.passed) == (reward, reward == 1)


def test_python_outcomes():
    grader = {"type": "python", "source": "def grade(sample, item): return 1"}
    assert grade(grader, "x", run_python=lambda _: PythonValue(0.25)).reward == 0.25
    failed = grade(grader, "x", run_python=lambda _: Failure("ZeroDivisionError", "runtime"))
    assert failed.errors.python_grader_runtime_error
    assert failed.errors.python_grader_runtime_error_details == "ZeroDivisionError"
    assert grade(
        grader, "x", run_python=lambda _: Failure("gone")
    ).errors.python_grader_server_error


@pytest.mark.parametrize(
    "grader", [score_model(), {"type": "python", "source": "def grade(s, i): 1"}]
)
def test_graders_without_what_they_need_are_refused(grader):
    with pytest.raises(GraderError, match="pass "):
        grade(grader, "x")
