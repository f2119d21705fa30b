# ruff: noqa: S311 - sampling, not secrecy
"""Choices follow the distribution that was asked for, and scores are exact."""

from __future__ import annotations

import math
from collections import Counter
from random import Random

import pytest
import torch

from tunesmith.engine.serving.sampler import adjusted, choose_tokens, score_tokens
from tunesmith.engine.serving.sampling_state import Sampler

PROBABILITIES = [0.4, 0.3, 0.2, 0.1]
LOGITS = torch.tensor(PROBABILITIES).log()


def frequencies(draws=4000, **options):
    sampler = Sampler(random=Random(7), **options)
    counts = Counter(choose_tokens(LOGITS.unsqueeze(0), [sampler])[0] for _ in range(draws))
    return [counts[token] / draws for token in range(4)]


def test_temperature_one_draws_from_the_distribution():
    assert frequencies() == pytest.approx(PROBABILITIES, abs=0.03)


def test_temperature_sharpens():
    weights = [p**2 for p in PROBABILITIES]
    expected = [weight / sum(weights) for weight in weights]
    assert frequencies(temperature=0.5) == pytest.approx(expected, abs=0.03)


@pytest.mark.parametrize(
    ("top_p", "kept"), [(0.0, 1), (0.39, 1), (0.41, 2), (0.69, 2), (0.71, 3), (0.95, 4)]
)
def test_the_nucleus_is_the_smallest_that_reaches_its_mass(top_p, kept):
    mass = sum(PROBABILITIES[:kept])
    expected = [p / mass if place < kept else 0 for place, p in enumerate(PROBABILITIES)]
    assert frequencies(top_p=top_p) == pytest.approx(expected, abs=0.03)


def test_a_nucleus_wider_than_the_first_look():
    logits = torch.zeros(1, 2000)
    sampler = Sampler(top_p=0.5, random=Random(1))
    assert len({choose_tokens(logits, [sampler])[0] for _ in range(500)}) > 300


def test_temperature_zero_takes_the_likeliest():
    assert choose_tokens(LOGITS.expand(3, 4), [Sampler(temperature=0)] * 3) == [0, 0, 0]


def test_penalties_count_what_was_generated():
    sampler = Sampler(temperature=0, presence_penalty=0.2, frequency_penalty=0.1)
    chosen = []
    for _ in range(4):
        [token] = choose_tokens(LOGITS.unsqueeze(0), [sampler])
        sampler.saw(token)
        chosen.append(token)
    assert chosen[:2] == [0, 1]  # 0.4 → 0.4·e^-0.3 = 0.296, just below 0.3
    logits = adjusted(sampler, LOGITS)
    for token, count in sampler.counts.items():
        assert float(logits[token]) == pytest.approx(float(LOGITS[token]) - 0.2 - 0.1 * count)


def test_bias_and_grammar():
    biased = Sampler(temperature=0, logit_bias={3: 100})
    assert choose_tokens(LOGITS.unsqueeze(0), [biased]) == [3]
    held = Sampler(allowed=torch.tensor([False, False, True, False]))
    assert choose_tokens(LOGITS.unsqueeze(0), [held]) == [2]


def test_scores():
    [score] = score_tokens(LOGITS.unsqueeze(0) + 5, [1], rivals=2)
    assert score.logprob == pytest.approx(math.log(0.3), abs=1e-6)
    assert [token for token, _ in score.top] == [0, 1]
    impossible = torch.tensor([[0.0, float("-inf")]])
    assert score_tokens(impossible, [1], rivals=0)[0].logprob == -9999.0
