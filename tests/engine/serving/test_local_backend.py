"""The life of the model worker: started on demand, replaced when it dies, stopped when idle."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time

import pytest

from tunesmith.engine.domain.errors import ErrorKind
from tunesmith.engine.domain.processes import process_exists
from tunesmith.engine.fork_server import ForkServer, is_supported
from tunesmith.engine.models.model_info import ServableModel
from tunesmith.engine.serving import (
    GenerationError,
    GenerationRequest,
    WorkerStoppedError,
    create_local_backend,
)

SHORT = GenerationRequest(prompts=["I love"], max_tokens=4, temperature=0)
ENDLESS = GenerationRequest(
    prompts=["I love"], max_tokens=2000, logit_bias={0: -100, 2: -100}, stream=True
)


async def text_of(backend, model, request=SHORT):
    return "".join([delta.text async for delta in backend.generate(model, request)])


needs_forks = pytest.mark.skipif(not is_supported(), reason="forks compute on Linux only")


@pytest.fixture(params=["new process", pytest.param("fork", marks=needs_forks)])
def fork_server(request, tmp_path):
    """What forks the worker; None for a new process."""
    server = ForkServer(tmp_path / "log", 1) if request.param == "fork" else None
    yield server
    if server is not None:
        server.close()


def test_a_worker_through_its_life(models, tmp_path, fork_server):
    """One process start costs seconds, so one test follows it through everything."""
    missing = ServableModel("gone", "gone", tmp_path / "nothing")

    async def live():
        backend = create_local_backend(threads=1, idle_seconds=None, fork_server=fork_server)
        assert not backend.running

        # The first request starts the process; requests that come meanwhile wait.
        answers = await asyncio.gather(
            *(text_of(backend, models[name]) for name in ("tiny", "red", "blue"))
        )
        assert len(set(answers)) == 3
        first = backend.pid

        # A model that cannot be loaded is an error of its requests only.
        with pytest.raises(GenerationError, match="cannot be loaded") as caught:
            await backend.load(missing)
        assert caught.value.kind is ErrorKind.INTERNAL
        await backend.load(models["tiny"])
        assert backend.pid == first

        # A model that is deleted is unloaded, and loaded again if it is requested after all.
        folder = models["red"].adapter_path
        assert folder in await backend.loaded()
        await backend.unload(folder)
        assert folder not in await backend.loaded()
        assert await text_of(backend, models["red"]) == answers[1]

        # A consumer that leaves ends its generation.
        async with contextlib.aclosing(backend.generate(models["tiny"], ENDLESS)) as stream:
            await anext(stream)
        assert not backend.pending

        # Killed: what is in flight fails, the next request starts another process.
        stream = backend.generate(models["tiny"], ENDLESS)
        await anext(stream)
        os.kill(first, signal.SIGKILL)
        with pytest.raises(WorkerStoppedError) as stopped:
            async for _delta in stream:
                pass
        assert stopped.value.kind is ErrorKind.UNAVAILABLE
        assert await text_of(backend, models["tiny"]) == answers[0]
        second = backend.pid
        assert second != first

        # Idle for long enough, it ends by itself, and starts again when needed.
        backend._idle_seconds = 0.05
        await text_of(backend, models["tiny"])
        while process_exists(second):  # noqa: ASYNC110 - a process, which sets no event
            await asyncio.sleep(0.02)
        assert not backend.running

        await backend.stop()
        with pytest.raises(WorkerStoppedError, match="shutting down"):
            await text_of(backend, models["tiny"])

    asyncio.run(asyncio.wait_for(live(), 600))


@needs_forks
def test_an_engine_that_stops_while_the_libraries_are_loaded_stops_at_once(models, tmp_path):
    server = ForkServer(tmp_path / "log", 1)

    async def stop():
        backend = create_local_backend(threads=1, fork_server=server)
        load = asyncio.create_task(backend.load(models["tiny"]))
        await asyncio.sleep(0.3)
        await backend.stop()
        server.close()
        with pytest.raises(WorkerStoppedError, match="shutting down"):
            await load
        assert not backend.running

    asyncio.run(asyncio.wait_for(stop(), 60))
    assert not server.is_ready


@needs_forks
def test_a_worker_goes_on_when_the_fork_server_is_killed(models, tmp_path):
    server = ForkServer(tmp_path / "log", 1)

    async def live():
        backend = create_local_backend(threads=1, fork_server=server)
        answer = await text_of(backend, models["tiny"])
        first = backend.pid
        server.close()
        assert await text_of(backend, models["tiny"]) == answer
        assert backend.pid == first
        os.kill(first, signal.SIGKILL)
        while backend.running:  # noqa: ASYNC110 - a process, which sets no event
            await asyncio.sleep(0.02)
        assert await text_of(backend, models["tiny"]) == answer
        assert server.is_ready  # another one
        await backend.stop()

    asyncio.run(asyncio.wait_for(live(), 600))
    server.close()


@pytest.mark.parametrize("forked", [False, pytest.param(True, marks=needs_forks)])
def test_the_process_does_not_outlive_its_server(forked, tmp_path):
    script = """
import asyncio, os, sys
from pathlib import Path
from tunesmith.engine.fork_server import ForkServer
from tunesmith.engine.serving import create_local_backend

async def main():
    server = ForkServer(Path(sys.argv[1]), 1) if len(sys.argv) > 1 else None
    backend = create_local_backend(threads=1, fork_server=server)
    start = asyncio.create_task(backend.start())
    while not backend.running:
        await asyncio.sleep(0.01)
    print(backend.pid, flush=True)
    os.kill(os.getpid(), 9)

asyncio.run(main())
"""
    done = subprocess.run(
        [sys.executable, "-c", script, *([str(tmp_path / "log")] if forked else [])],
        check=False,
        stdout=subprocess.PIPE,
        timeout=300,
    )
    pid = int(done.stdout)
    deadline = time.monotonic() + 120
    while process_exists(pid):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_the_server_s_side_loads_no_torch():
    script = (
        "import sys; from tunesmith.engine.serving import create_local_backend; "
        "create_local_backend(); sys.exit(bool({'torch', 'transformers'} & set(sys.modules)))"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
