"""Lets many streams follow jobs: one task polls the database, however many are open."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING

import anyio.to_thread
from sqlalchemy.exc import SQLAlchemyError

from tunesmith.engine.store import job_queries

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

    from tunesmith.engine.store.database import Database
    from tunesmith.engine.store.records import EventRow

__all__ = ["EventWatcher"]

_log = logging.getLogger("tunesmith.engine.jobs")

_POLL_SECONDS = 0.2
_IDLE_SECONDS = 5.0


class _Topic:
    """A watched job: its events so far, and a signal that is replaced each time it is set."""

    def __init__(self) -> None:
        self.events: list[EventRow] = []
        self.ended = False
        self.listeners = 0
        self.signal = asyncio.Event()

    def announce(self) -> None:
        self.signal.set()
        self.signal = asyncio.Event()


class EventWatcher:
    """Lets any number of streams follow jobs.

    Args:
        database: Where the events are.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._topics: dict[str, _Topic] = {}
        self._wanted = asyncio.Event()
        self._closed = False
        self._task: asyncio.Task[None] | None = None

    @property
    def open_streams(self) -> int:
        """Number of streams that follow a job now."""
        return sum(topic.listeners for topic in self._topics.values())

    def start(self) -> None:
        """Start the task; call it in the event loop that serves."""
        self._task = asyncio.create_task(self._watch(), name="event watcher")

    def close(self) -> None:
        """End all streams, without the None that says that the job has ended."""
        self._closed = True
        for topic in self._topics.values():
            topic.announce()

    async def stop(self) -> None:
        """Close, and end the task."""
        self.close()
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def follow(self, job_id: str) -> AsyncIterator[Sequence[EventRow] | None]:
        """Yield the job's events in batches, in order, from the first; None after the last.

        A job that is deleted meanwhile has ended with what was seen of it.

        An empty batch means that nothing has happened for 5 seconds. The iteration ends
        without None if the watcher is closed.
        """
        topic = self._topics.setdefault(job_id, _Topic())
        topic.listeners += 1
        self._wanted.set()
        sent = 0
        try:
            while not self._closed:
                batch = topic.events[sent:]
                sent += len(batch)
                if batch:
                    yield batch
                elif topic.ended:
                    yield None
                    return
                else:
                    with contextlib.suppress(TimeoutError):
                        await asyncio.wait_for(topic.signal.wait(), _IDLE_SECONDS)
                        continue
                    yield []
        finally:
            topic.listeners -= 1
            if topic.listeners == 0 and self._topics.get(job_id) is topic:
                del self._topics[job_id]

    async def _watch(self) -> None:
        while True:
            await self._wanted.wait()
            self._wanted.clear()
            while self._topics:
                try:
                    await self._poll()
                except SQLAlchemyError as error:
                    _log.error("events: %s", str(error).splitlines()[0])
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._wanted.wait(), _POLL_SECONDS)
                self._wanted.clear()

    async def _poll(self) -> None:
        known = {
            job_id: len(topic.events) for job_id, topic in self._topics.items() if not topic.ended
        }
        news = await anyio.to_thread.run_sync(self._read, known) if known else {}
        for job_id, (events, ended) in news.items():
            topic = self._topics.get(job_id)
            if topic is None or len(topic.events) != known[job_id]:
                continue
            topic.events.extend(events)
            topic.ended = ended
            topic.announce()

    def _read(self, known: Mapping[str, int]) -> dict[str, tuple[Sequence[EventRow], bool]]:
        """Return new events of jobs that have some, or that have ended or been deleted."""
        with self._database.read() as connection:
            counts = job_queries.event_counts(connection, known)
            news: dict[str, tuple[Sequence[EventRow], bool]] = {
                job_id: ([], True) for job_id in known.keys() - counts.keys()
            }
            for job_id, (count, ended) in counts.items():
                if count > known[job_id] or ended:
                    events = job_queries.events_of(connection, job_id, after=known[job_id])
                    news[job_id] = (events, ended)
        return news
