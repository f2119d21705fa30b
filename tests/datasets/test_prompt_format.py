from __future__ import annotations

import ast
import json
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunesmith.datasets.prompt_format import (
    PromptFormat,
    PromptFormatError,
    format_path,
    saved_format,
)

SEPARATOR = "\n\n###\n\n"
END = PromptFormat(separator=" ->", leading_whitespace=" ", stop=" END")


def kinds(form, prompt, completion):
    return [violation.kind for violation in form.check_row(prompt, completion)]


def test_a_row_is_prompt_and_separator_whitespace_completion_and_stop():
    assert PromptFormat().row("Is it?", "yes") == {
        "prompt": "Is it?\n\n###\n\n",
        "completion": " yes\n",
    }


def test_formatting_twice_does_no_harm():
    row = END.row("text", "answer")
    assert END.row(row["prompt"], row["completion"]) == row


def test_a_prompt_that_contains_the_separator_is_refused_with_its_place():
    with pytest.raises(PromptFormatError, match="at character 1"):
        END.format_prompt("a -> b")


def test_a_separator_that_text_and_separator_make_together_is_refused():
    form = PromptFormat(separator="##")
    with pytest.raises(PromptFormatError, match="at character 1"):
        form.format_prompt("a#")


def test_a_completion_that_contains_the_stop_sequence_is_refused():
    with pytest.raises(PromptFormatError, match="cut off"):
        PromptFormat().format_completion("line one\nline two")


@pytest.mark.parametrize("text", ["", "   ", "\n", " \n\n"])
def test_bug_b11_an_empty_completion_is_refused(text):
    with pytest.raises(PromptFormatError, match="empty"):
        PromptFormat().format_completion(text)
    assert kinds(PromptFormat(), "p" + SEPARATOR, text) == ["completion-empty"]


@pytest.mark.parametrize("text", ["\tyes", "  yes", "\n yes", "yes", " yes"])
def test_bug_b15_any_other_leading_whitespace_becomes_the_one_of_the_format(text):
    assert PromptFormat().format_completion(text) == " yes\n"


def test_bug_b15_other_leading_whitespace_is_a_violation():
    for text, expected in (("\tyes\n", 1), ("  yes\n", 1), ("yes\n", 1), (" yes\n", 0)):
        assert len(PromptFormat().check_row("p" + SEPARATOR, text)) == expected, text


def test_none_of_the_three_parts_is_needed():
    bare = PromptFormat("", "", "")
    assert bare.row("p", "  c") == {"prompt": "p", "completion": "  c"}
    assert bare.check_row("p", "  c") == []
    assert bare.inference_parameters() == {}


def test_an_answer_that_becomes_the_stop_sequence_is_refused():
    with pytest.raises(PromptFormatError, match="at character 0"):
        END.format_completion("END of story")


def test_marks_that_end_answers_before_they_begin_are_refused():
    for separator, stop in ((" ", ""), ("", "\n")):
        with pytest.raises(PromptFormatError, match="before it begins"):
            PromptFormat(separator, " \n", stop)


def test_one_mark_may_be_separator_and_stop():
    form = PromptFormat("###", " ", "###")
    assert form.check_row(**form.row("text", "answer")) == []


def test_only_white_space_may_lead():
    with pytest.raises(PromptFormatError, match="white space"):
        PromptFormat(leading_whitespace="x")


@pytest.mark.parametrize(
    ("prompt", "completion", "expected"),
    [
        ("a ->", " b END", []),
        ("a", " b END", ["separator-missing"]),
        ("a -> b ->", " b END", ["separator-repeated"]),
        ("a ->", " b -> c END", ["separator-in-completion"]),
        ("a ->", "b END", ["leading-whitespace"]),
        ("a ->", " b", ["stop-missing"]),
        ("a ->", " b END c END", ["stop-inside"]),
        ("a", "b", ["separator-missing", "leading-whitespace", "stop-missing"]),
    ],
)
def test_each_way_to_depart_from_the_format_is_named(prompt, completion, expected):
    assert kinds(END, prompt, completion) == expected


def test_violations_name_the_character():
    (violation,) = END.check_row("ab -> cd ->", " x END")
    assert (violation.field, violation.offset) == ("prompt", 2)


def test_bug_b10_a_stop_sequence_inside_a_completion_is_found():
    violations = END.check_row("p ->", " it END is a END")
    assert [(v.kind, v.offset) for v in violations] == [("stop-inside", 3)]


@given(st.text(), st.text())
def test_what_is_formatted_passes_the_check_and_can_be_read_back(prompt, completion):
    try:
        row = END.row(prompt, completion)
    except PromptFormatError:
        return
    found = [v for v in END.check_row(**row) if v.kind != "separator-in-completion"]
    assert found == []
    assert END.row(**row) == row
    assert END.parse_prompt(row["prompt"]) == prompt.removesuffix(" ->")
    said = END.parse_completion(row["completion"])
    assert END.format_completion(said) == row["completion"]


def test_the_answer_is_read_up_to_the_stop_sequence():
    assert END.parse_completion(" yes END and more") == "yes"
    assert END.parse_completion(" yes") == "yes"
    assert PromptFormat(stop="").parse_completion(" yes") == "yes"


def test_classes_of_one_token_need_one_token():
    parameters = PromptFormat(stop="").inference_parameters(["baseball", "hockey"])
    assert parameters == {"max_tokens": 1, "logprobs": 2}


def test_longer_classes_and_many_of_them():
    labels = [f" unbelievable outcome {number}\n" for number in range(9)]
    parameters = PromptFormat().inference_parameters(labels, encoding="davinci")
    assert parameters == {"stop": ["\n"], "max_tokens": 3, "logprobs": 5}


def test_numbers_without_a_stop_sequence_get_a_token_for_each_digit():
    parameters = PromptFormat(stop="").inference_parameters(["10", "11"])
    assert parameters["max_tokens"] == 3
    assert PromptFormat(stop="").inference_parameters(["10"], "r50k_base")["max_tokens"] == 1


def test_a_stop_sequence_leaves_room_for_any_vocabulary():
    assert PromptFormat().inference_parameters(["naïve"])["max_tokens"] == 7


def test_generation_needs_the_stop_sequence_only():
    assert END.inference_parameters() == {"stop": [" END"]}


def test_without_leading_whitespace_the_same_classes_are_longer():
    bare = PromptFormat(leading_whitespace="", stop="")
    assert bare.class_tokens(["baseball", "hockey"]) == {"baseball": 2, "hockey": 2}
    assert PromptFormat(stop="").class_tokens(["baseball", "hockey"]) == {
        "baseball": 1,
        "hockey": 1,
    }


def test_the_format_is_saved_beside_the_data(tmp_path):
    path = format_path(tmp_path / "train_prepared.jsonl")
    assert path == tmp_path / "train_prepared.format.json"
    assert END.save(path) == path
    assert PromptFormat.load(path) == END
    assert json.loads(path.read_text())["version"] == 1
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not JSON"),
        ("[]", "does not hold"),
        ('{"version": 2}', "version 2"),
        ('{"version": 1, "separator": "x", "stop": "y"}', "leading_whitespace"),
        ('{"version": 1, "separator": 1, "leading_whitespace": "", "stop": "y"}', "separator"),
    ],
)
def test_a_damaged_file_is_refused(tmp_path, text, message):
    path = tmp_path / "x.format.json"
    path.write_text(text)
    with pytest.raises(PromptFormatError, match=message):
        PromptFormat.load(path)


def test_the_format_beside_a_file_is_read_without_heavy_imports(tmp_path):
    data = tmp_path / "train.jsonl"
    data.write_text("{}\n")
    END.save(format_path(data))
    code = (
        "import sys; from tunesmith.datasets.prompt_format import saved_format; "
        f"print(saved_format({str(data)!r}).to_dict()); "
        "print([name for name in sys.modules if name.startswith(('numpy', 'msgspec', 'httpx',"
        " 'tunesmith.datasets.'))])"
    )
    output = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, check=True, text=True
    )
    content, modules = output.stdout.splitlines()
    assert ast.literal_eval(content) == END.to_dict()
    assert sorted(ast.literal_eval(modules)) == [
        "tunesmith.datasets.dataset_errors",
        "tunesmith.datasets.prompt_format",
    ]
    assert saved_format(tmp_path / "other.jsonl") is None
