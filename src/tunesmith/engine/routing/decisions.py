"""The log of how requests to names with a route were answered: a thread writes it, in batches.

Answers are read and compared in that thread, too. A request never waits for it: what does not fit
into its queue is counted, and the count is logged.
"""

from __future__ import annotations

import contextlib
import logging
import queue
import threading
import time
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from tunesmith.engine.store import decision_queries
from tunesmith.engine.store.records import RouteDecisionRow, new_token

from .answers import Answer, agreement_of, read_answer

if TYPE_CHECKING:
    from tunesmith.engine.store.database import Database
    from tunesmith.engine.store.records import ModelRouteRow

__all__ = ["Decision", "DecisionLog", "Observation", "decision_row"]

_log = logging.getLogger("tunesmith.engine.routes")

_MOST_WAITING = 20_000
_BATCH = 500
_PAUSE_SECONDS = 0.2
_PRUNE_SECONDS = 600.0
_SECONDS_PER_DAY = 86400
_MOST_CONTENT = 1 << 20


@dataclass(slots=True)
class Observation:
    """What one side did with a request, while it happens.

    Attributes:
        status: HTTP status; 0 without an answer.
        content: The answer as it was sent, as long as it is not too large to compare.
        is_stream: Whether the content is an event stream.
        is_whole: Whether all of it is there.
        error: Why the side failed, in a few words.
    """

    began: float = field(default_factory=time.perf_counter)
    status: int = 0
    first_byte_seconds: float | None = None
    seconds: float | None = None
    content: bytearray = field(default_factory=bytearray)
    is_stream: bool = False
    is_whole: bool = False
    error: str | None = None

    def add(self, piece: bytes) -> None:
        """Note a piece of the answer."""
        if self.first_byte_seconds is None:
            self.first_byte_seconds = time.perf_counter() - self.began
        if len(self.content) <= _MOST_CONTENT:
            self.content += piece

    def end(self, *, is_whole: bool) -> None:
        """Note the end of the answer."""
        self.seconds = time.perf_counter() - self.began
        self.is_whole = is_whole

    def fail(self, reason: str, status: int = 0) -> None:
        """Note that the side has no answer for the caller."""
        self.status, self.error = status, reason
        self.end(is_whole=False)

    @property
    def is_comparable(self) -> bool:
        """Whether the answer can be compared with another one."""
        whole = self.is_whole and len(self.content) <= _MOST_CONTENT
        return whole and self.status == HTTPStatus.OK


@dataclass(slots=True)
class Decision:
    """How a request is answered, while it is.

    Attributes:
        route: The route, as it was when the request came in.
        request: The request's body.
        side: Whose answer the caller gets.
        mirror: See `RouteDecisionRow`.
    """

    route: ModelRouteRow
    endpoint: str
    request_id: str
    stream: bool
    request: bytes
    created_at: float = field(default_factory=time.time)
    side: str = "none"
    fallback: bool = False
    mirror: str | None = None
    upstream: Observation | None = None
    local: Observation | None = None


class DecisionLog:
    """Writes decisions to the database.

    Args:
        database: Where they are kept.
        days: How long.
        most: How many at most.
    """

    def __init__(self, database: Database, *, days: int, most: int) -> None:
        self._database = database
        self._days = days
        self._most = most
        self._waiting: queue.Queue[Decision | None] = queue.Queue(_MOST_WAITING)
        self._lost = 0
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()
        self._pruned_at = float("-inf")

    def add(self, decision: Decision) -> None:
        """Have a decision written. Never waits."""
        if self._thread is None:
            self._start()
        try:
            self._waiting.put_nowait(decision)
        except queue.Full:
            self._lost += 1

    def stop(self) -> None:
        """Write what waits, then end the thread."""
        with self._lock:
            thread, self._thread = self._thread, None
        if thread is not None:
            self._waiting.put(None)
            thread.join()

    def _start(self) -> None:
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._run, name="route decisions", daemon=True
                )
                self._thread.start()

    def _run(self) -> None:
        while True:
            batch, is_last = self._next_batch()
            if batch:
                self._write(batch)
            if is_last:
                return
            time.sleep(_PAUSE_SECONDS)

    def _next_batch(self) -> tuple[list[Decision], bool]:
        first = self._waiting.get()
        batch: list[Decision] = []
        while first is not None:
            batch.append(first)
            if len(batch) == _BATCH:
                return batch, False
            with contextlib.suppress(queue.Empty):
                first = self._waiting.get_nowait()
                continue
            return batch, False
        return batch, True

    def _write(self, batch: list[Decision]) -> None:
        try:
            rows = [decision_row(decision) for decision in batch]
            with self._database.write() as connection:
                decision_queries.insert_decisions(connection, rows)
                if time.monotonic() - self._pruned_at > _PRUNE_SECONDS:
                    self._pruned_at = time.monotonic()
                    before = time.time() - self._days * _SECONDS_PER_DAY
                    decision_queries.remove_old(connection, before=before, most=self._most)
        except Exception as error:  # noqa: BLE001 - the next batch may succeed; requests go on without
            _log.error("%d decisions of routes are lost: %s", len(batch), type(error).__name__)
        if self._lost:
            _log.warning("%d decisions of routes are lost: too many at a time", self._lost)
            self._lost = 0


def decision_row(decision: Decision) -> RouteDecisionRow:
    """Return a decision as it is stored: with what both answers say, and how they agree."""
    route, upstream, local = decision.route, decision.upstream, decision.local
    old, new = _read(upstream), _read(local)
    agreement = None
    if decision.mirror == "compared":
        agreement = agreement_of(old, new)
    data: dict[str, Any] = {
        "request_id": decision.request_id,
        "endpoint": decision.endpoint,
        "stream": decision.stream,
        "upstream": _side_data(route, upstream, old),
        "local": _side_data(route, local, new),
    }
    if route.keep_contents:
        data["request"] = _storable(decision.request)
    return RouteDecisionRow(
        id=f"decision_{new_token()}",
        organization=route.organization,
        created_at=decision.created_at,
        minute=int(decision.created_at // 60),
        name=route.name,
        target=route.target,
        stage=route.stage,
        side=decision.side,
        fallback=decision.fallback,
        mirror=decision.mirror,
        upstream_status=None if upstream is None else upstream.status,
        local_status=None if local is None else local.status,
        upstream_seconds=None if upstream is None else upstream.seconds,
        local_seconds=None if local is None else local.seconds,
        same_text=None if agreement is None else agreement.text,
        same_normalized=None if agreement is None else agreement.normalized,
        same_calls=None if agreement is None else agreement.calls,
        same_class=None if agreement is None else agreement.label,
        data=data,
    )


def _read(observation: Observation | None) -> Answer:
    if observation is None or observation.status != HTTPStatus.OK:
        return Answer()
    return read_answer(bytes(observation.content), is_stream=observation.is_stream)


def _side_data(
    route: ModelRouteRow, observation: Observation | None, answer: Answer
) -> dict[str, Any] | None:
    if observation is None:
        return None
    data: dict[str, Any] = {
        "first_byte_seconds": observation.first_byte_seconds,
        "finish_reasons": answer.finish_reasons or None,
        "usage": answer.usage,
        "error": observation.error,
    }
    if route.keep_contents:
        data["content"] = _storable(bytes(observation.content))
    return data


def _storable(content: bytes) -> str:
    """Return a text that every database takes."""
    return content[:_MOST_CONTENT].decode("utf-8", "replace").replace("\0", "\\0")
