"""What the switch costs a caller: an old service asked alone, through the engine, and mirrored.

Usage: python benchmarks/mirror.py [--callers 50] [--requests 1000] [--rounds 3] [--seconds 0.4]

The old service is a process that answers after a fixed time, the engine one with a tiny random
model, which the mirror asks. The three ways alternate within each round. Needs no download.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import httpx

from tunesmith.engine import start
from tunesmith.testing import write_tiny_home, write_tiny_model

os.environ.setdefault("OMP_NUM_THREADS", "1")

NAME = "ft:gpt-4o-mini-2024-07-18:acme::AbC123"
BODY = {"model": NAME, "messages": [{"role": "user", "content": "I love it"}], "max_tokens": 8}
MESSAGE = {"role": "assistant", "content": "positive", "refusal": None}
ANSWER = json.dumps(
    {
        "id": "chatcmpl-old",
        "object": "chat.completion",
        "created": 1,
        "model": NAME,
        "choices": [{"index": 0, "message": MESSAGE, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 9, "completion_tokens": 1, "total_tokens": 10},
    }
).encode()


async def answer(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, seconds: float
) -> None:
    try:
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            length = int(head.split(b"content-length:")[1].split(b"\r\n")[0])
            await reader.readexactly(length)
            await asyncio.sleep(seconds)
            fields = b"content-type: application/json\r\ncontent-length: %d" % len(ANSWER)
            writer.write(b"HTTP/1.1 200 OK\r\n" + fields + b"\r\n\r\n" + ANSWER)
            await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError):
        writer.close()


def serve_old(ready: Any, seconds: float) -> None:
    async def main() -> None:
        server = await asyncio.start_server(
            lambda reader, writer: answer(reader, writer, seconds), "127.0.0.1", 0, backlog=512
        )
        ready.put(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    asyncio.run(main())


async def ask(url: str, callers: int, requests: int) -> list[float]:
    """Return the seconds of each request, so many callers at a time."""
    times: list[float] = []
    limits = httpx.Limits(max_connections=callers, max_keepalive_connections=callers)
    async with httpx.AsyncClient(limits=limits, timeout=60) as http:

        async def call(count: int) -> None:
            for _ in range(count):
                began = time.perf_counter()
                got = await http.post(f"{url}/chat/completions", json=BODY)
                assert got.status_code == 200, got.text
                times.append(time.perf_counter() - began)

        await asyncio.gather(*(call(2) for _ in range(callers)))  # connections are open
        times.clear()
        await asyncio.gather(*(call(requests // callers) for _ in range(callers)))
    return times


def p(times: list[float], percent: int) -> float:
    return 1000 * statistics.quantiles(times, n=100)[percent - 1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--callers", type=int, default=50)
    parser.add_argument("--requests", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=0.4)
    options = parser.parse_args()
    context = multiprocessing.get_context("spawn")
    ready = context.Queue()
    old = context.Process(target=serve_old, args=(ready, options.seconds), daemon=True)
    old.start()
    old_url = f"http://127.0.0.1:{ready.get()}/v1"
    with tempfile.TemporaryDirectory() as folder:
        home = write_tiny_home(Path(folder) / "home", write_tiny_model(Path(folder) / "tiny"))
        file = home / "upstreams.toml"
        file.write_text(f'[old]\nurl = "{old_url}"\napi_key = "key"\n', encoding="utf-8")
        file.chmod(0o600)
        with start(home) as engine:
            measure(engine.base_url, old_url, options)
    old.terminate()


def measure(url: str, old_url: str, options: argparse.Namespace) -> None:
    with httpx.Client(base_url=url, timeout=60) as http:
        route = {"name": NAME, "target": "tiny", "upstream": "old"}

        def stage(name: str) -> None:
            assert http.post("model_routes", json=route | {"stage": name}).status_code == 200

        stage("local")
        http.post("chat/completions", json=BODY)  # the model is in memory
        ways: dict[str, tuple[str, str]] = {
            "the old service alone": (old_url, "upstream"),
            "through the engine": (url, "upstream"),
            "mirrored": (url, "mirror"),
        }
        times: dict[str, list[float]] = {way: [] for way in ways}
        for _ in range(options.rounds):
            for way, (address, name) in ways.items():
                stage(name)
                times[way] += asyncio.run(ask(address, options.callers, options.requests))
        print(f"{options.callers} at a time, {options.rounds} rounds of {options.requests}")
        alone = times["the old service alone"]
        for way, found in times.items():
            print(
                f"{way:22} p50 {p(found, 50):6.1f} ms  p99 {p(found, 99):6.1f} ms  "
                f"p99 / alone {p(found, 99) / p(alone, 99):.3f}"
            )
        time.sleep(2)
        points = http.get(f"model_routes/{NAME}/curves").json()["data"]
        print({name: sum(one[name] for one in points) for name in ("compared", "dropped")})


if __name__ == "__main__":
    main()
