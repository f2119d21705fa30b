"""One HTTP/1.1 connection each, of httpcore: the layer beneath httpx, called directly.

httpx's pool and its request and response objects are two thirds of a small request's cost, and
on asyncio the pool looks for the module sniffio a dozen times per request, which costs more than
all else where that is not installed. These classes take the place of an httpx transport that is
limited to one connection. Proxies and HTTP/2 stay with httpx.
"""

from __future__ import annotations

import contextlib
import functools
import ssl
import zlib
from typing import TYPE_CHECKING, Any, NamedTuple

import httpcore
import httpx

from tunesmith.core.inflate import CutOffError, Inflater

from .httpx_adapter import parsed_url, wire_headers

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, MutableMapping

    from tunesmith.core.request import Request

__all__ = ["AsyncDirectConnection", "DirectConnection"]

# What is left of a body must be larger than this to be read past the parser.
_LARGE = 1 << 20
_DEFLATED = (b"gzip", b"x-gzip", b"deflate")
_READ_SIZE = 1 << 19


class _Target(NamedTuple):
    """What a URL means for a request: httpcore's form of it, and the host field."""

    url: httpcore.URL
    host: bytes


@functools.lru_cache(maxsize=512)
def _target(url: str) -> _Target:
    parsed = parsed_url(url)
    whole = httpcore.URL(
        scheme=parsed.raw_scheme, host=parsed.raw_host, port=parsed.port, target=parsed.raw_path
    )
    return _Target(whole, parsed.netloc)


class _Fields:
    """The header fields of a response, as httpcore gives them."""

    __slots__ = ("raw",)

    def __init__(self, raw: list[tuple[bytes, bytes]]) -> None:
        self.raw: list[tuple[bytes, bytes]] = raw

    def __contains__(self, name: str) -> bool:
        wanted = name.encode()
        return any(field.lower() == wanted for field, _ in self.raw)


class _Received:
    """A response, with the part of httpx.Response that the transports use."""

    __slots__ = ("extensions", "headers", "status_code", "stream")

    def __init__(self, received: httpcore.Response, stream: Any) -> None:
        self.status_code: int = received.status
        self.headers: _Fields = _Fields(received.headers)
        self.stream: Any = stream
        self.extensions: MutableMapping[str, Any] = received.extensions

    def close(self) -> None:
        """End a blocking response."""
        self.stream.close()

    async def aclose(self) -> None:
        """End an asynchronous response."""
        await self.stream.aclose()

    def iter_bytes(self) -> Iterator[bytes]:
        """Return the body decompressed."""
        encoding = self._deflate_encoding()
        if encoding is not None:
            return self._inflated(encoding)
        return self._decoding().iter_bytes()

    def aiter_bytes(self) -> AsyncIterator[bytes]:
        """Return the body decompressed."""
        encoding = self._deflate_encoding()
        if encoding is not None:
            return self._ainflated(encoding)
        return self._decoding().aiter_bytes()

    def _deflate_encoding(self) -> str | None:
        """Return the encoding of a body that `Inflater` decompresses; None for any other body."""
        encodings = [
            value.strip().lower()
            for name, value in self.headers.raw
            if name.lower() == b"content-encoding"
        ]
        if len(encodings) != 1 or encodings[0] not in _DEFLATED:
            return None
        return encodings[0].decode()

    def _inflated(self, encoding: str) -> Iterator[bytes]:
        """Yield the body; httpx would take one that was cut off for a whole one."""
        inflater = Inflater(encoding)
        with _decoding_errors():
            for chunk in self.stream:
                yield inflater.feed(chunk)
            yield inflater.finish()

    async def _ainflated(self, encoding: str) -> AsyncIterator[bytes]:
        inflater = Inflater(encoding)
        with _decoding_errors():
            async for chunk in self.stream:
                yield inflater.feed(chunk)
            yield inflater.finish()

    def _decoding(self) -> httpx.Response:
        return httpx.Response(self.status_code, headers=self.headers.raw, stream=self.stream)


@contextlib.contextmanager
def _decoding_errors() -> Iterator[None]:
    try:
        yield
    except zlib.error as error:
        raise httpx.DecodingError(str(error)) from None
    except CutOffError as error:
        raise httpcore.RemoteProtocolError(str(error)) from None


class _Rest:
    """The rest of a large body, which is read from the socket, past httpcore and its parser.

    After its first chunk the parser holds nothing of the body, and the length says where it ends.
    The connection is not used again, because its parser does not know of the rest.
    """

    __slots__ = ("length", "read_timeout", "received", "stream")

    def __init__(self, received: httpcore.Response, request: httpcore.Request) -> None:
        self.stream: Any = received.extensions["network_stream"]
        self.read_timeout = request.extensions["timeout"]["read"]
        self.length = _length(received.headers)
        self.received = 0

    def is_large(self, chunk: bytes) -> bool:
        """Count a chunk; return whether so much is left that another connection costs less."""
        self.received += len(chunk)
        return self.length - self.received > _LARGE

    def next_size(self, chunk: bytes | None = None) -> int:
        """Count a chunk and return how many bytes to read next, 0 at the end.

        Raises:
            httpcore.RemoteProtocolError: The chunk is empty: the connection was closed too early.
        """
        if chunk is not None:
            if not chunk:
                raise httpcore.RemoteProtocolError(
                    "peer closed connection without sending complete message body "
                    f"(received {self.received} bytes, expected {self.length})"
                )
            self.received += len(chunk)
        return min(_READ_SIZE, self.length - self.received)


def _length(headers: list[tuple[bytes, bytes]]) -> int:
    """Return the content length; 0 if the body's end is known otherwise."""
    fields = {name.lower(): value for name, value in headers}
    length = fields.get(b"content-length", b"")
    return int(length) if length.isdigit() and b"transfer-encoding" not in fields else 0


class _Stream(httpx.SyncByteStream):
    """The body of a blocking response."""

    def __init__(self, stream: Any, rest: _Rest) -> None:
        self._stream = stream
        self._rest = rest

    def __iter__(self) -> Iterator[bytes]:
        # Held, because a generator that is dropped in mid-body closes the connection.
        rest, chunks = self._rest, iter(self._stream)
        for chunk in chunks:
            yield chunk
            if rest.length > _LARGE and rest.is_large(chunk):
                break
        else:
            return
        size = rest.next_size()
        while size:
            chunk = rest.stream.read(size, timeout=rest.read_timeout)
            size = rest.next_size(chunk)
            yield chunk
        chunks.close()

    def close(self) -> None:
        self._stream.close()


class _AsyncStream(httpx.AsyncByteStream):
    """The body of an asynchronous response."""

    def __init__(self, stream: Any, rest: _Rest) -> None:
        self._stream = stream
        self._rest = rest

    async def __aiter__(self) -> AsyncIterator[bytes]:
        # Held, because a generator that is dropped in mid-body closes the connection.
        rest, chunks = self._rest, aiter(self._stream)
        async for chunk in chunks:
            yield chunk
            if rest.length > _LARGE and rest.is_large(chunk):
                break
        else:
            return
        size = rest.next_size()
        while size:
            chunk = await rest.stream.read(size, timeout=rest.read_timeout)
            size = rest.next_size(chunk)
            yield chunk
        await chunks.aclose()

    async def aclose(self) -> None:
        await self._stream.aclose()


class DirectConnection:
    """A blocking connection to the server of one URL; opened with its first request.

    Args:
        url: Any URL of the server.
        settings: The arguments of an httpx transport for one connection.
    """

    def __init__(self, url: str, settings: dict[str, Any]) -> None:
        self._arguments = _arguments(url, settings)
        self._connection: httpcore.HTTPConnection | None = None

    def send(self, request: Request, content: Any, extensions: dict[str, Any]) -> _Received:
        """Send a request and return its response, its body unread.

        Raises:
            Exception: One of httpcore's: no response arrived.
        """
        connection = self._connection
        if connection is None or connection.is_closed() or connection.has_expired():
            self.close()
            connection = self._connection = httpcore.HTTPConnection(**self._arguments)
        message = _message(request, content, extensions)
        received = connection.handle_request(message)
        return _Received(received, _Stream(received.stream, _Rest(received, message)))

    def close(self) -> None:
        """Close the connection, if one is open."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()


class AsyncDirectConnection:
    """The same for asyncio; see `DirectConnection`."""

    def __init__(self, url: str, settings: dict[str, Any]) -> None:
        backend = httpcore.AnyIOBackend()
        self._arguments = {**_arguments(url, settings), "network_backend": backend}
        self._connection: httpcore.AsyncHTTPConnection | None = None

    async def send(self, request: Request, content: Any, extensions: dict[str, Any]) -> _Received:
        """Send a request and return its response, its body unread.

        Raises:
            Exception: One of httpcore's: no response arrived.
        """
        connection = self._connection
        if connection is None or connection.is_closed() or connection.has_expired():
            await self.aclose()
            connection = self._connection = httpcore.AsyncHTTPConnection(**self._arguments)
        message = _message(request, content, extensions)
        received = await connection.handle_async_request(message)
        return _Received(received, _AsyncStream(received.stream, _Rest(received, message)))

    async def aclose(self) -> None:
        """Close the connection, if one is open."""
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.aclose()


def _arguments(url: str, settings: dict[str, Any]) -> dict[str, Any]:
    verify = settings["verify"]
    return {
        "origin": _target(url).url.origin,
        "ssl_context": verify if isinstance(verify, ssl.SSLContext) else None,
        "keepalive_expiry": settings["limits"].keepalive_expiry,
        "socket_options": settings["socket_options"],
    }


def _message(request: Request, content: Any, extensions: dict[str, Any]) -> httpcore.Request:
    """Return a request as httpx would send it."""
    target = _target(request.url)
    headers = [
        (name.encode("ascii"), value.encode("ascii"))
        for name, value in wire_headers(request).items()
    ]
    if "host" not in request.headers:
        headers.insert(0, (b"Host", target.host))
    if isinstance(content, bytes):
        headers.append((b"Content-Length", b"%d" % len(content)))
    elif content is not None and request.body.length is None:  # type: ignore[union-attr]
        headers.append((b"Transfer-Encoding", b"chunked"))
    return httpcore.Request(
        request.method, target.url, headers=headers, content=content, extensions=extensions
    )
