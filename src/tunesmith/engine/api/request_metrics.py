"""Metrics of the server, in the text format that Prometheus reads."""

from __future__ import annotations

import threading
from collections import Counter
from typing import TYPE_CHECKING

from sqlalchemy import func, select

from tunesmith.engine.domain.job import STATUSES
from tunesmith.engine.store.schema import jobs

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tunesmith.engine.store.database import Database

__all__ = ["CONTENT_TYPE", "RequestMetrics", "exposition"]

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_BOUNDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class RequestMetrics:
    """Counts requests and the time until their first byte, by route."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._requests: Counter[tuple[str, str, int]] = Counter()
        self._buckets: Counter[tuple[str, float]] = Counter()
        self._seconds: Counter[str] = Counter()
        self._count: Counter[str] = Counter()

    def add(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count one request.

        Args:
            method: Its method.
            route: The pattern of its path, never the path itself.
            status: Of the answer.
            seconds: Until the answer began.
        """
        with self._lock:
            self._requests[method, route, status] += 1
            self._count[route] += 1
            self._seconds[route] += seconds  # type: ignore[assignment] # Counter of floats
            for bound in _BOUNDS:
                if seconds <= bound:
                    self._buckets[route, bound] += 1

    def lines(self) -> Iterator[str]:
        """Yield the lines that Prometheus reads."""
        with self._lock:
            requests, buckets = dict(self._requests), dict(self._buckets)
            seconds, count = dict(self._seconds), dict(self._count)
        yield "# TYPE tunesmith_http_requests_total counter"
        for (method, route, status), number in sorted(requests.items()):
            labels = f'method="{method}",route="{route}",status="{status}"'
            yield f"tunesmith_http_requests_total{{{labels}}} {number}"
        yield "# HELP tunesmith_http_response_seconds Time until the answer began."
        yield "# TYPE tunesmith_http_response_seconds histogram"
        for route in sorted(count):
            name = "tunesmith_http_response_seconds"
            for bound in _BOUNDS:
                number = buckets.get((route, bound), 0)
                yield f'{name}_bucket{{route="{route}",le="{bound}"}} {number}'
            yield f'{name}_bucket{{route="{route}",le="+Inf"}} {count[route]}'
            yield f'{name}_sum{{route="{route}"}} {seconds[route]:.6f}'
            yield f'{name}_count{{route="{route}"}} {count[route]}'


def exposition(metrics: RequestMetrics, database: Database, open_streams: int) -> str:
    """Return all metrics as text."""
    query = select(jobs.c.status, func.count()).group_by(jobs.c.status)
    leased = select(func.count()).select_from(jobs).where(jobs.c.worker_id.is_not(None))
    with database.read() as connection:
        rows = connection.execute(query).all()
        workers = connection.execute(leased).scalar_one()
    by_status: dict[str, int] = {row[0]: row[1] for row in rows}
    lines = [*metrics.lines(), "# TYPE tunesmith_jobs gauge"]
    lines += [
        f'tunesmith_jobs{{status="{status}"}} {by_status.get(status, 0)}' for status in STATUSES
    ]
    lines += ["# TYPE tunesmith_workers gauge", f"tunesmith_workers {workers}"]
    lines += ["# TYPE tunesmith_event_streams gauge", f"tunesmith_event_streams {open_streams}"]
    return "\n".join(lines) + "\n"
