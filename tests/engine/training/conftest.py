from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tunesmith.engine.training.spec import TrainingSpec

WORDS = ["love", "great", "phone", "day", "ice", "game", "story", "city", "name", "soap"]


@dataclass
class Recorder:
    """Keeps every record; requests a stop after a number of steps."""

    stop_after: int | None = None
    stop: str = "shutdown"
    plans: list = field(default_factory=list)
    notes: list = field(default_factory=list)
    steps: list = field(default_factory=list)
    epochs: list = field(default_factory=list)
    checkpoints: list = field(default_factory=list)

    def planned(self, plan):
        self.plans.append(plan)

    def note(self, key, message):
        self.notes.append((key, message))

    def step(self, record):
        self.steps.append(record)

    def epoch(self, record):
        self.epochs.append(record)

    def checkpoint(self, record):
        self.checkpoints.append(record)

    def stop_requested(self):
        if self.stop_after is not None and len(self.steps) >= self.stop_after:
            return self.stop
        return None


def write_rows(path: Path, rows: list[dict]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def sentiment_rows(count: int, start: int = 0) -> list[dict]:
    """Rows that a model can memorise: the first word decides the class."""
    return [
        {
            "prompt": f"I {('love', 'hate')[n % 2]} this {WORDS[n % 10]} {WORDS[n % 7]} ->",
            "completion": (" positive", " negative")[n % 2],
        }
        for n in range(start, start + count)
    ]


@pytest.fixture
def recorder():
    return Recorder


@pytest.fixture
def rows():
    return sentiment_rows


@pytest.fixture
def make_file(tmp_path):
    def make(name: str, content: list[dict]) -> Path:
        return write_rows(tmp_path / name, content)

    return make


@pytest.fixture
def make_spec(tmp_path, tiny_base_model):
    """Return a function that makes a spec on the tiny model; files default to sentiment rows."""

    def make(name: str = "job", **changes) -> TrainingSpec:
        if "training_path" not in changes:
            changes["training_path"] = write_rows(tmp_path / "train.jsonl", sentiment_rows(40))
        values = {
            "job_id": name,
            "base_model": "tiny",
            "base_path": tiny_base_model,
            "work_path": tmp_path / name / "work",
            "output_path": tmp_path / name / "model",
            "n_epochs": 2,
            "batch_size": 4,
            "recipe": "fast",
            "threads": 1,
        }
        return TrainingSpec(**(values | changes))

    return make


@pytest.fixture
def make_validation(tmp_path):
    def make(count: int = 12) -> Path:
        return write_rows(tmp_path / "validation.jsonl", sentiment_rows(count, start=1000))

    return make
