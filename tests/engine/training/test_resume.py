"""A training that was stopped, killed or damaged ends as an uninterrupted one."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tunesmith.engine.training import TrainingError, train

WORKER = Path(__file__).with_name("killed_worker.py")


def everything(outcome) -> dict[str, bytes]:
    return {
        "results": outcome.results_path.read_bytes(),
        "weights": (outcome.output_path / "adapter_model.safetensors").read_bytes(),
    }


@pytest.mark.parametrize("recipe", ["fast", "lora"])
@pytest.mark.parametrize("stop_after", [1, 10, 13])
def test_a_stopped_training_continues_exactly(
    make_spec, recorder, make_validation, recipe, stop_after
):
    options = {"recipe": recipe, "validation_path": make_validation()}
    uninterrupted = train(make_spec("uninterrupted", **options), recorder())
    spec = make_spec("stopped", **options)
    stopped = train(spec, recorder(stop_after=stop_after))
    assert stopped.stopped == "shutdown"
    assert stopped.steps == stop_after
    assert stopped.output_path is None
    assert not spec.output_path.exists()
    again = recorder()
    finished = train(spec, again)
    assert again.plans[0].start_step == stop_after
    assert [record.step for record in again.steps] == list(range(stop_after + 1, 21))
    assert everything(finished) == everything(uninterrupted)


def test_a_cancelled_training_keeps_its_results_and_writes_no_model(make_spec, recorder):
    spec = make_spec()
    outcome = train(spec, recorder(stop_after=5, stop="cancel"))
    assert outcome.stopped == "cancel"
    assert outcome.results_path.read_text().count("\n") == 6
    assert not spec.output_path.exists()


def test_kill_9_in_the_middle_changes_nothing(make_spec, recorder, make_validation):
    options = {"validation_path": make_validation(), "n_epochs": 4, "checkpoint_every_seconds": 0.0}
    uninterrupted = train(make_spec("uninterrupted", **options), recorder())
    spec = make_spec("killed", **options)
    killed = subprocess.run(
        [sys.executable, str(WORKER), spec.model_dump_json(), "17"], check=False, env=os.environ
    )
    assert killed.returncode == -signal.SIGKILL
    observer = recorder()
    finished = train(spec, observer)
    assert observer.plans[0].start_step == 16
    assert everything(finished) == everything(uninterrupted)


def test_a_training_killed_after_its_model_was_written_is_complete(make_spec, recorder):
    spec = make_spec()
    first = train(spec, recorder())
    observer = recorder()
    assert train(spec, observer) == first
    assert observer.steps == []


def newest_state(spec) -> Path:
    folders = (spec.work_path / "checkpoints").glob("step-*")
    newest = max(folders, key=lambda folder: int(folder.name.removeprefix("step-")))
    return newest / "state.safetensors"


def test_a_damaged_checkpoint_gives_way_to_the_one_before(make_spec, recorder):
    uninterrupted = train(make_spec("uninterrupted"), recorder())
    spec = make_spec("damaged", checkpoint_every_seconds=0.0)
    train(spec, recorder(stop_after=9))
    state = newest_state(spec)
    damaged = bytearray(state.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    state.write_bytes(damaged)
    observer = recorder()
    finished = train(spec, observer)
    assert observer.plans[0].start_step == 8
    assert everything(finished) == everything(uninterrupted)


def test_a_training_with_no_whole_checkpoint_says_so(make_spec, recorder):
    spec = make_spec()
    train(spec, recorder(stop_after=9))
    newest_state(spec).write_bytes(b"")
    with pytest.raises(TrainingError, match="is damaged") as caught:
        train(spec, recorder())
    assert caught.value.code == "corrupt_checkpoint"


def test_a_truncated_frozen_layer_cache_is_computed_again(make_spec, recorder):
    uninterrupted = train(make_spec("uninterrupted"), recorder())
    spec = make_spec("damaged")
    train(spec, recorder(stop_after=9))
    cache = spec.work_path / "frozen-layers-train.bin"
    cache.write_bytes(cache.read_bytes()[:100])
    assert everything(train(spec, recorder())) == everything(uninterrupted)


def test_lost_rows_of_the_result_file_are_reported(make_spec, recorder):
    spec = make_spec()
    stopped = train(spec, recorder(stop_after=9))
    stopped.results_path.unlink()
    with pytest.raises(TrainingError, match="have been lost") as caught:
        train(spec, recorder())
    assert caught.value.code == "corrupt_checkpoint"


def test_a_stop_during_preparation_is_handled(make_spec, recorder):
    spec = make_spec()
    outcome = train(spec, recorder(stop_after=0, stop="pause"))
    assert (outcome.stopped, outcome.steps) == ("pause", 0)
    assert train(spec, recorder()).stopped is None


def test_only_the_last_two_checkpoints_are_kept(tmp_path):
    from tunesmith.engine.training.checkpoint import FolderCheckpoints, Position

    store = FolderCheckpoints(tmp_path)
    assert store.latest(dict) is None
    for step in (5, 30, 100):
        store.save(Position(step=step), {})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-100", "step-30"]
    assert store.latest(dict)[0] == Position(step=100)


def test_a_training_begun_by_the_version_before_is_continued(make_spec, recorder, make_validation):
    from tunesmith.engine.training.spec import TrainingSpec

    options = {"recipe": "fast", "validation_path": make_validation()}
    uninterrupted = train(make_spec("uninterrupted", **options), recorder())
    spec = make_spec("begun", **options)
    train(spec, recorder(stop_after=9))
    former_names = {
        "choices.json": "settled.json",
        "frozen-layers-train.bin": "trunk-train.bin",
        "frozen-layers-validation.bin": "trunk-validation.bin",
    }
    for name, former in former_names.items():
        (spec.work_path / name).rename(spec.work_path / former)
    written = (spec.work_path / "trunk-train.bin").stat().st_mtime_ns
    # Its spec.json asks for "auto", which would choose another recipe than the first start did.
    values = json.loads(spec.model_dump_json()) | {"recipe": "auto"}
    former_spec = json.dumps({name: values[name] for name in FIELDS_OF_THE_VERSION_BEFORE})
    observer = recorder()
    finished = train(TrainingSpec.model_validate_json(former_spec), observer)

    assert observer.plans[0].start_step == 9
    assert observer.plans[0].recipe == "fast"
    assert everything(finished) == everything(uninterrupted)
    assert (spec.work_path / "frozen-layers-train.bin").stat().st_mtime_ns == written


FIELDS_OF_THE_VERSION_BEFORE = set(
    "job_id base_model base_path initial_adapter_path training_path validation_path work_path "
    "output_path method n_epochs batch_size learning_rate_multiplier prompt_loss_weight "
    "compute_classification_metrics classification_n_classes classification_positive_class "
    "classification_betas dpo_beta seed recipe api max_tokens checkpoint_every_seconds "
    "threads".split()
)
