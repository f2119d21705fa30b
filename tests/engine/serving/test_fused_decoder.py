"""The fused decoder computes what plain transformers computes; 4-bit weights nearly so."""

from __future__ import annotations

import logging

import pytest

from tunesmith.engine.serving.generation import GenerationRequest

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
    "llama-scaled": {
        "rope_parameters": {"rope_type": "linear", "factor": 4.0, "rope_theta": 1e4},
    },
    "mistral": {"sliding_window": 5},
    "qwen2": {},
    "qwen3": {"head_dim": 32},
}


@pytest.fixture
def make_model():
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    def make(family, dtype=torch.float32):
        torch.manual_seed(5)
        config = AutoConfig.for_model(family.split("-")[0], **SMALL | FAMILIES[family])
        model = AutoModelForCausalLM.from_config(config).to(dtype).eval()
        return model.requires_grad_(requires_grad=False)

    return make


def hidden_states(model, decoder, tokens):
    """Return the states (B, T, D) of sequences: six tokens at once, then one at a time."""
    import torch

    from tunesmith.engine.serving.attention_mask import attention_mask
    from tunesmith.engine.serving.kv_cache import create_kv_cache
    from tunesmith.engine.serving.lora import MultiLora

    lora = MultiLora(model)
    cache = create_kv_cache(model.config, model.dtype, 1 << 30)
    batch, length = tokens.shape
    cache.reserve(batch, length)
    states = []
    with torch.inference_mode():
        for start, stop in [(0, 6), *((place, place + 1) for place in range(6, length))]:
            places = torch.arange(start, stop).unsqueeze(0)
            if start:
                places = places.expand(batch, -1)
                cache.prepare_decode(places[:, 0], stop)
            else:
                cache.prepare_prefill(0, batch, start, stop - start)
            mask = None
            if decoder.needs_mask(batch, start, stop - start):
                mask = attention_mask(model.config, places, stop, model.dtype)
            new = decoder.forward(tokens[:, start:stop], places, mask, cache, lora)
            states.append(new.view(batch, stop - start, -1))
    return torch.cat(states, dim=1)


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_it_equals_the_plain_model(make_model, family, batch):
    import torch

    from tunesmith.engine.serving.fused_decoder import fuse_decoder

    model = make_model(family)
    tokens = torch.randint(0, 64, (batch, 12))
    with torch.inference_mode():
        plain = model.model(input_ids=tokens).last_hidden_state
    decoder = fuse_decoder(model, "unquantized")
    assert decoder is not None
    fused = hidden_states(model, decoder, tokens)
    torch.testing.assert_close(fused, plain, rtol=1e-4, atol=1e-4)


def test_a_layer_that_computes_something_else_is_not_fused(make_model):
    from torch import nn

    from tunesmith.engine.serving.fused_decoder import fuse_decoder

    class Doubled(nn.Module):
        def __init__(self, norm):
            super().__init__()
            self.weight, self.variance_epsilon, self.norm = norm.weight, 1e-6, norm

        def forward(self, states):
            return 2 * self.norm(states)

    model = make_model("llama")
    last = model.model.layers[-1]
    last.input_layernorm = Doubled(last.input_layernorm)
    assert fuse_decoder(model, "unquantized") is None
    assert last.mlp.up_proj.weight.numel()


def test_other_families_are_not_fused(make_model):
    from tunesmith.engine.serving.fused_decoder import fuse_decoder

    model = make_model("llama")
    model.config.model_type = "granite"
    assert fuse_decoder(model, "unquantized") is None


def on_a_grid(model):
    """Make the weights of a model's layers 4-bit numbers in groups of 32, up to rounding."""
    from torch import nn

    for layer in model.model.layers.modules():
        if isinstance(layer, nn.Linear):
            grouped = layer.weight.float().view(layer.out_features, -1, 32)
            least, greatest = grouped.amin(-1, keepdim=True), grouped.amax(-1, keepdim=True)
            step = (greatest - least) / 15
            layer.weight.copy_((((grouped - least) / step).round() * step + least).flatten(1))
    return model


def quantizable(model):
    from torch import nn

    from tunesmith.engine.serving.packed_linear import can_quantize

    layers = [one for one in model.model.layers.modules() if type(one) is nn.Linear]
    if not can_quantize(layers):
        pytest.skip("this PyTorch has no 4-bit products for this processor")
    return layers


@pytest.mark.parametrize("family", ["llama", "qwen2"])
@pytest.mark.parametrize("batch", [1, 8])
def test_four_bit_weights_compute_nearly_the_same(make_model, family, batch):
    """One row takes the 4-bit product, eight take that of the numbers it stands for."""
    import torch

    from tunesmith.engine.serving.fused_decoder import fuse_decoder
    from tunesmith.engine.serving.packed_linear import quantization_error

    model = on_a_grid(make_model(family, torch.bfloat16))
    assert quantization_error(quantizable(model)) < 0.01
    tokens = torch.randint(0, 64, (batch, 12))
    with torch.inference_mode():
        plain = model.model(input_ids=tokens).last_hidden_state.float()
    decoder = fuse_decoder(model, "int4")
    assert decoder is not None
    fused = hidden_states(model, decoder, tokens).float()
    assert float((fused - plain).norm() / plain.norm()) < 0.03


def test_auto_quantizes_only_what_is_quantized_already(make_model, caplog):
    import torch

    from tunesmith.engine.serving import model_loader

    def choice(model, weights):
        return model_loader._weight_format(model, model.lm_head, weights, "tiny")

    plain = make_model("llama", torch.bfloat16)
    on_grid = on_a_grid(make_model("llama", torch.bfloat16))
    quantizable(plain)
    assert [choice(plain, weights) for weights in ("auto", "unquantized", "int4")] == [
        "unquantized",
        "unquantized",
        "int4",
    ]
    assert choice(on_grid, "auto") == "int4"
    assert choice(on_grid, "unquantized") == "unquantized"
    assert not caplog.records
    with caplog.at_level(logging.WARNING, logger="tunesmith.serving"):
        assert choice(make_model("llama"), "int4") == "unquantized"
    assert "unquantized weights" in caplog.text


@pytest.mark.parametrize("name", ["red", "blue"])
def test_an_adapter_gives_one_answer_alone_and_in_company(loaded, models, name):
    from tunesmith.engine.serving.scheduler import Scheduler, SchedulerLimits, create_sequence_group

    base, _ = loaded.get(models["tiny"])
    assert base.decoder is not None
    request = GenerationRequest(prompts=["I love this phone"], max_tokens=8, temperature=0)

    def answers(names):
        scheduler = Scheduler(base, SchedulerLimits())
        for number, one in enumerate(names):
            list(scheduler.add(create_sequence_group(number, request, *loaded.get(models[one]))))
        outputs = []
        while scheduler.busy:
            outputs += scheduler.step()
        return {names[number]: delta.text for number, delta in outputs}

    assert answers(["tiny", "red", "blue"])[name] == answers([name])[name]
