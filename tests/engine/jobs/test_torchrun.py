"""Trainings that two processes of this machine share: as by one, and not lost when one dies."""

from __future__ import annotations

import csv
import io
import os
import signal
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest

from tunesmith.engine import EngineError
from tunesmith.engine.config import EngineConfig, RayConfig
from tunesmith.engine.jobs import torchrun_training
from tunesmith.engine.jobs.ray_training import worker_resources
from tunesmith.engine.jobs.torchrun_training import train_with_torchrun


@pytest.fixture(scope="module")
def shared(make_platform: Callable[..., Any]) -> Any:
    return make_platform(processes_per_job=2)


def processes(driver: int) -> Iterator[int]:
    """Yield the training's processes, which torchrun has started for a job's process."""
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                words = (folder / "cmdline").read_text(errors="replace").split("\0")
                variables = (folder / "environ").read_bytes().split(b"\0")
            except OSError:
                continue
            is_worker = "tunesmith.engine.jobs.torchrun_training" in words
            if (
                is_worker
                and "torch.distributed.run" not in words
                and _parent(_parent(int(folder.name))) == driver
            ):
                assert any(variable.startswith(b"RANK=") for variable in variables)
                yield int(folder.name)


def _parent(pid: int) -> int:
    text = Path(f"/proc/{pid}/stat").read_text()
    return int(text.rpartition(")")[2].split()[1])


def test_a_killed_process_loses_no_step(shared: Any, platform: Any):
    ended, results = [], []
    alone = platform.create(platform.upload(), 2)
    job = shared.create(shared.upload(), 2)
    shared.reached(job, 5)
    os.kill(next(processes(shared.worker_pid(job))), signal.SIGKILL)
    for engine, created in ((platform, alone), (shared, job)):
        ended.append(engine.finished(created))
        assert ended[-1]["status"] == "succeeded", ended[-1]["error"]
        results.append(list(csv.DictReader(io.StringIO(engine.results(created)))))
    one, two = results
    assert [list(row) for row in one] == [list(row) for row in two]
    for first, second in zip(one, two, strict=True):
        assert {name: float(value) for name, value in first.items() if value} == pytest.approx(
            {name: float(value) for name, value in second.items() if value}, rel=0.01, abs=1e-3
        )
    steps = [event["data"]["step"] for event in shared.events(job) if event["type"] == "metrics"]
    assert steps == list(range(1, 25))
    assert not any(event["level"] == "warn" for event in shared.events(job))
    body = {"model": ended[1]["fine_tuned_model"], "prompt": "I love the sea ->", "max_tokens": 1}
    assert shared.call("POST", "completions", json=body)["choices"]


def test_what_is_not_spread_over_processes_is_refused_at_creation(shared: Any):
    body = {"training_file": shared.upload(), "model": "gpt-4o-mini"}
    for own, param in ({"recipe": "qlora"}, "recipe"), ({"train_experts": True}, "train_experts"):
        answer = httpx.post(f"{shared.engine.base_url}/fine_tuning/jobs", json=body | own)
        assert answer.status_code == 400
        error = answer.json()["error"]
        assert error["param"] == param
        assert "one process" in error["message"]
        assert "processes_per_job = 1" in error["message"]


def test_settings_that_contradict_each_other():
    with pytest.raises(EngineError, match=r"ray\.workers"):
        EngineConfig(processes_per_job=2, launcher="ray", ray=RayConfig())
    with pytest.raises(EngineError, match="1 or more"):
        EngineConfig(processes_per_job=0)


@pytest.mark.parametrize(
    ("cores", "workers", "cpus"),
    [([2], 2, 1), ([2], 4, 0.5), ([8, 8], 4, 4), ([3, 5], 2, 3), ([16], 3, 5)],
)
def test_a_worker_of_ray_asks_for_its_share_of_the_cores(
    cores: list[int], workers: int, cpus: float
):
    nodes = [{"Alive": True, "Resources": {"CPU": float(count)}} for count in cores]
    assert worker_resources(nodes, workers, use_gpu=False) == {"CPU": cpus}
    assert worker_resources(nodes, workers, use_gpu=True) == {"CPU": cpus, "GPU": 1}


@pytest.mark.slow
def test_memory_that_does_not_suffice_for_one_process_starts_all_again_with_less(
    with_little_memory: Callable[..., None], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(torchrun_training, "__name__", "small_memory_worker")
    with_little_memory(partial(train_with_torchrun, processes=2))
