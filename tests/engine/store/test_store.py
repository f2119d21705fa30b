"""The store and the queue, the same on SQLite and on PostgreSQL."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import stat
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import MetaData, Table, insert, select

from job_rows import job_row
from tunesmith.engine.domain.errors import (
    CorruptFileError,
    JobStateError,
    LostLeaseError,
    StoreError,
)
from tunesmith.engine.jobs import leases, lifecycle
from tunesmith.engine.jobs.dispatcher import WorkerSilence
from tunesmith.engine.store import (
    file_queries,
    idempotency_queries,
    job_queries,
    model_queries,
    permission_queries,
)
from tunesmith.engine.store.blobs import BlobStore
from tunesmith.engine.store.database import HEAD, Database
from tunesmith.engine.store.idempotency_queries import IdempotentResult
from tunesmith.engine.store.records import CheckpointPermissionRow, FileRow, JobRow, ModelRow
from tunesmith.engine.store.removal import remove
from tunesmith.engine.store.schema import metadata


def queued(database: Database, *jobs: JobRow) -> None:
    with database.write() as connection:
        for job in jobs:
            lifecycle.create(connection, job)
            lifecycle.queue(connection, job)


def claimed(database: Database) -> JobRow | None:
    with database.write() as connection:
        return leases.claim(connection, "training")


@pytest.mark.skipif(os.name != "posix", reason="Windows has no modes of files")
def test_a_new_database_is_its_owners_alone(tmp_path):
    with contextlib.closing(Database(f"sqlite:///{tmp_path}/engine.db")) as database:
        database.migrate()
        modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    assert modes.pop("engine.db") == 0o600
    assert set(modes.values()) <= {0o600}


def test_migrations_lead_to_the_schema(database: Database):
    with database.read() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, metadata) == []
    assert database.revision() == HEAD
    database.migrate()


def test_the_newest_migration_is_the_head():
    scripts = ScriptDirectory(
        str(Path(__file__).parents[3] / "src/tunesmith/engine/store/migrations")
    )
    assert scripts.get_heads() == [HEAD]


def test_a_database_of_the_version_before_is_migrated_without_loss(url: str):
    """Every row that the engine of revision 0001 wrote, under its new column names."""
    text = Path(__file__).with_name("rows_of_version_0001.json").read_text(encoding="utf-8")
    written: dict[str, list[dict[str, Any]]] = json.loads(text)
    database = Database(url)
    config = Config()
    config.set_main_option("script_location", "tunesmith.engine.store:migrations")
    with database.write() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0001")
        for name, rows in written.items():
            table = Table(name, MetaData(), autoload_with=connection)
            for row in rows:
                values = {key: value for key, value in row.items() if value is not None}
                connection.execute(insert(table).values(values))
    database.migrate()

    for job in written["jobs"]:
        job["requested_hyperparameters"] = job.pop("asked")
        job["resolved_hyperparameters"] = job.pop("settled")
    with database.read() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, metadata) == []
        for name, rows in written.items():
            table = metadata.tables[name]
            found = connection.execute(select(table).order_by(*table.primary_key))
            expected = sorted(rows, key=lambda row: [row[key.name] for key in table.primary_key])
            assert (
                sorted(
                    (dict(row) for row in found.mappings()),
                    key=lambda row: [row[key.name] for key in table.primary_key],
                )
                == expected
            ), name
        statuses = [job.status for job in job_queries.unfinished(connection)]
        assert statuses == ["paused", "running", "queued"]
    with database.write() as connection:
        (orphan,) = [job for job in job_queries.unfinished(connection) if job.worker_id is not None]
        assert not leases.has_local_process(orphan)
        leases.recover(connection, orphan, "was killed", max_attempts=3)
        assert leases.claim(connection, "training") is not None
    database.close()


def test_rows_come_back_as_they_went_in(database: Database):
    file = FileRow("file-1", "local", 1.25, "a.jsonl", "fine-tune", 2, "0" * 64, None, {"a": [1]})
    model = ModelRow("m", "local", 2.5, "a", "tiny", "ada", "models/a", None, {"separator": "->"})
    job = job_row(metadata={"team": "a"}, requested_hyperparameters={"n_epochs": 3})
    with database.write() as connection:
        file_queries.insert_file(connection, file)
        model_queries.insert_model(connection, model)
        job_queries.insert_job(connection, job)

    with database.read() as connection:
        assert file_queries.get(connection, "local", "file-1") == file
        assert file_queries.get(connection, "other", "file-1") is None
        assert model_queries.get(connection, "local", "m") == model
        assert job_queries.get(connection, "local", "a") == job
        assert job_queries.prompt_format_of(connection, job) == {"a": [1]}
        found = job_queries.list_jobs(connection, "local", metadata={"team": "a"})
        assert [row.id for row in found] == ["a"]
        assert not job_queries.list_jobs(connection, "local", metadata={"team": "b"})


def test_a_permission_makes_a_model_usable_and_goes_with_it(database: Database):
    models = [ModelRow(name, "local", 2.5, "a", "tiny", "ada", "models/a") for name in "mn"]
    given = [CheckpointPermissionRow(f"cp_{name}", name, "b", 3.5) for name in "mn"]
    with database.write() as connection:
        for model, permission in zip(models, given, strict=True):
            model_queries.insert_model(connection, model)
            assert permission_queries.lock_model(connection, "local", model.name)
            assert not permission_queries.lock_model(connection, "b", model.name)
            permission_queries.insert_permission(connection, permission)

    with database.read() as connection:
        assert model_queries.get_usable(connection, "b", "m") == models[0]
        assert model_queries.get(connection, "b", "m") is None
        assert model_queries.get_usable(connection, "c", "m") is None
        assert model_queries.list_usable(connection, "b") == models
        assert model_queries.list_usable(connection, "local") == models
        assert not model_queries.list_models(connection, "b")
    with database.write() as connection:
        model_queries.remove(connection, "m")
        permission_queries.remove(connection, "cp_n")
    with database.read() as connection:
        assert not model_queries.list_usable(connection, "b")
        assert not permission_queries.permitted(connection, "m")
        assert model_queries.list_usable(connection, "local") == models[1:]


def test_a_failed_transaction_leaves_nothing(database: Database):
    def fail_after_writing() -> None:
        with database.write() as connection:
            job_queries.insert_job(connection, job_row())
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail_after_writing()

    with database.read() as connection:
        assert job_queries.find(connection, "a") is None


def test_an_event_reported_twice_is_stored_once_and_numbers_have_no_gaps(database: Database):
    queued(database, job_row())

    def say(worker: int) -> None:
        for step in range(20):
            with database.write() as connection:
                job_queries.lock(connection, "a")
                job_queries.add_event(connection, "a", f"step:{step}", "step", {"by": worker})

    threads = [threading.Thread(target=say, args=(worker,)) for worker in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    with database.read() as connection:
        events = job_queries.events_of(connection, "a")
        counts = job_queries.event_counts(connection, ["a"])
    assert [event.sequence for event in events] == list(range(1, len(events) + 1))
    assert len({event.key for event in events}) == len(events) == 23
    assert counts == {"a": (23, False)}


def test_each_job_is_claimed_once_by_concurrent_workers(database: Database):
    queued(database, *(job_row(f"job{number}") for number in range(8)))
    won: list[str] = []

    def take() -> None:
        while (job := claimed(database)) is not None:
            won.append(job.id)

    threads = [threading.Thread(target=take) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(won) == [f"job{number}" for number in range(8)]


def test_organisations_take_turns(database: Database):
    many = [job_row(f"many{number}", "many", created_at=float(number)) for number in range(3)]
    queued(database, *many, job_row("late", "few", created_at=100.0))

    order = [job.id for _ in range(4) if (job := claimed(database))]

    assert order == ["many0", "late", "many1", "many2"]


def test_a_worker_that_lost_its_lease_cannot_write(database: Database):
    queued(database, job_row())
    first = claimed(database)
    assert first is not None
    with database.write() as connection:
        leases.recover(
            connection, leases.lock_claimed(connection, "a", str(first.worker_id)), "died", 3
        )
    second = claimed(database)
    assert second is not None
    assert second.attempts == 2

    with pytest.raises(LostLeaseError), database.write() as connection:
        leases.lock_claimed(connection, "a", str(first.worker_id))
    with pytest.raises(LostLeaseError), database.write() as connection:
        leases.heartbeat(connection, "a", str(first.worker_id))


def test_a_worker_is_silent_only_in_time_that_this_process_ran(
    database: Database, monkeypatch: pytest.MonkeyPatch
):
    queued(database, job_row())
    job = claimed(database)
    assert job is not None
    now = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    silence = WorkerSilence()
    silence.update([job])
    for _ in range(10):
        now += 0.5
        silence.update([job])
    assert silence.seconds(job) == pytest.approx(5.0)
    now += 3600.0  # suspended: nobody sends heartbeats then
    silence.update([job])
    assert silence.seconds(job) == pytest.approx(6.0)
    now += 0.5
    beating = dataclasses.replace(job, heartbeat_at=(job.heartbeat_at or 0) + 2)
    silence.update([beating])
    assert silence.seconds(beating) == 0


@pytest.mark.parametrize("status", ["succeeded", "failed", "cancelled"])
def test_an_ended_job_stays_ended(database: Database, status: str):
    job = job_row(status=status)
    with database.write() as connection:
        job_queries.insert_job(connection, job)
        for act in (lifecycle.cancel, lifecycle.pause, lifecycle.resume):
            with pytest.raises(JobStateError):
                act(connection, job)


def test_an_idempotency_key_belongs_to_its_organisation_and_operation(
    database: Database,
):
    with database.write() as connection:
        idempotency_queries.record(connection, "a", "files", "k", IdempotentResult("file-1", "f"))
        assert idempotency_queries.find(connection, "a", "files", "k") == ("file-1", "f")
        assert idempotency_queries.find(connection, "b", "files", "k") is None
        assert idempotency_queries.find(connection, "a", "fine-tunes", "k") is None


def test_expired_files_are_gone(database: Database):
    past = FileRow("file-1", "local", 1.0, "a", "fine-tune", 2, "0" * 64, time.time() - 1)
    with database.write() as connection:
        file_queries.insert_file(connection, past)
        assert file_queries.get(connection, "local", "file-1") is None
        assert not file_queries.list_files(connection, "local")
        assert [row.id for row in file_queries.expired(connection, time.time())] == ["file-1"]


def test_the_error_of_an_invalid_database_url_has_examples():
    with pytest.raises(StoreError, match="sqlite:////absolute"):
        Database("nonsense")


def test_the_error_of_an_unreachable_database_has_no_password():
    pytest.importorskip("psycopg")
    database = Database("postgresql://someone:sesame@127.0.0.1:1/none")
    with pytest.raises(StoreError) as caught:
        database.migrate()
    assert "127.0.0.1" in str(caught.value)
    assert "sesame" not in str(caught.value)


def test_contents_are_complete_shared_and_verified(tmp_path: Path):
    blobs = BlobStore(tmp_path / "files")
    with blobs.incoming() as blob:
        blob.write(b"abc")
        blob.seal()
        blobs.keep(blob)
    path = blobs.verified(blob.sha256)
    assert path.read_bytes() == b"abc"
    with blobs.incoming() as abandoned:
        abandoned.write(b"half")
    assert not list((tmp_path / "files" / "incoming").iterdir())

    path.write_bytes(b"abd")
    with pytest.raises(CorruptFileError, match="has changed"):
        blobs.verified(blob.sha256)
    aside = blobs.set_aside(blob.sha256)
    assert aside is not None
    remove(aside)
    assert not aside.exists()
    with pytest.raises(CorruptFileError, match="missing"):
        blobs.verified(blob.sha256)
    with pytest.raises(ValueError, match="SHA-256"):
        blobs.path("../../etc/passwd")
