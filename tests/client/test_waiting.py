"""Waiting for a job across interruptions: each event once, in order, and always the end."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
import socket
import threading
import time
from typing import Any

import pytest

import tunesmith
from http_stub import HANG_UP, RESET, Stub, answer, raw, sse
from tunesmith.resources import waiting

LEGACY = {
    "id": "ft-1", "object": "fine-tune", "created_at": 1, "updated_at": 1, "model": "curie",
    "organization_id": "org-1", "status": "running", "hyperparams": {}, "training_files": [],
    "validation_files": [], "result_files": [],
}  # fmt: skip


class JobServer:
    """A job that gains an event each time it is read, and ends after `last` events."""

    def __init__(self, job: dict[str, Any], last: int, page: int = 3) -> None:
        self.job, self.last, self.page, self.made = job, last, page, 0

    def __call__(self, request: Any) -> Any:
        if "/events" not in request.path:
            self.made = min(self.made + 1, self.last)
            return answer({**self.job, "status": self.status})
        names = [f"ftevent-{n}" for n in range(self.made, 0, -1)]
        after = request.path.partition("after=")[2]
        start = names.index(after) + 1 if after else 0
        data = [{"id": name, "created_at": 1, "level": "info", "message": name}
                for name in names[start : start + self.page]]  # fmt: skip
        return answer({"object": "list", "data": data, "has_more": start + self.page < len(names)})

    @property
    def status(self) -> str:
        return "succeeded" if self.made == self.last else "running"


class FineTuneServer(JobServer):
    """The same for the legacy API, streaming its events oldest first."""

    def __call__(self, request: Any) -> Any:
        if "/events" not in request.path:
            self.made = min(self.made + 1, self.last)
            return answer({**self.job, "status": self.status})
        events = [{"created_at": 1, "level": "info", "message": f"ftevent-{n + 1}"}
                  for n in range(self.made)]  # fmt: skip
        if "stream=true" in request.path:
            ended = self.status == "succeeded"
            return sse(*events, done=ended, tail=() if ended else [HANG_UP])
        return answer({"object": "list", "data": events})


class SilentView:
    """A view that shows nothing."""

    wants_steps = False

    def update(self, *facts: Any) -> None: ...

    def event(self, *facts: Any) -> None: ...

    def close(self) -> None: ...


def names(count: int) -> list[str]:
    return [f"ftevent-{n}" for n in range(1, count + 1)]


def test_events_of_a_job(mode, stub, job):
    stub.handle = JobServer(job, 8)
    client = mode.client(stub.url)
    found = mode.items(client.fine_tuning.jobs.events("ftjob-1", poll=0.001))
    assert [event.message for event in found] == names(8)


def test_events_of_a_fine_tune_whose_stream_breaks_each_time(mode, stub):
    stub.handle = FineTuneServer(LEGACY, 6)
    client = mode.client(stub.url)
    found = mode.items(client.fine_tunes.events("ft-1", poll=0.001))
    assert [event.message for event in found] == names(6)


def test_events_of_a_fine_tune_on_a_server_that_does_not_stream(mode, stub):
    server = FineTuneServer(LEGACY, 4)

    def handle(request: Any) -> Any:
        request.path = request.path.replace("stream=true", "")
        return server(request)

    stub.handle = handle
    client = mode.client(stub.url)
    found = mode.items(client.fine_tunes.events("ft-1", poll=0.001))
    assert [event.message for event in found] == names(4)


@pytest.mark.parametrize("api", ["jobs", "fine_tunes"])
def test_events_and_wait_over_a_bad_line(mode, stub, job, api):
    """One answer in three breaks; nothing is lost or doubled."""
    server = JobServer(job, 12) if api == "jobs" else FineTuneServer(LEGACY, 12)
    dice = random.Random(7)

    def handle(request: Any) -> Any:
        fate = dice.randrange(9)
        if fate == 0:
            return raw(RESET)
        if fate == 1:
            return answer({}, 503)
        if fate == 2:
            return raw(server(request).steps()[0][:60], HANG_UP)
        return server(request)

    stub.handle = handle
    client = mode.client(stub.url)
    resource = client.fine_tuning.jobs if api == "jobs" else client.fine_tunes
    found = mode.items(resource.events("id-1", poll=0.001))
    assert [event.message for event in found] == names(12)
    server.made = 0
    seen: list[str] = []
    done = mode.run(
        resource.wait("id-1", on_event=lambda event: seen.append(event.message), poll=0.001)
    )
    assert (done.status, seen) == ("succeeded", names(12))


class Restarting:
    """A server on one port that is killed and started again and again."""

    def __init__(self, handle: Any) -> None:
        self.handle = handle
        self.stub = self._start(0)
        self.port = self.stub.port
        self.restarts = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def _start(self, port: int) -> Stub:
        stub = Stub.__new__(Stub)
        real = socket.create_server
        socket.create_server = lambda _, **more: real(("127.0.0.1", port), **more)
        try:
            stub.__init__()  # type: ignore[misc]
        finally:
            socket.create_server = real
        stub.handle = self.handle
        return stub

    def restart(self) -> None:
        self.stub.close()
        self.restarts += 1
        threading.Event().wait(0.02)
        self.stub = self._start(self.port)


@contextlib.contextmanager
def killed_twenty_times(job, api):
    """A server that is killed and started again twenty times; its job ends soon after the last."""
    server = JobServer(job, 400) if api == "jobs" else FineTuneServer(LEGACY, 400)
    place = Restarting(server)
    stop = threading.Event()

    def kill() -> None:
        while place.restarts < 20 and not stop.is_set():
            threading.Event().wait(0.03)
            place.restart()
        server.last = server.made + 3

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        yield place
    finally:
        stop.set()
        killer.join()
        place.stub.close()
    assert place.restarts == 20


def following(client, api):
    return client.fine_tuning.jobs if api == "jobs" else client.fine_tunes


@pytest.mark.slow
@pytest.mark.parametrize("api", ["jobs", "fine_tunes"])
def test_events_over_twenty_restarts_of_the_server(mode, job, api):
    with killed_twenty_times(job, api) as place:
        client = mode.client(place.url)
        found = mode.items(following(client, api).events("id-1", poll=0.005))
    assert [event.message for event in found] == names(len(found))
    assert len(found) == place.handle.made


@pytest.mark.slow
@pytest.mark.parametrize("api", ["jobs", "fine_tunes"])
def test_waiting_with_events_over_twenty_restarts_of_the_server(mode, job, api):
    seen: list[str] = []
    with killed_twenty_times(job, api) as place:
        client = mode.client(place.url)
        done = mode.run(
            following(client, api).wait(
                "id-1", on_event=lambda event: seen.append(event.message), poll=0.005
            )
        )
    assert done.status == "succeeded"
    assert seen == names(place.handle.made)


@pytest.mark.slow
@pytest.mark.parametrize("api", ["jobs", "fine_tunes"])
def test_waiting_over_twenty_restarts_of_the_server(mode, job, api):
    with killed_twenty_times(job, api) as place:
        client = mode.client(place.url)
        done = mode.run(following(client, api).wait("id-1", poll=0.005))
    assert done.status == "succeeded"
    assert place.handle.made == place.handle.last


@pytest.mark.slow
@pytest.mark.parametrize("api", ["jobs", "fine_tunes"])
def test_many_wait_together_over_twenty_restarts_of_the_server(job, api):
    async def main(url: str) -> list[Any]:
        async with tunesmith.AsyncClient("k", base_url=url) as client:
            waits = [following(client, api).wait("id-1", poll=0.005) for _ in range(50)]
            return await asyncio.gather(*waits)

    with killed_twenty_times(job, api) as place:
        done = asyncio.run(main(place.url))
    assert {one.status for one in done} == {"succeeded"}


def test_wait_gives_up_in_time_and_tells_the_job(mode, stub, job):
    stub.handle = lambda _: answer({**job, "status": "running"})
    client = mode.client(stub.url)
    with pytest.raises(tunesmith.WaitTimeoutError, match="ftjob-1") as caught:
        mode.run(client.fine_tuning.jobs.wait("ftjob-1", timeout=0.1, poll=0.02))
    assert caught.value.job.status == "running"
    assert isinstance(caught.value, TimeoutError)


@pytest.mark.both_transports
@pytest.mark.parametrize("way", ["shared", "with events", "follow"])
@pytest.mark.parametrize("api", ["jobs", "fine_tunes"])
@pytest.mark.parametrize("before", ["running", None])
def test_a_request_that_hangs_does_not_outlast_the_wait(
    mode, stub, job, api, way, before, monkeypatch
):
    """The read limit is ten minutes; the wait's own time is what bounds its requests."""
    monkeypatch.setattr(waiting, "_LAST_REQUEST_SECONDS", 0.1)
    released = threading.Event()
    known = {**(job if api == "jobs" else LEGACY), "status": before}
    answers = iter([answer(known)] if before else [])
    stub.handle = lambda _: next(answers, raw(released, HANG_UP))
    client = mode.client(stub.url)
    resource = client.fine_tunes if api == "fine_tunes" else client.fine_tuning.jobs
    options = {"with events": {"on_event": print}, "follow": {"view": SilentView()}}.get(way, {})
    method = resource.follow if way == "follow" else resource.wait
    started = time.monotonic()
    with pytest.raises(tunesmith.WaitTimeoutError, match="0.2 seconds") as caught:
        mode.run(method(known["id"], timeout=0.2, poll=0.01, **options))
    assert time.monotonic() - started < 5
    assert isinstance(caught.value.__cause__, tunesmith.DeadlineExceededError)
    if way != "shared":
        assert (caught.value.job and caught.value.job.status) == before
    released.set()


@pytest.mark.both_transports
def test_a_wait_of_no_time_looks_once(mode, stub, job):
    stub.handle = lambda _: raw(0.1, *answer({**job, "status": "succeeded"}).steps())
    client = mode.client(stub.url)
    assert mode.run(client.fine_tuning.jobs.wait("ftjob-1", timeout=0)).status == "succeeded"


@pytest.mark.parametrize("status", ["succeeded", "failed", "cancelled"])
def test_wait_ends_with_each_end(mode, stub, job, status):
    states = itertools.chain(
        ["validating_files", "queued", "running", "paused"], itertools.repeat(status)
    )
    stub.handle = lambda _: answer({**job, "status": next(states)})
    client = mode.client(stub.url)
    assert mode.run(client.fine_tuning.jobs.wait("ftjob-1", poll=0.001)).status == status


def test_waiting_for_a_job_that_does_not_exist(mode, stub):
    stub.handle = lambda _: answer({"error": {"message": "No such job."}}, 404)
    client = mode.client(stub.url)
    with pytest.raises(tunesmith.NotFoundError, match="No such job"):
        mode.run(client.fine_tuning.jobs.wait("ftjob-9"))


def test_an_on_event_that_fails_ends_the_wait(mode, stub, job):
    stub.handle = JobServer(job, 3)
    client = mode.client(stub.url)

    def complain(event: Any) -> None:
        raise LookupError(event.message)

    with pytest.raises(LookupError, match="ftevent-1"):
        mode.run(client.fine_tuning.jobs.wait("ftjob-1", on_event=complain, poll=0.001))


def test_an_on_event_may_be_a_coroutine_function(stub, job):
    stub.handle = JobServer(job, 3)
    seen = []

    async def note(event: Any) -> None:
        await asyncio.sleep(0)
        seen.append(event.message)

    async def main() -> None:
        async with tunesmith.AsyncClient("k", base_url=stub.url) as client:
            await client.fine_tuning.jobs.wait("ftjob-1", on_event=note, poll=0.001)

    asyncio.run(main())
    assert seen == names(3)


class ManyJobs:
    """A hundred jobs, of which one more has ended with each poll."""

    def __init__(self, job: dict[str, Any], count: int) -> None:
        self.job, self.count, self.ended = job, count, 0
        self.lists = self.polls = 0

    def __call__(self, request: Any) -> Any:
        if "/jobs/" in request.path:
            self.polls += 1
            return answer(self._one(int(request.path.rpartition("-")[2])))
        if "after" not in request.path:
            self.lists += 1
            self.ended += self.count // 4
        after = request.path.partition("after=job-")[2]
        start = int(after) + 1 if after else 0
        data = [self._one(n) for n in range(start, min(start + 100, self.count))]
        return answer({"object": "list", "data": data, "has_more": start + 100 < self.count})

    def _one(self, number: int) -> dict[str, Any]:
        status = "succeeded" if number < self.ended else "running"
        return {**self.job, "id": f"job-{number}", "status": status}


def test_many_waiters_share_their_looks(stub, job):
    server = stub.handle = ManyJobs(job, 200)

    async def main() -> list[Any]:
        async with tunesmith.AsyncClient("k", base_url=stub.url) as client:
            waits = [client.fine_tuning.jobs.wait(f"job-{n}", poll=0.02) for n in range(200)]
            return await asyncio.gather(*waits)

    done = asyncio.run(main())
    assert [one.id for one in done] == [f"job-{n}" for n in range(200)]
    assert server.lists <= 6
    assert server.polls <= 210


def test_clones_with_other_keys_do_not_look_for_each_other(stub, job):
    """The job of one key is unknown to the other."""

    def handle(request: Any) -> Any:
        name = request.path.rpartition("/")[2]
        if request.headers["authorization"] != f"Bearer {name}":
            return answer({"error": {"message": "No such job."}}, 404)
        return answer({**job, "id": name, "status": next(states)})

    states = itertools.chain(["running"] * 6, itertools.repeat("succeeded"))
    stub.handle = handle

    async def main() -> list[Any]:
        async with tunesmith.AsyncClient("job-a", base_url=stub.url) as client:
            other = client.with_options(api_key="job-b")
            return await asyncio.gather(
                client.fine_tuning.jobs.wait("job-a", poll=0.01),
                other.fine_tuning.jobs.wait("job-b", poll=0.01),
            )

    assert [one.id for one in asyncio.run(main())] == ["job-a", "job-b"]


def test_many_threads_share_their_looks(stub, job):
    server = stub.handle = ManyJobs(job, 40)
    client = tunesmith.Client("k", base_url=stub.url)
    done: list[Any] = []
    threads = [
        threading.Thread(
            target=lambda n=n: done.append(client.fine_tuning.jobs.wait(f"job-{n}", poll=0.05))
        )
        for n in range(40)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    client.close()
    assert sorted(one.id for one in done) == sorted(f"job-{n}" for n in range(40))
    assert server.polls + server.lists < 150
