"""Two organisations, one of which floods the engine: what the other one still gets.

Usage: python benchmarks/engine_flood.py [--seconds 40]

The flood: 16 requests at a time for 128 choices of 1,900 tokens each; hundreds of requests
whose client goes away; prompts of 8 MB; patterns that compile to huge grammars; log
probabilities of many tokens; connections that send nothing. Meanwhile the other organisation
asks for one token at a time, and `/healthz` is read. Needs no model download: the base model
is random and tiny.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import tempfile
import time
from collections import Counter
from pathlib import Path

import httpx

from tunesmith.engine import start
from tunesmith.engine.config import EngineConfig
from tunesmith.engine.home import Home
from tunesmith.engine.security.keys import create_key
from tunesmith.engine.store.database import Database
from tunesmith.testing import write_tiny_home, write_tiny_model

os.environ.setdefault("OMP_NUM_THREADS", "1")

WORDS = "I love this phone and hate that game "
FLOOD = {"model": "ada", "prompt": WORDS, "n": 128, "max_tokens": 1900}
BOMB = {
    "model": "ada",
    "messages": [{"role": "user", "content": "I"}],
    "max_tokens": 20,
    "response_format": {
        "type": "json_schema",
        "json_schema": {
            "name": "a",
            "schema": {"type": "string", "pattern": "^(x{1000}){1000}$"},
        },
    },
}
SCORES = {"model": "ada", "prompt": WORDS, "n": 128, "max_tokens": 1900, "logprobs": 5}


def write_home(folder: Path) -> tuple[Path, str, str]:
    """Return the state folder and a key of each of two organisations."""
    home = Home(write_tiny_home(folder / "home", write_tiny_model(folder / "tiny")))
    with contextlib.closing(Database(EngineConfig(home=home).database)) as database:
        database.migrate()
        made = [create_key(database, name="", organization=one)[1] for one in ("loud", "quiet")]
    return home.root, made[0], made[1]


class Flood:
    """Sends everything that hurts, until it is stopped; counts the answers."""

    def __init__(self, base_url: str, key: str) -> None:
        self.base_url = base_url
        self.statuses: Counter[str] = Counter()
        self.http = httpx.AsyncClient(
            base_url=base_url,
            headers={"authorization": f"Bearer {key}"},
            limits=httpx.Limits(max_connections=None),
            timeout=600,
        )

    async def repeat(self, kind: str, path: str, body: object) -> None:
        content = body if isinstance(body, bytes) else None
        while True:
            with contextlib.suppress(httpx.HTTPError):
                answer = await self.http.post(
                    path,
                    json=None if content else body,
                    content=content,
                    headers={"content-type": "application/json"},
                )
                self.statuses[f"{kind} {answer.status_code}"] += 1
            await asyncio.sleep(0.05)

    async def hang_up(self) -> None:
        """Ask, and go away."""
        while True:
            with contextlib.suppress(httpx.HTTPError):
                await self.http.post("/completions", json=FLOOD, timeout=0.2)
            self.statuses["hung up"] += 1

    async def connect(self) -> None:
        """Open connections that send nothing, and let them be."""
        url = httpx.URL(self.base_url)
        while True:
            with contextlib.suppress(OSError):
                _, writer = await asyncio.open_connection(url.host, url.port)
                writer.write(b"POST /v1/completions HTTP/1.1\r\n")
                self.statuses["silent connections"] += 1
            await asyncio.sleep(0.01)

    def start(self) -> list[asyncio.Task[None]]:
        prompt = b'{"model": "ada", "max_tokens": 1, "prompt": "' + b"word " * 1_600_000 + b'"}'
        everything = [self.repeat("choices", "/completions", FLOOD) for _ in range(16)]
        everything += [self.hang_up() for _ in range(20)]
        everything += [self.repeat("8 MB", "/completions", prompt) for _ in range(2)]
        everything += [self.repeat("grammar", "/chat/completions", BOMB) for _ in range(2)]
        everything += [self.repeat("scores", "/completions", SCORES) for _ in range(2)]
        everything += [self.connect()]
        return [asyncio.create_task(one) for one in everything]


async def measure(base_url: str, loud: str, quiet: str, seconds: float) -> None:
    ask = {"model": "ada", "prompt": "I love this ->", "max_tokens": 1}
    headers = {"authorization": f"Bearer {quiet}"}
    async with httpx.AsyncClient(base_url=base_url, headers=headers, timeout=60) as http:
        (await http.post("/completions", json=ask)).raise_for_status()
        await report(http, base_url, ask, seconds / 4, "alone")
        flood = Flood(base_url, loud)
        tasks = flood.start()
        await asyncio.sleep(3)
        await report(http, base_url, ask, seconds, "beside the flood")
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await flood.http.aclose()
        print("the flood's answers:", dict(sorted(flood.statuses.items())))
        await asyncio.sleep(2)
        await report(http, base_url, ask, seconds / 8, "after the flood")


async def report(
    http: httpx.AsyncClient, base_url: str, ask: object, seconds: float, when: str
) -> None:
    ended = time.perf_counter() + seconds
    health = base_url.removesuffix("/v1") + "/healthz"

    async def repeat(method: str, url: str, body: object) -> list[float]:
        times = []
        while time.perf_counter() < ended:
            began = time.perf_counter()
            answer = await http.request(method, url, json=body)
            times.append((time.perf_counter() - began) * 1000)
            assert answer.status_code == 200, answer.text
            await asyncio.sleep(0.02)
        return times

    tokens, healths = await asyncio.gather(
        repeat("POST", "/completions", ask), repeat("GET", health, None)
    )
    for what, times in (("one token", tokens), ("/healthz", healths)):
        times.sort()
        print(
            f"{when}, {what}: {len(times)} requests, p50 {times[len(times) // 2]:.0f} ms, "
            f"p99 {times[int(len(times) * 0.99)]:.0f} ms, slowest {times[-1]:.0f} ms"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=40)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        home, loud, quiet = write_home(Path(folder))
        with start(home, serving_threads=1) as engine:
            asyncio.run(measure(engine.base_url, loud, quiet, options.seconds))
    print(f"load average at the end: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")


if __name__ == "__main__":
    main()
