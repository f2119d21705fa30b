r"""Every prompt gets one separator, every completion one stop sequence, however the rows come.

The rows here are partly marked, marked in several ways, marked by characters such as `\n` that
were typed, or marked twice by an older tool.
"""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tunesmith.datasets import Dataset, read
from tunesmith.datasets.format_inference import infer_prompt_format
from tunesmith.datasets.format_markers import head
from tunesmith.datasets.plan_execution import WrittenRows, json_line
from tunesmith.datasets.prompt_format import PromptFormat

CASES = Path(__file__).parent / "cases"
HASHES = "\n\n###\n\n"
SEPARATORS = (
    HASHES,
    "\n\n===\n\n",
    "\n\n---\n\n",
    "\n\n===>\n\n",
    " ->",
    " =>",
    "->",
    "###",
    "\n###\n",
    "<sep>",
    "\n\n",
)


def tickets(separators, completions=(" supply", " other", " a b")):
    """Return 40 rows whose prompts end with the separators in turn."""
    return [
        {
            "prompt": f"ticket {k}: the printer is out of paper, {k * 7 % 13} sheets"
            + separators[k % len(separators)],
            "completion": completions[k % len(completions)],
        }
        for k in range(40)
    ]


def fixed(rows):
    plan = Dataset.from_rows(rows).plan()
    return plan.format, [row.value for row in plan.rows()]


def test_case_three_quarters_of_the_prompts_have_the_separator():
    dataset = read(CASES / "three-quarters-separator.jsonl")
    plan = dataset.plan()
    assert plan.format.separator == HASHES
    assert "30 of 40 prompts end with" in str(plan.inference.separator)
    for row in plan.rows():
        assert row.value["prompt"].count("###") == 1
    assert next(fix for fix in plan.fixes if fix.id == "separator").count == 10


@pytest.mark.parametrize("share", [1, 2, 3])
@pytest.mark.parametrize("separator", SEPARATORS)
def test_a_prompt_that_has_a_separator_gets_no_second_one(separator, share):
    rows = tickets([separator] * share + [""] * (4 - share))
    form, values = fixed(rows)
    for before, after in zip(rows, values, strict=True):
        text = before["prompt"].removesuffix(separator)
        assert after["prompt"] == text + form.separator


@pytest.mark.parametrize("separator", ["\nSupported:", "\n\nAgent:", "\nSQL:"])
def test_a_last_line_of_half_the_prompts_is_their_separator(separator):
    form, values = fixed(tickets([separator, ""]))
    assert form.separator == separator
    assert all(value["prompt"].count(separator) == 1 for value in values)


def test_rows_of_several_sources_get_one_separator_in_place_of_their_own():
    form, values = fixed(tickets([HASHES, HASHES, " ->", "\n\n===\n\n"]))
    assert form.separator == HASHES
    assert all(value["prompt"].endswith(f"sheets{HASHES}") for value in values)


def test_rows_that_an_older_tool_has_marked_twice_lose_the_first_mark():
    rows = tickets([f"{HASHES}\n\n===\n\n"])
    form, values = fixed(rows)
    assert form.separator == "\n\n===\n\n"
    assert all(value["prompt"].endswith("sheets\n\n===\n\n") for value in values)


def test_a_mark_inside_a_text_stays_where_it_is():
    rows = [
        {"prompt": f"# {k}\n---\nx -> y\n### part {k}", "completion": f" it is {k * 31}"}
        for k in range(40)
    ]
    form, values = fixed(rows)
    for before, after in zip(rows, values, strict=True):
        assert after["prompt"] == before["prompt"] + form.separator


def test_a_label_line_of_the_format_leaves_the_introduction_above_it():
    form = PromptFormat("\n\nAgent:", " ", "\n")
    rows = [form.row("Be kind.\n\n###", f"hello {k}") for k in range(3)]
    assert Dataset.from_rows(rows).plan(form).fixes == []


@pytest.mark.parametrize("stop", [" END", "###", "</s>", " [END]", "***"])
def test_a_completion_that_has_a_stop_sequence_gets_no_second_one(stop):
    answers = [f" the answer of {k} is long {k * 3}" for k in range(40)]
    rows = [
        {"prompt": f"q {k} ->", "completion": text + (stop if k % 4 else "")}
        for k, text in enumerate(answers)
    ]
    form, values = fixed(rows)
    for text, after in zip(answers, values, strict=True):
        assert after["completion"] == text + form.stop


@pytest.mark.parametrize("mark", ["###", "\n\n###\n\n", "\n###\n"])
def test_one_text_as_both_separator_and_stop_sequence_is_left_alone(mark):
    rows = [
        {"prompt": f"question {k}{mark}", "completion": f" {k * 3} is it{mark}"} for k in range(40)
    ]
    plan = Dataset.from_rows(rows).plan()
    assert plan.format == PromptFormat(mark, " ", mark)
    assert plan.fixes == []


def test_a_missing_stop_sequence_is_never_the_separator():
    rows = [
        {"prompt": f"question {k}\n###\n", "completion": f" line\nand END {k * 3}"}
        for k in range(40)
    ]
    form, _ = fixed(rows)
    assert form.separator == "\n###\n"
    assert form.separator not in form.stop


def test_line_breaks_that_were_typed_are_the_same_marker_as_real_ones():
    typed = r"\n\n###\n\n"
    rows = tickets([HASHES, typed, typed, ""], [r" it is so\n", r" it is\n", " is it\n", " no"])
    form, values = fixed(rows)
    assert form == PromptFormat(HASHES, " ", "\n")
    for value in values:
        assert value["prompt"].endswith(f"sheets{HASHES}")
        assert "\\" not in json.dumps(value).replace("\\n", "")


def test_typed_line_breaks_are_no_separator_and_the_evidence_says_why():
    inference = infer_prompt_format(tickets([r"\n\n###\n\n"]))
    assert inference.format.separator == ""
    assert "not a line break" in str(inference.separator)


@pytest.mark.parametrize(
    "text", [r"C:\new", r"print('a\n')", r"a \\n", "x # y", r"\n is a newline"]
)
def test_a_backslash_inside_a_text_is_not_touched(text):
    plan = Dataset.from_rows([{"prompt": text, "completion": text} for _ in range(3)]).plan()
    assert "typed-line-breaks" not in [fix.id for fix in plan.fixes]


MARKS = (
    *(HASHES, " ->", "\n\n===\n\n", "\nSupported:", "<sep>", " END", "\n", "###", " =>", "\n\n"),
    *(r"\n\n###\n\n", r"\n", "***", "</s>", " a", "b", "?", "\n\n### 1 ###\n\n", "---", "A:"),
)
TEXTS = st.lists(st.sampled_from([*"ab .#-", "word ", " x", *MARKS]), max_size=6).map("".join)


@st.composite
def marked_rows(draw):
    """Rows of which some, or all, or none, end with one or two markers."""
    prompt_ends, completion_ends = (
        st.sampled_from(["", *draw(st.lists(st.sampled_from(MARKS), min_size=1, max_size=2))])
        for _ in range(2)
    )
    labels = draw(st.sampled_from([(), ("yes", "no"), (" a", " b END")]))
    completions = st.sampled_from(labels) if labels else st.tuples(TEXTS, completion_ends)
    prompts = st.tuples(TEXTS, prompt_ends)
    return [
        {"prompt": "".join(draw(prompts)), "completion": "".join(draw(completions))}
        for _ in range(draw(st.integers(1, 24)))
    ]


@settings(
    max_examples=150,
    derandomize=True,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
@given(marked_rows())
def test_a_plan_applied_twice_changes_nothing_whatever_the_first_rows(rows):
    plan = Dataset.from_rows(rows).plan()
    values = [row.value for row in plan.rows()]
    for value in values:
        assert plan.format.check_row(**value) == []
    again = Dataset.from_rows(values).plan()
    assert [fix.id for fix in again.fixes if fix.enabled] == []
    assert [row.value for row in again.rows()] == values
    assert plan.apply().plan().format == plan.format


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(marked_rows(), st.sampled_from(["é", "\\n", "\n", "\n\n###", " EN", "*", ""]))
def test_rows_written_after_a_count_are_those_of_all_the_fixes(rows, ending):
    rows = [*rows, {"prompt": rows[0]["prompt"] + ending, "completion": f"{ending}x{ending}"}]
    plan = Dataset.from_rows(rows).plan()
    expected = [json_line(row) for row in plan.rows()]
    assert plan.fixes is not None
    stream = io.BytesIO()
    for _ in WrittenRows(plan.needed_rows(), stream).batches():
        pass
    assert stream.getvalue() == b"".join(expected)


@given(st.sampled_from([*SEPARATORS, " END", "\n", "***"]), st.text("\n #=-> ENDx*", max_size=12))
def test_a_text_without_the_head_of_a_marker_never_completes_one(marker, text):
    if head(marker) not in text:
        assert (text + marker).find(marker) == len(text)
