"""A job's events as server-sent events: data only, `[DONE]` last, then the end of the body."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from fastapi.responses import StreamingResponse

from tunesmith.engine.jobs.event_messages import KINDS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from tunesmith.engine.jobs.watcher import EventWatcher
    from tunesmith.engine.store.records import Api, EventRow

__all__ = ["stream_events"]

_HEADERS = {"cache-control": "no-cache", "x-accel-buffering": "no"}


def stream_events(
    watcher: EventWatcher, job_id: str, api: Api, render: Callable[[EventRow], dict[str, Any]]
) -> StreamingResponse:
    """Return a response that sends every event of a job, those to come as they happen.

    If the server ends before the job does, the body ends without `[DONE]`: the client
    reads again.
    """
    return StreamingResponse(
        _lines(watcher, job_id, api, render), media_type="text/event-stream", headers=_HEADERS
    )


async def _lines(
    watcher: EventWatcher, job_id: str, api: Api, render: Callable[[EventRow], dict[str, Any]]
) -> AsyncIterator[str]:
    shown = KINDS[api]
    async for batch in watcher.follow(job_id):
        if batch is None:
            yield "data: [DONE]\n\n"
            return
        lines = [
            f"data: {json.dumps(render(event), separators=(',', ':'))}\n\n"
            for event in batch
            if event.kind in shown
        ]
        if lines:
            yield "".join(lines)
        elif not batch:  # a comment shows that the stream lives, and finds clients that have gone
            yield ": \n\n"
