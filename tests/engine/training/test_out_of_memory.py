"""After an out-of-memory error the same step is done with less at a time, and told."""

from __future__ import annotations

import json

import pytest
import torch

from tunesmith.engine.domain.errors import TrainingError
from tunesmith.engine.training import train
from tunesmith.engine.training.loss import LossComputation

FAULT = "CUDA out of memory. Tried to allocate 2.00 GiB."


@pytest.fixture
def a_card_for(monkeypatch):
    """Return a function that makes passes with gradients fail as on a card that is too small."""
    plain = LossComputation.backward

    def make(fits):
        def backward(self, batch, hidden, weights):
            predictions = plain(self, batch, hidden, weights)  # gradients were added, in part
            if not fits(batch, self._model.layers[0]):
                raise torch.OutOfMemoryError(FAULT)
            return predictions

        monkeypatch.setattr(LossComputation, "backward", backward)

    return make


def is_recomputed(layer):
    return layer.forward.__name__ == "checkpointed"


def weights(outcome):
    from safetensors.torch import load_file

    return load_file(outcome.output_path / "adapter_model.safetensors")


@pytest.mark.parametrize("recipe", ["fast", "lora", "full"])
def test_half_the_tokens_at_a_time_gives_the_same_model_up_to_rounding(
    make_spec, recorder, a_card_for, recipe
):
    options = {"recipe": recipe, "batch_size": 8}
    plain = recorder()
    train(make_spec("plain", **options), plain)
    a_card_for(lambda batch, _layer: batch.inputs.shape[0] <= 2)
    small = recorder()
    train(make_spec("small", **options), small)
    for found, expected in zip(small.steps, plain.steps, strict=True):
        assert found.training_loss == pytest.approx(expected.training_loss, rel=0.02)
        assert found.elapsed_tokens == expected.elapsed_tokens
    messages = [message for key, message in small.notes if key.startswith("memory")]
    assert messages[0].startswith("Memory did not suffice for ")
    assert "is done again with at most" in messages[0]
    assert not [key for key, _ in plain.notes if key.startswith("memory")]


def test_one_example_at_a_time_then_recomputes_every_layer(make_spec, recorder, a_card_for):
    plain = train(make_spec("plain", recipe="lora", batch_size=1), recorder())
    a_card_for(lambda _batch, layer: is_recomputed(layer))
    observer = recorder()
    small = train(make_spec("small", recipe="lora", batch_size=1), observer)
    (message,) = [message for key, message in observer.notes if key.startswith("memory")]
    assert "activations of all 2 layers computed twice" in message
    expected = weights(plain)
    for name, found in weights(small).items():
        assert torch.allclose(found, expected[name], atol=1e-4), name


def test_preferences_whose_pairs_do_not_fit_recompute_every_layer(
    make_spec, recorder, a_card_for, make_file
):
    rows = [
        {
            "input": {"messages": [{"role": "user", "content": f"What of {n}?"}]},
            "preferred_output": [{"role": "assistant", "content": "Good."}],
            "non_preferred_output": [{"role": "assistant", "content": "Bad."}],
        }
        for n in range(4)
    ]
    a_card_for(lambda _batch, layer: is_recomputed(layer))
    observer = recorder()
    path = make_file("pairs.jsonl", rows)
    train(make_spec(recipe="lora", method="dpo", training_path=path), observer)
    assert any("computed twice" in message for _, message in observer.notes)


def test_what_does_not_fit_at_all_is_refused_with_the_way_out(make_spec, recorder, a_card_for):
    a_card_for(lambda _batch, _layer: False)
    with pytest.raises(TrainingError, match=r"one example of .* tokens.*Use shorter") as caught:
        train(make_spec(recipe="lora"), recorder())
    assert caught.value.code == "out_of_memory"


def test_a_resumed_training_keeps_to_what_it_came_down_to(make_spec, recorder, a_card_for):
    seen = []

    def fits(batch, _layer):
        seen.append(batch.inputs.shape[0])
        return batch.inputs.shape[0] <= 2

    a_card_for(fits)
    options = {"recipe": "lora", "batch_size": 8}
    uninterrupted = train(make_spec("uninterrupted", **options), recorder())
    spec = make_spec("stopped", **options)
    train(spec, recorder(stop_after=4))
    (state,) = (spec.work_path / "checkpoints").glob("step-4/state.json")
    tokens = json.loads(state.read_text())["max_tokens"]
    assert 0 < tokens < 100
    seen.clear()
    observer = recorder()
    resumed = train(spec, observer)
    assert max(seen) <= 2  # it did not fail again
    assert not [key for key, _ in observer.notes if key.startswith("memory")]
    expected = weights(uninterrupted)
    assert all(torch.equal(found, expected[name]) for name, found in weights(resumed).items())


def test_other_errors_are_not_tried_again(make_spec, recorder, monkeypatch):
    calls = []

    def backward(*_arguments):
        calls.append(1)
        raise RuntimeError("the shapes differ")

    monkeypatch.setattr(LossComputation, "backward", backward)
    with pytest.raises(RuntimeError, match="shapes differ"):
        train(make_spec(recipe="lora"), recorder())
    assert len(calls) == 1
