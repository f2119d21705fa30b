"""Databases to test on: SQLite always, PostgreSQL where its server program is installed."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tunesmith.engine.store.database import Database


@pytest.fixture(scope="session")
def postgresql() -> Iterator[str]:
    """URL of a PostgreSQL server of our own, with an empty folder; skipped where there is none."""
    pytest.importorskip("psycopg")
    if shutil.which("postgres") is None or shutil.which("initdb") is None:
        pytest.skip("needs the PostgreSQL server programs on the PATH")
    user = _unprivileged()
    folder = Path(tempfile.mkdtemp(prefix="tunesmith-pg-"))
    if user is not None:
        shutil.chown(folder, user)
    data = folder / "data"
    # The C locale makes an SQL_ASCII database, the hardest case.
    run = ["initdb", "--locale=C", "-D", str(data), "-U", "tunesmith", "-A", "trust", "--no-sync"]
    subprocess.run(run, check=True, user=user, stdout=subprocess.DEVNULL, cwd=folder)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    # A Unix socket's path may be 107 bytes long, which a temporary folder's can exceed.
    command = ["postgres", "-D", str(data), "-p", str(port), "-k", "", "-F"]
    log = (folder / "log").open("wb")
    with log, subprocess.Popen(command, user=user, stderr=log, cwd=folder) as server:
        url = f"postgresql://tunesmith@127.0.0.1:{port}/postgres"
        try:
            _wait(url)
            yield url
        finally:
            server.terminate()
    shutil.rmtree(folder, ignore_errors=True)


def _unprivileged() -> str | None:
    """Return the user to run the server as: it refuses to run as root."""
    if os.geteuid() != 0:
        return None
    try:
        return pwd.getpwnam("postgres").pw_name
    except KeyError:
        pytest.skip("PostgreSQL does not run as root, and there is no user postgres")


def _wait(url: str) -> None:
    import psycopg

    deadline = time.monotonic() + 60
    while True:
        try:
            psycopg.connect(url, connect_timeout=5).close()
        except psycopg.OperationalError:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        else:
            return


@pytest.fixture
def postgresql_url(postgresql: str) -> str:
    """URL of an empty database."""
    import psycopg

    name = f"test_{time.monotonic_ns()}"
    with psycopg.connect(postgresql, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}".encode())
    return postgresql.rpartition("/")[0] + "/" + name


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "postgresql":
        return str(request.getfixturevalue("postgresql_url"))
    return f"sqlite:///{tmp_path / 'engine.db'}"


@pytest.fixture
def database(url: str) -> Iterator[Database]:
    opened = Database(url)
    opened.migrate()
    yield opened
    opened.close()
