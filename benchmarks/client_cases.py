"""The cases, one function each; run in the environment of one client: `CASE CLIENT URL`."""

from __future__ import annotations

import asyncio
import gc
import json
import resource
import socket
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROUNDS = 5
CHUNKS = 2000


def make(client: str, url: str, *, asynchronous: bool = False) -> Any:
    """Return a client of the kind that is measured."""
    if client == "openai":
        import openai

        return (openai.AsyncOpenAI if asynchronous else openai.OpenAI)(api_key="k", base_url=url)
    import tunesmith

    settings = {"transport": "fast"} if client == "fast" else {}
    return (tunesmith.AsyncClient if asynchronous else tunesmith.Client)(
        "k", base_url=url, **settings
    )


def cpu(work: Any, count: int) -> float:
    """Return the median CPU microseconds of one of `count` units of work."""
    work()
    samples = []
    for _ in range(ROUNDS):
        gc.collect()
        started = time.process_time()
        work()
        samples.append((time.process_time() - started) / count * 1e6)
    return statistics.median(samples)


def retrieve(client: str, url: str) -> float:
    """One job, asked for again and again on one connection."""
    if client == "floor":
        return floor(url)
    one = make(client, url)
    return cpu(lambda: [one.fine_tuning.jobs.retrieve("ftjob-1") for _ in range(300)], 300)


def connected(url: str) -> socket.socket:
    """Return a raw connection to the stub."""
    port = int(url.split(":")[2].split("/", maxsplit=1)[0])
    return socket.create_connection(("127.0.0.1", port))


def floor(url: str) -> float:
    """A raw socket and the JSON decoder of the standard library."""
    connection = connected(url)
    question = (
        b"GET /v1/fine_tuning/jobs/ftjob-1 HTTP/1.1\r\nhost: a\r\nauthorization: Bearer k\r\n\r\n"
    )

    def work() -> None:
        for _ in range(300):
            connection.sendall(question)
            json.loads(connection.recv(65536).partition(b"\r\n\r\n")[2])

    return cpu(work, 300)


def asynchronous(client: str, url: str, width: int, total: int) -> float:
    """Jobs asked for by `width` tasks at a time."""

    async def main() -> float:
        one = make(client, url, asynchronous=True)

        async def worker() -> None:
            for _ in range(total // width):
                await one.fine_tuning.jobs.retrieve("ftjob-1")

        samples = []
        for turn in range(ROUNDS + 1):
            gc.collect()
            started = time.process_time()
            await asyncio.gather(*[worker() for _ in range(width)])
            if turn:
                samples.append((time.process_time() - started) / total * 1e6)
        return statistics.median(samples)

    return asyncio.run(main())


def async_one(client: str, url: str) -> float:
    """One task."""
    return asynchronous(client, url, 1, 300)


def async_10(client: str, url: str) -> float:
    """Ten tasks."""
    return asynchronous(client, url, 10, 1000)


def async_50(client: str, url: str) -> float:
    """Fifty tasks."""
    return asynchronous(client, url, 50, 1000)


def async_500(client: str, url: str) -> float:
    """Five hundred tasks."""
    return asynchronous(client, url, 500, 2000)


def chunk(client: str, url: str) -> float:
    """One chunk of a streamed chat answer."""
    if client == "floor":
        return cpu(lambda: split_events(connected(url)), CHUNKS)
    one = make(client, url)

    def work() -> None:
        messages = [{"role": "user", "content": "a"}]
        stream = one.chat.completions.create(model="m", messages=messages, stream=True)
        assert sum(1 for _ in stream) == CHUNKS

    return cpu(work, CHUNKS)


def split_events(connection: socket.socket) -> None:
    """A stream read from a raw socket and split, nothing decoded."""
    connection.sendall(b"POST /v1/chat/completions HTTP/1.1\r\ncontent-length: 0\r\n\r\n")
    received = b""
    while not received.endswith(b"0\r\n\r\n"):
        received += connection.recv(65536)
    assert received.count(b"data: {") == CHUNKS
    connection.close()


def page(client: str, url: str) -> float:
    """One job of a page of a hundred."""
    one = make(client, url)
    return cpu(lambda: [one.fine_tuning.jobs.list(limit=99) for _ in range(10)], 1000)


def upload(client: str, url: str) -> dict[str, float]:
    """512 MB from disk: CPU milliseconds and peak megabytes above the start."""
    one = make(client, url)
    size = 512 << 20
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "big.bin"
        with path.open("wb") as out:
            out.truncate(size)
        with path.open("rb") as handle:
            one.files.create(file=("a", b"x"), purpose="fine-tune")
            before, started = peak(), time.process_time()
            one.files.create(file=handle if client == "openai" else path, purpose="fine-tune")
    return {"cpu_ms": (time.process_time() - started) * 1e3, "peak_mb": peak() - before}


def download(client: str, url: str) -> dict[str, float]:
    """512 MB to a file: CPU milliseconds and peak megabytes above the start."""
    if client == "floor":
        return copied(connected(url), 512 << 20)
    one = make(client, url)
    size = 512 << 20
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "big.bin"
        one.files.retrieve("file-1")
        before, started = peak(), time.process_time()
        with one.files.with_streaming_response.content(f"file-{size}") as response:
            response.stream_to_file(path)
        assert path.stat().st_size == size
    return {"cpu_ms": (time.process_time() - started) * 1e3, "peak_mb": peak() - before}


def copied(connection: socket.socket, size: int) -> dict[str, float]:
    """The same from a raw socket."""
    before, started = peak(), time.process_time()
    connection.sendall(b"GET /v1/files/file-%d/content HTTP/1.1\r\n\r\n" % size)
    with tempfile.TemporaryFile() as out:
        while out.tell() < size:
            out.write(connection.recv(65536))
    return {"cpu_ms": (time.process_time() - started) * 1e3, "peak_mb": peak() - before}


def peak() -> float:
    """Return the most memory that this process has had, in megabytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def waiters(client: str, url: str) -> float:
    """A thousand tasks that wait for a thousand jobs, looked at once a second: share of a core."""

    async def main() -> float:
        one = make(client, url, asynchronous=True)

        async def poll(name: str) -> None:
            while True:
                await one.fine_tuning.jobs.retrieve(name)
                await asyncio.sleep(1)

        names = [f"ftjob-{n}" for n in range(1000)]
        if client == "openai":
            tasks = [asyncio.create_task(poll(name)) for name in names]
        else:
            tasks = [asyncio.create_task(one.fine_tuning.jobs.wait(name, poll=1)) for name in names]
        await asyncio.sleep(3)
        started = time.process_time()
        await asyncio.sleep(10)
        used = (time.process_time() - started) / 10
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        return used

    return asyncio.run(main())


if __name__ == "__main__":
    case, client_name, address = sys.argv[1:]
    sys.stdout.write(json.dumps(globals()[case](client_name, address)))
