"""The engine under load: 50 queued jobs, 200 open event streams, and the API's read times.

Usage: python benchmarks/engine_load.py [--jobs 50] [--streams 200] [--reads 1000]

A training runs all the while. Needs no model download: the base model is random and tiny.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import tempfile
import time
from pathlib import Path

import httpx

from tunesmith.engine import start
from tunesmith.testing import write_tiny_home, write_tiny_model

os.environ.setdefault("OMP_NUM_THREADS", "1")


def write_home(folder: Path) -> Path:
    return write_tiny_home(folder / "home", write_tiny_model(folder / "tiny"))


async def follow(
    http: httpx.AsyncClient, job_id: str, opened: asyncio.Event, seen: list[int]
) -> None:
    path = f"/fine-tunes/{job_id}/events?stream=true"
    async with http.stream("GET", path, timeout=None) as answer:
        async for line in answer.aiter_lines():
            if line.startswith("data:"):
                opened.set()
                seen.append(1)


async def measure(base_url: str, jobs: int, streams: int, reads: int) -> None:
    limits = httpx.Limits(max_connections=streams + 20, max_keepalive_connections=20)
    async with httpx.AsyncClient(base_url=base_url, limits=limits, timeout=60) as http:
        rows = "".join(
            f'{{"prompt": "I love number {number} ->", "completion": " positive\\n"}}\n'
            for number in range(64)
        )
        files = {"file": ("train.jsonl", rows.encode())}
        file = (await http.post("/files", data={"purpose": "fine-tune"}, files=files)).json()
        body = {"training_file": file["id"], "model": "ada", "n_epochs": 50, "batch_size": 1}
        made = [(await http.post("/fine-tunes", json=body)).json()["id"] for _ in range(jobs)]
        print(f"{len(made)} jobs queued")
        seen: list[int] = []
        opened = [asyncio.Event() for _ in range(streams)]
        tasks = [
            asyncio.create_task(follow(http, made[number % len(made)], opened[number], seen))
            for number in range(streams)
        ]
        await asyncio.wait_for(asyncio.gather(*(event.wait() for event in opened)), 300)
        print(f"{streams} streams open")
        times = []
        paths = [f"/fine_tuning/jobs/{made[0].replace('ft-', 'ftjob-')}", f"/files/{file['id']}"]
        paths += [f"/fine-tunes/{made[-1]}", "/fine_tuning/jobs?limit=10"]
        for number in range(reads):
            began = time.perf_counter()
            answer = await http.get(paths[number % len(paths)])
            times.append((time.perf_counter() - began) * 1000)
            assert answer.status_code == 200, answer.text
            await asyncio.sleep(0.005)
        cuts = statistics.quantiles(times, n=100)
        print(
            f"{reads} reads beside {streams} streams and a training: "
            f"p50 {cuts[49]:.1f} ms, p95 {cuts[94]:.1f} ms, p99 {cuts[98]:.1f} ms, "
            f"slowest {max(times):.1f} ms; {len(seen)} events received"
        )
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for job_id in made:
            await http.post(f"/fine-tunes/{job_id}/cancel")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--jobs", type=int, default=50)
    parser.add_argument("--streams", type=int, default=200)
    parser.add_argument("--reads", type=int, default=1000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        home = write_home(Path(folder))
        with start(home, threads=1, recipe="lora") as engine:
            work = measure(engine.base_url, options.jobs, options.streams, options.reads)
            asyncio.run(work)
    print(f"load average at the end: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")


if __name__ == "__main__":
    main()
