"""Liger's kernels are applied by its own function on a GPU alone, and taken back where they differ.

Triton runs on GPUs only, so here its function is replaced by one that patches norms as Liger does.
"""

from __future__ import annotations

import sys
import types

import pytest
import torch
from transformers import AutoModelForCausalLM

from tunesmith.engine.training import liger
from tunesmith.engine.training.split_model import SplitModel

TOKENS = list(range(3, 35))


@pytest.fixture
def model(tiny_base_model):
    return SplitModel(AutoModelForCausalLM.from_pretrained(tiny_base_model).eval())


def install(monkeypatch, factor, calls):
    """Install a package that multiplies the results of norms by a factor."""

    def apply(whole, **options):
        calls.append(options)
        source = sys.modules[type(whole).__module__]
        source.LlamaRMSNorm = object
        for module in whole.modules():
            if type(module).__name__ == "LlamaRMSNorm":
                plain = module.forward
                module.forward = lambda x, plain=plain: plain(x) * factor

    package = types.ModuleType("liger_kernel.transformers.monkey_patch")
    package._apply_liger_kernel_to_instance = apply
    package.MODEL_TYPE_TO_APPLY_LIGER_FN = {"llama": apply}
    monkeypatch.setitem(sys.modules, package.__name__, package)
    monkeypatch.setattr(liger, "find_spec", lambda _name: object())


def on_a_gpu(model, monkeypatch):
    monkeypatch.setattr(liger, "import_module", lambda name: sys.modules[name])
    plain = liger._logits_and_gradients

    def on_the_processor(model, tokens):
        model.device = torch.device("cpu")
        try:
            return plain(model, tokens)
        finally:
            model.device = torch.device("cuda")

    monkeypatch.setattr(liger, "_logits_and_gradients", on_the_processor)
    model.device = torch.device("cuda")


def test_on_a_processor_it_is_never_used(model, monkeypatch):
    calls = []
    install(monkeypatch, 1.0, calls)
    assert not liger.apply_liger(model, TOKENS)
    assert not calls


def test_norms_and_activations_but_not_its_losses_are_applied(model, monkeypatch):
    from transformers.models.llama import modeling_llama

    calls = []
    monkeypatch.setattr(modeling_llama, "LlamaRMSNorm", modeling_llama.LlamaRMSNorm)
    install(monkeypatch, 1.0, calls)
    on_a_gpu(model, monkeypatch)
    assert liger.apply_liger(model, TOKENS)
    assert calls[0]["rms_norm"]
    assert not calls[0]["cross_entropy"]
    assert not calls[0]["fused_linear_cross_entropy"]


def test_kernels_that_compute_something_else_are_taken_back(model, monkeypatch):
    from transformers.models.llama import modeling_llama

    norm = modeling_llama.LlamaRMSNorm
    tokens = torch.tensor([TOKENS])
    before = model.whole(input_ids=tokens).logits
    install(monkeypatch, 1.5, [])
    on_a_gpu(model, monkeypatch)
    assert not liger.apply_liger(model, TOKENS)
    assert torch.equal(model.whole(input_ids=tokens).logits, before)
    assert modeling_llama.LlamaRMSNorm is norm


def test_a_family_that_it_does_not_know_is_left_alone(model, monkeypatch):
    calls = []
    install(monkeypatch, 1.0, calls)
    on_a_gpu(model, monkeypatch)
    model.whole.config.model_type = "another"
    assert not liger.apply_liger(model, TOKENS)
    assert not calls
