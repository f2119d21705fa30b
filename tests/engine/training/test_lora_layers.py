"""The adapter's layers against the plain formula, gradients included."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from tunesmith.engine.models.prepacked import can_prepack
from tunesmith.engine.training.lora_layers import LoraLinear, group_layers
from tunesmith.engine.training.optimizer import Optimizer


class Projections(nn.Module):
    """Three layers that read one input, as in attention."""

    def __init__(self, dtype, bias):
        super().__init__()
        for name, width in (("q_proj", 48), ("k_proj", 16), ("v_proj", 16)):
            layer = nn.Linear(32, width, bias=bias, dtype=dtype).requires_grad_(requires_grad=False)
            setattr(self, name, LoraLinear(layer, rank=4, alpha=8.0))
            nn.init.normal_(getattr(self, name).lora_b)

    def layers(self):
        return [self.q_proj, self.k_proj, self.v_proj]

    def forward(self, x):
        return [layer(x) for layer in self.layers()]

    def plain(self, x):
        """The same by its formula, in 32 bits."""
        return [
            nn.functional.linear(x, m.weight.float(), None if m.bias is None else m.bias.float())
            + m.scale * x @ m.lora_a.T @ m.lora_b.T
            for m in self.layers()
        ]


def gradients(module, x, forward):
    for parameter in module.parameters():
        if parameter.grad is not None:
            parameter.grad.zero_()
    inputs = x.clone().requires_grad_()
    outputs = forward(inputs)
    sum((y.float() * torch.linspace(-1, 1, y.shape[-1])).sum() for y in outputs).backward()
    kept = [p.grad.clone() for layer in module.layers() for p in (layer.lora_a, layer.lora_b)]
    return [y.detach().float() for y in outputs], [inputs.grad.float(), *kept]


@pytest.mark.parametrize("tokens", [5, 200])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("joined", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_outputs_and_gradients_are_those_of_the_formula(tokens, bias, joined, dtype):
    torch.manual_seed(0)
    module = Projections(dtype, bias)
    x = torch.randn(1, tokens, 32).to(dtype)
    expected = gradients(module, x.float(), module.plain)
    module.zero_grad(set_to_none=True)
    group_layers(module)
    if dtype == torch.bfloat16 and can_prepack(module.q_proj.weight):
        for layer in module.layers():
            layer.prepack()
    if joined:
        names = {
            f"{part}{n}": getattr(layer, f"lora_{part}")
            for part in "ab"
            for n, layer in enumerate(module.layers())
        }
        Optimizer(names, weight_decay=0.0, joined=True)
    got = gradients(module, x, module)
    tolerance = 1e-5 if dtype == torch.float32 else 2e-2
    for ours, reference in zip([*got[0], *got[1]], [*expected[0], *expected[1]], strict=True):
        assert (ours - reference).abs().max() <= tolerance * reference.abs().max()


def test_layers_that_read_different_inputs_are_computed_alone():
    torch.manual_seed(0)
    module = Projections(torch.float32, bias=False)
    group_layers(module)
    x, other = torch.randn(2, 1, 5, 32)
    q, k, v = (layer(y) for layer, y in zip(module.layers(), (x, other, x), strict=True))
    assert torch.allclose(q, module.plain(x)[0], atol=1e-5)
    assert torch.allclose(k, module.plain(other)[1], atol=1e-5)
    assert torch.allclose(v, module.plain(x)[2], atol=1e-5)
