"""The metrics of text similarity against the libraries that their names come from.

`similarity_cases.json` holds what rapidfuzz 3.14.6, sacreBLEU 2.6.0, NLTK 3.10.4 (METEOR without
WordNet) and rouge-score 0.1.2 say of each pair; where they are installed, they are asked again.
"""

from __future__ import annotations

import importlib.util
import json
import math
from pathlib import Path
from typing import Any

import pytest

from tunesmith.graders import GraderError, grade
from tunesmith.graders.text_metrics import similarity

CASES = json.loads(Path(__file__).with_name("similarity_cases.json").read_text(encoding="utf-8"))
NEEDS = {"fuzzy_match": "rapidfuzz", "gleu": "nltk", "meteor": "nltk"}
METRICS: list[Any] = [
    "fuzzy_match", "bleu", "gleu", "meteor",
    "rouge_1", "rouge_2", "rouge_3", "rouge_4", "rouge_5", "rouge_l",
]  # fmt: skip


def installed(metric: str) -> bool:
    return metric not in NEEDS or importlib.util.find_spec(NEEDS[metric]) is not None


@pytest.mark.parametrize("metric", METRICS)
def test_metrics_equal_the_libraries(metric):
    if not installed(metric):
        pytest.skip(f"needs {NEEDS[metric]}")
    for text, reference, expected in CASES:
        assert math.isclose(similarity(metric, text, reference), expected[metric], abs_tol=1e-9), (
            text,
            reference,
        )


@pytest.mark.parametrize("metric", [*METRICS, "cosine"])
def test_equal_texts_are_most_similar_and_foreign_ones_least(metric):
    if not installed(metric):
        pytest.skip(f"needs {NEEDS[metric]}")
    text = "one two three four five six seven eight nine ten"
    assert similarity(metric, text, text) > 0.999
    assert similarity(metric, "ABC", "xyz") == 0
    assert similarity(metric, "", "xyz") == 0


def test_cosine_counts_words():
    assert math.isclose(similarity("cosine", "a b", "A b, b"), 3 / math.sqrt(10))
    assert similarity("cosine", "", "") == 0


@pytest.mark.parametrize("metric", METRICS)
def test_long_texts_are_refused(metric):
    with pytest.raises(GraderError, match="50000 characters"):
        similarity(metric, "x" * 50_001, "x")


@pytest.mark.parametrize(
    "metric", ["bleu", "rouge_5", "rouge_l", "cosine", "meteor", "gleu", "fuzzy_match"]
)
@pytest.mark.parametrize(
    "text", ["a " * 25_000, "." * 50_000, "ab" * 25_000, "'" * 50_000, "1-" * 25_000]
)
def test_hostile_texts_end(metric, text):
    if not installed(metric):
        pytest.skip(f"needs {NEEDS[metric]}")
    assert 0 <= similarity(metric, text, text[::-1]) <= 1


def test_a_metric_whose_library_is_missing_says_what_to_install(monkeypatch):
    def fail(name: str) -> None:
        raise ImportError(name)

    monkeypatch.setattr("tunesmith.graders.text_metrics.import_module", fail)
    with pytest.raises(GraderError, match=r"\[graders\]"):
        similarity("fuzzy_match", "a", "b")


def test_the_grader_of_similarity():
    grader = {
        "type": "text_similarity",
        "name": "close",
        "input": "{{ sample.output_text }}",
        "reference": "{{ item.answer }}",
        "evaluation_metric": "rouge_l",
        "pass_threshold": 0.8,
    }
    result = grade(grader, "the cat sat", {"answer": "the cat sat down"})
    assert math.isclose(result.reward, 6 / 7)
    assert result.passed is True
    assert grade(grader, "a dog", {"answer": "the cat"}).passed is False
