"""Hooks: plain functions called with requests, responses and retries as they happen.

Tracing and structured logging attach here. A hook receives frozen records without
credentials; its return value is ignored, and what it raises ends the call.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tunesmith._lazy import set_public_module

from .flow import Call, Flow
from .redact import redacted_headers
from .response import Response

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from tunesmith.errors import APIError, RequestInfo

    from .request import Request

__all__ = ["Hooks", "RequestRecord", "ResponseRecord", "RetryRecord"]


@dataclass(frozen=True, slots=True)
class RequestRecord:
    """A request that is about to be sent.

    Attributes:
        headers: Header fields, secrets masked.
        attempt: 1 for the first attempt.
    """

    request: RequestInfo
    headers: Mapping[str, str]
    attempt: int


@dataclass(frozen=True, slots=True)
class ResponseRecord:
    """An exchange that has ended.

    Attributes:
        status: The HTTP status, None if no response arrived.
        elapsed: Seconds from sending to the end of the header fields.
        error: Why no response arrived, or None.
    """

    request: RequestInfo
    status: int | None
    request_id: str | None
    elapsed: float
    attempt: int
    error: APIError | None = None


@dataclass(frozen=True, slots=True)
class RetryRecord:
    """A request that will be sent again.

    Attributes:
        attempt: The attempt that failed, counted from 1.
        delay: Seconds until the next one.
        status: The status that it failed with, None if no response arrived.
        error: Why no response arrived, or None.
    """

    request: RequestInfo
    attempt: int
    delay: float
    status: int | None
    error: APIError | None


@dataclass(frozen=True, slots=True)
class Hooks:
    """Functions to call around each exchange; on an AsyncClient they may be coroutine functions.

    Attributes:
        before: Called with a RequestRecord before each attempt.
        after: Called with a ResponseRecord after each exchange.
        retry: Called with a RetryRecord before each pause.
    """

    before: Callable[[RequestRecord], object] | None = None
    after: Callable[[ResponseRecord], object] | None = None
    retry: Callable[[RetryRecord], object] | None = None

    def call_before(self, request: Request, attempt: int) -> Flow[None]:
        """Call the hook that runs before an attempt."""
        if self.before is None:
            return
        headers = redacted_headers(request.headers.items())
        yield Call(self.before, (RequestRecord(request.info, headers, attempt),))

    def call_after(
        self, request: Request, outcome: Response | APIError, attempt: int
    ) -> Flow[None]:
        """Call the hook that runs after an exchange."""
        if self.after is None:
            return
        if isinstance(outcome, Response):
            record = ResponseRecord(
                request.info, outcome.status, outcome.request_id, outcome.elapsed, attempt
            )
        else:
            record = ResponseRecord(request.info, None, None, 0.0, attempt, outcome)
        yield Call(self.after, (record,))

    def call_retry(
        self, request: Request, outcome: Response | APIError, attempt: int, delay: float
    ) -> Flow[None]:
        """Call the hook that runs before the pause of a retry."""
        if self.retry is None:
            return
        status, error = (outcome.status, None) if isinstance(outcome, Response) else (None, outcome)
        yield Call(self.retry, (RetryRecord(request.info, attempt, delay, status, error),))


set_public_module(globals())
