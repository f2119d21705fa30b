"""The routes of a running server in memory, so that a request costs no query to find its own.

They are read again at most once a second, and at once after a change in this process.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from tunesmith.engine.store import route_queries

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tunesmith.engine.store.database import Database
    from tunesmith.engine.store.records import ModelRouteRow

__all__ = ["RouteTable"]

_REFRESH_SECONDS = 1.0
_NONE: Mapping[str, ModelRouteRow] = {}


class RouteTable:
    """Every organisation's routes by name. Safe to use from several threads.

    Args:
        database: Where the routes are.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._routes: dict[str, dict[str, ModelRouteRow]] = {}
        self._read_at = float("-inf")
        self._changes = 0
        self._lock = threading.Lock()

    def get(self, organization: str, name: str) -> ModelRouteRow | None:
        """Return the organisation's route of exactly this name."""
        return self.of(organization).get(name)

    def of(self, organization: str) -> Mapping[str, ModelRouteRow]:
        """Return the organisation's routes by name."""
        if time.monotonic() - self._read_at >= _REFRESH_SECONDS:
            self._refresh()
        return self._routes.get(organization, _NONE)

    @property
    def is_fresh(self) -> bool:
        """Whether `get` and `of` answer from memory."""
        return time.monotonic() - self._read_at < _REFRESH_SECONDS

    def changed(self) -> None:
        """Have the routes read again before they are next used."""
        self._changes += 1
        self._read_at = float("-inf")

    def _refresh(self) -> None:
        with self._lock:
            if self.is_fresh:
                return
            read_at, changes = time.monotonic(), self._changes
            with self._database.read() as connection:
                rows = route_queries.all_routes(connection)
            routes: dict[str, dict[str, ModelRouteRow]] = {}
            for row in rows:
                routes.setdefault(row.organization, {})[row.name] = row
            self._routes = routes
            if changes == self._changes:  # otherwise what was read is out of date already
                self._read_at = read_at
