# ruff: noqa: S311 - sampling, not secrecy
"""Samples follow the requested distribution, and log probabilities are exact."""

from __future__ import annotations

import functools
import math
from collections import Counter
from random import Random

import pytest

from tunesmith.engine.serving.sampling_state import SamplingState

PROBABILITIES = [0.4, 0.3, 0.2, 0.1]


@functools.cache
def model_logits():
    import torch

    return torch.tensor(PROBABILITIES).log()


def sample_tokens(logits, states):
    from tunesmith.engine.serving.sampler import most_likely, sample_token

    rows = zip(logits, states, most_likely(logits), strict=True)
    return [sample_token(*row) for row in rows]


def frequencies(draws=4000, **options):
    state = SamplingState(random=Random(7), **options)
    counts = Counter(sample_tokens(model_logits().unsqueeze(0), [state])[0] for _ in range(draws))
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


def test_a_nucleus_wider_than_the_candidates():
    import torch

    logits = torch.zeros(1, 2000)
    state = SamplingState(top_p=0.5, random=Random(1))
    assert len({sample_tokens(logits, [state])[0] for _ in range(500)}) > 300


def test_temperature_zero_takes_the_most_likely():
    assert sample_tokens(model_logits().expand(3, 4), [SamplingState(temperature=0)] * 3) == [
        0,
        0,
        0,
    ]


def test_penalties_count_what_was_generated():
    from tunesmith.engine.serving.sampler import adjust_logits

    state = SamplingState(temperature=0, presence_penalty=0.2, frequency_penalty=0.1)
    chosen = []
    for _ in range(4):
        [token] = sample_tokens(model_logits().unsqueeze(0), [state])
        state.count(token)
        chosen.append(token)
    assert chosen[:2] == [0, 1]  # 0.4 → 0.4·e^-0.3 = 0.296, just below 0.3
    logits = adjust_logits(state, model_logits())
    for token, count in state.counts.items():
        assert float(logits[token]) == pytest.approx(
            float(model_logits()[token]) - 0.2 - 0.1 * count
        )


def test_bias_and_grammar():
    import torch

    biased = SamplingState(temperature=0, logit_bias={3: 100})
    assert sample_tokens(model_logits().unsqueeze(0), [biased]) == [3]
    held = SamplingState(allowed=torch.tensor([False, False, True, False]))
    assert sample_tokens(model_logits().unsqueeze(0), [held]) == [2]


def test_scores():
    import torch

    from tunesmith.engine.serving.sampler import compute_logprobs

    [score] = compute_logprobs(model_logits().unsqueeze(0) + 5, [1], top_logprobs=2)
    assert score.logprob == pytest.approx(math.log(0.3), abs=1e-6)
    assert [token for token, _ in score.top] == [0, 1]
    impossible = torch.tensor([[0.0, float("-inf")]])
    assert compute_logprobs(impossible, [1], top_logprobs=0)[0].logprob == -9999.0


@pytest.mark.parametrize("temperature", [1e-45, 1e-30, 1e-6, 1e-3])
@pytest.mark.parametrize("top_p", [0.0, 0.5, 1.0])
def test_a_temperature_near_zero_takes_the_most_likely(temperature, top_p):
    state = SamplingState(temperature=temperature, top_p=top_p, random=Random(3))
    assert sample_tokens(1000 * model_logits().unsqueeze(0), [state]) == [0]


def test_rounded_logits_give_the_token_of_exact_ones():
    import torch

    from tunesmith.engine.serving.sampler import most_likely, sample_token

    generator = torch.Generator().manual_seed(5)
    close = 0
    for scale in (0.01, 1.0, 30.0):
        exact = scale * torch.randn(200, 5000, generator=generator)
        exact[:, 7] = exact.max(dim=-1).values * (1 + 1e-3 * torch.rand(200, generator=generator))
        rounded = exact.bfloat16().float()
        candidates = most_likely(rounded)
        close += sum(one.is_close for one in candidates)
        for row, likeliest in enumerate(candidates):
            state = SamplingState(temperature=0)
            token = sample_token(rounded[row], state, likeliest, exact[row].__getitem__)
            assert token == int(exact[row].argmax())
    assert close > 100
