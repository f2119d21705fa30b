"""How jobs end otherwise: cancelled, refused at validation, or given up."""

from __future__ import annotations

import os
import signal
from typing import Any

import httpx


def test_a_running_job_is_cancelled_and_its_process_ends(platform: Any):
    job = platform.create(platform.upload(), 50)
    platform.reached(job, 1)
    trainer = platform.worker_pid(job)
    path = f"fine_tuning/jobs/{job['id']}"

    cancelled = platform.call("POST", f"{path}/cancel")

    assert cancelled["status"] == "cancelled"
    platform.wait_for(lambda: platform.rows(job, "worker_id") is None)
    assert platform.rows(job, "status") == "cancelled"
    assert platform.events(job)[-1]["message"] == "Fine-tuning job cancelled"
    again = httpx.post(f"{platform.engine.base_url}/{path}/cancel", timeout=60)
    assert again.status_code == 400
    assert "cancelled" in again.json()["error"]["message"]
    platform.wait_for(lambda: not _lives(trainer))


def test_a_broken_line_is_named_and_the_mended_file_trains(platform: Any, rows: str):
    lines = rows.splitlines(keepends=True)
    lines[6] = '{"prompt": "I love the sea ->", "completion": \n'
    broken = platform.create(platform.upload("".join(lines)), 1)
    mended = platform.create(platform.upload(rows), 1)

    ended = platform.finished(broken)
    assert ended["status"] == "failed"
    assert ended["error"]["code"] == "invalid_training_file"
    assert ended["error"]["param"] == "training_file"
    assert "line 7" in ended["error"]["message"]
    assert "line 7" in platform.events(broken)[-1]["message"]
    assert platform.finished(mended)["status"] == "succeeded"


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_a_trainer_that_always_dies_ends_its_job(platform: Any):
    job = platform.create(platform.upload(), 50)
    for _ in range(3):
        seen = platform.worker_pid(job)
        os.kill(seen, signal.SIGKILL)
        platform.wait_for(lambda seen=seen: platform.rows(job, "worker_pid") != seen)

    ended = platform.finished(job)

    assert ended["status"] == "failed"
    assert ended["error"]["code"] == "worker_died"
    assert "3 times" in ended["error"]["message"]
