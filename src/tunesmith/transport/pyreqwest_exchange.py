"""One request and its response on pyreqwest, in steps that both kinds of transport perform.

Failures of pyreqwest become this package's errors here. It knows no pool and no retries.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Generator, Iterator
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from pyreqwest.exceptions import (
    ConnectError,
    ConnectTimeoutError,
    RequestTimeoutError,
    WriteTimeoutError,
)

from tunesmith.core.headers import Headers
from tunesmith.core.request import deadline_exceeded
from tunesmith.core.response import Response

from .connection_errors import (
    broken,
    connect_error,
    connect_timeout,
    read_timeout,
    shown_reason,
    write_timeout,
)
from .failure_table import is_library_failure, passes

if TYPE_CHECKING:
    from collections.abc import Callable

    from tunesmith import errors
    from tunesmith.core.request import Request

    from .pyreqwest_clients import Clients

__all__ = ["Exchange", "Steps"]

T = TypeVar("T")

Steps = Generator[Any, Any, T]
"""Calls of pyreqwest, yielded and sent their outcomes: values, or awaitables awaited first."""


class Exchange:
    """One request and its response, in steps that both transports perform.

    Args:
        request: The request.
        enter: The method that opens a streamed response: `__enter__` or `__aenter__`.
        leave: The method that closes it.
        release: Called once at the end, to free the request's permit.
    """

    def __init__(
        self, request: Request, enter: str, leave: str, release: Callable[[], None]
    ) -> None:
        self._request = request
        self._enter = enter
        self._leave = leave
        self._release = [release]
        self._opened: Any = None
        self._reader: Any = None
        self.finished: bool = False

    def send(self, clients: Clients, chunks: Any, body_stream: Any) -> Steps[Response]:
        """Send the request and return its response; a streamed body is a `body_stream`."""
        request, started = self._request, time.perf_counter()
        try:
            builder = _request_builder(clients.of(request), request, chunks)
            if not request.stream:
                received = yield builder.build().send()
                response = _response(received, request, started)
                response.body = (yield received.bytes()).to_bytes()
                return response
            # Without the limit nothing is returned before 64 KiB or the whole body have arrived.
            opened = builder.streamed_read_buffer_limit(0).build_streamed()
            received = yield getattr(opened, self._enter)()
            self._opened = opened
            response = _response(received, request, started)
            if response.is_success:
                self._reader = received.body_reader
                response.stream = body_stream(self)
            else:
                response.body = (yield received.bytes()).to_bytes()
        except Exception as error:
            if not is_library_failure(error):
                raise
            failure = _connection_error(error, request)
        else:
            return response
        finally:
            if self._opened is None:
                self.release()
            elif self._reader is None:
                yield from self.finish()
        raise failure

    def read(self) -> Steps[bytes]:
        """Read the next chunk of the body, `b""` at its end."""
        if self.finished:
            return b""
        try:
            chunk = yield self._reader.read_chunk()
        except (Exception, KeyboardInterrupt, asyncio.CancelledError) as error:
            yield from self.finish()
            if not is_library_failure(error):
                raise
            failure = _connection_error(error, self._request)
        else:
            if chunk is None:
                yield from self.finish()
                return b""
            return bytes(chunk)
        raise failure

    def finish(self) -> Steps[None]:
        """Release the permit and the connection, which is closed unless its body was read."""
        if self.finished:
            return
        self.finished = True
        try:
            if self._opened is not None:
                yield getattr(self._opened, self._leave)(None, None, None)
        finally:
            self.release()

    def release(self) -> None:
        """Release the permit, once."""
        while self._release:
            self._release.pop()()


def _response(received: Any, request: Request, started: float) -> Response:
    """Return the response without its body."""
    elapsed = time.perf_counter() - started
    return Response(received.status, _Fields(received.headers), None, request.info, elapsed=elapsed)


class _Fields:
    """The header fields of a response, read when they are first needed."""

    __slots__ = ("_raw",)

    def __init__(self, raw: Any) -> None:
        self._raw = raw

    def decoded(self) -> Headers:
        """Return all fields."""
        try:
            return Headers(self._raw.items())
        except ValueError:
            return Headers(self._readable())

    def get(self, name: str) -> str | None:
        """Return one field."""
        try:
            values = self._raw.getall(name)
        except ValueError:
            return self.decoded().get(name)
        return ", ".join(values) if values else None

    def _readable(self) -> Iterator[tuple[str, str]]:
        """Yield fields; pyreqwest reads ASCII alone, so another value is a replacement sign."""
        for name in self._raw.keys():  # noqa: SIM118 - no mapping
            try:
                yield name, ", ".join(self._raw.getall(name))
            except ValueError:
                yield name, "\N{REPLACEMENT CHARACTER}"


def _request_builder(client: Any, request: Request, chunks: Any) -> Any:
    """Return pyreqwest's builder for a request; `chunks` iterates a body that is not bytes."""
    builder = client.request(request.method, request.url)
    headers: dict[str, str] = request.headers
    if isinstance(request.body, bytes):
        builder = builder.body_bytes(request.body)
    elif request.body is not None:
        if request.body.length is not None:
            headers = {**headers, "content-length": str(request.body.length)}
        builder = builder.body_stream(chunks)
    elif request.method == "POST":
        headers = {**headers, "content-length": "0"}
    if request.deadline is not None:
        remaining = max(0.001, request.deadline - time.monotonic())
        builder = builder.timeout(timedelta(seconds=remaining))
    return builder.headers(headers)


def _connection_error(error: BaseException, request: Request) -> errors.APIConnectionError:
    """Return this package's error for one of pyreqwest's, to be raised outside the handler."""
    if request.deadline is not None and time.monotonic() >= request.deadline - 0.005:
        return deadline_exceeded(request)
    if isinstance(error, RequestTimeoutError):
        return _timeout_error(error, request)
    causes = _causes(error)
    reason = shown_reason(error, request, causes)
    # pyreqwest calls every failure of a connection a connect error; its causes differ.
    if "proxy authorization required" in causes:
        return broken(reason, request, retryable=False, what="The proxy refused")
    if isinstance(error, ConnectError) and "(Connect)" in causes:
        return connect_error(reason, request)
    # What arrived incomplete or garbled is a decoding error there, too.
    lost = any(mark in causes for mark in ("(SendRequest)", "reading a body from connection"))
    if lost or passes(error):
        return broken(reason, request, retryable=True)
    return broken(reason, request, retryable=False, what="The request failed")


def _timeout_error(error: RequestTimeoutError, request: Request) -> errors.APITimeoutError:
    if isinstance(error, ConnectTimeoutError) and "(Connect)" in _causes(error):
        return connect_timeout(request)
    if isinstance(error, WriteTimeoutError):
        return write_timeout(request)
    return read_timeout(request)


def _causes(error: BaseException) -> str:
    """Return pyreqwest's message, causes included."""
    details: Any = error.args[1] if len(error.args) > 1 else {}
    listed = details.get("causes") if isinstance(details, dict) else None
    causes = [str(cause.get("message")) for cause in listed or ()]
    return ": ".join([str(error.args[0]) if error.args else "", *causes])
