from __future__ import annotations

import random
import subprocess
import sys

import pytest

from tunesmith.datasets.near_duplicates import cluster, similarity, sketch

DRAW = random.Random(5)  # noqa: S311 - the same texts every time
WORDS = [f"w{number}" for number in range(2_000)]


def text(words=60):
    return " ".join(DRAW.choices(WORDS, k=words))


def edited(original, edits):
    words = original.split()
    for position in DRAW.sample(range(len(words)), edits):
        words[position] = "changed"
    return " ".join(words)


def jaccard(left, right):
    def shingles(value):
        words = value.split()
        return set(zip(words, words[1:], words[2:], strict=False))

    first, second = shingles(left), shingles(right)
    return len(first & second) / len(first | second)


@pytest.mark.parametrize(("words", "edits"), [(40, 1), (60, 5), (200, 4), (400, 60)])
def test_the_estimate_is_near_the_true_similarity(words, edits):
    for _ in range(20):
        first = text(words)
        second = edited(first, edits)
        estimate = similarity(sketch(first), sketch(second))
        assert estimate == pytest.approx(jaccard(first, second), abs=0.2)


def test_case_punctuation_and_the_form_of_characters_do_not_count():
    assert sketch("Hello, World! It is me.") == sketch("hello world it IS me")
    assert sketch("ｆｕｌｌ width text here") == sketch("full width text here")  # noqa: RUF001
    assert sketch("one two") != sketch("two one")
    assert sketch("...") != sketch("!!!")
    assert len(sketch("lone \ud83d surrogate in it")) == 2


def test_chinese_is_compared_character_by_character():
    first, second = (
        "这家酒店的服务非常好房间干净早餐丰富下次还会再来住",
        "这家酒店的服务非常好房间干净早餐丰富下次还会来住",
    )
    assert similarity(sketch(first), sketch(second)) > 0.7
    assert similarity(sketch(first), sketch("完全不同的一句话没有任何相似之处")) == 0


def test_near_duplicates_are_grouped_and_others_are_not():
    originals = [text() for _ in range(200)]
    copies = [edited(original, 1) for original in originals[:50]]
    groups = cluster([sketch(value) for value in (*originals, *copies, originals[3].upper())])
    assert groups[:200] == list(range(200))
    assert groups[200:250] == list(range(50))
    assert groups[250] == 3


def test_a_shared_template_does_not_make_texts_alike():
    template = text(80)
    groups = cluster([sketch(f"{text(30)} {template}") for _ in range(200)])
    assert len(set(groups)) == 200


def test_the_result_is_the_same_in_every_process():
    program = "from tunesmith.datasets.near_duplicates import sketch; print(sketch('a b c d e é'))"
    result = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONHASHSEED": "99"},
    )
    assert result.stdout.strip() == str(sketch("a b c d e é"))


def test_nothing_has_no_groups():
    assert cluster([]) == []
