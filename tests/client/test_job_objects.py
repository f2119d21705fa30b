"""The methods of job objects, in both modes and both APIs."""

from __future__ import annotations

import asyncio
import base64
import copy
import inspect
import itertools
import pickle
import signal
import threading
from typing import Any

import pytest

import tunesmith
from http_stub import answer, raw
from tunesmith.types import FineTune, FineTuningJob

LEGACY = {
    "id": "ft-1", "object": "fine-tune", "created_at": 1, "updated_at": 1, "model": "curie",
    "organization_id": "org-1", "status": "running", "hyperparams": {}, "training_files": [],
    "validation_files": [], "result_files": [],
}  # fmt: skip
TABLE = b"step,training_loss\n1,2.5\n2,1.5\n"


class OneJob:
    """A job of either API that answers with the next of its statuses each time it is read."""

    def __init__(self, job: dict[str, Any], *statuses: str, steps: bool = False) -> None:
        self.job = job
        self.statuses = itertools.chain(statuses, itertools.repeat(statuses[-1]))
        self.read = 0
        self.steps = steps

    def __call__(self, request: Any) -> Any:
        path = request.path.partition("?")[0]
        if path.endswith("/events"):
            return self.events(path)
        if path.endswith(("/cancel", "/pause", "/resume")):
            verb = path.rpartition("/")[2]
            ended = {"cancel": "cancelled", "pause": "paused", "resume": "queued"}[verb]
            return answer({**self.job, "status": ended})
        if path.endswith("/content"):
            return raw(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(TABLE), TABLE))
        if path.endswith(("/jobs", "/fine-tunes")) and request.method == "GET":
            return answer({"object": "list", "data": [self.job], "has_more": False})
        self.read += 1
        return answer({**self.job, "status": next(self.statuses)}, x_request_id=f"r-{self.read}")

    def events(self, path: str) -> Any:
        messages = [f"poll {n}" for n in range(1, self.read + 1)]
        if path.startswith("/v1/fine_tuning") and self.steps:
            messages = [f"Step {n}/9: training loss=0.50" for n in range(1, self.read + 1)]
        data = [{"id": f"e-{text}", "created_at": 1, "level": "info", "message": text}
                for text in messages]  # fmt: skip
        if path.startswith("/v1/fine_tuning"):
            data.reverse()
        return answer({"object": "list", "data": data, "has_more": False})


@pytest.fixture(params=["jobs", "fine_tunes"])
def api(request):
    return request.param


@pytest.fixture
def shown(api, job):
    return job if api == "jobs" else LEGACY


def resource(client: Any, api: str) -> Any:
    return client.fine_tuning.jobs if api == "jobs" else client.fine_tunes


def made(mode: Any, stub: Any, api: str, **settings: Any) -> Any:
    jobs = resource(mode.client(stub.url, **settings), api)
    fields = {"model": "curie", "training_file": "file-1"}
    return mode.run(jobs.create(**fields))


def test_a_job_is_read_again_in_place(mode, stub, api, shown):
    stub.handle = OneJob(shown, "queued", "running")
    job = made(mode, stub, api)
    assert job.status == "queued"
    assert mode.run(job.refresh()) is job
    assert (job.status, job._request_id) == ("running", "r-1")
    assert isinstance(job, FineTuningJob if api == "jobs" else FineTune)
    assert type(job).__name__ in repr(job)


def test_a_job_is_waited_for_and_tells_its_events(mode, stub, api, shown):
    stub.handle = OneJob(shown, "queued", "running", "succeeded")
    job = made(mode, stub, api)
    seen: list[str] = []
    done = mode.run(job.wait(on_event=lambda event: seen.append(event.message), poll=0.001))
    assert done is job
    assert job.status == "succeeded"
    assert seen == ["poll 1", "poll 2", "poll 3"]
    events = mode.items(job.iter_events(poll=0.001))
    assert [event.message for event in events][:3] == seen


def test_a_wait_without_events_ends_in_place_too(mode, stub, api, shown):
    stub.handle = OneJob(shown, "running", "running", "failed")
    job = made(mode, stub, api)
    assert mode.run(job.wait(poll=0.001)).status == job.status == "failed"


def test_a_job_is_cancelled(mode, stub, api, shown):
    stub.handle = OneJob(shown, "running")
    job = made(mode, stub, api)
    assert mode.run(job.cancel()) is job
    assert job.status == "cancelled"
    assert stub.requests[-1].path.endswith(f"/{job.id}/cancel")


def test_a_job_is_paused_and_resumed(mode, stub, job):
    stub.handle = OneJob(job, "running")
    one = made(mode, stub, "jobs")
    assert mode.run(one.pause()).status == "paused"
    assert mode.run(one.resume()).status == "queued"


def test_jobs_of_a_list_know_their_client(mode, stub, api, shown):
    stub.handle = OneJob(shown, "succeeded")
    (job,) = mode.items(resource(mode.client(stub.url), api).list())
    assert mode.run(job.refresh()).status == "succeeded"


def test_jobs_of_a_raw_response_know_the_client_behind_it(mode, stub, api, shown):
    stub.handle = OneJob(shown, "running", "succeeded")
    jobs = resource(mode.client(stub.url), api).with_raw_response
    job = mode.run(jobs.retrieve("id-1")).parse()
    assert mode.run(job.refresh()).status == "succeeded"


@pytest.mark.parametrize("name", ["refresh", "wait", "follow", "cancel", "results"])
def test_a_jobs_methods_are_coroutine_functions_on_an_async_client(mode, stub, api, shown, name):
    stub.handle = OneJob(shown, "running")
    job = made(mode, stub, api)
    assert inspect.iscoroutinefunction(getattr(job, name)) == (mode.runner is not None)
    with pytest.raises(TypeError, match="did you mean"):
        mode.run(getattr(job, name)(timeouts=3))


@pytest.mark.parametrize("wrap", [bytes, base64.b64encode], ids=["plain", "base64"])
def test_results_come_as_a_table(mode, stub, api, shown, wrap):
    file = {"id": "file-r", "object": "file", "bytes": 1, "created_at": 1, "filename": "r.csv",
            "purpose": "fine-tune-results"}  # fmt: skip
    server = OneJob({**shown, "result_files": ["file-r" if api == "jobs" else file]}, "succeeded")
    content = wrap(TABLE)

    def handle(request: Any) -> Any:
        if request.path == "/v1/files/file-r/content":
            return raw(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(content), content))
        return server(request)

    stub.handle = handle
    jobs = resource(mode.client(stub.url), api)
    table = mode.run(jobs.results("id-1"))
    assert table.series("training_loss") == [(1, 2.5), (2, 1.5)]
    job = mode.run(jobs.retrieve("id-1"))
    assert mode.run(job.results()) == table


def test_a_job_without_results_says_so(mode, stub, api, shown):
    stub.handle = OneJob(shown, "running")
    with pytest.raises(tunesmith.TunesmithError, match="is running and has no result file"):
        mode.run(resource(mode.client(stub.url), api).results("id-1"))


def test_a_job_without_a_client_says_what_to_do(shown, api):
    kind = FineTuningJob if api == "jobs" else FineTune
    with pytest.raises(tunesmith.TunesmithError, match="did not come from a client"):
        kind.model_validate(shown).refresh()


def test_the_tie_to_the_client_is_no_part_of_the_job(stub, shown, api):
    stub.handle = OneJob(shown, "running")
    with tunesmith.Client("sk-secret", base_url=stub.url) as client:
        job = resource(client, api).retrieve("id-1")
    bare = type(job).model_validate({**shown, "status": "running"})
    assert job == bare
    assert repr(job) == repr(bare)
    assert job.model_dump() == bare.model_dump()
    assert job.model_fields_set == bare.model_fields_set
    for twin in (pickle.loads(pickle.dumps(job)), copy.deepcopy(job)):
        assert twin == job
        with pytest.raises(tunesmith.TunesmithError, match="did not come from a client"):
            twin.cancel()
    assert b"sk-secret" not in pickle.dumps(job)


class Seen:
    """A view that records its calls."""

    wants_steps = True

    def __init__(self) -> None:
        self.statuses: list[str] = []
        self.messages: list[str] = []
        self.closed = False

    def update(self, status: str, estimated_finish: float | None) -> None:
        self.statuses.append(status)
        self.finish = estimated_finish

    def event(self, message: str, created_at: int) -> None:
        assert created_at == 1
        self.messages.append(message)

    def close(self) -> None:
        self.closed = True


def test_following_shows_the_job_to_its_end(mode, stub, api, shown):
    stub.handle = OneJob({**shown, "estimated_finish": 99}, "queued", "running", "succeeded")
    job = made(mode, stub, api)
    view = Seen()
    assert mode.run(job.follow(view=view, poll=0.001)).status == "succeeded"
    assert view.statuses == ["running", "succeeded"]
    assert view.finish == 99
    assert view.messages[-1] == f"poll {len(view.messages)}"
    assert view.closed


def test_following_a_legacy_job_shows_the_steps_of_the_jobs_api(mode, stub):
    stub.handle = OneJob(LEGACY, "running", "succeeded", steps=True)
    view = Seen()
    mode.run(mode.client(stub.url).fine_tunes.follow("ft-1", view=view, poll=0.001))
    steps = [text for text in view.messages if text.startswith("Step")]
    assert steps == ["Step 1/9: training loss=0.50", "Step 2/9: training loss=0.50"]
    assert any("/fine_tuning/jobs/ftjob-1/events" in one.path for one in stub.requests)


def test_following_a_legacy_job_polls_a_missing_jobs_api_once(mode, stub):
    server = OneJob(LEGACY, "running", "running", "succeeded")

    def handle(request: Any) -> Any:
        if "fine_tuning" in request.path:
            return answer({"error": {"message": "No such route."}}, 404)
        return server(request)

    stub.handle = handle
    view = Seen()
    mode.run(mode.client(stub.url).fine_tunes.follow("ft-1", view=view, poll=0.001))
    assert sum("fine_tuning" in one.path for one in stub.requests) == 1
    assert view.messages == ["poll 1", "poll 2", "poll 3"]


def test_following_prints_lines_where_there_is_no_terminal(mode, stub, api, shown, capsys):
    stub.handle = OneJob(shown, "running", "succeeded")
    mode.run(resource(mode.client(stub.url), api).follow("id-1", poll=0.001))
    printed = capsys.readouterr()
    assert [line.partition("] ")[2] for line in printed.out.splitlines()] == ["poll 1", "poll 2"]
    assert printed.err == ""


def test_ctrl_c_stops_following_and_leaves_the_job_running(stub, api, shown, capsys):
    stub.handle = OneJob(shown, "running")
    client = tunesmith.Client("k", base_url=stub.url)
    main = threading.main_thread().ident
    ringing = threading.Timer(0.3, signal.pthread_kill, [main, signal.SIGINT])
    ringing.start()
    with pytest.raises(KeyboardInterrupt):
        resource(client, api).follow("id-1", poll=30.0)
    ringing.join()
    client.close()
    err = capsys.readouterr().err
    assert "Job id-1 keeps running." in err
    assert ".follow('id-1')" in err
    assert not [one for one in stub.requests if one.path.endswith("/cancel")]


def test_a_cancelled_task_leaves_the_job_running(stub, api, shown, capsys):
    stub.handle = OneJob(shown, "running")

    async def main() -> None:
        async with tunesmith.AsyncClient("k", base_url=stub.url) as client:
            task = asyncio.create_task(resource(client, api).follow("id-1", poll=30.0))
            while not stub.requests:  # noqa: ASYNC110 - the server lives in threads
                await asyncio.sleep(0.01)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    asyncio.run(main())
    assert "keeps running" in capsys.readouterr().err
    assert not [one for one in stub.requests if one.path.endswith("/cancel")]
