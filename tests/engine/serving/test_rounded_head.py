"""An output layer in 8 bits finds the most likely token that the exact one has."""

from __future__ import annotations

import pytest

from tunesmith.engine.serving.generation import GenerationRequest


@pytest.fixture
def layer():
    import torch
    from torch import nn

    torch.manual_seed(3)
    layer = nn.Linear(96, 500, bias=False, dtype=torch.bfloat16)
    layer.weight.requires_grad_(requires_grad=False)
    layer.weight[7] *= 20  # one row much larger than the others
    return layer


def rounded(layer):
    from tunesmith.engine.serving.rounded_head import round_head

    head = round_head(layer)
    if head is None:
        pytest.skip("this PyTorch has no 8-bit products for this processor")
    return head


def test_no_logit_is_off_by_more_than_the_bound(layer):
    import torch

    head = rounded(layer)
    for scale in (1e-3, 1, 1e3):
        for _ in range(20):
            hidden = (torch.randn(96) * scale).to(torch.bfloat16)
            hidden[5] *= 30  # as some of a model's hidden states are
            exact = layer.weight.float() @ hidden.float()
            logits, bound = head.logits(hidden)
            assert float((logits - exact).abs().max()) <= bound
            assert bound < float(exact.abs().max())


def test_a_hidden_state_of_zeros_has_a_bound(layer):
    import torch

    logits, bound = rounded(layer).logits(torch.zeros(96, dtype=torch.bfloat16))
    assert not logits.any()
    assert 0 <= bound < 1e-6


def test_the_token_is_that_of_exact_logits(layer):
    """Penalties and a bias change logits before the most likely one is taken."""
    import torch

    from tunesmith.engine.serving.loaded_base import SelectiveLMHead
    from tunesmith.engine.serving.sampler import adjust_logits, most_likely, sample_token
    from tunesmith.engine.serving.sampling_state import SamplingState

    head = SelectiveLMHead(layer, rounded(layer))
    head.greedy = True
    state = SamplingState(temperature=0, frequency_penalty=0.01, presence_penalty=0.01)
    state.logit_bias = {3: 0.05, 4: -0.05}
    plain = SamplingState(temperature=0)
    for _ in range(100):
        hidden = torch.randn(1, 96).to(torch.bfloat16)
        exact = layer.weight.float() @ hidden[0].float()
        logits = head(hidden)
        [likeliest] = most_likely(logits, head.bound)
        for one in (plain, state):
            expected = int((adjust_logits(one, exact)).argmax())
            token = sample_token(
                logits[0], one, likeliest, lambda ids, h=hidden: head.logits_of(h[0], ids)
            )
            assert token == expected
            state.count(token)


def test_layers_that_it_cannot_take():
    import torch
    from torch import nn

    from tunesmith.engine.serving.rounded_head import round_head

    assert round_head(nn.Linear(96, 500, dtype=torch.bfloat16)) is None  # with a bias
    assert round_head(nn.Linear(96, 500, bias=False)) is None  # float32


def test_only_greedy_sequences_without_log_probabilities_use_it(tiny_base_model, monkeypatch):
    import torch

    from tunesmith.engine.serving.model_loader import load_base
    from tunesmith.engine.serving.rounded_head import RoundedHead, round_head
    from tunesmith.engine.serving.scheduler import Scheduler, SchedulerLimits, create_sequence_group

    base = load_base(tiny_base_model, tiny_base_model, torch.device("cpu"), torch.bfloat16)
    base.lm_head.rounded = round_head(base.lm_head.head)
    if base.lm_head.rounded is None:
        pytest.skip("this PyTorch has no 8-bit products for this processor")
    calls = []
    original = RoundedHead.logits
    monkeypatch.setattr(
        RoundedHead, "logits", lambda self, hidden: (calls.append(1), original(self, hidden))[1]
    )

    def answer(**fields):
        calls.clear()
        request = GenerationRequest(prompts=["I love this phone"], max_tokens=8, **fields)
        scheduler = Scheduler(base, SchedulerLimits())
        group = create_sequence_group(0, request, base, None)
        list(scheduler.add(group))
        while scheduler.busy:
            scheduler.step()
        return group.sequences[0].tokens, len(calls)

    tokens, count = answer(temperature=0)
    assert count
    assert answer(temperature=0, logprobs=1) == (tokens, 0)
    assert answer(temperature=1, seed=1)[1] == 0
