"""Early stopping and the best epoch's model, in real trainings that soon learn too much."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tunesmith.engine.training import train
from tunesmith.engine.training.checkpoint import FolderCheckpoints

WORKER = Path(__file__).with_name("killed_worker.py")
WEIGHTS = "adapter_model.safetensors"


def contrary(rows, count=12):
    """Rows whose answers are the opposite of those that are learned."""
    opposite = {" positive": " negative", " negative": " positive"}
    return [
        {"prompt": row["prompt"], "completion": opposite[row["completion"]]}
        for row in rows(count, start=1000)
    ]


def losses(observer):
    """Return the validation loss of each epoch."""
    return [one.validation.loss for one in observer.steps if one.validation and one.validation.full]


@pytest.fixture
def overfit(make_spec, make_file, rows):
    """A training whose validation loss falls at first and rises as it learns."""

    def make(name, **changes):
        options = {"n_epochs": 8, "recipe": "lora", "learning_rate_multiplier": 2.0} | changes
        validation = make_file("contrary.jsonl", contrary(rows))
        return make_spec(name, validation_path=validation, **options)

    return make


def test_the_best_epochs_model_is_kept(overfit, recorder):
    observer = recorder()
    outcome = train(overfit("best", keep_best=True), observer)
    found = losses(observer)
    best = found.index(min(found)) + 1
    assert 1 <= best < 8, found
    assert outcome.steps == 80
    summary = json.loads((outcome.output_path / "training.json").read_text())
    assert summary["best_step"] == best * 10
    assert dict(observer.notes)["keep_best"].startswith(f"The model is that of epoch {best} ")
    # A training of so many epochs under the same schedule has these weights at that step.
    stopped = overfit("same", checkpoint_every_seconds=0.0)
    train(stopped, recorder(stop_after=best * 10))
    _, state = FolderCheckpoints(stopped.work_path / "checkpoints").latest(dict)
    from safetensors.torch import load_file

    kept = load_file(outcome.output_path / WEIGHTS)
    flat = {name: value for name, value in state.items() if name in kept}
    for name, value in flat.items():
        assert kept[name].equal(value), name
    last = train(overfit("last"), recorder())
    assert (last.output_path / WEIGHTS).read_bytes() != (outcome.output_path / WEIGHTS).read_bytes()


def test_the_kept_model_has_the_lowest_loss_when_it_is_measured_again(overfit, make_spec, recorder):
    """Continued for one step at no learning rate to speak of, its validation loss is that one."""
    observer = recorder()
    spec = overfit("best", keep_best=True)
    outcome = train(spec, observer)
    again = recorder()
    options = {"n_epochs": 1, "batch_size": 40, "learning_rate_multiplier": 1e-9, "recipe": "lora"}
    train(
        make_spec(
            "measured",
            initial_adapter_path=outcome.output_path,
            validation_path=spec.validation_path,
            **options,
        ),
        again,
    )
    assert losses(again)[-1] == pytest.approx(min(losses(observer)), rel=1e-3)


@pytest.mark.parametrize("epochs_without", [1, 2])
def test_a_training_ends_when_the_validation_loss_stops_falling(overfit, recorder, epochs_without):
    full = recorder()
    train(overfit("full"), full)
    found = losses(full)
    best = found.index(min(found[: found.index(min(found)) + 1])) + 1
    observer = recorder()
    outcome = train(overfit("stopped", early_stopping=epochs_without, keep_best=True), observer)
    epochs = len(losses(observer))
    assert epochs == next(
        e for e in range(1, 9)
        if e == 8 or e - (found[:e].index(min(found[:e])) + 1) >= epochs_without
    )  # fmt: skip
    assert epochs < 8, (best, found)
    assert outcome.stopped is None
    assert outcome.steps == epochs * 10
    assert losses(observer) == found[:epochs]
    assert f"Ended after epoch {epochs} of 8" in dict(observer.notes)["early_stopping"]


def test_without_both_settings_nothing_changes(overfit, recorder):
    observer = recorder()
    outcome = train(overfit("plain"), observer)
    assert outcome.steps == 80
    assert not {"early_stopping", "keep_best"} & dict(observer.notes).keys()
    assert not (outcome.results_path.parent / "best").exists()
    assert json.loads((outcome.output_path / "training.json").read_text())["best_step"] == 0


def test_kill_9_in_the_middle_changes_neither_the_end_nor_the_model(overfit, recorder):
    options = {"early_stopping": 2, "keep_best": True, "checkpoint_every_seconds": 0.0}
    whole = train(overfit("whole", **options), recorder())
    spec = overfit("killed", **options)
    for step in (9, 10, 11, 21):  # around the ends of epochs
        killed = subprocess.run(
            [sys.executable, str(WORKER), spec.model_dump_json(), str(step)],
            check=False,
            env=os.environ,
        )
        if killed.returncode == 0:
            break
        assert killed.returncode == -signal.SIGKILL
    finished = train(spec, recorder())
    assert finished.steps == whole.steps
    assert (finished.output_path / WEIGHTS).read_bytes() == (
        whole.output_path / WEIGHTS
    ).read_bytes()
    assert finished.results_path.read_bytes() == whole.results_path.read_bytes()


def test_one_best_model_at_a_time_lies_on_the_disk(overfit, recorder):
    spec = overfit("disk", keep_best=True, n_epochs=3)
    train(spec, recorder())
    assert len(list((spec.work_path / "best").iterdir())) == 1
