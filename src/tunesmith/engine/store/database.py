"""Connections to the database: SQLite in WAL mode, or PostgreSQL, by URL.

`read()` gives a snapshot, `write()` a transaction that excludes other writers from
its first statement on SQLite (BEGIN IMMEDIATE), so that reading and then changing is
safe there; on PostgreSQL the row locks taken by `FOR UPDATE` do the same per job.
"""

from __future__ import annotations

import os
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from sqlalchemy import create_engine, event, inspect, make_url, text
from sqlalchemy.exc import SQLAlchemyError

from tunesmith._install import install_extra
from tunesmith.engine.domain.errors import DatabaseBusyError, StoreError

if TYPE_CHECKING:
    from collections.abc import Generator

    from sqlalchemy import Connection, Engine

__all__ = ["HEAD", "Database"]

HEAD = "0007"
"""The newest migration. A test compares it with the migrations folder."""

_BUSY_MILLISECONDS = 30_000

_MAX_WRITING_REQUESTS = 10
"""Fewer than the 15 connections of a pool, and than the 40 threads that serve requests."""


class Database:
    """An open database.

    Args:
        url: SQLAlchemy URL.
        durable: Wait for the disk at every commit. Workers do without: what they lose in a power
            failure, the next attempt writes again.

    Raises:
        StoreError: The URL is invalid, or its driver is not installed.
    """

    def __init__(self, url: str, *, durable: bool = True) -> None:
        self._durable = durable
        try:
            parsed = make_url(url)
            if parsed.drivername == "postgresql":
                parsed = parsed.set(drivername="postgresql+psycopg")
            if parsed.drivername == "postgresql+psycopg":
                # A database in the C locale returns bytes unless the client names an encoding.
                parsed = parsed.update_query_dict({"client_encoding": "utf8"})
            ping = not _is_sqlite(parsed)
            self.engine: Engine = create_engine(parsed, pool_pre_ping=ping)
            self._readers: Engine = create_engine(parsed, pool_pre_ping=ping)
        except ModuleNotFoundError as error:
            raise StoreError(
                f"The database driver {error.name!r} is not installed. For PostgreSQL: "
                f"{install_extra('postgresql')}"
            ) from error
        except SQLAlchemyError as error:
            raise StoreError(
                "The database URL is invalid. Examples: sqlite:////absolute/path.db, "
                "postgresql://user:password@host/name."
            ) from error
        self.is_sqlite: bool = _is_sqlite(parsed)
        self._writing_requests = threading.BoundedSemaphore(_MAX_WRITING_REQUESTS)
        for engine in (self.engine, self._readers):
            if self.is_sqlite:
                event.listen(engine, "connect", self._prepare_sqlite)
                event.listen(engine, "begin", _begin_sqlite)
            elif not durable:
                event.listen(engine, "connect", _relax_postgresql)

    def _prepare_sqlite(self, connection: Any, _record: object) -> None:
        connection.isolation_level = None  # transactions are begun by _begin_sqlite
        cursor = connection.cursor()
        cursor.execute(f"PRAGMA busy_timeout = {_BUSY_MILLISECONDS}")
        cursor.execute("PRAGMA journal_mode = WAL")
        cursor.execute(f"PRAGMA synchronous = {'FULL' if self._durable else 'NORMAL'}")
        cursor.execute("PRAGMA foreign_keys = ON")
        cursor.close()

    @contextmanager
    def read(self) -> Generator[Connection]:
        """Yield a connection with a consistent snapshot; nothing written on it is committed.

        Readers have connections of their own, so they do not queue behind writers.
        """
        with self._readers.connect() as connection:
            yield connection

    @contextmanager
    def write(self) -> Generator[Connection]:
        """Yield a connection in a write transaction, committed at the end of the block."""
        with self.engine.connect() as connection:
            connection = connection.execution_options(tunesmith_write=True)  # noqa: PLW2901 - the same connection
            with connection.begin():
                yield connection

    @contextmanager
    def write_for_request(self) -> Generator[Connection]:
        """Yield a connection as `write` does, to a thread that serves a request.

        Raises:
            DatabaseBusyError: So many requests wait for their turn to write that one more could
                leave no threads to those that read.
        """
        if not self._writing_requests.acquire(blocking=False):
            raise DatabaseBusyError(
                "Too many requests wait to write to the engine's database. Try again shortly."
            )
        try:
            with self.write() as connection:
                yield connection
        finally:
            self._writing_requests.release()

    def migrate(self) -> None:
        """Bring the schema up to date.

        Raises:
            StoreError: The database cannot be reached or written, or is newer than this program.
        """
        try:
            if self.is_sqlite:
                _create_private(self.engine.url.database)
            current = self.revision()
            if current == HEAD:
                return
            if current is not None and current > HEAD:
                raise StoreError(
                    f"The database has revision {current}, newer than this version of tunesmith "
                    f"knows ({HEAD}). Upgrade tunesmith, or use another TUNESMITH_HOME."
                )
            _upgrade(self.engine)
        except SQLAlchemyError as error:
            reason = str(getattr(error, "orig", None) or error).splitlines()[0]
            raise StoreError(
                f"The database {self.engine.url.render_as_string(hide_password=True)} cannot be "
                f"used: {reason}. Check that the location exists and is writable, and that no "
                "other program has locked it."
            ) from error

    def revision(self) -> str | None:
        """Return the revision of the database; None for an empty one."""
        with self.read() as connection:
            if not inspect(connection).has_table("alembic_version"):
                return None
            return connection.execute(text("SELECT version_num FROM alembic_version")).scalar()

    def check(self) -> None:
        """Raise `sqlalchemy.exc.SQLAlchemyError` unless the database answers."""
        with self.read() as connection:
            connection.execute(text("SELECT 1"))

    def close(self) -> None:
        """Close the pooled connections."""
        self.engine.dispose()
        self._readers.dispose()


def _is_sqlite(url: Any) -> bool:
    return bool(url.get_backend_name() == "sqlite")


def _create_private(path: str | None) -> None:
    """Create a database file that its owner alone may read; SQLite would let everyone."""
    if path and path != ":memory:":
        with suppress(OSError):  # SQLite will say it better
            os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))


def _begin_sqlite(connection: Connection) -> None:
    writes = connection.get_execution_options().get("tunesmith_write", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _relax_postgresql(connection: Any, _record: object) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SET synchronous_commit = off")
    connection.commit()


def _upgrade(engine: Engine) -> None:
    from alembic import command  # noqa: PLC0415 - needed at most once in a database's life
    from alembic.config import Config  # noqa: PLC0415

    config = Config()
    config.set_main_option("script_location", "tunesmith.engine.store:migrations")
    with engine.connect() as connection:
        writing = connection.execution_options(tunesmith_write=True)
        with writing.begin():
            config.attributes["connection"] = writing
            command.upgrade(config, "head")
