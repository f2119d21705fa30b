"""The server's start and stop: every failure is one sentence or two, without a traceback."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tunesmith.engine import EngineConfig, EngineError, Home, start
from tunesmith.engine.security.keys import create_key, revoke_key
from tunesmith.engine.store.database import Database


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    return tmp_path / "home"


def message_of_refused_start(home: Path, **settings: object) -> str:
    with pytest.raises(EngineError) as caught:
        start(home, **settings)
    text = str(caught.value)
    assert "Traceback" not in text
    assert "\n" not in text
    return text


def test_a_port_in_use_is_named(home: Path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]

        assert f"Port {port} on 127.0.0.1 is in use" in message_of_refused_start(home, port=port)


def test_a_home_that_is_served_already_is_refused_and_the_first_server_continues(home: Path):
    with start(home) as first:
        assert f"process {first.pid}" in message_of_refused_start(home)
        assert httpx.get(first.base_url + "/files").status_code == 200


def test_a_home_that_cannot_be_a_folder_is_named(tmp_path: Path):
    (tmp_path / "file").write_text("", encoding="utf-8")

    assert "cannot be written" in message_of_refused_start(tmp_path / "file" / "home")


def test_it_starts_and_reads_while_another_process_writes_to_the_database(home: Path):
    start(home).stop()
    with contextlib.closing(sqlite3.connect(home / "engine.db", isolation_level=None)) as writer:
        writer.execute("BEGIN IMMEDIATE")
        with start(home) as engine:
            assert httpx.get(engine.base_url + "/files").status_code == 200
            writer.execute("ROLLBACK")


def test_a_database_that_is_none_is_named(home: Path):
    home.mkdir()
    (home / "engine.db").write_text("this is no database, though it is long enough\n" * 100)

    assert "not a database" in message_of_refused_start(home)


def test_a_database_from_the_future_is_left_alone(home: Path):
    home.mkdir()
    database = Database(EngineConfig(home=Home(home)).database)
    database.migrate()
    with database.write() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    database.close()

    assert "newer than this version" in message_of_refused_start(home)


def test_without_keys_only_this_machine_is_served(home: Path):
    assert "tunesmith keys create" in message_of_refused_start(home, host="0.0.0.0")  # noqa: S104

    with start(home) as engine:
        assert "any key is accepted" in engine.log_path.read_text(encoding="utf-8")
        assert httpx.get(engine.base_url + "/models").status_code == 200


def test_with_keys_each_request_needs_one_that_is_in_use(home: Path):
    home.mkdir()
    database = Database(EngineConfig(home=Home(home)).database)
    database.migrate()
    owner, owner_secret = create_key(database, name="boss", role="owner")
    _, member_secret = create_key(database, name="staff")
    _, stranger_secret = create_key(database, name="them", role="owner", organization="them")

    def as_key(secret: str) -> dict[str, str]:
        return {"authorization": f"Bearer {secret}"}

    with start(home) as engine, httpx.Client(base_url=engine.base_url) as http:
        missing, wrong = http.get("/files"), http.get("/files", headers=as_key("sk-wrong"))
        assert (missing.status_code, wrong.status_code) == (401, 401)
        assert missing.json()["error"]["code"] == "missing_api_key"
        assert wrong.json()["error"]["code"] == "invalid_api_key"

        file = http.post(
            "/files",
            data={"purpose": "fine-tune"},
            files={"file": ("a.jsonl", b"{}")},
            headers=as_key(member_secret),
        ).json()
        assert http.get(f"/files/{file['id']}", headers=as_key(owner_secret)).status_code == 200
        assert http.get(f"/files/{file['id']}", headers=as_key(stranger_secret)).status_code == 404
        assert http.get("/files", headers=as_key(stranger_secret)).json()["data"] == []

        refused = http.delete("/models/ada:ft-x", headers=as_key(member_secret))
        assert refused.status_code == 403
        assert "'owner'" in refused.json()["error"]["message"]
        assert http.delete("/models/ada:ft-x", headers=as_key(owner_secret)).status_code == 404

        revoke_key(database, owner.id)
        assert _eventually_refused(http, as_key(owner_secret))
        secrets = (owner_secret, member_secret, stranger_secret)
        log = engine.log_path.read_text(encoding="utf-8")
        assert not any(secret in log for secret in secrets)
    database.close()
    stored = b"".join(path.read_bytes() for path in home.glob("engine.db*"))
    assert not any(secret.encode() in stored for secret in secrets)


def _eventually_refused(http: httpx.Client, headers: dict[str, str]) -> bool:
    import time

    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        if http.get("/files", headers=headers).status_code == 401:
            return True
        time.sleep(0.1)
    return False


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_server_with_status_0(home: Path, number: signal.Signals):
    code = (
        "import sys\nfrom pathlib import Path\n"
        "from tunesmith.engine import EngineConfig, Home, serve\n"
        "serve(EngineConfig(home=Home(Path(sys.argv[1])), port=0))\n"
    )
    command = [sys.executable, "-c", code, str(home)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        assert "tunesmith serves http://127.0.0.1:" in process.stderr.readline()
        process.stderr.readline()
        os.kill(process.pid, number)
        rest = process.stderr.read()

    assert process.returncode == 0
    assert "Traceback" not in rest
