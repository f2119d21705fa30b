"""Trainings by a local Ray with two workers: as by one process, and not lost when one dies."""

from __future__ import annotations

import csv
import io
import os
import signal
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tunesmith.engine.config import RayConfig
from tunesmith.engine.jobs import ray_training
from tunesmith.engine.jobs.ray_training import train_on_ray

pytest.importorskip("ray", reason="needs the extra `ray`")


VALIDATION = '{"prompt": "I love the moon ->", "completion": " positive\\n"}\n'


@pytest.fixture(scope="module")
def by_ray(make_platform: Callable[..., Any]) -> Any:
    return make_platform(launcher="ray", ray=RayConfig(workers=2))


def test_two_workers_train_what_one_process_does(by_ray: Any, platform: Any):
    ended, results = [], []
    for engine in (platform, by_ray):
        job = engine.create(engine.upload(), 2, validation_file=engine.upload(VALIDATION))
        ended.append(engine.finished(job))
        assert ended[-1]["status"] == "succeeded", ended[-1]["error"]
        results.append(list(csv.DictReader(io.StringIO(engine.results(job)))))
    alone, shared = results

    assert [list(row) for row in alone] == [list(row) for row in shared]
    for one, other in zip(alone, shared, strict=True):
        assert {name: float(value) for name, value in one.items() if value} == pytest.approx(
            {name: float(value) for name, value in other.items() if value}, rel=0.01, abs=1e-3
        )
    assert by_ray.history(ended[1])[0] == platform.history(ended[0])[0]
    assert len(by_ray.events(ended[1])) == len(platform.events(ended[0]))
    body = {"model": ended[1]["fine_tuned_model"], "prompt": "I love the sea ->", "max_tokens": 1}
    assert by_ray.call("POST", "completions", json=body)["choices"]


def test_ray_starts_a_worker_again_that_has_died(by_ray: Any):
    job = by_ray.create(by_ray.upload(), 25)
    by_ray.reached(job, 20)
    driver = by_ray.worker_pid(job)
    victim = next(pid for pid in descendants(driver) if "RayTrainWorker" in words_of(pid))
    os.kill(victim, signal.SIGKILL)

    ended = by_ray.finished(job)
    assert ended["status"] == "succeeded", ended["error"]
    steps = [event["data"]["step"] for event in by_ray.events(job) if event["type"] == "metrics"]
    assert steps == list(range(1, 301))
    assert not any(event["level"] == "warn" for event in by_ray.events(job))


def descendants(pid: int) -> Iterator[int]:
    children: dict[int, list[int]] = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue
            children.setdefault(parent, []).append(int(folder.name))
    waiting = [pid]
    while waiting:
        yield from (found := children.get(waiting.pop(), []))
        waiting += found


def words_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text(errors="replace")
    except OSError:
        return ""


def test_what_cannot_be_placed_fails_with_the_reason(make_platform: Callable[..., Any]):
    settings = RayConfig(workers=2, use_gpu=True, placement_seconds=2)
    engine = make_platform(launcher="ray", ray=settings)
    ended = engine.finished(engine.create(engine.upload(), 1))
    assert ended["status"] == "failed"
    assert "2 CPU, 2 GPU" in ended["error"]["message"]
    assert "0 GPU (0 free)" in ended["error"]["message"]


@pytest.mark.filterwarnings("ignore")  # Ray warns of its own settings
def test_memory_that_does_not_suffice_for_one_worker_starts_all_again_with_less(
    with_little_memory: Callable[..., None], monkeypatch: pytest.MonkeyPatch
):
    sys.path.insert(0, str(Path(__file__).parent))
    import small_memory_worker

    monkeypatch.setattr(ray_training, "train_worker", small_memory_worker.train_worker)
    with_little_memory(partial(train_on_ray, settings=RayConfig(workers=2)))
