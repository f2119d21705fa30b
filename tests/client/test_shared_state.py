"""State that calls share outlives none of them: waits, event loops, TLS contexts, the exit."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import subprocess
import sys
import threading
import weakref
from pathlib import Path
from typing import Any

import pytest

import tunesmith
from http_stub import answer, sse
from tls_server import Handshakes
from tunesmith import AsyncClient, Client, RetryPolicy, Timeout
from tunesmith.transport.async_driver import AsyncDriver

MODEL = {"id": "m", "created": 1, "owned_by": "me"}
LEGACY = {
    "id": "ft-1", "object": "fine-tune", "created_at": 1, "updated_at": 1, "model": "curie",
    "organization_id": "org-1", "status": "running", "hyperparams": {}, "training_files": [],
    "validation_files": [], "result_files": [],
}  # fmt: skip


class Jobs:
    """Jobs that run until the test says that they have ended."""

    def __init__(self, job: dict[str, Any]) -> None:
        self.job, self.ended = job, False

    def __call__(self, request: Any) -> Any:
        name = request.path.rpartition("/")[2]
        kind = LEGACY if "fine-tunes" in request.path else self.job
        return answer({**kind, "id": name, "status": "succeeded" if self.ended else "running"})


async def cancelled_by_wait_for(wait: Any) -> None:
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(wait, 0.05)


async def cancelled_by_timeout(wait: Any) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(0.05):
            await wait


async def cancelled_by_task(wait: Any) -> None:
    task = asyncio.ensure_future(wait)
    await asyncio.sleep(0.05)
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


async def cancelled_at_once(wait: Any) -> None:
    task = asyncio.ensure_future(wait)
    await asyncio.sleep(0)
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


CANCELLATIONS = [
    cancelled_by_wait_for,
    cancelled_by_timeout,
    cancelled_by_task,
    cancelled_at_once,
]


@pytest.mark.parametrize("api", ["jobs", "fine_tunes"])
@pytest.mark.parametrize("other", [False, True], ids=["same job", "other job"])
@pytest.mark.parametrize("cancel", CANCELLATIONS, ids=lambda cancel: cancel.__name__)
def test_a_wait_after_a_cancelled_one_polls_and_returns(stub, job, api, other, cancel):
    server = stub.handle = Jobs(job)

    async def main() -> None:
        async with AsyncClient("k", base_url=stub.url) as client:
            resource = client.fine_tuning.jobs if api == "jobs" else client.fine_tunes
            await cancel(resource.wait("id-1", poll=0.01))
            server.ended = True
            sent = len(stub.requests)
            # Started in the same iteration of the loop in which the first one was cancelled.
            done = await asyncio.wait_for(resource.wait("id-2" if other else "id-1", poll=0.01), 5)
            assert done.status == "succeeded"
            assert len(stub.requests) > sent

    asyncio.run(main())


def test_one_of_many_waits_can_be_cancelled(stub, job):
    server = stub.handle = Jobs(job)

    async def main() -> list[Any]:
        async with AsyncClient("k", base_url=stub.url) as client:
            wait = client.fine_tuning.jobs.wait
            tasks = [asyncio.create_task(wait(f"id-{n}", poll=0.01)) for n in range(3)]
            await asyncio.sleep(0.05)
            tasks[0].cancel()
            server.ended = True
            return await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 5)

    first, *others = asyncio.run(main())
    assert isinstance(first, asyncio.CancelledError)
    assert [job.status for job in others] == ["succeeded", "succeeded"]


def test_waits_survive_the_cancellation_of_the_task_that_polls_for_them(stub, job):
    server = stub.handle = Jobs(job)

    async def main() -> Any:
        async with AsyncClient("k", base_url=stub.url) as client:
            waiting = asyncio.create_task(client.fine_tuning.jobs.wait("id-1", poll=0.01))
            await asyncio.sleep(0.05)
            for task in asyncio.all_tasks() - {waiting, asyncio.current_task()}:
                task.cancel()
            await asyncio.sleep(0.05)
            server.ended = True
            return await asyncio.wait_for(waiting, 5)

    assert asyncio.run(main()).status == "succeeded"


def test_an_error_of_one_wait_is_not_kept_for_the_next(mode, stub, job):
    """A job that was missing when the first wait asked for it is there for the second."""
    stub.then(answer({"error": {"message": "no such job"}}, 404), answer(job))
    client = mode.client(stub.url)
    with pytest.raises(tunesmith.NotFoundError):
        mode.run(client.fine_tuning.jobs.wait("ftjob-1", poll=0.01))
    assert mode.run(client.fine_tuning.jobs.wait("ftjob-1", poll=0.01)).status == "succeeded"


def test_what_is_found_for_a_waiter_that_has_left_is_not_kept(stub, job):
    """The first answer names the job of a thread that gave up meanwhile."""
    asked, go = threading.Event(), threading.Event()
    missing = [True]

    def handle(request: Any) -> Any:
        if request.path.endswith("/id-1"):
            asked.set()
            go.wait(5)
            return answer({**job, "id": "id-1", "status": "succeeded"})
        return answer({}, 404) if missing and missing.pop() else answer({**job, "id": "id-2"})

    stub.handle = handle
    client = Client("k", base_url=stub.url, retry=RetryPolicy(0))
    poller = threading.Thread(target=lambda: client.fine_tuning.jobs.wait("id-1", poll=0.01))
    poller.start()
    asked.wait(5)
    go.set()
    poller.join(5)
    with pytest.raises(tunesmith.NotFoundError):
        client.fine_tuning.jobs.wait("id-2", poll=0.01)
    assert client.fine_tuning.jobs.wait("id-2", poll=0.01).status == "succeeded"
    assert client._executor.driver._shared_waits._states == {}
    client.close()


def test_nothing_is_left_of_waits_in_other_loops(stub, job):
    stub.handle = Jobs(job)
    client = AsyncClient("k", base_url=stub.url)
    for _ in range(5):
        asyncio.run(cancelled_by_timeout(client.fine_tuning.jobs.wait("id-1", poll=0.01)))
    driver = client._executor.driver
    assert isinstance(driver, AsyncDriver)
    assert driver._shared_waits._pollers == {}


def sockets() -> int:
    count = 0
    for link in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # closed by another thread meanwhile
            count += "socket:" in str(link.readlink())
    return count


@pytest.mark.skipif(sys.platform != "linux", reason="counts descriptors in /proc")
@pytest.mark.parametrize("streaming", [False, True])
def test_a_client_keeps_no_loop_and_no_socket_of_finished_loops(stub, transport, streaming):
    stub.handle = lambda _: answer(MODEL)
    client = AsyncClient("k", base_url=stub.url, transport=transport)
    loops: weakref.WeakSet[Any] = weakref.WeakSet()

    async def main() -> None:
        loops.add(asyncio.get_running_loop())
        await asyncio.gather(*[client.models.retrieve("m") for _ in range(3)])
        if streaming:
            async with client.with_streaming_response.models.retrieve("m") as response:
                await response.read()

    asyncio.run(main())
    gc.collect()
    gc.disable()
    try:
        before = sockets()
        for _ in range(20):
            asyncio.run(main())
        # The server's ends close in threads of their own.
        deadline = 100
        while sockets() > before + 8 and deadline:
            deadline -= 1
            threading.Event().wait(0.02)
        assert sockets() <= before + 8
    finally:
        gc.enable()
    gc.collect()
    assert len(loops) <= 1


CLOSED_WITHOUT_NOTICE = """
import asyncio, gc, sys, weakref
from tunesmith import AsyncClient
client = AsyncClient("k", base_url=sys.argv[1])
loops = weakref.WeakSet()
for _ in range(5):
    loop = asyncio.new_event_loop()
    loops.add(loop)
    loop.run_until_complete(client.models.retrieve("m"))
    loop.close()
del loop
gc.collect()
assert len(loops) <= 1, len(loops)
"""


def test_a_loop_closed_without_notice_is_forgotten_with_the_next(stub):
    """In a process of its own, as Python warns of the sockets that such a loop leaves open."""
    stub.handle = lambda _: answer(MODEL)
    subprocess.run([sys.executable, "-c", CLOSED_WITHOUT_NOTICE, stub.url], check=True)


def test_closing_twice_and_in_a_new_loop(stub, transport):
    stub.handle = lambda _: answer(MODEL)
    client = AsyncClient("k", base_url=stub.url, transport=transport)

    async def main() -> None:
        await client.models.retrieve("m")
        await client.close()
        await client.close()

    asyncio.run(main())
    asyncio.run(client.close())
    asyncio.run(main())


@pytest.mark.every_transport
def test_tls_follows_the_environment(mode, issued, monkeypatch):
    """A certificate is refused, then trusted as the error advises, in one process and client."""
    server = Handshakes("eof", 0, issued.certificate, issued.key)
    client = mode.client(server.url)
    with pytest.raises(tunesmith.APIConnectionError, match="SSL_CERT_FILE"):
        mode.run(client.models.retrieve("m"))
    monkeypatch.setenv("SSL_CERT_FILE", str(issued.authority))
    assert mode.run(client.models.retrieve("m")).id == "m"
    server.close()


@pytest.mark.every_transport
@pytest.mark.parametrize("content", [None, "no certificate"])
def test_a_bad_ssl_cert_file_is_named(mode, monkeypatch, tmp_path, content):
    path = tmp_path / "missing.pem"
    if content is not None:
        path.write_text(content)
    monkeypatch.setenv("SSL_CERT_FILE", str(path))
    client = mode.client("https://models.test/v1")
    with pytest.raises(tunesmith.ConfigurationError, match=r"SSL_CERT_FILE is .*missing\.pem"):
        mode.run(client.models.retrieve("m"))


@pytest.mark.parametrize("moment", ["connecting", "reading", "waiting for the pool"])
def test_cancelled_requests_leave_no_connection_occupied(stub, transport, completion, moment):
    """Each cancelled request gives its place back, wherever it was."""
    stub.handle = lambda r: sse(completion, done=False, tail=[0.2]) if "compl" in r.path else answer(MODEL)  # fmt: skip

    async def one(client: AsyncClient) -> None:
        if moment == "connecting":
            await client.models.retrieve("m")
        else:
            stream = await client.completions.create(model="m", prompt="p", stream=True)
            async for _ in stream:
                pass

    async def main() -> str:
        settings = {"timeout": Timeout(5, pool=2), "retry": RetryPolicy(0)}
        async with AsyncClient(
            "k", base_url=stub.url, transport=transport, max_connections=2, **settings
        ) as client:
            for _ in range(6):
                count = 6 if moment == "waiting for the pool" else 2
                tasks = [asyncio.create_task(one(client)) for _ in range(count)]
                await asyncio.sleep(0 if moment == "connecting" else 0.03)
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
            return (await client.models.retrieve("m")).id

    assert asyncio.run(main()) == "m"


def test_a_client_that_is_forgotten_disturbs_no_later_loop(stub, transport, caplog):
    """Collected while another loop runs, it neither starts tasks there nor logs anything."""
    stub.handle = lambda _: answer(MODEL)

    async def use() -> None:
        await AsyncClient("k", base_url=stub.url, transport=transport).models.retrieve("m")

    async def collect() -> int:
        gc.collect()
        await asyncio.sleep(0.01)
        return len(asyncio.all_tasks())

    for _ in range(3):
        asyncio.run(use())
        assert asyncio.run(collect()) == 1
    assert [record for record in caplog.records if record.name == "asyncio"] == []


@pytest.mark.parametrize("proxy", ["socks5h://127.0.0.1:1", "socks://p:1", "ftp://p:1", "nonsense"])
def test_a_client_on_this_machine_does_not_mind_the_proxy(mode, stub, monkeypatch, proxy):
    """Neither the import nor the client nor its calls look at a proxy that is not for them."""
    monkeypatch.setenv("ALL_PROXY", proxy)
    monkeypatch.setenv("HTTP_PROXY", proxy)
    stub.handle = lambda _: answer(MODEL)
    assert mode.run(mode.client(stub.url).models.retrieve("m")).id == "m"


EXIT = """
import asyncio, sys
sys.setswitchinterval(1e-6)
from tunesmith import AsyncClient
client = AsyncClient("k", base_url=sys.argv[1], transport="fast")
async def main():
    tasks = [asyncio.create_task(client.models.retrieve("m")) for _ in range(40)]
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
asyncio.new_event_loop().run_until_complete(main())
"""


@pytest.mark.slow
def test_a_process_that_exits_during_requests_of_the_fast_engine_is_not_aborted(stub):
    """About one in forty was, before the exit waited for the engine's thread to leave Python."""
    pytest.importorskip("pyreqwest")
    stub.handle = lambda _: answer(MODEL)
    for _ in range(10):
        done = subprocess.run(
            [sys.executable, "-c", EXIT, stub.url], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        assert "Fatal Python error" not in done.stderr
