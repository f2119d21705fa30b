"""Reading a service exactly: objects as they were sent, lists to their true end, large contents.

Requests are paced by what the service says of its limits, and tried again where that may help.
Knows no archive: it hands on what it reads. All functions are flows, for both clients.
"""

from __future__ import annotations

import json
import re
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from tunesmith.core.exchange import exchange
from tunesmith.core.flow import Close, Flow, Read, Sleep
from tunesmith.core.options import RequestOptions, Timeout
from tunesmith.core.request import RequestSpec
from tunesmith.core.retry import RetryPolicy, may_pass, server_delay
from tunesmith.errors import (
    APIConnectionError,
    APIError,
    APIResponseValidationError,
    APIStatusError,
    BadRequestError,
    NotFoundError,
    RateLimitError,
)

if TYPE_CHECKING:
    from tunesmith.core.response import Response
    from tunesmith.core.settings import Settings

    from .archive import Status

__all__ = ["Listing", "Remote", "Throttle", "reason_of", "status_of"]

_NEVER = RetryPolicy(max_retries=0)
# Tries of one request: after a failure of the server or the network, and after "too many requests".
_TRIES, _LIMITED_TRIES = 6, 100
_LONGEST_WAIT = 600.0
_EMPTY_TRIES = 5
# A content of which nothing has come for so long is asked for again.
_SILENCE_SECONDS = 60.0
# Dead cursors in a row after which a list is read again from its start.
_DEAD_CURSORS = 4


class Throttle:
    """Keeps requests within the limits that a service announces; shared by all of a key.

    A service that says how many requests are left, and when there will be more, is believed: the
    last ones are spread over that time. After "too many requests" nobody asks before the time that
    the service named.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open_at = 0.0

    def wait(self) -> Flow[None]:
        """Wait until a request may be sent."""
        while True:
            with self._lock:
                left = self._open_at - time.monotonic()
            if left <= 0:
                return
            yield Sleep(min(left, _LONGEST_WAIT))

    def saw(self, headers: Mapping[str, str], workers: int) -> None:
        """Take note of what a response says of the limits."""
        remaining = _number(headers.get("x-ratelimit-remaining-requests"))
        reset = _duration(headers.get("x-ratelimit-reset-requests"))
        if remaining is None or reset is None or remaining > workers:
            return
        self.hold(min(reset / max(1.0, remaining), _LONGEST_WAIT))

    def hold(self, seconds: float) -> None:
        """Let nobody ask for so many seconds."""
        with self._lock:
            self._open_at = max(self._open_at, time.monotonic() + seconds)


def _number(text: str | None) -> float | None:
    try:
        return None if text is None else float(text)
    except ValueError:
        return None


def _duration(text: str | None) -> float | None:
    """Return seconds of a duration as services write it: "120ms", "6m0s", "1.5s", "2"."""
    if not text:
        return None
    if (plain := _number(text)) is not None:
        return plain
    units = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
    parts = re.findall(r"([\d.]+)(ms|[smhd])", text)
    return sum(float(number) * units[unit] for number, unit in parts) if parts else None


@dataclass(frozen=True, slots=True)
class Listing:
    """How the reading of a list ended.

    Attributes:
        count: Number of different objects.
        problem: Why the list may lack objects; None if it was read to its end.
    """

    count: int
    problem: str | None = None


class Remote:
    """A project at a service, read with one key.

    Args:
        settings: Those of the client with the project's key.
        throttle: Shared by all that use the key.
        workers: How many requests are sent at a time.
        headers: Further header fields of each request.
    """

    def __init__(
        self,
        settings: Settings,
        throttle: Throttle,
        workers: int,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self._retry = settings.retry
        fields = {**settings.headers, **(headers or {})}
        self.settings: Settings = replace(settings, retry=_NEVER, headers=fields)
        self._throttle = throttle
        self._workers = workers

    def request(self, spec: RequestSpec) -> Flow[Response]:
        """Send a request as often as it takes.

        Raises:
            APIError: It failed for good.
        """
        failures = limited = 0
        while True:
            yield from self._throttle.wait()
            try:
                response = yield from exchange(self.settings, replace(spec))
            except RateLimitError as error:
                limited += 1
                headers = error.response.headers if error.response else {}
                if limited > _LIMITED_TRIES or "insufficient_quota" in str(error.code):
                    raise
                delay = server_delay(headers)
                delay = self._retry.delay(limited, None) if delay is None else delay
                self._throttle.hold(min(delay, _LONGEST_WAIT))
            except APIError as error:
                failures += 1
                if failures >= _TRIES or not may_pass(error):
                    raise
                yield Sleep(self._retry.delay(failures, None))
            else:
                self._throttle.saw(response.headers, self._workers)
                return response

    def get(self, path: str, query: Mapping[str, object] | None = None) -> Flow[Any]:
        """Return the JSON of an address, untouched.

        Raises:
            APIError: The request failed for good, or the answer is no JSON.
        """
        response = yield from self.request(RequestSpec("GET", path, query=query))
        try:
            return json.loads(response.body or b"")
        except ValueError:
            raise APIResponseValidationError(
                f"GET {path} answered what is no JSON: {response.text[:80]!r}.",
                response=response.info(),
            ) from None

    def pages(
        self,
        path: str,
        take: Callable[[list[dict[str, Any]]], Flow[None]],
        query: Mapping[str, object] | None = None,
        *,
        limit: int = 100,
        known: list[str] | None = None,
    ) -> Flow[Listing]:
        """Read a list to its end, and hand on each object once.

        Lists of services have traps: an empty page although more follows, an object on two pages
        when the list has changed in between, a cursor whose object has been deleted since. None
        of them ends the list early or repeats an object; where the end cannot be reached, the
        result says so.

        Args:
            path: The list's address.
            take: A flow that is run with the new objects of each page, as they were sent.
            query: Parameters of each request.
            limit: Objects per page.
            known: Ids that were read before, in order: the list goes on after the last of them.

        Raises:
            APIError: The first page cannot be read.
        """
        seen = set(known or [])
        trail = deque(known or [], maxlen=_DEAD_CURSORS)
        after = trail[-1] if trail else None
        empty = dead = count = 0
        while True:
            position = {} if after is None else {"after": after}
            try:
                page = yield from self.get(path, {**(query or {}), "limit": limit, **position})
            except (NotFoundError, BadRequestError):
                if after is None:
                    raise
                dead += 1
                trail.pop()
                after = trail[-1] if trail and dead < _DEAD_CURSORS else None
                if dead > 2 * _DEAD_CURSORS:
                    return Listing(count, f"The service lost its place after {count:,} objects.")
                continue
            data, has_more, last = _page_parts(page)
            fresh: list[dict[str, Any]] = []
            for item in data:
                identity = str(item.get("id"))
                if identity not in seen:
                    seen.add(identity)
                    fresh.append(item)
                    trail.append(identity)
            count += len(fresh)
            yield from take(fresh)
            # A service that does not say whether more follows is asked until nothing new comes.
            if not (bool(fresh) if has_more is None else has_more):
                return Listing(count)
            if data and last != after:
                empty, after = 0, last
                dead = dead if not fresh else 0
                continue
            empty += 1
            if empty >= _EMPTY_TRIES:
                return Listing(count, "The service says that more follows, but sends none of it.")
            yield Sleep(self._retry.delay(empty, None))

    def download(
        self, path: str, write: Callable[[bytes], None], restart: Callable[[], None]
    ) -> Flow[None]:
        """Read a content of any size piece by piece.

        Args:
            path: Its address.
            write: Called with each piece.
            restart: Called before each try: what was written so far is void.

        Raises:
            APIError: It could not be read to its end.
        """
        failures = 0
        while True:
            restart()
            limits = self.settings.timeout.clipped(_SILENCE_SECONDS).phases()
            options = RequestOptions(timeout=Timeout(**limits))
            spec = RequestSpec("GET", path, options=options, stream=True)
            spec.headers = {"accept": "application/octet-stream, */*"}
            response = yield from self.request(spec)
            try:
                yield from _read_all(response, write)
            except APIConnectionError:
                failures += 1
                if failures >= _TRIES:
                    raise
                yield Sleep(self._retry.delay(failures, None))
            else:
                return

    def can_read(self, path: str) -> Flow[None]:
        """Ask for a content without reading it.

        Raises:
            APIError: It cannot be read.
        """
        spec = RequestSpec("GET", path, stream=True)
        # A service that knows ranges sends one byte; of another the answer is not read.
        spec.headers = {"range": "bytes=0-0"}
        response = yield from self.request(spec)
        if response.stream is not None:
            yield Close(response)


def _read_all(response: Response, write: Callable[[bytes], None]) -> Flow[None]:
    try:
        while piece := (yield Read(response)):
            write(piece)
    except GeneratorExit:
        raise
    except BaseException:
        yield Close(response)
        raise
    yield Close(response)


def _page_parts(page: Any) -> tuple[list[dict[str, Any]], bool | None, str | None]:
    """Return a page's objects, whether more follows if it says so, and the next page's cursor."""
    content: Any = {"data": page, "has_more": False} if isinstance(page, list) else page
    data = [one for one in content.get("data") or [] if isinstance(one, dict)]
    last = data[-1].get("id") if data else content.get("last_id")
    return data, content.get("has_more"), None if last is None else str(last)


def status_of(error: APIError, expires_at: object = None) -> Status:
    """Return what an error says of a thing: gone, forbidden, expired, or not read ("partial").

    Args:
        error: What the service answered.
        expires_at: The `expires_at` of the thing, if it has one.
    """
    if not isinstance(error, APIStatusError):
        return "partial"
    code = error.status_code
    if code in {404, 410}:
        past = isinstance(expires_at, int | float) and 0 < expires_at < time.time()
        return "expired" if expires_at and (code == 410 or past) else "gone"  # noqa: PLR2004
    # Free accounts may not download training files: a request that is called invalid.
    return "forbidden" if code in {400, 401, 403} else "partial"


def reason_of(error: APIError) -> tuple[int | None, str]:
    """Return the status and the message of an error, for a gap."""
    code = error.status_code if isinstance(error, APIStatusError) else None
    # The service's own words; the whole text of the error names the request, each time another.
    said = error.body.get("message") if isinstance(error.body, Mapping) else None
    return code, " ".join(str(said or error).split())[:300]
