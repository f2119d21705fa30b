"""Connections to the database: SQLite in WAL mode, or PostgreSQL, by URL.

`read()` gives a snapshot, `write()` a transaction that excludes other writers from
its first statement on SQLite (BEGIN IMMEDIATE), so that reading and then changing is
safe there; on PostgreSQL the row locks taken by `FOR UPDATE` do the same per job.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from sqlalchemy import create_engine, event, inspect, make_url, text
from sqlalchemy.exc import SQLAlchemyError

from tunesmith.engine.domain.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Generator

    from sqlalchemy import Connection, Engine

__all__ = ["HEAD", "Database"]

HEAD = "0002"
"""The newest migration. A test compares it with the migrations folder."""

_BUSY_MILLISECONDS = 30_000


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
            self.engine: Engine = create_engine(parsed, pool_pre_ping=not _is_sqlite(parsed))
        except ModuleNotFoundError as error:
            raise StoreError(
                f"The database driver {error.name!r} is not installed. For PostgreSQL: "
                "pip install 'tunesmith[postgresql]'."
            ) from error
        except SQLAlchemyError as error:
            raise StoreError(
                "The database URL is invalid. Examples: sqlite:////absolute/path.db, "
                "postgresql://user:password@host/name."
            ) from error
        self.is_sqlite: bool = _is_sqlite(parsed)
        if self.is_sqlite:
            event.listen(self.engine, "connect", self._prepare_sqlite)
            event.listen(self.engine, "begin", _begin_sqlite)
        elif not durable:
            event.listen(self.engine, "connect", _relax_postgresql)

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
        """Yield a connection with a consistent snapshot; nothing written on it is committed."""
        with self.engine.connect() as connection:
            yield connection

    @contextmanager
    def write(self) -> Generator[Connection]:
        """Yield a connection in a write transaction, committed at the end of the block."""
        with self.engine.connect() as connection:
            connection = connection.execution_options(tunesmith_write=True)  # noqa: PLW2901 - the same connection
            with connection.begin():
                yield connection

    def migrate(self) -> None:
        """Bring the schema up to date.

        Raises:
            StoreError: The database cannot be reached or written, or is newer than this program.
        """
        try:
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


def _is_sqlite(url: Any) -> bool:
    return bool(url.get_backend_name() == "sqlite")


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
