"""Every operation of the client gets its answer from the engine: both clients, every view."""

from __future__ import annotations

import asyncio
import dataclasses
import hashlib
import inspect
import itertools
import shutil
import time
import uuid
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

import tunesmith
from tunesmith.engine import Engine
from tunesmith.engine.store import export_queries, model_queries
from tunesmith.engine.store.database import Database
from tunesmith.engine.store.records import ExportRow

from .conftest import ROWS
from .operations import MESSAGES, OPERATIONS, PAGE, Operation, State, names_of, page

pytestmark = pytest.mark.slow

ENDED = {"succeeded", "failed", "cancelled"}


class Maker:
    """Makes what an operation needs, over plain HTTP.

    Args:
        engine: The engine.
        http: Connects to it.
        file: Id of a file for training.
        model: A fine-tuned model.
    """

    def __init__(self, engine: Engine, http: httpx.Client, file: str, model: str) -> None:
        self.http = http
        self.file = file
        self.model = model
        self.home = engine.home.root
        self.database = Database(f"sqlite:///{engine.home.root / 'engine.db'}")

    def send(self, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        answer = self.http.post(path, json=body)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def new_file(self) -> str:
        file = {"file": (f"{uuid.uuid4().hex}.jsonl", ROWS.encode())}
        answer = self.http.post("files", data={"purpose": "fine-tune"}, files=file)
        return answer.json()["id"]

    def running(self) -> str:
        method = {"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 50}}}
        body = {"training_file": self.file, "model": "ada", "method": method}
        return self.send("fine_tuning/jobs", body)["id"]

    def paused(self) -> str:
        job_id = self.running()
        self.send(f"fine_tuning/jobs/{job_id}/pause")
        deadline = time.monotonic() + 60
        while self.http.get(f"fine_tuning/jobs/{job_id}").json()["status"] != "paused":
            assert time.monotonic() < deadline
            time.sleep(0.05)
        return job_id

    def running_fine_tune(self) -> str:
        body = {"training_file": self.file, "model": "ada", "n_epochs": 50}
        return self.send("fine-tunes", body)["id"]

    def finished_fine_tune(self) -> str:
        body = {"training_file": self.file, "model": "ada", "n_epochs": 1}
        identity = self.send("fine-tunes", body)["id"]
        deadline = time.monotonic() + 120
        while self.http.get(f"fine-tunes/{identity}").json()["status"] != "succeeded":
            assert time.monotonic() < deadline
            time.sleep(0.1)
        return identity

    def export(self) -> str:
        """Record an export that was cancelled, which can be cancelled again."""
        identity = f"export-{uuid.uuid4().hex[:24]}"
        now = time.time()
        row = ExportRow(
            id=identity,
            organization="local",
            created_at=now,
            model=self.model,
            format="peft",
            quantization="bf16",
            with_base=False,
            compare=True,
            status="cancelled",
            finished_at=now,
            expires_at=now + 600,
        )
        with self.database.write() as connection:
            export_queries.insert_export(connection, row)
        return identity

    def finished_export(self) -> str:
        identity = self.send("exports", {"model": self.model, "format": "peft"})["id"]
        deadline = time.monotonic() + 300
        while (now := self.http.get(f"exports/{identity}").json())["status"] != "succeeded":
            assert time.monotonic() < deadline, now
            time.sleep(0.1)
        return identity

    def finished_model(self) -> str:
        """Copy a trained model, under a name of its own."""
        with self.database.write() as connection:
            row = model_queries.find(connection, self.model)
            assert row is not None
            name = f"{row.name}-{uuid.uuid4().hex[:8]}"
            folder = Path(row.path).with_name(uuid.uuid4().hex)
            shutil.copytree(self.home / row.path, self.home / folder)
            copied = dataclasses.replace(row, name=name, path=folder.as_posix())
            model_queries.insert_model(connection, copied)
        return name

    def upload(self) -> str:
        body = {"filename": "a.jsonl", "bytes": len(ROWS), "mime_type": "a"}
        return self.send("uploads", body | {"purpose": "fine-tune"})["id"]

    def full_upload(self) -> tuple[str, str]:
        identity = self.upload()
        part = self.http.post(f"uploads/{identity}/parts", files={"data": ("p", ROWS.encode())})
        return identity, part.json()["id"]

    def stored(self) -> str:
        body = {"model": "tiny", "messages": MESSAGES, "max_tokens": 1, "store": True}
        return self.send("chat/completions", body)["id"]

    def permission(self) -> str:
        body = {"project_ids": [f"org-{uuid.uuid4().hex[:8]}"]}
        made = self.send(f"fine_tuning/checkpoints/{self.model}/permissions", body)
        return made["data"][0]["id"]

    def route(self) -> str:
        name = f"ft:old:acme::{uuid.uuid4().hex[:8]}"
        return self.send("model_routes", {"name": name, "target": "tiny"})["id"]


@pytest.fixture(scope="module")
def state(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory):
    fixtures = ("engine", "http", "training_file", "fine_tune", "job")
    engine, http, file, fine_tune, job = map(request.getfixturevalue, fixtures)
    path = tmp_path_factory.mktemp("operations") / "train.jsonl"
    path.write_text(ROWS, encoding="utf-8")
    make = Maker(engine, http, file["id"], fine_tune["fine_tuned_model"])
    yield State(
        path=path,
        file=file["id"],
        job=job["id"],
        fine_tune=fine_tune["id"],
        model=make.model,
        checkpoint=make.model,
        organization="org-another",
        new_file=make.new_file,
        running=make.running,
        paused=make.paused,
        running_fine_tune=make.running_fine_tune,
        finished_fine_tune=make.finished_fine_tune,
        finished_model=make.finished_model,
        stored=make.stored,
        upload=make.upload,
        full_upload=make.full_upload,
        permission=make.permission,
        route=make.route,
        finished_export=make.finished_export(),
        export=make.export,
        new_name=lambda: uuid.uuid4().hex,
    )
    make.database.close()


@pytest.fixture(autouse=True)
def calm(http: httpx.Client) -> Iterator[None]:
    """End the jobs that a test started, so that the next one's do not wait for them."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        yield
    for one in http.get("fine_tuning/jobs").json()["data"]:
        if one["status"] not in ENDED:
            http.post(f"fine_tuning/jobs/{one['id']}/cancel")
    for one in http.get("exports").json()["data"]:
        if one["status"] != "succeeded":
            http.delete(f"exports/{one['id']}")


def owner_of(client: Any, name: str) -> tuple[Any, str]:
    *path, method = name.split(".")
    for part in path:
        client = getattr(client, part)
    return client, method


def several(value: Any) -> bool:
    """Return whether a value is something to iterate over: a page, a stream, events, results."""
    is_data = isinstance(value, (str, bytes, dict, list, tuple)) or hasattr(value, "model_dump")
    return not is_data


def blocking(client: tunesmith.Client, name: str, arguments: dict[str, Any]) -> Any:
    owner, method = owner_of(client, name)
    value = getattr(owner, method)(**arguments)
    if hasattr(value, "__enter__") and not hasattr(value, "model_dump"):
        with value as inside:
            return list(itertools.islice(inside, 3)) if hasattr(inside, "__iter__") else inside
    if several(value) and hasattr(value, "__iter__"):
        items = iter(value)
        first = list(itertools.islice(items, 3))
        if hasattr(items, "close"):  # one that is left open warns
            items.close()
        return first
    return value


async def awaited(client: tunesmith.AsyncClient, name: str, arguments: dict[str, Any]) -> Any:
    owner, method = owner_of(client, name)
    value = getattr(owner, method)(**arguments)
    if inspect.isawaitable(value) and not hasattr(value, "__aiter__"):
        value = await value
    if hasattr(value, "__aenter__") and not hasattr(value, "model_dump"):
        async with value as inside:
            return [one async for one in inside][:3] if hasattr(inside, "__aiter__") else inside
    if several(value) and hasattr(value, "__aiter__"):
        return [one async for one in value][:3]
    return value


def refusal_of(operation: Operation, call: Callable[[], Any]) -> bool:
    """Return whether a call was refused, as the table says it is."""
    if operation.refused is None:
        return False
    with pytest.raises(tunesmith.APIStatusError, match=operation.refused):
        call()
    return True


def new_clients(engine: Engine) -> tuple[tunesmith.Client, tunesmith.AsyncClient]:
    options: dict[str, Any] = {"base_url": engine.base_url, "api_key": "any", "max_retries": 0}
    return tunesmith.Client(**options), tunesmith.AsyncClient(**options)


def test_no_operation_is_missing():
    for client in (tunesmith.Client("k"), tunesmith.AsyncClient("k")):
        assert sorted(names_of(client)) == sorted(OPERATIONS)


def test_the_page_is_up_to_date():
    assert PAGE.read_text(encoding="utf-8") == page()


@pytest.mark.parametrize("name", OPERATIONS)
def test_the_blocking_client_gets_its_answer(engine: Engine, state: State, name: str):
    operation = OPERATIONS[name]
    with new_clients(engine)[0] as client:
        arguments = operation.arguments(state)
        if not refusal_of(operation, lambda: blocking(client, name, arguments)):
            blocking(client, name, arguments)


@pytest.mark.parametrize("name", OPERATIONS)
def test_the_async_client_gets_its_answer(engine: Engine, state: State, name: str):
    operation = OPERATIONS[name]
    arguments = operation.arguments(state)

    async def call() -> None:
        async with new_clients(engine)[1] as client:
            await awaited(client, name, arguments)

    if not refusal_of(operation, lambda: asyncio.run(call())):
        asyncio.run(call())


ONE_RESPONSE = [name for name, one in OPERATIONS.items() if not one.several and not one.refused]


@pytest.mark.parametrize("name", ONE_RESPONSE)
def test_the_views_of_responses_get_their_answer(engine: Engine, state: State, name: str):
    make = OPERATIONS[name].arguments
    with new_clients(engine)[0] as client:
        owner, method = owner_of(client, name)
        raw = getattr(owner.with_raw_response, method)(**make(state))
        assert raw.status_code == 200
        raw.close()  # a stream of events is still open
        with getattr(owner.with_streaming_response, method)(**make(state)) as streamed:
            assert streamed.status_code == 200
            streamed.read()

    async def call() -> None:
        async with new_clients(engine)[1] as client:
            owner, method = owner_of(client, name)
            raw = await getattr(owner.with_raw_response, method)(**make(state))
            assert raw.status_code == 200
            await raw.aclose()
            view = getattr(owner.with_streaming_response, method)(**make(state))
            async with view as streamed:
                assert streamed.status_code == 200
                await streamed.read()

    asyncio.run(call())


@pytest.mark.parametrize("name", ["completions.create", "chat.completions.create"])
def test_answers_are_streamed(engine: Engine, state: State, name: str):
    arguments = OPERATIONS[name].arguments(state) | {"stream": True}
    blocked, other = new_clients(engine)
    with blocked:
        assert blocking(blocked, name, arguments)

    async def call() -> Any:
        async with other:
            return await awaited(other, name, arguments)

    assert asyncio.run(call())


@pytest.mark.parametrize(
    ("path", "advice"),
    [
        ("/responses", "use /v1/chat/completions"),
        ("/embeddings", "Use another provider"),
        ("/moderations", "another provider"),
        ("/images/generations", "text only"),
        ("/audio/speech", "text only"),
        ("/batches", "send the requests to /v1/chat/completions"),
        ("/evals", "/v1/fine_tuning/alpha/graders"),
        ("/assistants", "use /v1/chat/completions"),
        ("/threads/t/runs", "use /v1/chat/completions"),
        ("/vector_stores", "search in the program"),
        ("/conversations", "send all messages"),
        ("/edits", "use /v1/chat/completions"),
        ("/organization/projects", "tunesmith keys"),
        ("/fine_tuning/alpha/other", "/v1/fine_tuning/jobs"),
    ],
)
def test_what_is_not_offered_says_what_to_use(engine: Engine, path: str, advice: str):
    with new_clients(engine)[0] as client:
        for send in (client.post, client.get):
            with pytest.raises(tunesmith.NotFoundError) as caught:
                send(path)
            assert advice in str(caught.value)
            assert caught.value.code == "unknown_url"


def test_md5_of_uploads_is_compared(engine: Engine, state: State):
    upload, part = state.full_upload()
    right = hashlib.md5(ROWS.encode(), usedforsecurity=False).hexdigest()
    with new_clients(engine)[0] as client:
        with pytest.raises(tunesmith.BadRequestError, match="MD5"):
            client.uploads.complete(upload, part_ids=[part], md5="0" * 32)
        assert client.uploads.complete(upload, part_ids=[part], md5=right).status == "completed"
