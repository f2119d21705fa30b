"""Direct preference optimisation of the tiny model."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest

from tunesmith.engine.training import TrainingError, train


def pair(good: str, bad: str, question: str = "what a day") -> dict:
    return {
        "input": {"messages": [{"role": "user", "content": question}]},
        "preferred_output": [{"role": "assistant", "content": good}],
        "non_preferred_output": [{"role": "assistant", "content": bad}],
    }


@pytest.fixture
def pairs(make_file):
    rows = [pair("love it", "hate it all", f"what a day {n}") for n in range(12)]
    return make_file("pairs.jsonl", rows)


def test_the_preferred_reply_gains_and_the_metrics_show_it(make_spec, recorder, pairs):
    spec = make_spec(
        method="dpo",
        training_path=pairs,
        validation_path=pairs,
        n_epochs=6,
        learning_rate_multiplier=200.0,
    )
    observer = recorder()
    outcome = train(spec, observer)
    first, last = observer.steps[0], observer.steps[-1]
    # Before the first step the model is its own reference.
    assert first.training_loss == pytest.approx(np.log(2), abs=1e-3)
    assert first.extra["rewards/margin"] == pytest.approx(0, abs=1e-3)
    assert last.training_loss < 0.5
    assert last.extra["rewards/accuracy"] == 1.0
    assert last.validation.extra["validation_rewards/margin"] > 0.5
    with outcome.results_path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert float(rows[-1]["rewards/margin"]) == pytest.approx(last.extra["rewards/margin"])
    assert rows[-1]["validation_rewards/accuracy"] == "1"
    assert observer.plans[0].examples == 12
    assert last.elapsed_examples == 72


@pytest.mark.parametrize("recipe", ["lora", "fast", "full"])
@pytest.mark.parametrize("batch_size", [1, 5])
def test_before_it_learns_a_model_is_its_own_reference(
    make_spec, recorder, make_file, recipe, batch_size
):
    replies = ["no", "love it", "hate it all and more", "a long answer " * 9]
    rows = [
        pair(replies[n % 4], replies[(n + 1) % 4], f"what a day {'again ' * n}") for n in range(20)
    ]
    spec = make_spec(
        method="dpo",
        training_path=make_file("pairs.jsonl", rows),
        recipe=recipe,
        n_epochs=1,
        batch_size=batch_size,
        learning_rate_multiplier=1e-9,
    )
    observer = recorder()
    train(spec, observer)
    for step in observer.steps:
        assert step.training_loss == pytest.approx(np.log(2), abs=1e-3)


def test_loss_and_gradient_are_those_of_the_formula(make_spec, recorder, pairs, tiny_base_model):
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    spec = make_spec(
        method="dpo",
        training_path=pairs,
        recipe="full",
        batch_size=12,
        dpo_beta=0.3,
        learning_rate_multiplier=400.0,
    )
    observer = recorder()
    train(spec, observer)
    tokenizer = AutoTokenizer.from_pretrained(tiny_base_model)
    model = AutoModelForCausalLM.from_pretrained(tiny_base_model, dtype=torch.float32)
    reference = AutoModelForCausalLM.from_pretrained(tiny_base_model, dtype=torch.float32)

    def log_probability(which, prompt, reply):
        start = tokenizer(prompt).input_ids
        rest = tokenizer(reply).input_ids
        logits = which(torch.tensor([start + rest])).logits[0, len(start) - 1 : -1]
        return logits.log_softmax(-1)[torch.arange(len(rest)), torch.tensor(rest)].sum()

    def loss():
        losses = []
        for line in spec.training_path.read_text().splitlines():
            row = json.loads(line)
            prompt = tokenizer.apply_chat_template(
                row["input"]["messages"], tokenize=False, add_generation_prompt=True
            )
            gains = []
            for key in ("preferred_output", "non_preferred_output"):
                reply = row[key][0]["content"] + "<|im_end|>"
                with torch.no_grad():
                    before = log_probability(reference, prompt, reply)
                gains.append(log_probability(model, prompt, reply) - before)
            losses.append(-torch.nn.functional.logsigmoid(0.3 * (gains[0] - gains[1])))
        return torch.stack(losses).mean()

    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.01)
    loss().backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    # One step of the formula's own gradient brings the loss to where the training's second is.
    assert float(loss().detach()) == pytest.approx(observer.steps[1].training_loss, abs=0.04)
    assert observer.steps[1].training_loss < np.log(2) - 0.01


def test_a_stopped_preference_training_continues_exactly(make_spec, recorder, pairs):
    options = {"method": "dpo", "training_path": pairs}
    uninterrupted = train(make_spec("uninterrupted", **options), recorder())
    spec = make_spec("stopped", **options)
    assert train(spec, recorder(stop_after=4)).stopped == "shutdown"
    finished = train(spec, recorder())
    assert finished.results_path.read_bytes() == uninterrupted.results_path.read_bytes()


def test_a_row_without_preferences_is_named(make_spec, recorder, make_file):
    path = make_file("bad.jsonl", [pair("a", "b"), {"prompt": "a", "completion": " b"}])
    with pytest.raises(TrainingError, match='Line 2 of the file needs "input"'):
        train(make_spec(method="dpo", training_path=path), recorder())
