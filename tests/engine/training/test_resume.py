"""A training that was stopped, killed or damaged ends as an undisturbed one."""

from __future__ import annotations

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
def test_a_stopped_training_goes_on_exactly(
    make_spec, recorder, make_validation, recipe, stop_after
):
    options = {"recipe": recipe, "validation_path": make_validation()}
    undisturbed = train(make_spec("undisturbed", **options), recorder())
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
    assert everything(finished) == everything(undisturbed)


def test_a_cancelled_training_keeps_its_results_and_writes_no_model(make_spec, recorder):
    spec = make_spec()
    outcome = train(spec, recorder(stop_after=5, stop="cancel"))
    assert outcome.stopped == "cancel"
    assert outcome.results_path.read_text().count("\n") == 6
    assert not spec.output_path.exists()


def test_kill_9_in_the_middle_changes_nothing(make_spec, recorder, make_validation):
    options = {"validation_path": make_validation(), "n_epochs": 4, "checkpoint_every_seconds": 0.0}
    undisturbed = train(make_spec("undisturbed", **options), recorder())
    spec = make_spec("killed", **options)
    killed = subprocess.run(
        [sys.executable, str(WORKER), spec.model_dump_json(), "17"], check=False, env=os.environ
    )
    assert killed.returncode == -signal.SIGKILL
    observer = recorder()
    finished = train(spec, observer)
    assert observer.plans[0].start_step == 16
    assert everything(finished) == everything(undisturbed)


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
    undisturbed = train(make_spec("undisturbed"), recorder())
    spec = make_spec("damaged", checkpoint_every_seconds=0.0)
    train(spec, recorder(stop_after=9))
    state = newest_state(spec)
    damaged = bytearray(state.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    state.write_bytes(damaged)
    observer = recorder()
    finished = train(spec, observer)
    assert observer.plans[0].start_step == 8
    assert everything(finished) == everything(undisturbed)


def test_a_training_with_no_whole_checkpoint_says_so(make_spec, recorder):
    spec = make_spec()
    train(spec, recorder(stop_after=9))
    newest_state(spec).write_bytes(b"")
    with pytest.raises(TrainingError, match="is damaged") as caught:
        train(spec, recorder())
    assert caught.value.code == "corrupt_checkpoint"


def test_a_truncated_frozen_layer_cache_is_computed_again(make_spec, recorder):
    undisturbed = train(make_spec("undisturbed"), recorder())
    spec = make_spec("damaged")
    train(spec, recorder(stop_after=9))
    cache = spec.work_path / "frozen-layers-train.bin"
    cache.write_bytes(cache.read_bytes()[:100])
    assert everything(train(spec, recorder())) == everything(undisturbed)


def test_lost_rows_of_the_result_file_are_reported(make_spec, recorder):
    spec = make_spec()
    stopped = train(spec, recorder(stop_after=9))
    stopped.results_path.unlink()
    with pytest.raises(TrainingError, match="have been lost") as caught:
        train(spec, recorder())
    assert caught.value.code == "corrupt_checkpoint"


def test_a_stop_during_preparation_is_obeyed(make_spec, recorder):
    spec = make_spec()
    outcome = train(spec, recorder(stop_after=0, stop="pause"))
    assert (outcome.stopped, outcome.steps) == ("pause", 0)
    assert train(spec, recorder()).stopped is None


def test_only_the_last_two_checkpoints_are_kept(tmp_path):
    from tunesmith.engine.training.checkpoint import FolderCheckpoints, Position

    store = FolderCheckpoints(tmp_path)
    assert store.latest() is None
    for step in (5, 30, 100):
        store.save(Position(step=step), {})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-100", "step-30"]
    assert store.latest()[0] == Position(step=100)
