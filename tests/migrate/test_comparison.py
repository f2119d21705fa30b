"""Two recordings compared: measures, intervals, tests, cases, requirements, reports."""

import json
import re

import pytest

from recorded import chat, question, recording
from tunesmith import migrate
from tunesmith.graders import GraderError
from tunesmith.migrate import (
    RecordingError,
    check_requirement,
    compare,
    comparison_report,
    parse_requirement,
)
from tunesmith.migrate.measures import field_agreement
from tunesmith.migrate.requirements import RequirementError
from tunesmith.migrate.statistics import holm, mcnemar, wilson

HOSTILE = "</pre><script>alert(1)</script><img src=//evil.example/x onerror=alert(2)>\x1b[31m\u202e"


def sentiment(count=40, *, wrong=(), failed=()):
    """An old model that is right, a new one that is wrong at some places, and repeats of a half."""
    prompts = [
        question(f"text {n}", reference=["positive", "negative"][n % 2]) for n in range(count)
    ]
    old = [(prompt, chat(prompt.reference)) for prompt in prompts]
    new = [
        (
            prompt,
            "rate limited" if n in failed else chat("neutral" if n in wrong else prompt.reference),
        )
        for n, prompt in enumerate(prompts)
    ]
    return recording("old", old, old[: count // 2]), recording("new", new)


def test_the_same_answers_agree_and_the_interval_says_how_sure_that_is():
    comparison = compare(*sentiment())
    agreement = comparison.measure("agreement")
    assert agreement.value == wilson(40, 40)
    assert agreement.old == wilson(20, 20)
    assert agreement.difference.low == agreement.difference.high == 0
    assert agreement.p == 1
    assert comparison.cases[0].badness == 0


def test_a_worse_model_is_shown_by_paired_statistics_and_worst_cases_first():
    comparison = compare(*sentiment(wrong={3, 4, 5, 6, 7, 8, 9}))
    quality = comparison.measure("reference_match")
    assert quality.value == wilson(33, 40)
    assert quality.old == wilson(40, 40)
    assert quality.mcnemar == mcnemar(7, 0)
    assert quality.p == mcnemar(7, 0).p
    assert quality.difference.estimate == pytest.approx(-7 / 40)
    assert quality.difference.high < 0
    tested = [one for one in comparison.measures if one.p is not None]
    assert [one.p_corrected for one in tested] == holm([one.p for one in tested])
    assert {case.new.text for case in comparison.cases[:7]} == {"neutral"}
    assert all(case.badness == 0 for case in comparison.cases[7:])


def test_classes_are_recognised_and_their_table_counts_every_pair():
    comparison = compare(*sentiment(wrong={1, 3}))
    confusion = comparison.confusion
    assert confusion.classes == ("positive", "negative", "(other)")
    assert confusion.counts == ((20, 0, 0), (0, 18, 2), (0, 0, 0))
    assert confusion.agreement[1] == wilson(18, 20)
    assert confusion.agreement[2] is None
    assert confusion.kappa == pytest.approx((0.95 - 0.475) / (1 - 0.475))
    assert comparison.measure("class_agreement").value == wilson(38, 40)


def test_texts_that_never_repeat_are_no_classes():
    prompts = [question(str(n)) for n in range(30)]
    old = recording(
        "old", [(prompt, chat(f"Dear customer {n}")) for n, prompt in enumerate(prompts)]
    )
    assert compare(old, old).confusion is None
    named = compare(old, old, classes=["dear customer 1"])
    assert named.confusion.counts[0][0] == 1


def test_an_answer_that_failed_agrees_with_nothing_and_an_old_one_that_failed_is_left_out():
    old, new = sentiment(failed={0, 1})
    comparison = compare(old, new)
    assert comparison.measure("agreement").value == wilson(38, 40)
    assert comparison.measure("answered").value == wilson(38, 40)
    comparison = compare(new, old)
    assert (comparison.prompts, comparison.old_failed) == (38, 2)
    assert any("2 prompts have no answer of the old model" in one for one in comparison.warnings)


def test_prompts_that_the_new_model_was_not_asked_are_named():
    old, new = sentiment()
    for identity in list(new.prompts)[:5]:
        del new.answers[identity, 0]
    comparison = compare(old, new)
    assert (comparison.prompts, comparison.not_asked) == (35, 5)
    assert any("5 prompts were not asked" in one for one in comparison.warnings)


def test_recordings_without_a_common_prompt_are_an_error():
    one = recording("old", [(question("a"), chat("x"))])
    other = recording("new", [(question("b"), chat("x"))])
    with pytest.raises(RecordingError, match="No prompt has an answer both of old and of new"):
        compare(one, other)


SCHEMA = {
    "type": "json_schema",
    "json_schema": {
        "name": "person",
        "schema": {
            "type": "object",
            "properties": {"name": {"type": "string"}, "age": {"type": "integer"}},
            "required": ["name", "age"],
        },
    },
}


def test_json_is_compared_by_fields_and_against_its_schema():
    answers = [
        ('{"name": "Ann", "age": 3}', '{"age":3,"name":"Ann"}'),  # the same, in another order
        ('{"name": "Ann", "age": 3}', '{"name": "Ann", "age": 4}'),  # half of the fields
        ('{"name": "Ann", "age": 3}', '{"name": "Ann", "age": "3"}'),  # against the schema
        ('{"name": "Ann", "age": 3}', "Ann is three."),  # no JSON
    ]
    prompts = [question(str(n), response_format=SCHEMA) for n in range(4)]
    old = recording("old", [(p, chat(one)) for p, (one, _) in zip(prompts, answers, strict=True)])
    new = recording("new", [(p, chat(one)) for p, (_, one) in zip(prompts, answers, strict=True)])
    comparison = compare(old, new)
    assert comparison.measure("agreement").value.estimate == 0.25
    assert comparison.measure("json_fields").value.estimate == pytest.approx(
        (1 + 0.5 + 0.5 + 0) / 4
    )
    assert comparison.measure("json_valid").value.estimate == 0.75
    assert comparison.measure("schema_valid").value.estimate == 0.5
    assert comparison.measure("schema_valid").old.estimate == 1


@pytest.mark.parametrize(
    ("one", "other", "share"),
    [
        ({"a": 1}, {"a": 1.0}, 1),
        ({"a": True}, {"a": 1}, 0),
        ({"a": [1, 2, 3]}, {"a": [1, 2]}, 2 / 3),
        ({"a.b": 1}, {"a": {"b": 1}}, 0),
        ({}, {}, 1),
        ([], {}, 0),
        ({"a": None}, {}, 0),
        ({"a": {"b": [{"c": 1}, {"c": 2}]}}, {"a": {"b": [{"c": 1}, {"c": 3}]}}, 0.5),
    ],
)
def test_field_agreement(one, other, share):
    assert field_agreement(one, other) == pytest.approx(share)


def test_field_agreement_of_values_nested_as_deep_as_can_be():
    deep = json.loads("[" * 900 + "1" + "]" * 900)
    assert field_agreement(deep, deep) == 1


def test_a_schema_that_refers_elsewhere_fetches_nothing():
    schema = {"type": "json_schema", "json_schema": {"schema": {"$ref": "http://127.0.0.1:9/x"}}}
    old = recording("old", [(question("a", response_format=schema), chat("{}"))])
    assert compare(old, old).measure("schema_valid") is None


TOOLS = [
    {"type": "function", "function": {"name": "weather", "parameters": {
        "type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}}},
    {"type": "function", "function": {"name": "time", "parameters": {"type": "object"}}},
]  # fmt: skip


def test_calls_are_compared_by_function_and_by_arguments():
    prompts = [question(str(n), tools=TOOLS) for n in range(5)]
    old = [
        chat(calls=[("weather", {"city": "Rome", "day": 1})]),
        chat(calls=[("weather", {"city": "Rome"}), ("time", {})]),
        chat(calls=[("weather", {"city": "Rome"})]),
        chat(calls=[("weather", {"city": "Rome"})]),
        chat("No call."),
    ]
    new = [
        chat(calls=[("weather", {"day": 1, "city": "Rome"})]),  # the same
        chat(calls=[("time", {}), ("weather", {"city": "Rome"})]),  # parallel calls, no order
        chat(calls=[("weather", {"town": "Rome"})]),  # other arguments, against the schema
        chat("It is sunny."),
        chat("None."),
    ]
    comparison = compare(
        recording("old", list(zip(prompts, old, strict=True))),
        recording("new", list(zip(prompts, new, strict=True))),
    )
    assert comparison.measure("tool_choice").value == wilson(4, 5)
    assert comparison.measure("tool_calls").value == wilson(3, 5)
    assert comparison.measure("arguments_valid").value == wilson(2, 3)
    assert comparison.measure("arguments_valid").paired == 3


def test_log_probabilities_are_compared_over_the_beginning_that_both_share():
    old = chat(
        "good day", logprobs=[("good", -0.1, {"good": -0.1, "bad": -2.4}), (" day", -0.3, {})]
    )
    new = chat(
        "good night",
        logprobs=[("go", -0.2, {"go": -0.2}), ("od", -0.2, {}), (" night", -1.0, {})],
    )
    prompt = question("a")
    comparison = compare(recording("old", [(prompt, old)]), recording("new", [(prompt, new)]))
    shared = comparison.measure("shared_logprob")
    assert shared.old.estimate == pytest.approx(-0.1 / 4)
    assert shared.value.estimate == pytest.approx(-0.4 / 4)
    assert comparison.measure("token_logprob").value.estimate == pytest.approx(-1.4 / 3)


def test_the_first_tokens_probabilities_overlap_by_text():
    one = chat("yes", logprobs=[("yes", -0.2231436, {"yes": -0.2231436, "no": -1.6094379})])
    other = chat("no", logprobs=[(" no", -0.5108256, {" no": -0.5108256, " yes": -0.9162907})])
    prompt = question("a")
    comparison = compare(recording("old", [(prompt, one)]), recording("new", [(prompt, other)]))
    assert comparison.measure("first_token").value.estimate == pytest.approx(0.4 + 0.2)


def test_completions_are_read_like_chats():
    prompt = migrate.Prompt({"prompt": "I love it ->"}, reference=" positive")
    response = {
        "choices": [{"text": " positive", "finish_reason": "stop", "logprobs": {
            "tokens": [" positive"], "token_logprobs": [-0.2],
            "top_logprobs": [{" positive": -0.2}], "text_offset": [0]}}],
        "usage": {"completion_tokens": 1},
    }  # fmt: skip
    comparison = compare(recording("o", [(prompt, response)]), recording("n", [(prompt, response)]))
    assert comparison.measure("reference_match").value.estimate == 1
    assert comparison.measure("token_logprob").value.estimate == -0.2


GRADERS = [
    {"type": "string_check", "name": "right", "input": "{{ sample.output_text }}",
     "reference": "{{ item.reference }}", "operation": "eq"},
    {"type": "text_similarity", "name": "close", "input": "{{ sample.output_text }}",
     "reference": "{{ item.reference }}", "evaluation_metric": "rouge_l"},
    {"type": "multi", "name": "both", "calculate_output": "(a + b) / 2", "graders": {
        "a": {"type": "string_check", "name": "a", "input": "{{ sample.output_text }}",
              "reference": "{{ item.reference }}", "operation": "eq"},
        "b": {"type": "text_similarity", "name": "b", "input": "{{ sample.output_text }}",
              "reference": "{{ item.reference }}", "evaluation_metric": "rouge_1"}}},
]  # fmt: skip


def test_graders_score_both_sides_and_are_compared_in_pairs():
    comparison = compare(*sentiment(wrong={0, 2}), graders=GRADERS)
    right = comparison.measure("right")
    assert (right.value, right.old) == (wilson(38, 40), wilson(40, 40))
    assert right.mcnemar == mcnemar(2, 0)
    assert comparison.measure("both").difference.estimate == pytest.approx(-2 / 40)
    assert not [one for one in comparison.warnings if "grader" in one]


def test_a_grader_without_a_name_or_with_a_fault_is_refused():
    with pytest.raises(RecordingError, match="Grader 1 needs a name"):
        compare(*sentiment(), graders=[{**GRADERS[0], "name": ""}])
    with pytest.raises(GraderError, match="operation"):
        compare(*sentiment(), graders=[{**GRADERS[0], "operation": "~"}])


def test_python_graders_run_only_where_they_are_allowed():
    source = "def grade(sample, item):\n    return len(sample['output_text']) / 10"
    grader = {"type": "python", "name": "length", "source": source}
    with pytest.raises(RecordingError, match="run_python"):
        compare(*sentiment(4), graders=[grader])
    comparison = compare(*sentiment(4), graders=[grader], run_python=True)
    assert comparison.measure("length").value.estimate == pytest.approx(0.8)


@pytest.mark.parametrize(
    ("text", "is_met"),
    [
        ("agreement>=0.80", True),  # the lower bound of 40 of 40 is 0.912
        ("agreement >= 91%", True),
        ("agreement>=0.95", False),  # too few prompts to show it
        ("agreement.difference>=-0.02", True),
        ("reference_match.difference>=0", True),
        ("completion_tokens<=3", True),
        ("completion_tokens<=2.9", False),
    ],
)
def test_a_requirement_is_met_by_the_bound_of_the_interval(text, is_met):
    result = check_requirement(parse_requirement(text), compare(*sentiment()))
    assert result.is_met is is_met
    assert ("not met" in result.reason) is not is_met


def test_a_requirement_that_too_few_prompts_stand_in_the_way_of_says_how_many_it_takes():
    result = check_requirement(parse_requirement("agreement>=0.95"), compare(*sentiment()))
    assert "it would take 73 conversations to show it, and there are 40" in result.reason


@pytest.mark.parametrize("text", ["agreement", "agreement>0.9", "agreement>=high", ">=0.9", ""])
def test_a_requirement_that_cannot_be_read_is_refused(text):
    with pytest.raises(RequirementError, match="is no requirement"):
        parse_requirement(text)


def test_a_requirement_on_what_was_not_measured_is_an_error_not_a_pass():
    old, new = sentiment()
    with pytest.raises(RequirementError, match="was not measured"):
        check_requirement(parse_requirement("helpfulness>=0.9"), compare(old, new))
    for identity in old.prompts:
        old.answers.pop((identity, 1), None)
    with pytest.raises(RequirementError, match="no prompt was recorded twice"):
        check_requirement(parse_requirement("agreement.difference>=-0.02"), compare(old, new))


def test_a_missing_ceiling_is_said():
    old, new = sentiment()
    for identity in old.prompts:
        old.answers.pop((identity, 1), None)
    assert any("ceiling" in one for one in compare(old, new).warnings)


def hostile():
    prompt = question(HOSTILE, reference=HOSTILE)
    old = recording(HOSTILE, [(prompt, chat(HOSTILE))])
    new = recording("new", [(prompt, chat(HOSTILE + "|`*[x](javascript:alert(1))"))])
    return compare(old, new)


def test_the_html_report_stands_alone_and_escapes_hostile_answers():
    page = migrate.to_html(hostile())
    assert "<script" not in page
    assert "<img" not in page
    assert "\x1b" not in page
    assert "\u202e" not in page
    assert not re.search(r"""<[^>]*(src|href|action)\s*=""", page)
    assert "default-src 'none'" in page
    assert not re.search(r"<(link|iframe|object|embed|form|base)\b", page)
    assert "url(" not in page


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ((), "Of 40 answers none differ or are worse."),
        ((3,), "Of 40 answers 1 differs or is worse."),
        (range(20), "Of 40 answers 20 differ or are worse; the worst 5 are here."),
    ],
)
def test_the_report_shows_the_answers_that_differ_and_no_others(wrong, words):
    comparison = compare(*sentiment(wrong=wrong))
    for case in comparison.cases:
        case.values["first_token"] = 0.7  # that of equal answers is never quite the same
    page = migrate.to_html(comparison, cases=5)
    assert words in page
    assert page.count("<details") == min(5, len(wrong))
    assert migrate.to_markdown(comparison, cases=5).count("### ") == min(5, len(wrong))


def test_numbers_are_shown_as_people_read_them():
    shown = [comparison_report._number(one, "") for one in (3.1784, 0.0039, -1e-5, 1692.3, 12.345)]
    assert shown == ["3.178", "0.004", "0", "1692", "12.35"]
    assert comparison_report._number(0.25, "+") == "+0.25"


def test_the_markdown_report_escapes_hostile_answers():
    text = migrate.to_markdown(hostile())
    outside = [line for line in text.splitlines() if not line.startswith("    ")]
    assert "<script" not in re.sub(r"\\.", "", "\n".join(outside))
    assert "\x1b" not in text


def test_the_json_report_has_every_number_and_every_case():
    comparison = compare(*sentiment(wrong={3}))
    result = check_requirement(parse_requirement("agreement>=0.5"), comparison)
    data = json.loads(migrate.to_json(comparison, [result]))
    assert data["requirements"][0]["met"] is True
    assert len(data["cases"]) == 40
    assert data["cases"][0]["new"] == "neutral"
    measures = {one["name"]: one for one in data["measures"]}
    assert measures["agreement"]["new"]["value"] == 39 / 40
    assert measures["agreement"]["ceiling"]["value"] == 1
    assert data["confusion"]["classes"][0] == "positive"


def test_reports_of_the_same_recordings_are_the_same():
    one = migrate.to_json(compare(*sentiment(wrong={3, 9})))
    assert one == migrate.to_json(compare(*sentiment(wrong={3, 9})))


def test_training_rows_are_named_as_such():
    prompt = question("a", source="training")
    old = recording("old", [(prompt, chat("x"))])
    assert any("memorised" in one for one in compare(old, old).warnings)
