"""Streams of events, where a job does not end as others do."""

from __future__ import annotations

import asyncio

from sqlalchemy import delete

from job_rows import job_row
from tunesmith.engine.jobs.watcher import EventWatcher
from tunesmith.engine.store import job_queries
from tunesmith.engine.store.database import Database
from tunesmith.engine.store.schema import jobs


def test_the_stream_of_a_job_that_is_deleted_ends(tmp_path):
    """It stayed open for as long as the client did, if nothing had read the job's last status."""
    database = Database(f"sqlite:///{tmp_path / 'engine.db'}")
    database.migrate()
    job = job_row("gone", status="running")
    with database.write() as connection:
        job_queries.insert_job(connection, job)
        job_queries.add_event(connection, job.id, "started", "started")

    async def followed():
        watcher = EventWatcher(database)
        watcher.start()
        stream = watcher.follow(job.id)
        first = await anext(stream)
        with database.write() as connection:
            connection.execute(delete(jobs).where(jobs.c.id == job.id))
        last = await asyncio.wait_for(anext(stream), 4)
        await watcher.stop()
        return first, last

    first, last = asyncio.run(followed())
    assert [event.kind for event in first] == ["started"]
    assert last is None
    database.close()
