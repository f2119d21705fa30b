from __future__ import annotations

import pytest

from tunesmith.datasets import tokens
from tunesmith.datasets.dataset_errors import DatasetError
from tunesmith.datasets.training_defaults import default_batch_size, default_epochs


@pytest.mark.parametrize(
    ("rows", "epochs"),
    [(1, 25), (10, 10), (20, 5), (33, 3), (34, 3), (5_000, 3), (8_334, 2), (12_501, 1), (10**6, 1)],
)
def test_the_jobs_api_chooses_epochs_by_the_cookbook_s_rule(rows, epochs):
    assert default_epochs(rows) == epochs


@pytest.mark.parametrize(("rows", "batch"), [(1, 1), (500, 1), (2_000, 4), (10**6, 256)])
def test_a_batch_is_a_fifth_of_a_percent(rows, batch):
    assert default_batch_size(rows) == batch


def test_an_estimate_adds_up_with_rows_cut_at_the_limit():
    found = tokens.estimate(
        [100, 300, 5_000], n_epochs=4, batch_size=2, token_limit=2_048, price_per_million=2.0
    )
    assert (found.tokens, found.truncated_rows) == (2_448, 1)
    assert (found.steps, found.billed_tokens) == (8, 9_792)
    assert found.cost == pytest.approx(0.019584)


def test_the_legacy_api_trains_four_epochs():
    found = tokens.estimate([10] * 2_000, n_epochs="legacy")
    assert (found.n_epochs, found.batch_size, found.steps, found.cost) == (4, 4, 2_000, None)


def test_impossible_options_are_an_error():
    with pytest.raises(DatasetError, match="at least 1"):
        tokens.estimate([1], n_epochs=0)


def test_a_conversation_is_its_texts_and_the_marks_around_them():
    messages = [
        {"role": "system", "content": "You are kind."},
        {"role": "user", "content": [{"type": "text", "text": "Hello"}], "name": "Ann"},
        {"role": "assistant", "content": None, "tool_calls": [], "weight": 1},
    ]
    texts = ("system", "You are kind.", "user", "Hello", "Ann", "assistant")
    expected = 3 + 3 * 3 + 1 + sum(tokens.count(text, "gpt-4o") for text in texts)
    assert tokens.estimate_message_tokens(messages, "ft:gpt-4.1-mini:org::id") == expected
