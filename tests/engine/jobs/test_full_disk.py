"""A disk that fills up: the job that fills it fails with a message, and the others go on."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

SIZE = 24 << 20


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    place = tmp_path / "disk"
    place.mkdir()
    mount = shutil.which("mount")
    if mount is None or os.geteuid() != 0:
        pytest.skip("needs the right to mount a small file system")
    command = [mount, "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", str(place)]
    if subprocess.run(command, capture_output=True, check=False).returncode != 0:
        pytest.skip("needs the right to mount a small file system")
    yield place
    subprocess.run([shutil.which("umount") or "umount", "-l", str(place)], check=False)


def test_a_full_disk_fails_requests_and_jobs_with_a_message_and_mends(
    make_platform: Callable[..., Any], small_disk: Path
):
    platform = make_platform(home=small_disk / "home")
    file = platform.upload()
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(shutil.disk_usage(small_disk).free - (600 << 10)))

    refused = httpx.post(
        f"{platform.engine.base_url}/files",
        data={"purpose": "fine-tune"},
        files={"file": ("big.jsonl", bytes(2 << 20))},
        timeout=60,
    )
    assert refused.status_code == 507
    assert refused.json()["error"]["code"] == "disk_full"
    assert not list((platform.home / "files" / "incoming").iterdir())

    job = platform.create(file, 50)
    platform.reached(job, 3)
    trainer = platform.worker_pid(job)
    fill_up(small_disk / "more")
    platform.wait_for(lambda: gone(trainer) or platform.rows(job, "status") == "failed")
    (small_disk / "more").unlink()
    ballast.unlink()

    ended = platform.finished(job)
    # A full disk may also kill a process that has mapped a file of it: that job goes on later.
    if ended["status"] == "failed":
        assert ended["error"]["code"] == "disk_full"
        assert re.search("disk is full|Not enough disk space", ended["error"]["message"])
    else:
        assert ended["status"] == "succeeded"
        assert any(event["level"] == "warn" for event in platform.events(job))
    assert platform.finished(platform.create(file, 1))["status"] == "succeeded"

    all_weights = platform.finished(platform.create(file, 1, recipe="full"))
    assert all_weights["error"]["code"] == "disk_full"
    assert "to train all weights" in all_weights["error"]["message"]
    assert not any("Step" in event["message"] for event in platform.events(all_weights))


def test_jobs_end_as_if_uninterrupted_or_say_that_the_disk_was_full(
    make_platform: Callable[..., Any], small_disk: Path, rows: str
):
    settings = {"max_concurrent_jobs": 2, "max_attempts": 1000, "checkpoint_every_seconds": 0.1}
    platform = make_platform(home=small_disk / "home", **settings)
    file = platform.upload()
    uninterrupted = platform.finished(platform.create(file, 8))
    history, results = platform.history(uninterrupted), platform.results(uninterrupted)
    jobs = [platform.create(file, 8) for _ in range(4)]

    for number, job in enumerate(jobs[:3]):
        platform.wait_for(
            lambda job=job: platform.rows(job, "steps_done") >= 20 or platform.rows(job, "error")
        )
        fill_up(small_disk / "more")
        time.sleep(0.5)  # long enough for a checkpoint to be due
        with contextlib.suppress(ProcessLookupError, TypeError):  # it may have ended by itself
            os.kill(platform.rows(job, "worker_pid"), signal.SIGKILL)
        if number == 1:
            platform.kill()
        (small_disk / "more").unlink()
        if number == 1:
            platform.start()

    # Two jobs run at a time, so the full disk may have failed all four; a later one succeeds.
    jobs.append(platform.create(file, 8))
    outcomes = [platform.finished(job) for job in jobs]
    for job in outcomes:
        if job["status"] == "failed":
            assert job["error"]["code"] == "disk_full"
        else:
            assert job["status"] == "succeeded"
            assert platform.history(job) == history
            assert platform.results(job) == results
    assert outcomes[-1]["status"] == "succeeded"
    kept = httpx.get(f"{platform.engine.base_url}/files/{file}/content", timeout=60)
    assert kept.text == rows


def gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def fill_up(path: Path) -> None:
    with path.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            return
