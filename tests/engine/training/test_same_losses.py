"""The steps of a training against plain transformers, PEFT and torch.optim.AdamW."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tunesmith.engine.training import preparation, train
from tunesmith.engine.training.batches import epoch_batches
from tunesmith.engine.training.hyperparameters import learning_rate_at
from tunesmith.engine.training.lora import add_adapter
from tunesmith.engine.training.model_proof import find_fault
from tunesmith.engine.training.preparation import Preparation
from tunesmith.engine.training.split_model import load_split_model
from tunesmith.engine.training.work_folder import WorkFolder

MULTIPLIER = 20.0
RATE = 5e-4 * MULTIPLIER
CPU = torch.device("cpu")


@pytest.fixture
def in_32_bits(monkeypatch):
    monkeypatch.setattr(preparation, "best_dtype", lambda _device: torch.float32)


def plain_losses(spec, prepared):
    """Return the losses of a training loop in which nothing is the engine's own but the data.

    Data are the tokens, the batches, the initial values and the schedule.
    """
    from peft import LoraConfig, get_peft_model, set_peft_model_state_dict
    from transformers import AutoModelForCausalLM

    config, examples = prepared.recipe.adapter, prepared.data.train
    start = add_adapter(
        load_split_model(spec.base_path, torch.float32, CPU), config, seed=spec.seed
    )
    base = AutoModelForCausalLM.from_pretrained(
        spec.base_path, dtype=torch.float32, attn_implementation="eager"
    ).eval()
    targets = sorted(start.matrices)
    model = get_peft_model(
        base,
        LoraConfig(
            r=config.rank, lora_alpha=config.alpha, target_modules=targets, task_type="CAUSAL_LM"
        ),
    ).eval()
    set_peft_model_state_dict(model, {n: p.detach() for n, p in start.parameters().items()})
    trained = [p for p in model.parameters() if p.requires_grad]
    assert len(trained) == 2 * len(targets)
    optimizer = torch.optim.AdamW(trained, lr=0.0, weight_decay=0.0, foreach=False, fused=False)
    lengths = [len(example) for example in examples]
    batches = [
        batch
        for epoch in range(spec.n_epochs)
        for batch in epoch_batches(lengths, spec.batch_size, seed=spec.seed, epoch=epoch)
    ]
    losses = []
    for step, batch in enumerate(batches, 1):
        rows = [examples[index] for index in batch]
        shape = len(rows), max(map(len, rows))
        inputs, labels, mask = (np.full(shape, fill, dtype=np.int64) for fill in (0, -100, 0))
        for row, example in enumerate(rows):
            length = len(example)
            inputs[row, :length], mask[row, :length] = example.tokens, 1
            labels[row, :length] = np.where(example.scored, example.tokens, -100)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate_at(step, len(batches), RATE)
        loss = model(
            input_ids=torch.from_numpy(inputs),
            attention_mask=torch.from_numpy(mask),
            labels=torch.from_numpy(labels),
        ).loss
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        losses.append(loss.item())
    return losses


# Batches of 1 and 4 are computed by the layers' small products, those of 16 by the others.
@pytest.mark.slow
@pytest.mark.usefixtures("in_32_bits")
@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning")
@pytest.mark.parametrize("recipe", ["lora", "fast"])
@pytest.mark.parametrize(("batch_size", "epochs"), [(1, 1), (4, 2), (16, 7)])
def test_the_losses_of_twenty_steps_are_those_of_plain_programs(
    make_spec, recorder, recipe, batch_size, epochs
):
    spec = make_spec(
        recipe=recipe,
        batch_size=batch_size,
        n_epochs=epochs,
        learning_rate_multiplier=MULTIPLIER,
    )
    observer = recorder()
    train(spec, observer)
    losses = [record.training_loss for record in observer.steps]
    folder = spec.work_path.parent / "plain"
    folder.mkdir()
    expected = plain_losses(spec, Preparation(spec, WorkFolder(folder), lambda: True))
    assert len(losses) == len(expected) >= 20
    assert min(losses) < losses[0] / 2  # something is learned
    assert losses == pytest.approx(expected, rel=1e-4, abs=1e-4)


def test_the_proof_of_a_model_leaves_it_with_its_own_attention(tiny_base_model):
    model = load_split_model(tiny_base_model, torch.float32, CPU)
    before = model.whole.config._attn_implementation
    assert find_fault(model, list(range(1, 33))) is None
    assert model.whole.config._attn_implementation == before


def test_parts_are_compared_by_one_attention(tiny_base_model, monkeypatch):
    model = load_split_model(tiny_base_model, torch.float32, CPU)
    tokens = torch.arange(1, 20)
    used = []
    layer = model.layers[0].self_attn
    forward = layer.forward

    def noted(*arguments, **named):
        used.append(model.whole.config._attn_implementation)
        return forward(*arguments, **named)

    monkeypatch.setattr(layer, "forward", noted)
    model.whole.set_attn_implementation("eager")  # as a pass with gradients leaves it
    assert model.parts_match_whole(tokens, 1)
    assert used == ["sdpa", "sdpa"]
