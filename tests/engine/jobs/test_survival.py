"""Nothing is lost: server and trainer are killed, and every job ends as if uninterrupted."""

from __future__ import annotations

import os
import signal
from typing import Any

import pytest

EPOCHS = 25
STEPS = EPOCHS * 12


@pytest.fixture(scope="module")
def training_file(platform: Any) -> str:
    return platform.upload()


@pytest.fixture(scope="module")
def uninterrupted(platform: Any, training_file: str) -> dict[str, Any]:
    job = platform.finished(platform.create(training_file, EPOCHS))
    assert job["status"] == "succeeded", job["error"]
    return job


def assert_like(platform: Any, job: dict[str, Any], model: dict[str, Any]) -> None:
    ended = platform.finished(job)
    assert ended["status"] == "succeeded", ended["error"]
    assert ended["trained_tokens"] == model["trained_tokens"]
    assert platform.history(job) == platform.history(model)
    assert platform.results(job) == platform.results(model)


def test_a_job_reports_every_step_once_and_in_order(platform: Any, uninterrupted: dict[str, Any]):
    messages = [event["message"] for event in platform.events(uninterrupted)]
    steps = [text.split(":")[0] for text in messages if text.startswith("Step ")]

    assert messages[:2] == [
        f"Created fine-tuning job: {uninterrupted['id']}",
        f"Validating training file: {uninterrupted['training_file']}",
    ]
    assert steps == [f"Step {step}/{STEPS}" for step in range(1, STEPS + 1)]
    assert messages[-2:] == [
        f"New fine-tuned model created: {uninterrupted['fine_tuned_model']}",
        "The job has successfully completed",
    ]


def test_a_job_survives_the_death_of_its_trainer_of_the_server_and_of_both(
    platform: Any, training_file: str, uninterrupted: dict[str, Any]
):
    job = platform.create(training_file, EPOCHS)
    platform.reached(job, STEPS // 4)
    first = platform.kill_worker(job)

    second = platform.wait_for(lambda: _other(platform.rows(job, "worker_pid"), first))
    platform.reached(job, STEPS // 2)
    platform.kill()
    os.kill(second, signal.SIGSTOP)  # it might be done before a slow server is up
    platform.start()
    assert platform.rows(job, "worker_pid") == second, "the trainer was not taken back"
    os.kill(second, signal.SIGCONT)

    platform.reached(job, STEPS * 3 // 4)
    platform.kill()
    os.kill(second, signal.SIGKILL)
    platform.start()

    assert_like(platform, job, uninterrupted)
    warnings = [event for event in platform.events(job) if event["level"] == "warn"]
    assert len(warnings) == 2
    assert "signal 9" in warnings[0]["message"]


def test_a_job_continues_after_an_orderly_stop_and_after_a_pause(
    platform: Any, training_file: str, uninterrupted: dict[str, Any]
):
    job = platform.create(training_file, EPOCHS)
    platform.reached(job, STEPS // 3)
    trainer = platform.worker_pid(job)
    platform.stop()
    with pytest.raises(ProcessLookupError):
        os.kill(trainer, 0)
    assert platform.rows(job, "status") == "queued"
    platform.start()

    platform.reached(job, STEPS * 2 // 3)
    path = f"fine_tuning/jobs/{job['id']}"
    assert platform.call("POST", f"{path}/pause")["status"] == "paused"
    platform.wait_for(lambda: platform.rows(job, "worker_id") is None)
    assert platform.rows(job, "status") == "paused"
    assert platform.rows(job, "steps_done") < STEPS
    assert platform.call("POST", f"{path}/resume")["status"] == "queued"

    ended = platform.finished(job)
    assert ended["status"] == "succeeded", ended["error"]
    assert platform.results(job) == platform.results(uninterrupted)
    assert not [event for event in platform.events(job) if event["level"] == "warn"]


def _other(pid: int | None, known: int) -> int | None:
    return None if pid == known else pid
