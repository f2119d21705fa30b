"""One organisation cannot hold all connections: its requests in progress are limited."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path

import httpx
import pytest

from tunesmith.engine import EngineConfig, Home, Limits, start
from tunesmith.engine.security.keys import create_key
from tunesmith.engine.security.rate_limit import ConcurrencyLimiter
from tunesmith.engine.store.database import Database
from tunesmith.testing import write_tiny_home, write_tiny_model

ROWS = b'{"prompt": "my prompt ->", "completion": " x"}\n' * 20


@pytest.mark.slow
def test_open_event_streams_of_one_organisation_leave_room_for_others(tmp_path: Path):
    home = Home(write_tiny_home(tmp_path / "home", write_tiny_model(tmp_path / "tiny")))
    with contextlib.closing(Database(EngineConfig(home=home).database)) as database:
        database.migrate()
        loud, quiet = (
            {"authorization": f"Bearer {create_key(database, name='', organization=one)[1]}"}
            for one in ("loud", "quiet")
        )
    limits = Limits(concurrent_requests=3)
    # No training starts, so the job waits in the queue and its streams stay open.
    with (
        start(home.root, limits=limits, max_concurrent_jobs=0) as engine,
        httpx.Client(base_url=engine.base_url, headers=loud) as http,
        contextlib.ExitStack() as streams,
    ):
        file = http.post(
            "/files", data={"purpose": "fine-tune"}, files={"file": ("a.jsonl", ROWS)}
        ).json()
        job = http.post(
            "/fine_tuning/jobs", json={"model": "ada", "training_file": file["id"]}
        ).json()
        path = f"/fine_tuning/jobs/{job['id']}/events?stream=true"
        answers = [streams.enter_context(http.stream("GET", path)) for _ in range(3)]
        assert [answer.status_code for answer in answers] == [200] * 3

        refused = http.get("/files")
        assert refused.status_code == 429
        assert refused.headers["retry-after"] == "1"
        assert refused.json()["error"]["code"] == "too_many_concurrent_requests"
        assert httpx.get(f"{engine.base_url}/files", headers=quiet).status_code == 200

        answers[0].close()
        until = time.monotonic() + 20
        while http.get("/files").status_code != 200:
            assert time.monotonic() < until, "a stream that was closed is still counted"
            time.sleep(0.1)
        # Requests that fail are counted no longer, either.
        assert [http.get("/files/none").status_code for _ in range(6)] == [404] * 6


def test_what_has_ended_is_counted_no_longer():
    limiter = ConcurrencyLimiter(2)
    assert [limiter.take("a") for _ in range(3)] == [True, True, False]
    assert limiter.take("b")
    limiter.release("a")
    assert limiter.take("a")
