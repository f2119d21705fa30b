from __future__ import annotations

import random
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tunesmith.datasets.dataset import Dataset, read
from tunesmith.datasets.dataset_errors import DatasetError
from tunesmith.datasets.overlap import check_overlap
from tunesmith.datasets.prompt_format import PromptFormat
from tunesmith.datasets.rows import Row
from tunesmith.datasets.split import split

DRAW = random.Random(11)  # noqa: S311 - the same texts every time
WORDS = [f"w{number}" for number in range(3_000)]


def text(words=20):
    return " ".join(DRAW.choices(WORDS, k=words))


def labelled(**counts):
    return [
        {"prompt": f"{text()}\n\n###\n\n", "completion": f" {label}"}
        for label, count in counts.items()
        for _ in range(count)
    ]


def shares(rows):
    return Counter(row["completion"].strip() for row in rows)


def test_a_share_of_each_class_is_held_out():
    training, validation = split(labelled(spam=300, ham=100, other=10), 0.2)
    assert shares(validation) == {"spam": 60, "ham": 20, "other": 2}
    assert shares(training) == {"spam": 240, "ham": 80, "other": 8}


def test_bug_b20_a_rare_class_is_on_both_sides():
    training, validation = split(labelled(common=298, rare=2))
    assert shares(training)["rare"] == shares(validation)["rare"] == 1


def test_a_class_of_one_row_stays_in_training():
    training, validation = split(labelled(common=100, single=1))
    assert shares(training)["single"] == 1
    assert "single" not in shares(validation)


def test_the_order_of_the_rows_does_not_matter():
    rows = labelled(a=60, b=40)
    shuffled = rows[:]
    DRAW.shuffle(shuffled)
    training, validation = split(rows)
    again_training, again_validation = split(shuffled)
    key = str
    assert sorted(validation, key=key) == sorted(again_validation, key=key)
    assert sorted(training, key=key) == sorted(again_training, key=key)


def test_each_side_keeps_the_order_it_had():
    rows = [Row(value, line) for line, value in enumerate(labelled(a=30, b=30), 1)]
    for side in split(rows):
        lines = [row.line for row in side]
        assert lines == sorted(lines)


def test_a_seed_gives_another_division():
    rows = labelled(a=60, b=40)
    assert split(rows)[1] != split(rows, seed=1)[1]
    assert split(rows, seed=1) == split(rows, seed=1)


def test_near_duplicates_stay_on_one_side():
    rows = []
    for number in range(60):
        prompt = text(40)
        rows += [
            {"prompt": f"{prompt} {copy}", "completion": " yes"} for copy in range(1 + number % 4)
        ]
    training, validation = split(rows)
    assert validation
    assert not check_overlap(training, validation)
    leaky_training, leaky_validation = split(rows, near_duplicates=False)
    assert check_overlap(leaky_training, leaky_validation).near


def test_exact_duplicates_stay_together_in_any_case():
    rows = labelled(a=20) * 3
    training, validation = split(rows, near_duplicates=False)
    assert not check_overlap(training, validation).exact


def test_a_class_that_is_one_cluster_is_not_torn_apart():
    prompt = text(40)
    near = [{"prompt": f"{prompt} {copy}", "completion": " x"} for copy in range(4)]
    training, validation = split(labelled(a=40, b=40) + near)
    assert shares(training)["x"] == 4
    assert not check_overlap(training, validation)


def test_a_number_of_rows_can_be_held_out():
    training, validation = split(labelled(a=500), 50, stratify=False)
    assert (len(training), len(validation)) == (450, 50)


@pytest.mark.parametrize("validation", [0, -1, 1.5, 10, 11, float("nan")])
def test_what_cannot_be_held_out_is_an_error(validation):
    with pytest.raises(DatasetError, match="validation="):
        split(labelled(a=10), validation)


def test_conversations_are_divided_by_what_the_user_says():
    rows = [
        {
            "messages": [
                {"role": "user", "content": [{"type": "text", "text": text()}]},
                {"role": "assistant", "content": "yes" if k % 2 else "no"},
            ]
        }
        for k in range(50)
    ]
    training, validation = split(rows)
    assert len(validation) == 10
    answers = Counter(row["messages"][1]["content"] for row in validation)
    assert answers == {"yes": 5, "no": 5}
    assert not check_overlap(training, validation)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.fixed_dictionaries({"prompt": st.text(max_size=8), "completion": st.text(max_size=2)}),
        min_size=2,
    ),
    st.floats(0.05, 0.95),
)
def test_every_row_is_on_one_side_and_nothing_is_shared(rows, share):
    training, validation = split(rows, share)
    assert sorted(map(str, training + validation)) == sorted(map(str, rows))
    assert not check_overlap(training, validation)


def test_overlap_names_lines_on_both_sides():
    first, second, third = (text() for _ in range(3))
    training = [{"prompt": first, "completion": "a"}, {"prompt": second, "completion": "b"}]
    validation = [
        {"prompt": third, "completion": "a"},
        {"prompt": second, "completion": "b"},
        {"prompt": first.upper(), "completion": "b"},
    ]
    overlap = check_overlap(training, validation)
    assert [(row.training_line, row.validation_line, row.exact) for row in overlap.shared] == [
        (2, 2, True),
        (1, 3, False),
    ]
    assert (overlap.exact, overlap.near) == (1, 1)
    assert "line 2" in str(overlap)
    assert "share no row" in str(check_overlap(training, validation[:1]))


def test_a_data_set_is_divided_into_data_sets_that_keep_its_format():
    form = PromptFormat(" ->", " ", "")
    data = Dataset.from_rows(labelled(a=20, b=20), prompt_format=form)
    training, validation = data.split()
    assert (len(training), len(validation)) == (32, 8)
    assert training.prompt_format == validation.prompt_format == form


def test_the_repr_of_a_split_and_of_its_sides_says_how_many_rows_there_are():
    parts = Dataset.from_rows(labelled(spam=8, ham=8), name="mails.csv").split(0.25)
    assert repr(parts) == "Split('mails.csv', training=12, validation=4)"
    assert repr(parts.validation) == (
        "Dataset('mails.csv', format='rows', shape='prompt_completion', rows=4)"
    )


def test_the_repr_of_a_file_reads_no_more_than_its_start(tmp_path):
    path = tmp_path / "train.jsonl"
    path.write_text('{"prompt": "p", "completion": " c"}\n')
    data = read(path)
    assert repr(data) == (
        f"Dataset({str(path)!r}, format='jsonl', shape='prompt_completion', bytes=36)"
    )
    path.unlink()
    assert "unreadable" in repr(Dataset(data.source))
