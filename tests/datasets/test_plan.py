from __future__ import annotations

import inspect
import json
import random

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tunesmith.datasets import Dataset, tokens
from tunesmith.datasets.dataset_errors import DatasetError
from tunesmith.datasets.prompt_format import PromptFormat
from tunesmith.datasets.rows import Row

SEPARATOR = "\n\n###\n\n"
DRAW = random.Random(2)  # noqa: S311 - the same texts every time


def rows(count=30, *, prompt=lambda k: f"{k} is what", completion=lambda k: f"{k * 7} it is"):
    return [{"prompt": prompt(k), "completion": completion(k)} for k in range(count)]


def make_plan(data, form=None):
    return Dataset.from_rows(data).plan(form)


def values(plan):
    return [row.value for row in plan.rows()]


def ids(plan):
    return [fix.id for fix in plan.fixes]


def test_bare_rows_become_ready_for_training():
    plan = make_plan(rows())
    assert plan.format == PromptFormat(SEPARATOR, " ", "\n")
    assert ids(plan) == ["separator", "stop", "leading-whitespace"]
    assert values(plan)[3] == {"prompt": f"3 is what{SEPARATOR}", "completion": " 21 it is\n"}
    for value in values(plan):
        assert plan.format.check_row(**value) == []


def test_applying_twice_changes_nothing_more():
    first = make_plan(rows())
    again = make_plan(values(first))
    assert again.fixes == []
    assert again.format == first.format
    assert again.diff() == "Nothing needs to be changed."


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.fixed_dictionaries(
            {
                "prompt": st.text(st.sampled_from("ab \n#->"), max_size=12),
                "completion": st.text(st.sampled_from("ab \nEND#->"), max_size=12),
            }
        ),
        min_size=1,
    ),
    st.sampled_from(
        [
            None,
            PromptFormat(" ->", " ", " END"),
            PromptFormat("##", "", "aa"),
            PromptFormat("#", " ", "#"),
        ]
    ),
)
@example([{"prompt": "", "completion": "#"}, {"prompt": " #", "completion": "D"}], None)
@example([{"prompt": "a", "completion": "-> b"}, {"prompt": "b", "completion": "a"}], None)
def test_any_rows_come_out_in_the_format_and_stay_as_they_are(data, form):
    plan = make_plan(data, form)
    fixed = values(plan)
    for value in fixed:
        assert plan.format.check_row(**value) == []
    assert values(make_plan(fixed, plan.format)) == fixed


def test_every_fix_shows_count_and_samples_and_keeps_the_line():
    data = [Row(value, line) for line, value in enumerate(rows(), 101)]
    fix = make_plan(data).fixes[0]
    assert (fix.id, fix.count, len(fix.samples)) == ("separator", 30, 3)
    before, after, line = fix.samples[1]
    assert before["prompt"] == "1 is what"
    assert after["prompt"] == f"1 is what{SEPARATOR}"
    assert line == 102
    assert [row.line for row in make_plan(data).rows()] == list(range(101, 131))


def test_bug_b01_rows_are_dropped_by_what_they_say_never_by_position():
    data = rows(3, prompt=lambda _: f"same{SEPARATOR}", completion=lambda _: " c\n")
    data += rows(20, prompt=lambda k: f"p{k}{SEPARATOR}", completion=lambda k: f" c{k} innocent\n")
    data.insert(9, {"prompt": "word " * 3_000 + SEPARATOR, "completion": " long\n"})
    plan = make_plan(data)
    counts = {fix.id: fix.count for fix in plan.fixes}
    assert counts == {"drop-duplicates": 2, "drop-long-rows": 1}
    kept = values(plan)
    assert len(kept) == 21
    assert {f" c{k} innocent\n" for k in range(20)} < {value["completion"] for value in kept}
    assert all(tokens.fits(value["prompt"], 2_048) for value in kept)


def test_bug_b04_open_ended_rows_have_a_limit_too():
    data = [*rows(20, prompt=lambda _: ""), {"prompt": "", "completion": " word" * 2_100}]
    plan = make_plan(data)
    assert plan.task == "open-ended generation"
    assert [fix.count for fix in plan.fixes if fix.id == "drop-long-rows"] == [1]


@pytest.mark.parametrize(
    "missing", [{"completion": None}, {"completion": ""}, {}, {"completion": " \n"}]
)
def test_bug_b05_nothing_never_becomes_a_text(missing):
    plan = make_plan([*rows(), {"prompt": "p", **missing}])
    assert "drop-empty-completions" in ids(plan)
    assert len(values(plan)) == 30
    assert not any(word in str(values(plan)) for word in ("nan", "None"))


def test_bug_b07_values_that_are_not_text_are_written_as_json():
    data = [*rows(completion=lambda k: k % 2), {"prompt": "p", "completion": 1.0}]
    plan = make_plan(data)
    assert {value["completion"] for value in values(plan)} == {" 0\n", " 1\n", " 1.0\n"}


def test_bug_b08_the_row_without_a_separator_gets_the_one_of_the_others():
    data = rows(
        prompt=lambda k: f"{k} text" + (SEPARATOR if k != 6 else ""),
        completion=lambda k: f" {k} it is" + (" END" if k != 8 else ""),
    )
    plan = make_plan(data)
    assert plan.format == PromptFormat(SEPARATOR, " ", " END")
    assert [(fix.id, fix.count, fix.samples[0].line) for fix in plan.fixes] == [
        ("separator", 1, 7),
        ("stop", 1, 9),
    ]
    assert "29 of 30" in plan.fixes[0].evidence
    for value in values(plan):
        assert value["prompt"].count("#") == 3
        assert value["completion"].count(" END") == 1


def test_bug_b10_a_stop_sequence_inside_is_taken_out():
    form = PromptFormat(" ->", " ", " END")
    data = rows(
        prompt=lambda k: f"{k} ->", completion=lambda k: f" {k} it is so END but then not a END"
    )
    plan = make_plan(data, form)
    assert ids(plan) == ["remove-stop-inside"]
    assert values(plan)[4]["completion"] == " 4 it is so but then not a END"


def test_bug_b11_taking_a_prefix_off_never_empties_a_completion():
    data = rows(completion=lambda k: f" The answer is: {k}" if k else " The answer is: ")
    plan = make_plan(data).enable("strip-completion-prefix")
    completions = [value["completion"] for value in values(plan)]
    assert completions[:2] == [" The answer is: \n", " 1\n"]


def test_bug_b12_the_words_that_labels_share_stay_in_the_labels():
    data = rows(completion=lambda k: f" very {'positive' if k % 2 else 'negative'}")
    plan = make_plan(data)
    assert plan.task == "classification"
    assert all(value["completion"].startswith(" very ") for value in values(plan))
    with pytest.raises(DatasetError, match="no fix"):
        plan.enable("strip-completion-prefix")


def test_bug_b12_a_prefix_is_only_taken_off_on_request_and_in_whole_words():
    data = rows(completion=lambda k: f" Product: lamp{k}")
    plan = make_plan(data)
    fix = next(fix for fix in plan.fixes if fix.id == "strip-completion-prefix")
    assert not fix.enabled
    assert '"Product: "' in fix.description
    assert values(plan)[2]["completion"] == " Product: lamp2\n"
    assert values(plan.enable("strip-completion-prefix"))[2]["completion"] == " lamp2\n"


def test_bug_b15_any_white_space_becomes_one_space():
    data = rows(completion=lambda k: ("\t", "  ", " ", "")[k % 4] + f"answer {k}")
    assert {value["completion"][:2] for value in values(make_plan(data))} == {" a"}


def test_bug_b22_broken_characters_are_replaced_in_sight():
    plan = make_plan([*rows(), {"prompt": "x\ud83d", "completion": " y"}])
    fix = next(fix for fix in plan.fixes if fix.id == "replace-surrogates")
    assert (fix.count, fix.samples[0].line) == (1, 31)
    assert values(plan)[-1]["prompt"] == f"x\ufffd{SEPARATOR}"
    plan.diff().encode()


def test_upper_case_is_pointed_out_and_left_alone():
    plan = make_plan(rows(prompt=lambda k: f"SHOUTED TEXT {k}"))
    fix = next(fix for fix in plan.fixes if fix.id == "lower-case-prompt")
    assert not fix.enabled
    assert values(plan)[0]["prompt"].startswith("SHOUTED")
    assert values(plan.enable(fix.id))[0]["prompt"].startswith("shouted")


def test_a_disabled_fix_is_not_applied_and_can_come_back():
    plan = make_plan([*rows(), rows()[0]])
    plan.disable("drop-duplicates")
    assert len(values(plan)) == 31
    assert next(fix for fix in plan.fixes if fix.id == "drop-duplicates").count == 1
    assert len(values(plan.enable("drop-duplicates"))) == 30


def test_a_plan_is_edited_without_losing_decisions():
    plan = make_plan([*rows(), rows()[0]]).disable("drop-duplicates")
    edited = plan.edit(prompt_format=PromptFormat(" ->", " ", " END"))
    assert values(edited)[0] == {"prompt": "0 is what ->", "completion": " 0 it is END"}
    assert len(values(edited)) == 31
    longer = edited.edit(token_limit=3)
    assert longer.format.separator == " ->"
    assert values(longer) == []


def test_what_rows_cannot_do_without_cannot_be_disabled():
    plan = make_plan([*rows(), {"prompt": "p", "completion": ""}])
    with pytest.raises(DatasetError, match="cannot be used"):
        plan.disable("drop-empty-completions")
    with pytest.raises(DatasetError, match="separator"):
        plan.disable("no-such-fix")


def test_columns_are_found_whatever_their_case_and_others_left_out():
    data = [{"Prompt": f"p{k}", "COMPLETION": f"c{k}", "id": k} for k in range(9)]
    plan = make_plan(data)
    assert ids(plan)[:2] == ["rename-fields", "keep-fields"]
    assert "'id'" in plan.fixes[1].description
    assert set(values(plan)[0]) == {"prompt", "completion"}


def test_a_missing_column_names_those_there_are():
    with pytest.raises(DatasetError, match="'question', 'completion'"):
        make_plan([{"question": "q", "completion": "c"}])


def test_the_separator_is_taken_out_of_texts():
    form = PromptFormat(SEPARATOR, " ", " END")
    data = [{"prompt": f"one{SEPARATOR}two", "completion": f"a{SEPARATOR}b"}]
    (value,) = values(make_plan(data, form))
    assert value == {"prompt": f"one\ntwo{SEPARATOR}", "completion": " a\nb END"}


def test_conversations_only_lose_their_duplicates():
    row = {"messages": [{"role": "user", "content": "x"}, {"role": "assistant", "content": "y"}]}
    plan = make_plan([row, row])
    assert ids(plan) == ["drop-duplicates"]
    assert values(plan) == [row]
    assert plan.format is None


def test_the_plan_as_json_and_as_a_diff():
    plan = make_plan([*rows(), {"prompt": "word " * 2_100, "completion": "long"}])
    data = json.loads(plan.to_json())
    assert data["format"] == plan.format.to_dict()
    assert data["fixes"][0]["samples"][0]["line"] == 1
    diff = plan.diff()
    assert "separator: End every prompt" in diff
    assert '  - prompt: "0 is what"' in diff
    assert f"  + prompt: {json.dumps(f'0 is what{SEPARATOR}')}" in diff
    assert "  + (dropped)" in diff
    assert max(map(len, diff.splitlines())) < 140


def test_plan_takes_only_the_options_that_it_has():
    data = Dataset.from_rows(rows())
    with pytest.raises(TypeError, match="token_limits"):
        data.plan(token_limits=3)
    with pytest.raises(TypeError, match="token_limits"):
        data.plan().edit(token_limits=3)
    assert inspect.signature(data.plan).parameters["token_limit"].default == 2_048


def test_an_applied_plan_is_a_data_set_of_its_own():
    plan = make_plan([*rows(), rows()[0]])
    fixed = plan.apply()
    plan.disable("drop-duplicates")
    assert len(fixed) == 30
    assert len(plan.apply()) == 31


def test_the_repr_of_a_plan_names_its_fixes_with_their_rows():
    plan = make_plan([*rows(prompt=lambda k: f"SHOUTED TEXT {k}"), {"prompt": "p"}])
    assert repr(plan) == (
        "Plan(in memory, task='conditional generation', fixes={fill-fields: 1, "
        "drop-empty-completions: 1, separator: 30, stop: 30, leading-whitespace: 30}, "
        "disabled={strip-prompt-prefix: 30, lower-case-prompt: 30})"
    )
