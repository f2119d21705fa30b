"""Whole trainings of the tiny model."""

from __future__ import annotations

import csv
import json
import shutil

import pytest

from tunesmith.engine.training import TrainingError, train

BASE_COLUMNS = [
    "step",
    "elapsed_tokens",
    "elapsed_examples",
    "training_loss",
    "training_sequence_accuracy",
    "training_token_accuracy",
    "validation_loss",
    "validation_sequence_accuracy",
    "validation_token_accuracy",
]


def result_rows(outcome):
    with outcome.results_path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("recipe", ["fast", "lora", "full"])
def test_a_training_learns_and_reports(make_spec, recorder, recipe):
    observer = recorder()
    spec = make_spec(recipe=recipe, n_epochs=6, learning_rate_multiplier=40.0)
    outcome = train(spec, observer)
    assert outcome.stopped is None
    assert outcome.steps == len(observer.steps) == 60
    (plan,) = observer.plans
    assert (plan.recipe, plan.examples, plan.total_steps) == (recipe, 40, 60)
    first, last = observer.steps[0], observer.steps[-1]
    assert last.training_loss < first.training_loss / 2
    assert last.elapsed_examples == 240
    assert outcome.trained_tokens == last.elapsed_tokens == 6 * plan.tokens_per_epoch
    assert [record.epoch for record in observer.epochs] == [1, 2, 3, 4, 5, 6]
    assert [record.step for record in observer.checkpoints] == [40, 50, 60]
    rows = result_rows(outcome)
    assert list(rows[0]) == BASE_COLUMNS
    assert [int(row["step"]) for row in rows] == list(range(1, 61))
    assert [int(row["elapsed_examples"]) for row in rows] == list(range(4, 241, 4))
    assert {row["validation_loss"] for row in rows} == {""}


@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning")
@pytest.mark.parametrize("recipe", ["fast", "lora"])
def test_the_adapter_loads_into_peft_and_predicts_what_was_trained(
    make_spec, recorder, recipe, tiny_base_model, make_validation
):
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    spec = make_spec(
        recipe=recipe, learning_rate_multiplier=10.0, validation_path=make_validation()
    )
    observer = recorder()
    outcome = train(spec, observer)
    config = json.loads((outcome.output_path / "adapter_config.json").read_text())
    layers = {name.partition(".self_attn.")[0] for name in config["target_modules"]}
    assert "model.layers.1" in layers
    assert ("model.layers.0" in layers) == (recipe == "lora")
    assert "layers_to_transform" not in config
    tokenizer = AutoTokenizer.from_pretrained(tiny_base_model)
    model = AutoModelForCausalLM.from_pretrained(tiny_base_model, dtype=torch.float32)
    adapted = PeftModel.from_pretrained(model, outcome.output_path).eval()
    losses = []
    for line in spec.validation_path.read_text().splitlines():
        row = json.loads(line)
        prompt, completion = (tokenizer(row[key]).input_ids for key in ("prompt", "completion"))
        with torch.no_grad():
            logits = adapted(torch.tensor([prompt + completion])).logits[0]
        chosen = logits[len(prompt) - 1 : -1]
        losses.append(torch.nn.functional.cross_entropy(chosen, torch.tensor(completion)))
    expected = observer.steps[-1].validation.loss
    assert float(torch.stack(losses).mean()) == pytest.approx(expected, rel=0.02)


def test_full_weights_load_as_a_model_of_their_own(make_spec, recorder, tiny_base_model):
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    outcome = train(make_spec(recipe="full", learning_rate_multiplier=40.0), recorder())
    trained = AutoModelForCausalLM.from_pretrained(outcome.output_path)
    base = AutoModelForCausalLM.from_pretrained(tiny_base_model)
    assert not (outcome.output_path / "adapter_config.json").exists()
    assert AutoTokenizer.from_pretrained(outcome.output_path).chat_template
    same = [
        torch.equal(a.float(), b.float())
        for a, b in zip(trained.parameters(), base.parameters(), strict=True)
    ]
    assert not any(same)


@pytest.mark.parametrize("recipe", ["fast", "lora"])
def test_two_runs_of_one_seed_are_identical(make_spec, recorder, recipe):
    outcomes = [
        train(make_spec(name, seed=7, recipe=recipe), recorder()) for name in ("one", "two")
    ]
    first, second = (outcome.results_path.read_bytes() for outcome in outcomes)
    assert first == second
    weights = [
        (outcome.output_path / "adapter_model.safetensors").read_bytes() for outcome in outcomes
    ]
    assert weights[0] == weights[1]
    other = train(make_spec("three", seed=8, recipe=recipe), recorder())
    assert other.results_path.read_bytes() != first


def test_validation_comes_now_and_then_and_in_full_each_epoch(make_spec, recorder, make_validation):
    observer = recorder()
    spec = make_spec(n_epochs=8, validation_path=make_validation(), batch_size=4)
    outcome = train(spec, observer)
    ends = [
        record.step for record in observer.steps if record.validation and record.validation.full
    ]
    assert ends == [10, 20, 30, 40, 50, 60, 70, 80]
    rows = result_rows(outcome)
    filled = [int(row["step"]) for row in rows if row["validation_loss"]]
    assert len(filled) > len(ends)
    assert len(filled) < len(rows)


def test_binary_classification_metrics(make_spec, recorder, make_validation):
    observer = recorder()
    spec = make_spec(
        n_epochs=8,
        learning_rate_multiplier=40.0,
        validation_path=make_validation(),
        compute_classification_metrics=True,
        classification_positive_class="positive",
        classification_betas=[1.0, 2.0],
    )
    outcome = train(spec, observer)
    wanted = ["accuracy", "precision", "recall", "f1.0", "f2.0", "auroc", "auprc"]
    rows = result_rows(outcome)
    assert list(rows[0]) == BASE_COLUMNS + [f"classification/{name}" for name in wanted]
    assert sum(bool(row["classification/auroc"]) for row in rows) == 8
    assert float(rows[-1]["classification/accuracy"]) == 1.0
    assert list(observer.steps[-1].classification) == wanted


def test_multiclass_classification_metrics(make_spec, recorder, make_validation):
    spec = make_spec(
        validation_path=make_validation(),
        compute_classification_metrics=True,
        classification_n_classes=2,
    )
    observer = recorder()
    train(spec, observer)
    assert list(observer.steps[-1].classification) == ["accuracy", "weighted_f1_score"]


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"classification_n_classes": 3}, "is 3, but the files have 2 different completions"),
        ({"classification_positive_class": "maybe"}, "No completion is the positive class 'maybe'"),
        ({}, "need classification_n_classes"),
    ],
)
def test_classes_that_do_not_fit_raise(make_spec, recorder, make_validation, changes, complaint):
    spec = make_spec(
        validation_path=make_validation(), compute_classification_metrics=True, **changes
    )
    with pytest.raises(TrainingError, match=complaint) as caught:
        train(spec, recorder())
    assert caught.value.code == "invalid_hyperparameters"


def test_prompts_count_by_their_weight(make_spec, recorder):
    plain, weighted = recorder(), recorder()
    train(make_spec("plain"), plain)
    train(make_spec("weighted", prompt_loss_weight=0.5), weighted)
    # The same first loss, since only completions are reported; other gradients from then on.
    assert plain.steps[0].training_loss == pytest.approx(weighted.steps[0].training_loss, rel=1e-3)
    assert plain.steps[-1].training_loss != weighted.steps[-1].training_loss


def test_chats_are_learned(make_spec, recorder, make_file):
    rows = [
        {
            "messages": [
                {"role": "user", "content": "what a day"},
                {"role": "assistant", "content": "great love"},
            ]
        }
    ] * 10
    spec = make_spec(
        training_path=make_file("chat.jsonl", rows), n_epochs=15, learning_rate_multiplier=80.0
    )
    observer = recorder()
    train(spec, observer)
    assert observer.steps[-1].training_token_accuracy >= 0.8
    assert observer.steps[-1].training_loss < observer.steps[0].training_loss / 2


@pytest.mark.parametrize("recipe", ["fast", "lora"])
def test_continuing_starts_from_the_fine_tuned_model(make_spec, recorder, recipe):
    rate = {"learning_rate_multiplier": 20.0, "recipe": recipe}
    first = recorder()
    trained = train(make_spec("first", n_epochs=5, **rate), first)
    second = recorder()
    spec = make_spec(
        "second", initial_adapter_path=trained.output_path, **(rate | {"recipe": "auto"})
    )
    train(spec, second)
    assert second.plans[0].recipe == recipe
    assert second.steps[0].training_loss < first.steps[0].training_loss / 2


def test_continuing_from_whole_weights(make_spec, recorder):
    rate = {"learning_rate_multiplier": 40.0, "n_epochs": 4}
    first = recorder()
    trained = train(make_spec("first", recipe="full", **rate), first)
    second = recorder()
    train(make_spec("second", initial_adapter_path=trained.output_path, recipe="auto"), second)
    assert second.plans[0].recipe == "full"
    assert second.steps[0].training_loss < first.steps[0].training_loss / 2
    with pytest.raises(TrainingError, match="has whole weights"):
        train(make_spec("third", initial_adapter_path=trained.output_path), recorder())


def test_a_damaged_adapter_to_continue_from_is_an_error(make_spec, recorder, tmp_path):
    folder = tmp_path / "broken"
    folder.mkdir()
    (folder / "adapter_config.json").write_text("{}")
    with pytest.raises(TrainingError, match="cannot be read") as caught:
        train(make_spec(initial_adapter_path=folder), recorder())
    assert caught.value.code == "invalid_model"


def test_a_base_model_without_weights_is_an_error(make_spec, recorder, tiny_base_model, tmp_path):
    folder = shutil.copytree(tiny_base_model, tmp_path / "empty")
    (folder / "model.safetensors").unlink()
    with pytest.raises(TrainingError, match="cannot be loaded"):
        train(make_spec(base_path=folder), recorder())


def test_auto_says_why(make_spec, recorder):
    observer = recorder()
    train(make_spec(recipe="auto"), observer)
    assert observer.plans[0].recipe == "lora"
    assert "seconds" in observer.plans[0].reason


def test_a_full_disk_is_an_error(make_spec, recorder):
    spec = make_spec()
    spec.work_path.mkdir(parents=True)
    # Every write to this device fails as on a full disk.
    (spec.work_path / "frozen-layers-train.part").symlink_to("/dev/full")
    with pytest.raises(TrainingError, match="disk is full") as caught:
        train(spec, recorder())
    assert caught.value.code == "disk_full"
    (spec.work_path / "frozen-layers-train.part").unlink()
    assert train(spec, recorder()).stopped is None


def test_too_little_memory_is_an_error():
    import torch

    from tunesmith.engine.training.run import _friendly_errors

    with pytest.raises(TrainingError, match="smaller batch_size") as caught, _friendly_errors():
        torch.empty(10**16)
    assert caught.value.code == "out_of_memory"
