"""Estimates count steps: many short ones take long although they compute little."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from tunesmith.engine.training.recipes import Work, choose_recipe, estimate_seconds


def small_model(device="cpu", dtype=torch.bfloat16):
    """The shape of SmolLM2-135M, without its values."""
    shapes = [(576, 576), (576, 192), (576, 192), (576, 576), (576, 1536), (576, 1536), (1536, 576)]
    layers = nn.ModuleList(
        nn.Sequential(*(nn.Linear(*shape, bias=False, device="meta") for shape in shapes))
        for _ in range(30)
    )
    head = nn.Linear(576, 49152, bias=False, device="meta")
    return SimpleNamespace(
        layers=layers,
        device=torch.device(device),
        dtype=dtype,
        whole=SimpleNamespace(get_output_embeddings=lambda: head),
        can_run_in_parts=lambda _tokens, _cut: True,
        linear_names=lambda: ("q_proj",),
    )


@pytest.mark.parametrize(("recipe", "seconds"), [("lora", 0.14), ("fast", 0.045)])
def test_a_step_of_a_few_tokens_takes_what_was_measured_within_a_factor_of_two(recipe, seconds):
    work = Work(epoch_tokens=140 * 18, epoch_steps=140, n_epochs=4, threads=1)
    estimate = estimate_seconds(small_model(), work, first=24)[recipe] / 560
    assert seconds / 2 <= estimate <= seconds * 2


def test_140_short_rows_one_a_step_take_the_fast_recipe_and_eight_a_step_all_layers():
    spec = SimpleNamespace(initial_adapter_path=None, recipe="auto", train_experts=False)
    one = choose_recipe(spec, small_model(), Work(140 * 18, 140, 4, threads=1))
    eight = choose_recipe(spec, small_model(), Work(140 * 18, 18, 4, threads=1))
    assert (one.recipe, eight.recipe) == ("fast", "lora")


@pytest.mark.parametrize("device", ["cuda", "mps"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_a_gpu_trains_all_layers_however_long_that_takes(device, dtype):
    spec = SimpleNamespace(initial_adapter_path=None, recipe="auto", train_experts=False)
    work = Work(10**9, 10**6, 3, threads=1)
    chosen = choose_recipe(spec, small_model(device, dtype), work)
    assert chosen.recipe == "lora"
    assert "hours" in chosen.reason
