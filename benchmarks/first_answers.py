"""From nothing to an answer: a new engine's first job and answers, and what its processes take.

Usage: python benchmarks/first_answers.py [--before SRC] [--rounds 3]

Needs no model download: the base model is random and tiny, so nearly all of the time is spent on
loading libraries and starting processes. With `--before`, the `src` folder of another version is
measured in turn with this one. Linux only: memory is the proportional set size of `/proc`.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import httpx

from tunesmith.engine import start
from tunesmith.engine.config import ServingConfig
from tunesmith.testing import write_tiny_home, write_tiny_model

ROWS = "".join(
    f'{{"prompt": "I love number {number} ->", "completion": " positive\\n"}}\n'
    for number in range(8)
)
UNITS = {"engine and its processes": "MB"}


def processes(pid: int) -> list[int]:
    """Return a process and all that it has started."""
    threads = Path(f"/proc/{pid}/task").glob("*/children")
    children = [int(child) for thread in threads for child in thread.read_text().split()]
    return [pid, *(one for child in children for one in processes(child))]


def memory(pid: int) -> float:
    """Return the megabytes that a process takes, shared ones divided among those that share."""
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return int(text.partition("\nPss:")[2].split()[0]) / 1000


class Clock:
    """Seconds since the last lap, by name."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._began = time.perf_counter()

    def lap(self, name: str) -> None:
        now = time.perf_counter()
        self.seconds[name], self._began = now - self._began, now


def measure() -> dict[str, float]:
    """Return the measurements of one new engine."""
    with tempfile.TemporaryDirectory() as folder:
        model = write_tiny_model(Path(folder) / "tiny")
        home = write_tiny_home(Path(folder) / "home", model)
        clock = Clock()
        with (
            start(home, recipe="lora", serving=ServingConfig(preload=False)) as engine,
            httpx.Client(base_url=engine.base_url, timeout=300) as http,
        ):
            clock.lap("start")
            train(http)
            clock.lap("first job")
            train(http)
            clock.lap("second job")
            ask(http)
            clock.lap("first answer")
            clock.seconds["engine and its processes"] = sum(map(memory, processes(engine.pid)))
            os.kill(max(processes(engine.pid)), signal.SIGKILL)  # the newest one generates
            while ask(http) != 200:
                pass
            clock.lap("answer after a crash")
        return clock.seconds


def train(http: httpx.Client) -> None:
    files = {"file": ("train.jsonl", ROWS.encode())}
    file = http.post("/files", data={"purpose": "fine-tune"}, files=files).json()["id"]
    body = {"training_file": file, "model": "ada", "n_epochs": 1, "batch_size": 1}
    job = http.post("/fine-tunes", json=body).json()["id"]
    while (status := http.get(f"/fine-tunes/{job}").json()["status"]) != "succeeded":
        assert status != "failed"
        time.sleep(0.02)


def ask(http: httpx.Client) -> int:
    return http.post("/completions", json={"model": "ada", "prompt": "I"}).status_code


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--before", type=Path, help="src folder of another version")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--measure", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        print(json.dumps(measure()))
        return
    states = {"this": None} if options.before is None else {"before": options.before, "this": None}
    results: dict[str, list[dict[str, Any]]] = {name: [] for name in states}
    for _ in range(options.rounds):
        for name, source in states.items():
            variables = {} if source is None else {"PYTHONPATH": str(source.absolute())}
            ran = subprocess.run(
                [sys.executable, __file__, "--measure"],
                env=os.environ | variables,
                stdout=subprocess.PIPE,
                text=True,
                check=True,
            )
            results[name].append(json.loads(ran.stdout))
    for what in results["this"][0]:
        medians = [
            f"{name} {statistics.median(one[what] for one in rounds):.2f}"
            for name, rounds in results.items()
        ]
        print(f"{what}, {UNITS.get(what, 's')}: {', '.join(medians)}")


if __name__ == "__main__":
    main()
