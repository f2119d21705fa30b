"""Many jobs, and a hand that kills trainers and servers at random.

Every job ends as an uninterrupted one does, with its events complete and in order.
TUNESMITH_CHAOS_JOBS sets the number of jobs, TUNESMITH_CHAOS_SEED the hand.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import sqlite3
from collections.abc import Callable
from typing import Any

JOBS = int(os.environ.get("TUNESMITH_CHAOS_JOBS", "4"))
SEED = int(os.environ.get("TUNESMITH_CHAOS_SEED", "0"))
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


def kill_a_trainer(platform: Any, hand: random.Random) -> int:
    """Kill one of the processes that train now; return how many were killed."""
    with contextlib.closing(sqlite3.connect(platform.home / "engine.db")) as connection:
        query = "SELECT worker_pid FROM jobs WHERE worker_pid IS NOT NULL AND status = 'running'"
        pids = [row[0] for row in connection.execute(query)]
    if not pids:
        return 0
    try:
        os.kill(hand.choice(pids), signal.SIGKILL)
    except ProcessLookupError:
        return 0
    return 1
