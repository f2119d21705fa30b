"""A running engine with the tiny model, shared by the tests of its API."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tunesmith.engine import Engine, start
from tunesmith.testing import write_tiny_home

ROWS = "".join(
    f'{{"prompt": "I {verb} the {thing} ->", "completion": " {mood}\\n"}}\n'
    for thing in ("phone", "game", "day", "sea", "city", "soap")
    for verb, mood in (("love", "positive"), ("hate", "negative"))
)


@pytest.fixture(scope="session")
def engine(tmp_path_factory: pytest.TempPathFactory, tiny_base_model: Path) -> Iterator[Engine]:
    home = tmp_path_factory.mktemp("home")
    write_tiny_home(home, tiny_base_model)
    url = os.environ.get("TUNESMITH_TEST_DATABASE_URL")  # SQLite without it
    with start(home, checkpoint_every_seconds=1.0, database_url=url) as running:
        yield running


@pytest.fixture(scope="session")
def http(engine: Engine) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=engine.base_url + "/", timeout=60) as client:
        yield client


@pytest.fixture(scope="session")
def upload(http: httpx.Client) -> Callable[..., dict[str, Any]]:
    def upload_text(text: str = ROWS, name: str = "train.jsonl", **fields: str) -> dict[str, Any]:
        answer = http.post(
            "files", data={"purpose": "fine-tune"} | fields, files={"file": (name, text.encode())}
        )
        assert answer.status_code == 200, answer.text
        return answer.json()

    return upload_text


@pytest.fixture(scope="session")
def stream_events(http: httpx.Client) -> Callable[[str], list[dict[str, Any]]]:
    """Stream the events of a legacy job to its end."""
    import json

    def follow(job_id: str) -> list[dict[str, Any]]:
        with http.stream("GET", f"fine-tunes/{job_id}/events", params={"stream": "true"}) as answer:
            assert answer.headers["content-type"].startswith("text/event-stream")
            lines = [line for line in answer.iter_lines() if line.startswith("data:")]
        assert lines[-1] == "data: [DONE]"
        return [json.loads(line.removeprefix("data: ")) for line in lines[:-1]]

    return follow


@pytest.fixture(scope="session")
def training_file(upload: Callable[..., dict[str, Any]]) -> dict[str, Any]:
    return upload(prompt_format='{"separator": " ->"}')


@pytest.fixture(scope="session")
def fine_tune(
    http: httpx.Client,
    training_file: dict[str, Any],
    stream_events: Callable[[str], list[dict[str, Any]]],
) -> dict[str, Any]:
    """A finished job of the legacy API; its streamed events under "streamed"."""
    body = {
        "training_file": training_file["id"],
        "model": "ada",
        "n_epochs": 2,
        "suffix": "My Suffix",
    }
    created = http.post("fine-tunes", json=body).json()
    assert created["status"] == "pending"
    streamed = stream_events(created["id"])
    job = http.get(f"fine-tunes/{created['id']}").json()
    assert job["status"] == "succeeded", job
    return job | {"streamed": streamed}


@pytest.fixture(scope="session")
def job(http: httpx.Client, training_file: dict[str, Any], fine_tune: dict[str, Any]):
    """A finished job of the fine-tuning jobs API that continues the legacy job's model."""
    body = {
        "training_file": training_file["id"],
        "model": fine_tune["fine_tuned_model"],
        "method": {"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 1}}},
        "seed": 5,
        "metadata": {"team": "a"},
    }
    headers = {"idempotency-key": "job-1"}
    created = http.post("fine_tuning/jobs", json=body, headers=headers).json()
    assert created["status"] == "validating_files"
    assert http.post("fine_tuning/jobs", json=body, headers=headers).json()["id"] == created["id"]
    while (now := http.get(f"fine_tuning/jobs/{created['id']}").json())["finished_at"] is None:
        time.sleep(0.1)
    assert now["status"] == "succeeded", now
    return now
