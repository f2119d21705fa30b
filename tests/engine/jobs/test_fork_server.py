"""Workers are forked from a process that has loaded the libraries; it may die at any time."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

from .conftest import command

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or Path("/dev/nvidiactl").exists(), reason="forks train here only"
)
MODULE = b"tunesmith.engine.jobs.fork_server"


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
    assert [MODULE in one for one in commands] == [True]


def test_jobs_are_worked_on_after_the_fork_server_has_been_killed(platform: Any):
    platform.finished(platform.create(platform.upload(), 1))
    (first,) = platform.children(MODULE)
    os.kill(first, signal.SIGKILL)
    assert platform.finished(platform.create(platform.upload(), 1))["status"] == "succeeded"
    (second,) = platform.children(MODULE)
    assert second != first
