"""Many jobs, and a hand that kills trainers and servers at random, and worse.

Every job ends as an uninterrupted one does, with its events complete and in order.
TUNESMITH_CHAOS_JOBS sets the number of jobs, TUNESMITH_CHAOS_SEED the hand, and
TUNESMITH_CHAOS_ROUNDS how often each fault befalls the engine in the second test.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import sqlite3
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

JOBS = int(os.environ.get("TUNESMITH_CHAOS_JOBS", "4"))
SEED = int(os.environ.get("TUNESMITH_CHAOS_SEED", "0"))
ROUNDS = int(os.environ.get("TUNESMITH_CHAOS_ROUNDS", "1"))
EPOCHS = 8
STEPS = EPOCHS * 12


def test_every_job_ends_as_if_uninterrupted(make_platform: Callable[..., Any]):
    # The hand may hit one trainer again and again before it gets any further.
    platform = make_platform(max_concurrent_jobs=2, max_attempts=1000, checkpoint_every_seconds=0.1)
    file = platform.upload()
    model = platform.finished(platform.create(file, EPOCHS))
    history, results = platform.history(model), platform.results(model)
    hand = random.Random(SEED)  # noqa: S311
    jobs = [platform.create(file, EPOCHS) for _ in range(JOBS)]
    kills = {"trainer": 0, "server": 0}

    while not all(ended(platform, job) for job in jobs):
        strike_at = steps_done(platform) + hand.randint(10, 120)
        platform.wait_for(
            lambda at=strike_at: (
                steps_done(platform) >= at or all(ended(platform, job) for job in jobs)
            ),
            600,
        )
        if hand.random() < 0.25:
            platform.kill()
            kills["server"] += 1
            if hand.random() < 0.5:
                kills["trainer"] += kill_a_trainer(platform, hand)
            platform.start()
        else:
            kills["trainer"] += kill_a_trainer(platform, hand)

    print(f"{JOBS} jobs, {kills}")  # noqa: T201 - shown with -s
    assert kills["trainer"] > 0
    for job in jobs:
        assert platform.job(job)["status"] == "succeeded", platform.job(job)["error"]
        assert platform.history(job) == history
        assert platform.results(job) == results
        names = [event["message"] for event in platform.events(job)]
        assert len([name for name in names if name.startswith("Step ")]) == STEPS
    assert len(platform.call("GET", "files")["data"]) == JOBS + 2
    assert not list((platform.home / "files" / "incoming").iterdir())


def ended(platform: Any, job: dict[str, Any]) -> bool:
    return platform.rows(job, "status") in {"succeeded", "failed", "cancelled"}


def steps_done(platform: Any) -> int:
    """Return the steps of all jobs together: the hand's clock, which runs as fast as they do."""
    with contextlib.closing(sqlite3.connect(platform.home / "engine.db")) as connection:
        return int(connection.execute("SELECT SUM(steps_done) FROM jobs").fetchone()[0])


def trainers(platform: Any) -> list[int]:
    """Return the processes that train now."""
    with contextlib.closing(sqlite3.connect(platform.home / "engine.db")) as connection:
        query = "SELECT worker_pid FROM jobs WHERE worker_pid IS NOT NULL AND status = 'running'"
        return [row[0] for row in connection.execute(query)]


def kill_a_trainer(platform: Any, hand: random.Random) -> int:
    """Kill one of them; return how many were killed."""
    pids = trainers(platform)
    if not pids:
        return 0
    try:
        os.kill(hand.choice(pids), signal.SIGKILL)
    except ProcessLookupError:
        return 0
    return 1


@pytest.mark.slow
def test_whatever_befalls_the_engine_jobs_end_as_if_undisturbed_and_nothing_is_lost(
    make_platform: Callable[..., Any],
):
    resource = pytest.importorskip("resource")
    if not hasattr(resource, "prlimit"):
        pytest.skip("only Linux limits another process")
    platform = make_platform(
        max_concurrent_jobs=2,
        max_attempts=1000,
        checkpoint_every_seconds=0.1,
        lease_seconds=2.0,
        heartbeat_seconds=0.2,
    )
    file = platform.upload()
    model = platform.finished(platform.create(file, EPOCHS))
    history, results = platform.history(model), platform.results(model)
    hand = random.Random(SEED)  # noqa: S311
    faults = [
        kill_a_trainer,
        kill_the_server,
        suspend_a_trainer,
        suspend_the_machine,
        lock_the_database,
        fill_the_descriptor_table,
        damage_a_file,
        kill_the_generator,
    ] * ROUNDS
    hand.shuffle(faults)
    jobs: list[dict[str, Any]] = []
    for fault in faults:
        while sum(not ended(platform, job) for job in jobs) < 2:
            jobs.append(platform.create(file, EPOCHS))
        strike_at = steps_done(platform) + hand.randint(5, 40)
        platform.wait_for(
            lambda at=strike_at: (
                steps_done(platform) >= at or all(ended(platform, job) for job in jobs)
            ),
            600,
        )
        fault(platform, hand)

    for job in jobs:
        assert platform.finished(job)["status"] == "succeeded", platform.job(job)["error"]
        assert platform.history(job) == history
        assert platform.results(job) == results
    assert_nothing_is_lost(platform, [model, *jobs], ROUNDS)


def kill_the_server(platform: Any, _hand: random.Random) -> None:
    platform.kill()
    platform.start()


def suspend_a_trainer(platform: Any, hand: random.Random) -> None:
    suspend(trainers(platform)[:1], hand.uniform(2.5, 5))


def suspend_the_machine(platform: Any, hand: random.Random) -> None:
    suspend([platform.engine.pid, *trainers(platform)], hand.uniform(2.5, 5))


def suspend(pids: list[int], seconds: float) -> None:
    suspended = []
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGSTOP)
            suspended.append(pid)
    time.sleep(seconds)
    for pid in suspended:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


def lock_the_database(platform: Any, hand: random.Random) -> None:
    lock = sqlite3.connect(platform.home / "engine.db", isolation_level=None, timeout=30)
    lock.execute("BEGIN IMMEDIATE")
    time.sleep(hand.uniform(2.5, 5))
    lock.execute("ROLLBACK")
    lock.close()


def fill_the_descriptor_table(platform: Any, hand: random.Random) -> None:
    """Take away all descriptors that the server does not use yet."""
    import resource

    pid = platform.engine.pid
    limits = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (4, limits[1]))
    time.sleep(hand.uniform(2.5, 5))
    resource.prlimit(pid, resource.RLIMIT_NOFILE, limits)


def damage_a_file(platform: Any, hand: random.Random) -> None:
    """Damage a stored file. It is not served any more, until it is uploaded again."""
    text = f'{{"prompt": "{hand.random()}", "completion": " a"}}\n'
    first = platform.upload(text)
    (stored,) = [path for path in blobs(platform) if path.read_text() == text]
    stored.write_text("damaged")
    url = f"{platform.engine.base_url}/files/{first}/content"
    assert httpx.get(url, timeout=60).json()["error"]["code"] == "file_corrupt"
    platform.upload(text)
    assert httpx.get(url, timeout=60).text == text


def kill_the_generator(platform: Any, _hand: random.Random) -> None:
    """Kill the process that generates answers while it does; the next request finds another."""
    body = {"model": "ada", "prompt": "I", "max_tokens": 400, "n": 100}
    url = f"{platform.engine.base_url}/completions"
    statuses: list[int] = []

    def ask() -> None:
        statuses.append(httpx.post(url, json=body, timeout=120).status_code)

    assert httpx.post(url, json=body | {"n": 1}, timeout=120).status_code == 200
    asking = threading.Thread(target=ask)
    asking.start()
    time.sleep(0.2)
    for pid in platform.model_workers():
        os.kill(pid, signal.SIGKILL)
    asking.join(120)
    assert statuses in ([503], [200]), statuses
    assert httpx.post(url, json=body | {"n": 1}, timeout=120).status_code == 200


def blobs(platform: Any) -> list[Path]:
    return [path for path in (platform.home / "files").glob("??/*") if path.is_file()]


def assert_nothing_is_lost(platform: Any, jobs: list[dict[str, Any]], damaged: int) -> None:
    """Every listing is whole, and everything in it can be read."""
    listed = platform.call("GET", "fine_tuning/jobs", params={"limit": 100})["data"]
    assert {job["id"] for job in listed} == {job["id"] for job in jobs}
    models = {model["id"] for model in platform.call("GET", "models")["data"]}
    assert {job["fine_tuned_model"] for job in listed} <= models
    assert len(platform.call("GET", "fine-tunes")["data"]) == len(jobs)
    files = platform.call("GET", "files")["data"]
    assert len(files) == 1 + len(jobs) + 2 * damaged
    for stored in files:
        url = f"{platform.engine.base_url}/files/{stored['id']}/content"
        content = httpx.get(url, timeout=60)
        assert (content.status_code, len(content.content)) == (200, stored["bytes"])
    assert not list((platform.home / "files" / "incoming").iterdir())
    with contextlib.closing(sqlite3.connect(platform.home / "engine.db")) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
