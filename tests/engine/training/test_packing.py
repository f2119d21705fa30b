"""Packed examples have the losses and gradients of padded ones, and none sees another."""

from __future__ import annotations

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from families import write_family
from tunesmith.engine.training import preparation, train
from tunesmith.engine.training.batches import micro_batches
from tunesmith.engine.training.examples import read_examples, tokenizer_template
from tunesmith.engine.training.lora import AdapterConfig, add_adapter
from tunesmith.engine.training.loss import ExampleSet, LossComputation
from tunesmith.engine.training.memory_limit import MemoryLimit
from tunesmith.engine.training.model_proof import can_pack, packs_exactly
from tunesmith.engine.training.split_model import SplitModel

pytestmark = pytest.mark.slow
TOKENS = list(range(3, 35))


def model_of(family, folder, tokenizer_folder):
    path = write_family(family, folder / family, tokenizer_folder)
    return SplitModel(AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32).eval())


@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.parametrize("family", ["llama", "qwen3", "mistral", "phi3", "olmo2", "mixtral"])
def test_packed_and_padded_batches_have_the_same_losses_and_gradients(  # noqa: PLR0917
    family, recompute, tmp_path, tiny_base_model, rows, make_file
):
    tokenizer = AutoTokenizer.from_pretrained(tiny_base_model)
    examples = read_examples(
        make_file("rows.jsonl", [*rows(5), {"prompt": "so ->", "completion": " a game " * 9}]),
        tokenizer,
        tokenizer_template(tokenizer, []),
        prompt_loss_weight=0.1,
        max_tokens=200,
        code="invalid_training_file",
    )
    results = []
    for packed in (False, True):
        model = model_of(family, tmp_path / str(packed), tiny_base_model)
        adapter = add_adapter(model, AdapterConfig(4, 8.0, model.linear_names()), seed=1)
        generator = torch.Generator().manual_seed(2)
        for _, b in adapter.matrices.values():
            b.data.copy_(torch.randn(b.shape, generator=generator) * 0.02)
        limit = MemoryLimit(model.layers, 10**6)
        limit.recompute(len(model.layers) if recompute else 0)
        computation = LossComputation(model, limit, packed=packed)
        batch = computation.collate(ExampleSet(examples), range(len(examples)))
        assert batch.inputs.shape[0] == (1 if packed else len(examples))
        hidden = computation.hidden(batch)
        losses = computation.backward(batch, hidden, batch.weights).losses
        gradients = [p.grad.flatten() for pair in adapter.matrices.values() for p in pair]
        results.append((torch.from_numpy(losses), torch.cat(gradients)))
    (padded, packed) = results
    assert torch.allclose(packed[0], padded[0], atol=1e-5)
    assert torch.allclose(packed[1], padded[1], atol=1e-5 * float(padded[1].abs().max()) + 1e-6)


@pytest.mark.parametrize("family", ["llama", "mistral", "starcoder2"])
def test_a_model_whose_attention_ends_with_its_sequence_packs(family, tmp_path, tiny_base_model):
    assert packs_exactly(model_of(family, tmp_path, tiny_base_model), TOKENS)


@pytest.mark.parametrize("family", ["lfm2", "qwen3_5_text", "bloom", "gptj"])
def test_a_model_that_carries_a_state_or_has_its_own_attention_does_not_pack(
    family, tmp_path, tiny_base_model
):
    model = model_of(family, tmp_path, tiny_base_model)
    try:
        exact = packs_exactly(model, TOKENS)
    except Exception:  # noqa: BLE001 - it cannot be run so at all
        exact = False
    assert not exact


def test_without_a_kernel_nothing_is_packed(tmp_path, tiny_base_model):
    assert not can_pack(model_of("llama", tmp_path, tiny_base_model), TOKENS)


def test_a_packed_part_counts_its_tokens_and_no_padding():
    lengths = [10, 2, 2, 2]
    assert list(micro_batches(range(4), lengths, 16)) == [[1, 2, 3], [0]]
    assert list(micro_batches(range(4), lengths, 16, packed=True)) == [[1, 2, 3, 0]]


@pytest.mark.parametrize("recipe", ["fast", "lora"])
def test_a_training_of_packed_examples_ends_as_one_of_padded_ones(
    make_spec, recorder, monkeypatch, recipe
):
    padded, packed = recorder(), recorder()
    train(make_spec("padded", recipe=recipe), padded)
    monkeypatch.setattr(preparation, "can_pack", lambda _model, _tokens: True)
    train(make_spec("packed", recipe=recipe), packed)
    assert any("packed without padding" in message for _, message in packed.notes)
    for found, expected in zip(packed.steps, padded.steps, strict=True):
        assert found.training_loss == pytest.approx(expected.training_loss, rel=0.05, abs=0.02)
