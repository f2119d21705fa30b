"""Workers are forked from a process that has loaded the libraries; it may die at any time."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

from .conftest import FORK_SERVER, command

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or Path("/dev/nvidiactl").exists(), reason="forks train here only"
)


def test_the_validation_of_a_later_job_is_a_fork_like_its_training(platform: Any, rows: str):
    assert platform.finished(platform.create(platform.upload(), 1))["status"] == "succeeded"
    large = "".join(rows.replace("phone", f"phone {number}") for number in range(2000))
    job = platform.create(platform.upload(large), 1)
    commands: list[bytes] = []

    def seen() -> bool:
        if pid := platform.rows(job, "worker_pid"):
            commands.append(command(pid))
        return platform.rows(job, "status") != "validating_files" or bool(commands)

    platform.wait_for(seen)
    platform.call("POST", f"fine_tuning/jobs/{job['id']}/cancel")
    assert [FORK_SERVER in one for one in commands] == [True]


def test_the_process_that_generates_answers_is_a_fork_and_goes_before_trainings(platform: Any):
    body = {"model": "ada", "prompt": "I", "max_tokens": 1}
    assert platform.call("POST", "completions", json=body)["choices"]
    (worker,) = platform.model_workers()
    assert FORK_SERVER in command(worker)
    job = platform.create(platform.upload(), 20)
    platform.reached(job, 1)
    trainer = platform.worker_pid(job)
    priorities = [os.getpriority(os.PRIO_PROCESS, pid) for pid in (worker, trainer)]
    platform.call("POST", f"fine_tuning/jobs/{job['id']}/cancel")
    assert priorities[0] < priorities[1]


def test_jobs_are_worked_on_after_the_fork_server_has_been_killed(platform: Any):
    platform.finished(platform.create(platform.upload(), 1))
    (first,) = platform.fork_servers()
    os.kill(first, signal.SIGKILL)
    assert platform.finished(platform.create(platform.upload(), 1))["status"] == "succeeded"
    (second,) = platform.fork_servers()
    assert second != first
