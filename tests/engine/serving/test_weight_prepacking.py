"""Prepacked layers compute what plain ones compute, with adapters, too."""

from __future__ import annotations

import copy

import pytest


@pytest.fixture
def layers():
    import torch
    from torch import nn

    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(64, 96), nn.Linear(96, 32, bias=False)).bfloat16().eval()


@pytest.mark.parametrize("shape", [(1, 64), (7, 64), (40, 64), (3, 5, 64)])
def test_prepacked_layers_compute_the_same(layers, shape):
    import torch

    from tunesmith.engine.serving.weight_prepacking import prepack_linear_layers

    plain = copy.deepcopy(layers)
    prepack_linear_layers(layers, keep=layers[1])
    inputs = torch.randn(shape).bfloat16()
    with torch.inference_mode():
        torch.testing.assert_close(layers(inputs), plain(inputs), rtol=2e-2, atol=2e-2)
    assert layers[1].weight.numel() == 96 * 32
    assert layers[0].weight.dtype == torch.bfloat16
    assert (layers[0].in_features, layers[0].out_features) == (64, 96)


def test_hooks_on_prepacked_layers_are_called(layers):
    import torch

    from tunesmith.engine.serving.weight_prepacking import prepack_linear_layers

    seen = []
    layers[0].register_forward_hook(lambda _module, args, output: seen.append((args, output)))
    prepack_linear_layers(layers)
    with torch.inference_mode():
        layers(torch.ones(2, 64).bfloat16())
    assert [output.shape for _, output in seen] == [(2, 96)]


def test_float32_layers_stay_as_they_are():
    from torch import nn

    from tunesmith.engine.serving.weight_prepacking import prepack_linear_layers

    layer = nn.Linear(8, 8)
    prepack_linear_layers(layer)
    assert "forward" not in vars(layer)
    assert layer.weight.numel() == 64


@pytest.mark.parametrize("name", ["tiny", "red"])
def test_bf16_scores_are_near_those_of_float32(ask, plain, models, loaded, name):
    import torch

    loaded.dtype = torch.bfloat16
    fields = {"prompts": ["I love this phone ->"], "max_tokens": 0, "echo": True, "logprobs": 0}
    [[delta]] = ask((name, fields))
    from transformers import AutoTokenizer

    ids = AutoTokenizer.from_pretrained(models["tiny"].base_path).encode(delta.text)
    expected = plain(name, ids)
    assert [token.logprob for token in delta.tokens[1:]] == pytest.approx(
        [float(expected[place][token]) for place, token in enumerate(ids[1:])], abs=0.15
    )
