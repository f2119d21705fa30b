"""What a training needs is computed on the meta device, and what it takes is that."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch.profiler import ProfilerActivity, profile
from transformers import AutoModelForCausalLM, Qwen3Config

from tunesmith.engine.training.lora import AdapterConfig, add_adapter
from tunesmith.engine.training.memory_limit import recompute_layers
from tunesmith.engine.training.memory_plan import memory_needs, plan_memory
from tunesmith.engine.training.split_model import SplitModel


def config(**changes):
    values = {
        "vocab_size": 512,
        "hidden_size": 512,
        "intermediate_size": 1536,
        "num_hidden_layers": 1,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 128,
    }
    return Qwen3Config(**(values | changes))


def qwen3_8b():
    return config(
        vocab_size=151936,
        hidden_size=4096,
        intermediate_size=12288,
        num_hidden_layers=36,
        num_attention_heads=32,
        num_key_value_heads=8,
        tie_word_embeddings=False,
    )


def adapted(**changes):
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(
        config(**changes), dtype=torch.bfloat16, attn_implementation="sdpa"
    ).eval()
    split = SplitModel(model)
    add_adapter(split, AdapterConfig(16, 32.0, split.linear_names()))
    return split


def test_the_bytes_of_a_token_are_those_that_a_wide_layer_keeps():
    tokens, model = 1024, adapted()
    hidden = torch.randn(1, tokens, 512).bfloat16().requires_grad_()
    with torch.no_grad():
        positions = model.decoder.rotary_emb(hidden, torch.arange(tokens)[None])
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
        output = model.layers[0](hidden, attention_mask=None, position_embeddings=positions)
    kept = sum(event.self_cpu_memory_usage for event in profiled.events())
    kept += hidden.nbytes - output.nbytes  # it keeps its input, and nothing of its output
    assert memory_needs(config(), "lora").kept * tokens == pytest.approx(kept, rel=0.1)


def test_layers_that_are_computed_again_give_the_same_gradients():
    grads = []
    for count in (0, 2):
        model = adapted(num_hidden_layers=2)
        recompute_layers(model.layers[:count])
        tokens = torch.arange(40)[None]
        model.last_hidden(tokens, None, torch.arange(40)).float().square().sum().backward()
        parameters = (p for p in model.whole.parameters() if p.requires_grad)
        grads.append(torch.cat([p.grad.flatten() for p in parameters]))
    assert torch.equal(*grads)


def test_eight_billion_weights_on_three_cards():
    needs = memory_needs(qwen3_8b(), "lora")
    assert needs.weights == pytest.approx(16.4e9, rel=0.01)
    plans = [plan_memory(needs, size * 1e9, longest=2048) for size in (24, 48, 80)]
    assert all(plan.tokens >= 2048 for plan in plans)
    assert [plan.recomputed_layers > 0 for plan in plans] == [True, True, False]
    assert plans[2].reason.startswith("16.4 GB of weights, 7.3 MB a token: 7,6")
    four = memory_needs(qwen3_8b(), "qlora")
    assert four.weights == pytest.approx(6.1e9, rel=0.02)  # 7 billion in 4 bits, 1.2 in 16
    assert plan_memory(four, 12e9, longest=2048).tokens >= 2048
    full = memory_needs(qwen3_8b(), "full")
    assert plan_memory(full, 80e9, longest=2048).tokens == 0


# Shapes of Llama 3.2 1B, Qwen3 4B, 8B, 14B and 32B, and Llama 3.1 70B:
# vocabulary, hidden size, intermediate size, layers, heads, key heads,
# whether embeddings are tied, width of a head.
SHAPES = {
    "1B": (128256, 2048, 8192, 16, 32, 8, True, 64),
    "4B": (151936, 2560, 9728, 36, 32, 8, True, 128),
    "8B": (151936, 4096, 12288, 36, 32, 8, False, 128),
    "14B": (151936, 5120, 17408, 40, 40, 8, False, 128),
    "32B": (151936, 5120, 25600, 64, 64, 8, False, 128),
    "70B": (128256, 8192, 28672, 80, 64, 8, False, 128),
}
NAMES = (
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "tie_word_embeddings",
    "head_dim",
)


def table():
    """Return the lines of the table in docs/benchmarks/engine.md."""
    for name, shape in SHAPES.items():
        for recipe in ("lora", "qlora", "full"):
            needs = memory_needs(config(**dict(zip(NAMES, shape, strict=True))), recipe)
            cells = []
            for size, devices in ((24, 1), (48, 1), (80, 1), (80, 4)):
                if recipe == "qlora" and devices > 1:  # bitsandbytes' weights are not sharded
                    cells.append("–")  # noqa: RUF001 - as in the page
                    continue
                plan = plan_memory(needs, size * 1e9, longest=2048, devices=devices)
                fits = plan.tokens >= 2048
                cells.append(f"{plan.tokens:,} ({plan.recomputed_layers})" if fits else "no")
            yield f"| {name} | `{recipe}` | {needs.weights / 1e9:.1f} GB | {' | '.join(cells)} |"


def test_the_table_in_the_docs_is_what_is_planned():
    page = Path(__file__).parents[3] / "docs/benchmarks/engine.md"
    text = page.read_text(encoding="utf-8")
    missing = [line for line in table() if line not in text]
    assert not missing, "\n".join(table())
