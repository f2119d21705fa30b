"""Compiled code for one token computes what the fused decoder and the plain model compute."""

from __future__ import annotations

import copy
import importlib.util
import sys

import pytest
from tests.engine.serving.test_fused_decoder import hidden_states, on_a_grid, quantizable

SMALL = {
    "vocab_size": 64,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
}
FAMILIES = {
    "llama": {},
    "llama-scaled": {"rope_parameters": {"rope_type": "linear", "factor": 4.0, "rope_theta": 1e4}},
    "mistral": {"sliding_window": None},
    "qwen2": {},
    "qwen3": {"head_dim": 32},
}
with_numba = pytest.mark.skipif(
    importlib.util.find_spec("numba") is None, reason="numba is not installed"
)


def small_model(family):
    """Return a model in bfloat16, with norms and biases that are not 1 and 0."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(5)
    config = AutoConfig.for_model(family.split("-")[0], **SMALL | FAMILIES[family])
    model = AutoModelForCausalLM.from_config(config).to(torch.bfloat16).eval()
    model.requires_grad_(requires_grad=False)
    for name, parameter in model.named_parameters():
        if "norm" in name:
            parameter.uniform_(0.5, 1.5)
        if "bias" in name:
            parameter.uniform_(-0.2, 0.2)
    return model


def fused(model, weights="unquantized"):
    from tunesmith.engine.serving.fused_decoder import fuse_decoder

    decoder = fuse_decoder(model, weights)
    assert decoder is not None
    return decoder


def error(found, expected):
    return float((found.float() - expected).norm() / expected.norm())


@with_numba
@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_it_equals_the_plain_model(family, batch):
    """It rounds less than PyTorch's operations in bfloat16, so it is no further from float32."""
    import torch

    model = small_model(family)
    exact = copy.deepcopy(model).float()
    tokens = torch.randint(0, 64, (batch, 40))
    with torch.inference_mode():
        expected = exact.model(input_ids=tokens).last_hidden_state
    decoder = fused(model)
    assert decoder.compiled is not None
    compiled = error(hidden_states(model, decoder, tokens)[:, 6:], expected[:, 6:])
    decoder.compiled = None
    plain = error(hidden_states(model, decoder, tokens)[:, 6:], expected[:, 6:])
    assert compiled < min(0.01, 1.1 * plain)


@with_numba
@pytest.mark.parametrize("family", ["llama", "qwen2"])
def test_four_bit_weights_are_the_same_numbers(family):
    import torch

    model = on_a_grid(small_model(family))
    quantizable(model)
    tokens = torch.randint(0, 64, (1, 24))
    decoder = fused(model, "int4")
    assert decoder.compiled is not None
    compiled = hidden_states(model, decoder, tokens)
    decoder.compiled = None
    assert error(compiled, hidden_states(model, decoder, tokens).float()) < 0.01


def random_adapter(model, modules, rank):
    import torch

    from tunesmith.engine.serving.lora import LoraAdapter

    weights = {}
    for name, module in model.named_modules():
        if name.endswith(modules):
            a = torch.randn(rank, module.in_features) / 8
            b = torch.randn(module.out_features, rank) / 8
            weights[name] = a.to(torch.bfloat16), b.to(torch.bfloat16)
    return LoraAdapter(weights)


@with_numba
def test_adapters_of_some_modules_and_any_rank():
    """Two sequences with different adapters, of which one leaves most modules alone."""
    import torch

    from tunesmith.engine.serving.kv_cache import create_kv_cache
    from tunesmith.engine.serving.lora import MultiLora

    model = small_model("llama")
    adapters = [
        random_adapter(model, ("1.self_attn.k_proj", "2.mlp.up_proj"), 3),
        random_adapter(model, ("_proj",), 16),
    ]
    decoder, lora = fused(model), MultiLora(model)
    compiled = decoder.compiled
    tokens = torch.tensor([[5], [9]])
    states = []
    for decoder.compiled in (None, compiled):
        lora.set_active(adapters)
        cache = create_kv_cache(model.config, model.dtype, 1 << 30)
        cache.reserve(2, 8)
        places = torch.arange(4).unsqueeze(0)
        with torch.inference_mode():
            from tunesmith.engine.serving.attention_mask import attention_mask

            cache.prepare_prefill(0, 2, 0, 4)
            mask = attention_mask(model.config, places, 4, model.dtype)
            prompts = torch.tensor([[1, 2, 3, 4], [4, 3, 2, 1]])
            decoder.forward(prompts, places, mask, cache, lora)
            cache.prepare_decode(torch.tensor([4, 4]), 5)
            place = torch.tensor([[4], [4]])
            mask = attention_mask(model.config, place, 5, model.dtype)
            states.append(decoder.forward(tokens, place, mask, cache, lora).float())
    assert error(states[1], states[0]) < 0.02
    lora.set_active([None, None])
    with torch.inference_mode():
        plain = decoder.forward(tokens, place, mask, cache, lora).float()
    assert error(states[1], plain) > 0.1


def test_without_numba_the_decoder_runs_as_it_is(monkeypatch):
    monkeypatch.setitem(sys.modules, "numba", None)
    monkeypatch.delitem(sys.modules, "tunesmith.engine.serving.compiled_kernels", raising=False)
    assert fused(small_model("llama")).compiled is None


@with_numba
def test_a_large_model_is_left_to_products_of_all_threads(monkeypatch):
    from tunesmith.engine.serving import compiled_decoder

    monkeypatch.setattr(compiled_decoder, "MOST_BYTES", 1000)
    assert fused(small_model("llama")).compiled is None


@with_numba
def test_code_that_computes_something_else_is_not_used(monkeypatch, caplog):
    from tunesmith.engine.serving import fused_decoder

    monkeypatch.setattr(fused_decoder, "find_kernel", lambda _count: lambda *_arguments: None)
    assert fused(small_model("llama")).compiled is None
    assert "does not compute" in caplog.text


def test_compiled_code_is_tried_on_an_ordinary_text(monkeypatch, tiny_base_model):
    """On a row of special tokens bfloat16 rounds by more than the check allows."""
    import torch
    from transformers import AutoTokenizer

    from tunesmith.engine.serving import model_loader
    from tunesmith.engine.training.model_proof import proof_tokens

    texts = []
    monkeypatch.setattr(model_loader, "fuse_decoder", lambda *arguments: texts.append(arguments[2]))
    model_loader.load_base(tiny_base_model, tiny_base_model, torch.device("cpu"), torch.bfloat16)
    assert texts == [proof_tokens(AutoTokenizer.from_pretrained(tiny_base_model))]
