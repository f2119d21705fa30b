"""AdamW with its moments in 8 bits: near the one in 32, resumed exactly, chosen by memory."""

from __future__ import annotations

import pytest
import torch
from transformers import AutoConfig

from tunesmith.engine.training import recipe_rules, train
from tunesmith.engine.training.memory_choice import MemoryChoice
from tunesmith.engine.training.memory_plan import memory_needs, usable
from tunesmith.engine.training.optimizer import Optimizer

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        recipe_rules.why_no_four_bits() is not None, reason="bitsandbytes is not installed"
    ),
]


def parameters():
    generator = torch.Generator().manual_seed(1)
    sizes = {"large": (96, 64), "small": (64,)}
    return {
        name: torch.nn.Parameter(torch.randn(size, generator=generator))
        for name, size in sizes.items()
    }


def steps(optimizer, trained, first, last):
    for step in range(first, last):
        generator = torch.Generator().manual_seed(step)
        for parameter in trained.values():
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.grad = parameter.detach() + 0.1 * noise
        optimizer.step(0.01)


def test_its_steps_are_near_those_in_32_bits():
    found, expected = parameters(), parameters()
    start = {name: value.detach().clone() for name, value in found.items()}
    for trained, eight_bits in ((found, True), (expected, False)):
        optimizer = Optimizer(trained, weight_decay=0.01, joined=False, eight_bits=eight_bits)
        steps(optimizer, trained, 0, 20)
    for name in found:
        moved = (expected[name] - start[name]).norm()
        assert (found[name] - expected[name]).norm() < 0.05 * moved


def test_its_state_is_restored_exactly():
    whole = parameters()
    optimizer = Optimizer(whole, weight_decay=0.01, joined=False, eight_bits=True)
    steps(optimizer, whole, 0, 5)
    state = {name: value.clone() for name, value in optimizer.state().items()}
    steps(optimizer, whole, 5, 9)
    again = parameters()
    resumed = Optimizer(again, weight_decay=0.01, joined=False, eight_bits=True)
    resumed.load_state(state)
    steps(resumed, again, 5, 9)
    assert all(torch.equal(again[name], whole[name]) for name in whole)


def test_it_is_chosen_where_the_one_in_32_bits_does_not_fit(
    make_spec, recorder, tmp_path, tiny_base_model
):
    from families import write_family

    changes = {"hidden_size": 256, "intermediate_size": 512}
    base = write_family("llama", tmp_path / "wide", tiny_base_model, **changes)
    config = AutoConfig.from_pretrained(base)
    least = []
    for optimizer in ("adamw_8bit", "adamw"):
        needs = memory_needs(config, "full", optimizer=optimizer)
        least.append((needs.fixed + 20 * needs.per_token(needs.layers)) / usable(1.0))
    budget = int(sum(least) / 2)
    assert MemoryChoice(config, 20, budget).fit("full", "fast").optimizer == "adamw_8bit"
    options = {"base_path": base, "recipe": "full", "memory_bytes": budget, "n_epochs": 1}
    observer = recorder()
    whole = train(make_spec("whole", **options), observer)
    assert any("moments in 8 bits" in message for _, message in observer.notes)
    train(make_spec("stopped", **options), recorder(stop_after=4))
    # More memory is free now; the optimizer is still that of the checkpoint.
    resumed = train(make_spec("stopped", **(options | {"memory_bytes": 10 * budget})), recorder())
    assert resumed.results_path.read_bytes() == whole.results_path.read_bytes()
