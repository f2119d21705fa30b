"""Exports over HTTP: for owners alone, in the background, resumed, whole, and without paths."""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
import tarfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import update

import tunesmith
from http_stub import RESET, Answer, Received, Stub
from tunesmith.cli import main
from tunesmith.engine import Engine, start
from tunesmith.engine.config import Limits
from tunesmith.engine.home import Home
from tunesmith.engine.security.keys import create_key
from tunesmith.engine.store.database import Database
from tunesmith.engine.store.garbage_collection import collect_garbage
from tunesmith.engine.store.schema import exports
from tunesmith.resources.export_archive import unpack
from tunesmith.testing import write_tiny_home

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def client(engine: Engine) -> Iterator[tunesmith.Client]:
    with tunesmith.Client(base_url=engine.base_url, api_key="any") as made:
        yield made


@pytest.fixture(scope="module")
def model(fine_tune: dict[str, Any]) -> str:
    return fine_tune["fine_tuned_model"]


@pytest.fixture(scope="module")
def finished(client: tunesmith.Client, model: str) -> Iterator[Any]:
    export = client.models.exports.create(model=model, format="peft")
    yield client.models.exports.wait(export.id)
    client.models.exports.delete(export.id)


def ended(http: httpx.Client, export_id: str) -> dict[str, Any]:
    deadline = time.monotonic() + 120
    while (now := http.get(f"exports/{export_id}").json())["finished_at"] is None:
        assert time.monotonic() < deadline, now
        time.sleep(0.05)
    return now


def test_a_model_is_exported_downloaded_and_unpacked_in_one_call(
    client: tunesmith.Client, model: str, tmp_path: Path
):
    steps: list[tuple[str, float]] = []
    export = client.models.export(
        model, tmp_path / "copy", format="merged", on_progress=lambda *step: steps.append(step)
    )
    names = {path.name for path in (tmp_path / "copy").iterdir()}
    assert {"model.safetensors", "config.json", "README.md", "tokenizer.json"} <= names
    assert sorted(tmp_path.iterdir()) == [tmp_path / "copy"]
    assert export.comparison is not None
    assert export.comparison.positions > 0
    shares = [share for _, share in steps]
    assert shares[-1] == 1.0
    assert all(0 <= share <= 1 for share in shares)
    with pytest.raises(tunesmith.NotFoundError):
        client.models.exports.retrieve(export.id)
    with pytest.raises(tunesmith.TunesmithError, match="exists already"):
        client.models.export(model, tmp_path / "copy", format="merged")


def test_the_async_client_does_the_same(engine: Engine, model: str, tmp_path: Path):
    async def call() -> None:
        async with tunesmith.AsyncClient(base_url=engine.base_url, api_key="any") as client:
            await client.models.export(model, tmp_path / "copy", format="peft")

    asyncio.run(call())
    assert (tmp_path / "copy" / "adapter_model.safetensors").is_file()


def test_nothing_of_an_export_names_a_path_of_the_server(
    engine: Engine, client: tunesmith.Client, finished: Any, tmp_path: Path
):
    archive = client.models.exports.download(finished.id, tmp_path)
    assert archive.name == finished.filename
    home, base = str(engine.home.root), str(engine.home.root.parent.parent)
    with tarfile.open(archive) as files:
        for member in files.getmembers():
            assert (member.uid, member.gid, member.uname, member.gname) == (0, 0, "", "")
            assert member.mtime == 0
            content = files.extractfile(member)
            assert content is not None
            text = content.read()
            assert home.encode() not in text
            assert base.encode() not in text
        config = json.load(files.extractfile(f"{archive.stem}/adapter_config.json"))  # type: ignore[arg-type]
    assert config["base_model_name_or_path"] == "tiny"
    assert home not in finished.to_json()


def test_the_archive_has_its_hash_and_is_sent_in_ranges(http: httpx.Client, finished: Any):
    whole = http.get(f"exports/{finished.id}/content")
    assert hashlib.sha256(whole.content).hexdigest() == finished.sha256
    assert len(whole.content) == finished.bytes
    assert whole.headers["etag"] == f'"{finished.sha256}"'
    assert whole.headers["content-type"] == "application/x-tar"
    assert finished.filename in whole.headers["content-disposition"]
    part = http.get(f"exports/{finished.id}/content", headers={"range": "bytes=100-199"})
    assert (part.status_code, part.content) == (206, whole.content[100:200])
    past = http.get(f"exports/{finished.id}/content", headers={"range": "bytes=9999999999-"})
    assert past.status_code == 416


def test_an_interrupted_download_goes_on_where_it_ended(
    client: tunesmith.Client, finished: Any, tmp_path: Path
):
    whole = client.models.exports.download(finished.id, tmp_path / "whole.tar").read_bytes()
    begun = tmp_path / f".again.tar.{finished.id}.partial"
    begun.write_bytes(whole[:1000])
    first: list[int] = []
    received = client.models.exports.download(
        finished.id,
        tmp_path / "again.tar",
        on_progress=lambda done, total: first.append(total - done),
    )
    assert received.read_bytes() == whole
    assert first == [0]
    begun.write_bytes(b"x" * 1000)
    with pytest.raises(tunesmith.TunesmithError, match="arrived damaged"):
        client.models.exports.download(finished.id, tmp_path / "again.tar")
    assert not begun.exists()
    assert received.read_bytes() == whole


def test_the_same_request_sent_twice_makes_one_export(http: httpx.Client, model: str):
    body = {"model": model, "format": "peft"}
    headers = {"idempotency-key": "export-1"}
    ids = {http.post("exports", json=body, headers=headers).json()["id"] for _ in range(3)}
    assert len(ids) == 1
    assert http.delete(f"exports/{ids.pop()}").json()["deleted"]


def test_an_export_is_cancelled_while_it_runs_and_its_process_ends(
    engine: Engine, http: httpx.Client, model: str
):
    export = http.post("exports", json={"model": model, "format": "merged"}).json()
    while http.get(f"exports/{export['id']}").json()["status"] == "queued":
        time.sleep(0.02)
    assert http.post(f"exports/{export['id']}/cancel").json()["status"] == "cancelled"
    assert http.post(f"exports/{export['id']}/cancel").json()["status"] == "cancelled"
    time.sleep(2)
    now = http.get(f"exports/{export['id']}").json()
    assert (now["status"], now["filename"], now["error"]) == ("cancelled", None, None)
    content = http.get(f"exports/{export['id']}/content")
    assert content.json()["error"]["code"] == "export_not_ready"
    http.delete(f"exports/{export['id']}")
    assert not (engine.home.root / "exports" / export["id"]).exists()


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"model": "tiny", "format": "peft"}, 400, "unsupported_export"),
        ({"model": "tiny", "format": "merged", "quantization": "q8_0"}, 400, "unsupported_export"),
        ({"model": "nobody", "format": "merged"}, 404, "model_not_found"),
        ({"model": "tiny", "format": "exe"}, 400, None),
        ({"model": "tiny", "format": "merged", "output": "/etc"}, 400, "unknown_parameter"),
    ],
)
def test_what_cannot_be_exported_is_refused_at_once(
    http: httpx.Client, body: dict[str, Any], status: int, code: str | None
):
    answer = http.post("exports", json=body)
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)


def test_a_failed_export_says_why_without_a_path(
    engine: Engine, http: httpx.Client, client: tunesmith.Client, model: str
):
    hidden = [
        path.rename(path.with_suffix(".hidden"))
        for path in engine.home.root.rglob("adapter_model.safetensors")
    ]
    export = http.post("exports", json={"model": model, "format": "peft"}).json()
    try:
        failed = ended(http, export["id"])
    finally:
        for path in hidden:
            path.rename(path.with_suffix(".safetensors"))
    assert failed["status"] == "failed"
    assert failed["error"]["message"]
    assert str(engine.home.root) not in json.dumps(failed)
    with pytest.raises(tunesmith.TunesmithError, match="'failed'"):
        client.models.exports.download(export["id"], engine.home.root)
    http.delete(f"exports/{export['id']}")


class Keyed:
    """The state folder of an engine with keys."""

    def __init__(self, home: Path, base: Path) -> None:
        self.home = home
        write_tiny_home(home, base)
        self.database = Database(f"sqlite:///{home / 'engine.db'}")
        self.database.migrate()
        self.keys = {
            name: create_key(self.database, name=name, role=role, organization=organization)[1]
            for name, role, organization in (
                ("owner", "owner", "local"),
                ("member", "member", "local"),
                ("stranger", "owner", "elsewhere"),
            )
        }

    def http(self, engine: Engine, name: str) -> httpx.Client:
        headers = {"authorization": f"Bearer {self.keys[name]}"}
        return httpx.Client(base_url=engine.base_url + "/", headers=headers, timeout=60)


@pytest.fixture
def keyed(tmp_path: Path, tiny_base_model: Path) -> Iterator[Keyed]:
    made = Keyed(tmp_path, tiny_base_model)
    yield made
    made.database.close()


def test_only_owners_of_the_organisation_see_and_make_exports_and_only_so_many(keyed: Keyed):
    body = {"model": "tiny", "format": "merged", "compare": False}
    with start(keyed.home, limits=Limits(exports=2)) as engine, ExitStack() as stack:
        owner, member, stranger = (
            stack.enter_context(keyed.http(engine, name))
            for name in ("owner", "member", "stranger")
        )
        made = owner.post("exports", json=body).json()
        ended(owner, made["id"])
        for method, path in (
            ("GET", "exports"),
            ("POST", "exports"),
            ("GET", f"exports/{made['id']}"),
            ("GET", f"exports/{made['id']}/content"),
            ("POST", f"exports/{made['id']}/cancel"),
            ("DELETE", f"exports/{made['id']}"),
        ):
            json_body = body if path == "exports" and method == "POST" else None
            refused = member.request(method, path, json=json_body)
            assert refused.status_code == 403, path
            assert refused.json()["error"]["code"] == "insufficient_permissions"
            if "/" in path:
                assert stranger.request(method, path).status_code == 404, path
        assert stranger.get("exports").json()["data"] == []
        assert [one["id"] for one in owner.get("exports").json()["data"]] == [made["id"]]
        assert owner.post("exports", json=body).status_code == 200
        third = owner.post("exports", json=body)
        assert (third.status_code, third.json()["error"]["code"]) == (429, "exports_limit")
        assert stranger.post("exports", json=body).status_code == 200
        assert owner.delete(f"exports/{made['id']}").status_code == 200
        assert owner.get(f"exports/{made['id']}/content").status_code == 404
        assert owner.post("exports", json=body).status_code == 200


def test_an_export_that_the_engine_was_stopped_in_is_made_by_the_next_one(keyed: Keyed):
    with start(keyed.home) as engine, keyed.http(engine, "owner") as owner:
        export = owner.post("exports", json={"model": "tiny", "format": "merged"}).json()
        while owner.get(f"exports/{export['id']}").json()["status"] == "queued":
            time.sleep(0.02)
    with start(keyed.home) as engine, keyed.http(engine, "owner") as owner:
        now = ended(owner, export["id"])
        assert now["status"] == "succeeded", now
        content = owner.get(f"exports/{export['id']}/content").content
        assert hashlib.sha256(content).hexdigest() == now["sha256"]
        names = {path.name for path in (keyed.home / "exports" / export["id"]).iterdir()}
        assert names == {"archive.tar", "worker.log"}


def test_an_export_that_has_expired_is_gone_and_its_folder_is_garbage(keyed: Keyed):
    with start(keyed.home) as engine, keyed.http(engine, "owner") as owner:
        body = {"model": "tiny", "format": "merged", "compare": False}
        export = owner.post("exports", json=body).json()
        ended(owner, export["id"])
        with keyed.database.write() as connection:
            connection.execute(update(exports).values(expires_at=time.time() - 1))
        assert owner.get(f"exports/{export['id']}").status_code == 404
        assert owner.get(f"exports/{export['id']}/content").status_code == 404
        assert owner.get("exports").json()["data"] == []
    collect_garbage(Home(keyed.home), keyed.database)
    assert list((keyed.home / "exports").iterdir()) == []


def test_a_download_survives_broken_connections(tmp_path: Path):
    content = bytes(range(256)) * 100_000
    record = {
        "id": "export-1",
        "model": "m",
        "status": "succeeded",
        "filename": "m.tar",
        "bytes": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
    }
    broken = [True]

    def respond(request: Received) -> Answer:
        if not request.path.endswith("/content"):
            return Answer(body=json.dumps(record).encode())
        first, last = map(int, request.headers["range"].removeprefix("bytes=").split("-"))
        if first and broken:
            broken.pop()
            head = b"HTTP/1.1 206 Partial Content\r\ncontent-length: 5000000\r\n\r\n"
            return Answer(raw=[head + content[first : first + 1000], RESET])
        return Answer(206, content[first : last + 1])

    stub = Stub()
    stub.handle = respond
    with tunesmith.Client(base_url=stub.url, api_key="k", max_retries=0) as client:
        received = client.models.exports.download("export-1", tmp_path)
    stub.close()
    assert received.read_bytes() == content
    assert not broken
    assert sorted(tmp_path.iterdir()) == [tmp_path / "m.tar"]


@pytest.mark.parametrize("name", ["/etc/passwd", "a/../../b", "../b", "b", "C:/x", "a/b:c"])
def test_an_archive_writes_nothing_outside_of_its_folder(tmp_path: Path, name: str):
    with tarfile.open(tmp_path / "bad.tar", "w") as archive:
        for one in ("a/good", name):
            member = tarfile.TarInfo(one)
            member.size = 1
            archive.addfile(member, io.BytesIO(b"x"))
    with pytest.raises(tunesmith.TunesmithError, match="no plain file"):
        unpack(tmp_path / "bad.tar", tmp_path / "folder" / "copy")
    assert list((tmp_path / "folder").iterdir()) == []


def test_an_archive_with_a_link_is_refused(tmp_path: Path):
    with tarfile.open(tmp_path / "bad.tar", "w") as archive:
        member = tarfile.TarInfo("a/link")
        member.type, member.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(member)
    with pytest.raises(tunesmith.TunesmithError, match="no plain file"):
        unpack(tmp_path / "bad.tar", tmp_path / "copy")
    assert not (tmp_path / "copy").exists()


def test_the_command_line_exports_from_a_running_engine(
    engine: Engine, model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
):
    before = httpx.get(f"{engine.base_url}/exports").json()["data"]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TUNESMITH_API_KEY", "any")
    monkeypatch.delenv("TUNESMITH_HOME", raising=False)
    to = ["export", model, "--to", "peft", "--json", "--api-base", engine.base_url]
    assert main(to) == 0
    result = json.loads(capsys.readouterr().out)
    folder = Path(result["folder"])
    assert folder.parent == tmp_path
    assert (folder / "adapter_config.json").is_file()
    assert list(result["files"]) == sorted(path.name for path in folder.iterdir())
    assert sorted(tmp_path.iterdir()) == [folder]
    assert main([*to, "-O", str(folder)]) == 1
    assert "exists already" in capsys.readouterr().err
    assert httpx.get(f"{engine.base_url}/exports").json()["data"] == before
