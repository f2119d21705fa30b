"""What is no death of a training: a suspended process, a locked database. And what damage says."""

from __future__ import annotations

import argparse
import os
import signal
import sqlite3
import time
from typing import Any

import pytest

from tunesmith.engine.config import EngineConfig
from tunesmith.engine.home import Home
from tunesmith.engine.jobs import job_worker
from tunesmith.engine.store.database import Database


@pytest.fixture(scope="module")
def short_leases(make_platform: Any) -> Any:
    return make_platform(lease_seconds=1.0, heartbeat_seconds=0.2)


@pytest.mark.slow
def test_a_suspended_training_costs_no_attempt(short_leases: Any):
    job = short_leases.create(short_leases.upload(), 15)
    short_leases.reached(job, 1)
    pid = short_leases.worker_pid(job)
    os.kill(pid, signal.SIGSTOP)
    time.sleep(4)  # four leases
    os.kill(pid, signal.SIGCONT)
    ended = short_leases.finished(job)
    assert ended["status"] == "succeeded"
    assert short_leases.rows(job, "attempts") == 1
    assert not [event for event in short_leases.events(job) if event["level"] == "warn"]


@pytest.mark.slow
def test_a_suspended_machine_costs_no_attempt(short_leases: Any):
    job = short_leases.create(short_leases.upload(), 15)
    short_leases.reached(job, 1)
    pids = [short_leases.engine.pid, short_leases.worker_pid(job)]
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    time.sleep(12)  # longer than an unresponsive process is left alone
    for pid in pids:
        os.kill(pid, signal.SIGCONT)
    assert short_leases.finished(job)["status"] == "succeeded"
    assert short_leases.rows(job, "attempts") == 1


@pytest.mark.slow
def test_a_locked_database_costs_no_attempt(short_leases: Any):
    job = short_leases.create(short_leases.upload(), 15)
    short_leases.reached(job, 1)
    lock = sqlite3.connect(short_leases.home / "engine.db", isolation_level=None)
    lock.execute("BEGIN IMMEDIATE")
    time.sleep(4)
    lock.execute("ROLLBACK")
    lock.close()
    assert short_leases.finished(job)["status"] == "succeeded"
    assert short_leases.rows(job, "attempts") == 1


@pytest.mark.slow
def test_a_process_that_never_responds_again_is_ended_and_that_is_said(short_leases: Any):
    job = short_leases.create(short_leases.upload(), 15)
    short_leases.reached(job, 1)
    pid = short_leases.worker_pid(job)
    os.kill(pid, signal.SIGSTOP)
    short_leases.wait_for(lambda: short_leases.rows(job, "attempts") == 2)
    warnings = [event for event in short_leases.events(job) if event["level"] == "warn"]
    assert "did not respond any more, so the engine ended it" in warnings[0]["message"]
    assert "memory" not in warnings[0]["message"]
    assert short_leases.finished(job)["status"] == "succeeded"


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("adapter_model.safetensors", lambda data: data[: len(data) // 2]),
        ("adapter_model.safetensors", lambda _data: b""),
        ("adapter_config.json", lambda data: data[:40]),
        ("adapter_config.json", lambda _data: b"[]"),
    ],
)
def test_a_damaged_adapter_is_named_at_once(platform: Any, name: str, damage: Any):
    first = platform.finished(platform.create(platform.upload(), 1))
    path = platform.home / "models" / first["id"].partition("-")[2] / name
    path.write_bytes(damage(path.read_bytes()))
    job = platform.create(platform.upload(), 1, model=first["fine_tuned_model"])
    ended = platform.finished(job)
    assert ended["error"]["code"] == "invalid_model"
    assert platform.rows(job, "attempts") == 1
    assert str(platform.home) not in ended["error"]["message"]


@pytest.mark.parametrize("error", [KeyError("rope_theta"), TypeError("no len()"), Exception()])
def test_any_exception_of_a_worker_becomes_the_job_error(
    platform: Any, monkeypatch: pytest.MonkeyPatch, error: Exception
):
    job = platform.create(platform.upload(), 1)
    platform.finished(job)
    database = Database(EngineConfig(home=Home(platform.home)).database)
    worker = job_worker.Worker(database, Home(platform.home), job["id"].partition("-")[2], "w")

    def broken(_spec: object, _observer: object) -> None:
        raise error

    failures: list[tuple[str, ...]] = []
    monkeypatch.setattr(worker, "heartbeat", lambda: None)
    monkeypatch.setattr(worker, "train", lambda train: train(None, None))
    monkeypatch.setattr(worker, "fail", lambda *fields: failures.append(fields))
    monkeypatch.setattr(job_worker, "train", broken)
    options = argparse.Namespace(stage="training", heartbeat=3600, ray=None, processes=1)
    job_worker._work(worker, options)
    database.close()
    ((code, message),) = failures
    assert code == "training_failed"
    assert type(error).__name__ in message
    assert "broken, test_not_dead.py line" in message
