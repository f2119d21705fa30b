"""Engines that tests may kill, and ways to follow their jobs without trusting a client."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import signal
import sqlite3
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tunesmith.engine import Engine, start
from tunesmith.engine.config import ServingConfig
from tunesmith.testing import write_tiny_home

ROWS = "".join(
    f'{{"prompt": "I {verb} the {thing} ->", "completion": " {mood}\\n"}}\n'
    for thing in ("phone", "game", "day", "sea", "city", "soap")
    for verb, mood in (("love", "positive"), ("hate", "negative"))
)
FORK_SERVER = b"tunesmith.engine.fork_server.server"
FINAL = ("succeeded", "failed", "cancelled")


def command(pid: int) -> bytes:
    """Return a process's command line, on Linux; nothing if it has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return b""


def name(pid: int) -> str:
    """Return a process's name, on Linux; nothing if it has ended."""
    try:
        return Path(f"/proc/{pid}/comm").read_text("utf-8").strip()
    except (FileNotFoundError, ProcessLookupError):
        return ""


def children(pid: int) -> list[int]:
    """Return the processes that a process has started and that run, on Linux."""
    threads = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(child) for thread in threads for child in thread.read_text().split()]


@dataclasses.dataclass
class Platform:
    """A state folder with an engine on it that can be killed and started again."""

    home: Path
    settings: dict[str, Any]
    engine: Engine | None = None
    http: httpx.Client = dataclasses.field(init=False)

    def start(self) -> None:
        self.engine = start(self.home, **self.settings)
        # One for all requests: making one takes as long as many of them.
        self.http = httpx.Client(base_url=self.engine.base_url, timeout=60)

    def stop(self) -> None:
        if self.engine is not None:
            self.http.close()
            self.engine.stop()

    def kill(self) -> None:
        """End the server as a power cut would, its trainers excepted."""
        assert self.engine is not None
        os.kill(self.engine.pid, signal.SIGKILL)
        self.stop()

    def kill_worker(self, job: dict[str, Any]) -> int:
        pid = self.worker_pid(job)
        os.kill(pid, signal.SIGKILL)
        return pid

    def worker_pid(self, job: dict[str, Any]) -> int:
        return self.wait_for(lambda: self.rows(job, "worker_pid"))

    def model_workers(self) -> list[int]:
        """Return the engine's processes that generate answers, on Linux."""
        forked = [pid for server in self.fork_servers() for pid in children(server)]
        workers = [pid for pid in forked if name(pid) == "model_worker"]
        return workers + self._children(b"tunesmith.engine.serving.model_worker")

    def fork_servers(self) -> list[int]:
        """Return the engine's fork server, on Linux."""
        return self._children(FORK_SERVER)

    def _children(self, module: bytes) -> list[int]:
        """Return the engine's own processes that run a module, on Linux."""
        assert self.engine is not None
        return [pid for pid in children(self.engine.pid) if module in command(pid)]

    def rows(self, job: dict[str, Any], column: str) -> Any:
        with contextlib.closing(sqlite3.connect(self.home / "engine.db")) as connection:
            query = f"SELECT {column} FROM jobs WHERE id = ?"  # noqa: S608
            return connection.execute(query, (job["id"].partition("-")[2],)).fetchone()[0]

    def call(self, method: str, path: str, **options: Any) -> dict[str, Any]:
        answer = self.http.request(method, path, **options)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def upload(self, text: str = ROWS) -> str:
        files = {"file": ("train.jsonl", text.encode())}
        return self.call("POST", "files", data={"purpose": "fine-tune"}, files=files)["id"]

    def create(self, training_file: str, n_epochs: int, **fields: Any) -> dict[str, Any]:
        body = {"training_file": training_file, "model": "gpt-4o-mini", "seed": 7} | fields
        body["hyperparameters"] = {"n_epochs": n_epochs, "batch_size": 1}
        return self.call("POST", "fine_tuning/jobs", json=body)

    def job(self, job: dict[str, Any]) -> dict[str, Any]:
        return self.call("GET", f"fine_tuning/jobs/{job['id']}")

    def finished(self, job: dict[str, Any]) -> dict[str, Any]:
        return self.wait_for(lambda: (now := self.job(job))["status"] in FINAL and now)

    def reached(self, job: dict[str, Any], step: int) -> None:
        """Wait until the training has come to a step."""
        self.wait_for(lambda: self.rows(job, "steps_done") >= step)

    def events(self, job: dict[str, Any]) -> list[dict[str, Any]]:
        """Return the job's events, oldest first, by way of pages."""
        events: list[dict[str, Any]] = []
        while True:
            after = {"after": events[-1]["id"]} if events else {}
            query = {"limit": 500} | after
            page = self.call("GET", f"fine_tuning/jobs/{job['id']}/events", params=query)
            events += page["data"]
            if not page["has_more"]:
                return events[::-1]

    def history(self, job: dict[str, Any]) -> list[Any]:
        """Return what the events say, without what differs between two equal jobs."""
        identity = job["id"].partition("-")[2]
        said = [
            (event["message"], event["data"])
            for event in self.events(job)
            if event["level"] != "warn"
        ]
        text = json.dumps(said).replace(identity, "ID").replace(identity[:8], "ID")
        return [event for event in json.loads(text) if "recipe" not in event[0]]

    def results(self, job: dict[str, Any]) -> str:
        (file,) = self.job(job)["result_files"]
        return self.http.get(f"files/{file}/content").text

    @staticmethod
    def wait_for(seen: Callable[[], Any], seconds: float = 180) -> Any:
        deadline = time.monotonic() + seconds
        while not (result := seen()):
            assert time.monotonic() < deadline, "waited too long"
            time.sleep(0.05)
        return result


def start_platform(home: Path, base_model: Path, **settings: Any) -> Platform:
    home.mkdir(exist_ok=True)
    write_tiny_home(home, base_model)
    usual = {
        "checkpoint_every_seconds": 0.5,
        "recipe": "lora",
        "serving": ServingConfig(preload=False),  # most tests train, and ask nothing
    }
    platform = Platform(home, usual | settings)
    platform.start()
    return platform


@pytest.fixture(scope="module")
def make_platform(
    tmp_path_factory: pytest.TempPathFactory, tiny_base_model: Path
) -> Iterator[Callable[..., Platform]]:
    """Start engines that run until the file's tests have ended."""
    made: list[Platform] = []

    def make(home: Path | None = None, **settings: Any) -> Platform:
        home = home or tmp_path_factory.mktemp("platform")
        made.append(start_platform(home, tiny_base_model, **settings))
        return made[-1]

    yield make
    for platform in made:
        platform.stop()


@pytest.fixture(scope="session")
def rows() -> str:
    return ROWS


@pytest.fixture(scope="session")
def platform(tmp_path_factory: pytest.TempPathFactory, tiny_base_model: Path) -> Iterator[Platform]:
    """One engine for the tests of all files."""
    home = tmp_path_factory.mktemp("platform")
    platform = start_platform(home, tiny_base_model, max_concurrent_jobs=2)
    yield platform
    platform.stop()


class Notes:
    """Keeps what a training reports."""

    def __init__(self) -> None:
        self.steps: list[Any] = []
        self.notes: list[str] = []

    def step(self, record: Any) -> None:
        self.steps.append(record)

    def note(self, key: str, message: str) -> None:
        if key.startswith("memory-of-one"):
            self.notes.append(message)

    def planned(self, plan: Any) -> None: ...

    def epoch(self, record: Any) -> None: ...

    def checkpoint(self, record: Any) -> None: ...

    def stop_requested(self) -> None: ...


@pytest.fixture
def with_little_memory(
    tmp_path: Path, tiny_base_model: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[Callable[..., Any]], None]:
    """Return a function that trains in processes of which one runs out of memory."""
    from tunesmith.engine.training import train
    from tunesmith.engine.training.spec import TrainingSpec

    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))

    def specification(name: str) -> TrainingSpec:
        path = tmp_path / "rows.jsonl"
        path.write_text(ROWS, encoding="utf-8")
        return TrainingSpec(
            job_id=name,
            base_model="tiny",
            base_path=tiny_base_model,
            training_path=path,
            work_path=tmp_path / name / "work",
            output_path=tmp_path / name / "model",
            n_epochs=1,
            batch_size=4,
            recipe="lora",
            threads=2,
            path="fast",
            checkpoint_every_seconds=0,
        )

    def check(train_shared: Callable[..., Any]) -> None:
        alone, shared = Notes(), Notes()
        train(specification("alone"), alone)
        outcome = train_shared(specification("shared"), shared)
        assert outcome.steps == len(alone.steps) == 3
        assert [record.step for record in shared.steps] == [1, 2, 3]
        for one, other in zip(alone.steps, shared.steps, strict=True):
            assert other.training_loss == pytest.approx(one.training_loss, rel=0.01)
        (message,) = shared.notes
        assert message.startswith("Memory did not suffice for ")
        assert message.endswith("All processes start again from the last checkpoint.")

    return check
