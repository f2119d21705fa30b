from __future__ import annotations

import pytest

from tunesmith.datasets.format_choice import choose_prompt_format
from tunesmith.datasets.format_inference import infer_prompt_format
from tunesmith.datasets.prompt_format import PromptFormat

SEPARATOR = "\n\n###\n\n"


def rows(prompt, completion, count=30):
    return [{"prompt": prompt(k), "completion": completion(k)} for k in range(count)]


def sentiment(k):
    return " positive" if k % 3 else " negative"


def test_bug_b08_one_row_without_the_separator_does_not_hide_it():
    data = rows(
        lambda k: f"text {k}" + (SEPARATOR if k != 6 else ""),
        lambda k: f" answer number {k * 7} END",
    )
    inference = infer_prompt_format(data)
    assert inference.format == PromptFormat(SEPARATOR, " ", " END")
    assert str(inference.separator) == (
        r"29 of 30 prompts end with '\n\n###\n\n'; line 7 does not."
    )
    assert not inference.separator.unanimous
    assert inference.stop.unanimous


@pytest.mark.parametrize(
    "labels",
    [
        (" positive", " negative"),
        ("spam", "ham"),
        (" very positive", " very negative"),
        ("x.", "y."),
    ],
)
def test_bug_b02_the_end_of_a_label_is_never_the_stop_sequence(labels):
    inference = infer_prompt_format(rows(lambda k: f"t{k} ->", lambda k: labels[k % 2]))
    assert inference.format.stop == ""
    assert inference.task == "classification"


def test_bug_b02_nor_is_the_label_of_a_large_majority():
    data = rows(lambda k: f"text {k} ->", lambda k: " positive" if k % 10 else " negative")
    assert infer_prompt_format(data).format.stop == ""


def test_bug_b18_a_label_that_never_changes_is_not_a_stop_sequence():
    inference = infer_prompt_format(rows(lambda k: f"text {k} ->", lambda _: " same"))
    assert inference.format.stop == ""


@pytest.mark.parametrize(
    "prompt",
    [
        lambda k: f"Is {k} a prime?",
        lambda k: f"{k} of a",
        lambda k: f"This is text {k}.",
        lambda k: f"Hello {k}, he said (again)",
        lambda k: f"第{k}号。",
    ],
)
def test_bug_b09_an_accidental_ending_is_not_a_separator(prompt):
    inference = infer_prompt_format(rows(prompt, lambda k: f" it is {k * 31}"))
    assert inference.format.separator == ""
    assert inference.separator.refused
    assert "not taken" in str(inference.separator)


def test_bug_b09_a_full_stop_inside_completions_is_not_a_stop_sequence():
    data = rows(lambda k: f"text {k} ->", lambda k: f" Version {k}. It works with {k * 3}.")
    assert infer_prompt_format(data).format.stop == ""


def test_bug_b09_the_tail_of_a_template_is_cut_at_its_line():
    data = rows(
        lambda k: f"Company: {k}\nAd: One stop shop for all your needs!\nSupported:", sentiment
    )
    assert infer_prompt_format(data).format.separator == "\nSupported:"


def test_bug_b10_a_stop_sequence_that_occurs_inside_is_refused_with_the_reason():
    data = rows(lambda k: f"text {k} ->", lambda k: f" It END is {k} a END")
    inference = infer_prompt_format(data)
    assert inference.format.stop == ""
    assert "30 rows" in str(inference.stop)


def test_bug_b12_a_shared_first_word_of_labels_is_not_white_space():
    data = rows(lambda k: f"t {k} ->", lambda k: f" very{sentiment(k)}")
    assert infer_prompt_format(data).format.leading_whitespace == " "


@pytest.mark.parametrize(
    ("separator", "stop"),
    [
        (" ->", "\n"),
        ("\nSupported:", " END"),
        ("\n\nAgent:", "\n"),
        ("\n\n===\n\n", "###"),
        (" Answer:", "***"),
        ("\n\n", "\n###\n"),
        ("<sep>", "<|endoftext|>"),
    ],
)
def test_the_formats_that_people_use_are_found(separator, stop):
    data = rows(lambda k: f"Is {k} a prime?{separator}", lambda k: f" It is not: {k * 13}{stop}")
    assert infer_prompt_format(data).format == PromptFormat(separator, " ", stop)


def test_bug_b15_the_evidence_counts_other_white_space_as_exceptions():
    data = rows(lambda k: f"t {k} ->", lambda k: "\tx" if k == 3 else "  x" if k == 5 else f" x{k}")
    evidence = infer_prompt_format(data).leading_whitespace
    assert (evidence.value, evidence.matching, evidence.exceptions) == (" ", 28, (4, 6))


def test_a_line_break_before_completions_is_no_stop_sequence():
    inference = infer_prompt_format(rows(lambda k: f"t {k} ->", lambda k: f"\n{k * 3} is it\n"))
    assert "\n" not in (inference.format.leading_whitespace, inference.format.stop) or (
        inference.format.leading_whitespace != inference.format.stop
    )


def test_nothing_is_found_in_nothing():
    assert infer_prompt_format([]).format == PromptFormat("", "", "")
    assert infer_prompt_format(iter([{"messages": []}])).rows == 0


def test_bug_b21_a_long_shared_tail_costs_no_more_than_a_short_one():
    tail = "an instruction that every prompt repeats. " * 300 + "\nAnswer:"
    data = rows(lambda k: f"{k}{tail}", lambda k: f" {k}\n", count=2_000)
    assert infer_prompt_format(data).format == PromptFormat("\nAnswer:", " ", "\n")


def test_a_chosen_format_occurs_nowhere_in_the_data():
    data = rows(lambda k: f"a{SEPARATOR}b\n\n===\n\nc {k}", lambda k: f"first {k}\nsecond END x")
    chosen = choose_prompt_format(data)
    assert chosen == PromptFormat("\n\n---\n\n", " ", "\n###\n")
    for row in data:
        assert chosen.check_row(**chosen.row(**row)) == []


def test_a_choice_is_found_even_when_every_usual_mark_is_taken():
    from tunesmith.datasets.format_markers import SEPARATORS, STOPS

    data = [{"prompt": "".join(SEPARATORS), "completion": "".join(STOPS) + "x"}]
    chosen = choose_prompt_format(data)
    assert chosen.check_row(**chosen.row(**data[0])) == []


def test_classes_of_one_token_need_no_stop_sequence():
    data = rows(lambda k: f"text {k}", lambda k: "baseball" if k % 2 else "hockey")
    assert choose_prompt_format(data) == PromptFormat(SEPARATOR, " ", "")
    longer = rows(lambda k: f"text {k}", lambda k: "basketball player" if k % 2 else "hockey")
    assert choose_prompt_format(longer).stop == "\n"


def test_open_ended_rows_need_no_separator():
    chosen = choose_prompt_format(rows(lambda _: "", lambda k: f"story {k}"))
    assert chosen == PromptFormat("", " ", "\n")
