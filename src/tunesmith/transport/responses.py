"""Responses of `with_raw_response` and `with_streaming_response`.

A raw response has been read; it has the parsed value, the status and the header fields.
A streamed one is a context manager: the body is read on demand, and the connection is
freed at the end of the `with` block.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar, overload

from tunesmith.atomic import write_atomically
from tunesmith.core.flow import Send, shorten_traceback
from tunesmith.core.pieces import LineReader, Pieces, TextReader
from tunesmith.errors import APIError

if TYPE_CHECKING:
    import os
    from collections.abc import AsyncIterator, Callable, Generator, Iterator
    from types import TracebackType

    from tunesmith.core.headers import Headers
    from tunesmith.core.response import Response, SentRequest
    from tunesmith.errors import APIResponseValidationError

    from .async_driver import AsyncDriver
    from .sync_driver import SyncDriver

__all__ = ["APIResponse", "AsyncStreamedResponse", "StreamedResponse"]

T_co = TypeVar("T_co", covariant=True)


class _BaseResponse:
    """The part of a response that is known before its body is read."""

    _response: Response | None

    @property
    def http_response(self) -> Response:
        """The response as the transport returned it."""
        if self._response is None:
            raise RuntimeError("The request has not been sent; use this object with `with`.")
        return self._response

    @property
    def headers(self) -> Headers:
        """The header fields."""
        return self.http_response.headers

    @property
    def status_code(self) -> int:
        """The HTTP status."""
        return self.http_response.status

    @property
    def request_id(self) -> str | None:
        """The server's id of the request."""
        return self.http_response.request_id

    @property
    def retries_taken(self) -> int:
        """The number of attempts that failed before this one."""
        return self.http_response.attempts - 1

    @property
    def elapsed(self) -> float:
        """Seconds between sending and the end of the header fields."""
        return self.http_response.elapsed

    @property
    def http_request(self) -> SentRequest:
        """The request: method, URL, header fields with the credential masked, and body."""
        return self.http_response.http_request

    @property
    def is_closed(self) -> bool:
        """Whether the connection is free: the body was read to its end, or given up."""
        return self.http_response.is_closed

    @property
    def url(self) -> str:
        """The URL of the request."""
        return self.http_response.request.url

    @property
    def method(self) -> str:
        """The HTTP method."""
        return self.http_response.request.method

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._response!r}>"


class APIResponse(_BaseResponse, Generic[T_co]):
    """A response and its parsed value."""

    def __init__(
        self, response: Response, value: T_co | None, failure: APIResponseValidationError | None
    ) -> None:
        self._response = response
        self._value = value
        self._failure = failure

    @overload
    def parse(self, *, to: None = None) -> T_co: ...
    @overload
    def parse(self, *, to: Any) -> Any: ...
    def parse(self, *, to: Any = None) -> Any:
        """Return the value, as `to` (a model class, str, bytes, dict, …) if that is given.

        Raises:
            APIResponseValidationError: The body is not of the expected type.
        """
        if to is not None:
            from tunesmith.core.decode import decode_any

            return decode_any(self.http_response, to)
        if self._failure is not None:
            raise self._failure
        return self._value

    def wrap(self, make: Callable[[Any], Any]) -> None:
        """Replace the value with the result of `make`."""
        if self._failure is None:
            self._value = make(self._value)

    @property
    def content(self) -> bytes:
        """The body."""
        return self.http_response.body or b""

    @property
    def text(self) -> str:
        """The body as UTF-8 text."""
        return self.http_response.text

    def json(self) -> Any:
        """Return the body parsed as JSON."""
        return json.loads(self.content)

    def close(self) -> None:
        """Free the connection if the value is a stream that has not been read, on a `Client`."""
        self.http_response.close()

    async def aclose(self) -> None:
        """Free the connection if the value is a stream that has not been read, when async."""
        await self.http_response.aclose()


def _leave_unread(effect: Any) -> Any:
    """Return the effect; if it sends a request, the response's body is left unread."""
    if isinstance(effect, Send):
        effect.request.stream = True
    return effect


class StreamedResponse(_BaseResponse, Generic[T_co]):
    """A response whose body is read on demand. Use it in a `with` statement."""

    def __init__(self, driver: SyncDriver, flow: Generator[Any, Any, T_co]) -> None:
        self._driver = driver
        self._flow = flow
        self._response: Response | None = None
        self._body: bytes | None = None

    def __enter__(self) -> Self:
        driver, flow = self._driver, self._flow
        try:
            effect = next(flow)
            while True:
                try:
                    outcome = driver.perform(_leave_unread(effect))
                except BaseException as error:  # noqa: BLE001 - the flow decides, and sees all
                    effect = flow.throw(error)
                    continue
                if isinstance(effect, Send) and outcome.is_success:
                    outcome.sent = effect.request
                    self._response = outcome
                    return self
                effect = flow.send(outcome)
        except APIError as error:
            failure = error
        raise shorten_traceback(failure)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Free the connection."""
        self._flow.close()
        if self._response is not None and self._response.stream is not None:
            self._response.stream.close()

    def iter_bytes(self, chunk_size: int | None = None) -> Iterator[bytes]:
        """Yield the body as it arrives, or in chunks of `chunk_size` bytes."""
        pieces: Pieces[bytes] = Pieces(chunk_size)
        stream = self.http_response.stream
        while chunk := stream.read():
            yield from pieces.feed(chunk)
        yield from pieces.finish()

    def iter_text(self, chunk_size: int | None = None) -> Iterator[str]:
        """Yield the body as UTF-8 text, as it arrives or in chunks of `chunk_size` characters."""
        pieces: Pieces[str] = Pieces(chunk_size)
        reader = TextReader()
        for chunk in self.iter_bytes():
            yield from pieces.feed(reader.feed(chunk))
        yield from [*pieces.feed(reader.finish()), *pieces.finish()]

    def iter_lines(self) -> Iterator[str]:
        r"""Yield the lines of the body without their ends: "\n", "\r\n" or "\r"."""
        reader = LineReader()
        for chunk in self.iter_bytes():
            yield from reader.feed(chunk)
        yield from reader.finish()

    def read(self) -> bytes:
        """Return the whole body."""
        if self._body is None:
            self._body = b"".join(self.iter_bytes())
        return self._body

    def text(self) -> str:
        """Return the whole body as UTF-8 text."""
        return self.read().decode("utf-8", "replace")

    def json(self) -> Any:
        """Return the whole body parsed as JSON."""
        return json.loads(self.read())

    def stream_to_file(
        self, file: str | os.PathLike[str], *, chunk_size: int | None = None
    ) -> None:
        """Write the body to `file` as it arrives; the file appears when it is complete."""
        with write_atomically(file) as output:
            for chunk in self.iter_bytes(chunk_size):
                output.write(chunk)

    def parse(self) -> T_co:
        """Read the body and return the parsed value.

        Raises:
            APIResponseValidationError: The body is not of the expected type.
        """
        response = self.http_response
        if response.body is None:
            response.body = self.read()
        return self._driver.run(self._flow, response)


class AsyncStreamedResponse(_BaseResponse, Generic[T_co]):
    """The async form of `StreamedResponse`. Use it in an `async with` statement."""

    def __init__(self, driver: AsyncDriver, flow: Generator[Any, Any, T_co]) -> None:
        self._driver = driver
        self._flow = flow
        self._response: Response | None = None
        self._body: bytes | None = None

    async def __aenter__(self) -> Self:
        driver, flow = self._driver, self._flow
        try:
            effect = next(flow)
            while True:
                try:
                    outcome = await driver.perform(_leave_unread(effect))
                except BaseException as error:  # noqa: BLE001 - the flow decides, and sees all
                    effect = flow.throw(error)
                    continue
                if isinstance(effect, Send) and outcome.is_success:
                    outcome.sent = effect.request
                    self._response = outcome
                    return self
                effect = flow.send(outcome)
        except APIError as error:
            failure = error
        raise shorten_traceback(failure)

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Free the connection."""
        self._flow.close()
        if self._response is not None and self._response.stream is not None:
            await self._response.stream.aclose()

    async def aclose(self) -> None:
        """Free the connection; the same as `close`."""
        await self.close()

    async def iter_bytes(self, chunk_size: int | None = None) -> AsyncIterator[bytes]:
        """Yield the body as it arrives, or in chunks of `chunk_size` bytes."""
        pieces: Pieces[bytes] = Pieces(chunk_size)
        stream = self.http_response.stream
        while chunk := await stream.read():
            for piece in pieces.feed(chunk):
                yield piece
        for piece in pieces.finish():
            yield piece

    async def iter_text(self, chunk_size: int | None = None) -> AsyncIterator[str]:
        """Yield the body as UTF-8 text, as it arrives or in chunks of `chunk_size` characters."""
        pieces: Pieces[str] = Pieces(chunk_size)
        reader = TextReader()
        async for chunk in self.iter_bytes():
            for piece in pieces.feed(reader.feed(chunk)):
                yield piece
        for piece in [*pieces.feed(reader.finish()), *pieces.finish()]:
            yield piece

    async def iter_lines(self) -> AsyncIterator[str]:
        r"""Yield the lines of the body without their ends: "\n", "\r\n" or "\r"."""
        reader = LineReader()
        async for chunk in self.iter_bytes():
            for line in reader.feed(chunk):
                yield line
        for line in reader.finish():
            yield line

    async def read(self) -> bytes:
        """Return the whole body."""
        if self._body is None:
            self._body = b"".join([chunk async for chunk in self.iter_bytes()])
        return self._body

    async def text(self) -> str:
        """Return the whole body as UTF-8 text."""
        return (await self.read()).decode("utf-8", "replace")

    async def json(self) -> Any:
        """Return the whole body parsed as JSON."""
        return json.loads(await self.read())

    async def stream_to_file(
        self, file: str | os.PathLike[str], *, chunk_size: int | None = None
    ) -> None:
        """Write the body to `file` as it arrives; the file appears when it is complete."""
        with write_atomically(file) as output:
            async for chunk in self.iter_bytes(chunk_size):
                output.write(chunk)

    async def parse(self) -> T_co:
        """Read the body and return the parsed value.

        Raises:
            APIResponseValidationError: The body is not of the expected type.
        """
        response = self.http_response
        if response.body is None:
            response.body = await self.read()
        return await self._driver.run(self._flow, response)
