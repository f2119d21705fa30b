"""What the switch costs a caller: an old service asked alone, through the engine, and mirrored.

Usage: python benchmarks/mirror.py [--callers 50] [--requests 1000] [--rounds 3] [--median 0.5]
    [--before SRC_OF_AN_EARLIER_CHECKOUT]

Three processes. The old service answers as a hosted model does: after a time that is drawn from a
log-normal distribution (median 0.5 s, sigma 0.4: 95 % within 0.23 to 1.1 s, p99 1.27 s), which is
that of the request's number, so that each way waits for the same service. The engine has a tiny
random model, which the mirror asks. The callers send their next request when they have the answer
to their last one. Old service and callers speak HTTP by hand, so that they take little of the
processor from the engine. The three ways alternate within each round. `--constant` has the old
service answer always after the median: then all callers ask at the same moment, again and again,
which is the worst that can happen to a gateway. Needs no download.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import json
import multiprocessing
import os
import random
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx

from tunesmith.engine import Engine, start
from tunesmith.testing import write_tiny_home, write_tiny_model

os.environ.setdefault("OMP_NUM_THREADS", "1")

NAME = "ft:gpt-4o-mini-2024-07-18:acme::AbC123"
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


def body_of(number: int) -> bytes:
    messages = [{"role": "user", "content": f"{number}: I love it"}]
    return json.dumps({"model": NAME, "messages": messages, "max_tokens": 8}).encode()


def latency(body: bytes, options: argparse.Namespace) -> float:
    """Return the seconds after which the old service answers a request."""
    if options.constant:
        return options.median
    drawn = random.Random(body)  # noqa: S311 - a simulation
    return options.median * drawn.lognormvariate(0, options.sigma)


async def read_message(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    head = await reader.readuntil(b"\r\n\r\n")
    length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
    return head, await reader.readexactly(length)


async def answer(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, options: argparse.Namespace
) -> None:
    fields = b"content-type: application/json\r\ncontent-length: %d" % len(ANSWER)
    try:
        while True:
            _, body = await read_message(reader)
            await asyncio.sleep(latency(body, options))
            writer.write(b"HTTP/1.1 200 OK\r\n" + fields + b"\r\n\r\n" + ANSWER)
            await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError):
        writer.close()


def serve_old(ready: Any, options: argparse.Namespace) -> None:
    async def main() -> None:
        server = await asyncio.start_server(
            lambda reader, writer: answer(reader, writer, options), "127.0.0.1", 0, backlog=512
        )
        ready.put(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    asyncio.run(main())


async def ask(url: str, callers: int, requests: int) -> list[float]:
    """Return the seconds of each request, so many callers at a time."""
    times: list[float] = []
    numbers = itertools.count()
    address = urlsplit(url)

    async def call(index: int, *, is_warm_up: bool) -> None:
        while (number := -index if is_warm_up else next(numbers)) < requests:
            body = body_of(number)
            began = time.perf_counter()
            writers[index].write(
                f"POST {address.path}/chat/completions HTTP/1.1\r\nhost: {address.netloc}\r\n"
                f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n".encode()
                + body
            )
            head, content = await read_message(readers[index])
            if not is_warm_up:
                times.append(time.perf_counter() - began)
            assert head.split()[1] == b"200", content
            if is_warm_up:
                return

    opened = [await asyncio.open_connection(address.hostname, address.port) for _ in range(callers)]
    readers, writers = [one[0] for one in opened], [one[1] for one in opened]
    await asyncio.gather(*(call(index, is_warm_up=True) for index in range(callers)))
    await asyncio.gather(*(call(index, is_warm_up=False) for index in range(callers)))
    for writer in writers:
        writer.close()
    return times


def p(times: list[float], percent: int) -> float:
    return 1000 * statistics.quantiles(times, n=100)[percent - 1]


def cpu_seconds(pid: int) -> float:
    """Return the CPU time of a process, without that of the model's own process."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--callers", type=int, default=50)
    parser.add_argument("--requests", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--median", type=float, default=0.5)
    parser.add_argument("--sigma", type=float, default=0.4)
    parser.add_argument("--constant", action="store_true")
    parser.add_argument("--before", help="src of an earlier checkout, to be measured in turn")
    options = parser.parse_args()
    context = multiprocessing.get_context("spawn")
    ready = context.Queue()
    old = context.Process(target=serve_old, args=(ready, options), daemon=True)
    old.start()
    old_url = f"http://127.0.0.1:{ready.get()}/v1"
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        tiny = write_tiny_model(Path(folder) / "tiny")
        engines: dict[str, Engine] = {}
        for title, source in (("", None), (" before", options.before)):
            if title and source is None:
                continue
            home = write_tiny_home(Path(folder) / f"home{title}", tiny)
            file = home / "upstreams.toml"
            file.write_text(f'[old]\nurl = "{old_url}"\napi_key = "key"\n', encoding="utf-8")
            file.chmod(0o600)
            if source is not None:
                os.environ["PYTHONPATH"] = str(Path(source).absolute())
            engines[title] = stack.enter_context(start(home))
        measure(engines, old_url, options)
    old.terminate()


def measure(engines: dict[str, Engine], old_url: str, options: argparse.Namespace) -> None:
    for engine in engines.values():
        set_stage(engine, "local")
        form = {"content-type": "application/json"}
        address = f"{engine.base_url}/chat/completions"
        httpx.post(address, content=body_of(0), headers=form, timeout=60)  # loads the model
    ways: dict[str, tuple[Engine | None, str]] = {"the old service alone": (None, "upstream")}
    for title, engine in engines.items():
        ways[f"through the engine{title}"] = (engine, "upstream")
        ways[f"mirrored{title}"] = (engine, "mirror")
    times: dict[str, list[float]] = {way: [] for way in ways}
    spent = dict.fromkeys(ways, 0.0)
    for _ in range(options.rounds):
        for way, (engine, stage) in ways.items():
            if engine is None:
                times[way] += asyncio.run(ask(old_url, options.callers, options.requests))
                continue
            set_stage(engine, stage)
            before = cpu_seconds(engine.pid)
            times[way] += asyncio.run(ask(engine.base_url, options.callers, options.requests))
            spent[way] += cpu_seconds(engine.pid) - before
    print(f"{options.callers} at a time, {options.rounds} rounds of {options.requests}")
    alone = times["the old service alone"]
    for way, found in times.items():
        print(
            f"{way:26} p50 {p(found, 50):6.1f} ms  p99 {p(found, 99):6.1f} ms  "
            f"p99 / alone {p(found, 99) / p(alone, 99):.3f}  "
            f"engine's CPU time {1000 * spent[way] / len(found):.2f} ms a request"
        )
    time.sleep(2)
    points = httpx.get(f"{engines[''].base_url}/model_routes/{NAME}/curves").json()["data"]
    print({name: sum(one[name] for one in points) for name in ("compared", "dropped")})


def set_stage(engine: Engine, stage: str) -> None:
    route = {"name": NAME, "target": "tiny", "upstream": "old", "stage": stage}
    assert httpx.post(f"{engine.base_url}/model_routes", json=route).status_code == 200


if __name__ == "__main__":
    main()
