"""Metrics of requests and jobs, by organisation, in the text format that Prometheus reads."""

from __future__ import annotations

import threading
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sqlalchemy import func, select, true

from tunesmith.engine.domain.job import STATUSES
from tunesmith.engine.store.schema import jobs

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tunesmith.engine.store.database import Database

__all__ = ["CONTENT_TYPE", "RequestMetrics", "RouteMetrics", "exposition"]

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_METHODS = frozenset({"DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT"})
_BOUNDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


@dataclass(slots=True)
class RouteMetrics:
    """Numbers of requests and the time until their first byte, by route."""

    requests: Counter[tuple[str, str, int]] = field(default_factory=Counter[tuple[str, str, int]])
    buckets: Counter[tuple[str, float]] = field(default_factory=Counter[tuple[str, float]])
    seconds: dict[str, float] = field(default_factory=lambda: defaultdict[str, float](float))
    count: Counter[str] = field(default_factory=Counter[str])

    def add(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count one request; the parameters are those of `RequestMetrics.add`."""
        self.requests[method if method in _METHODS else "other", route, status] += 1
        self.count[route] += 1
        self.seconds[route] += seconds
        for bound in _BOUNDS:
            if seconds <= bound:
                self.buckets[route, bound] += 1

    def merge(self, other: RouteMetrics) -> None:
        """Add the numbers of another record."""
        self.requests.update(other.requests)
        self.buckets.update(other.buckets)
        self.count.update(other.count)
        for route, seconds in other.seconds.items():
            self.seconds[route] += seconds

    def lines(self) -> Iterator[str]:
        """Yield the lines that Prometheus reads."""
        requests, buckets, count, seconds = self.requests, self.buckets, self.count, self.seconds
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


class RequestMetrics:
    """The metrics of all requests, by the organisation of their key. For several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._by_organization: dict[str | None, RouteMetrics] = {}

    def add(
        self, organization: str | None, method: str, route: str, status: int, seconds: float
    ) -> None:
        """Count one request.

        Args:
            organization: Whose key was sent; None if the request had no valid key.
            method: Its method.
            route: The pattern of its path, never the path itself.
            status: Of the answer.
            seconds: Until the answer began.
        """
        with self._lock:
            metrics = self._by_organization.setdefault(organization, RouteMetrics())
            metrics.add(method, route, status, seconds)

    def total(self, organization: str | None = None) -> RouteMetrics:
        """Return the metrics of one organisation, or of all and of requests without a key."""
        total = RouteMetrics()
        with self._lock:
            for name, metrics in self._by_organization.items():
                if organization in {name, None}:
                    total.merge(metrics)
        return total


def exposition(
    metrics: RequestMetrics, database: Database, organization: str | None, open_streams: int
) -> str:
    """Return metrics as text.

    Args:
        metrics: Of the requests.
        database: Has the jobs.
        organization: Whose requests and jobs are counted; None for all.
        open_streams: Number of event streams that are open; left out for one organisation.
    """
    of = true() if organization is None else jobs.c.organization == organization
    query = select(jobs.c.status, func.count()).where(of).group_by(jobs.c.status)
    leased = select(func.count()).select_from(jobs).where(of, jobs.c.worker_id.is_not(None))
    with database.read() as connection:
        rows = connection.execute(query).all()
        workers = connection.execute(leased).scalar_one()
    by_status: dict[str, int] = {row[0]: row[1] for row in rows}
    lines = [*metrics.total(organization).lines(), "# TYPE tunesmith_jobs gauge"]
    lines += [
        f'tunesmith_jobs{{status="{status}"}} {by_status.get(status, 0)}' for status in STATUSES
    ]
    lines += ["# TYPE tunesmith_workers gauge", f"tunesmith_workers {workers}"]
    if organization is None:
        lines += ["# TYPE tunesmith_event_streams gauge", f"tunesmith_event_streams {open_streams}"]
    return "\n".join(lines) + "\n"
