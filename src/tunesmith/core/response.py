"""One response of a server, as transports return it to flows."""

from __future__ import annotations

from typing import Any, TypeVar

from tunesmith.errors import RequestInfo, ResponseInfo

from .headers import Headers

__all__ = ["Response"]

_SUCCESS = range(200, 300)
T = TypeVar("T")


class Response:
    """Status, header fields and body of one exchange.

    Attributes:
        status: The HTTP status.
        body: The whole body, decompressed; None while it is a stream.
        request: Method and URL of the request.
        stream: The transport's handle of an unread body, or None.
        elapsed: Seconds between sending and the end of the header fields.
        attempts: How many times the request was sent, this time included.
    """

    __slots__ = ("_headers", "_raw", "attempts", "body", "elapsed", "request", "status", "stream")

    def __init__(
        self,
        status: int,
        raw_headers: Any,
        body: bytes | None,
        request: RequestInfo,
        *,
        stream: Any = None,
        elapsed: float = 0.0,
    ) -> None:
        """Initialise; `raw_headers` are Headers, or byte pairs to decode when first needed."""
        self.status: int = status
        self.body: bytes | None = body
        self.request: RequestInfo = request
        self.stream: Any = stream
        self.elapsed: float = elapsed
        self.attempts: int = 1
        self._raw = raw_headers
        self._headers: Headers | None = None

    @property
    def headers(self) -> Headers:
        """The header fields."""
        if self._headers is None:
            self._headers = (
                self._raw if isinstance(self._raw, Headers) else Headers.from_raw(self._raw)
            )
        return self._headers

    @property
    def is_success(self) -> bool:
        """True for status 2xx."""
        return self.status in _SUCCESS

    @property
    def request_id(self) -> str | None:
        """The server's id of this request, from `x-request-id`."""
        if self._headers is None and not isinstance(self._raw, Headers):
            # The one field that every success needs; the others are decoded when needed.
            for name, value in self._raw:
                if name.lower() == b"x-request-id":
                    return str(value, "latin-1")
            return None
        return self.headers.get("x-request-id")

    @property
    def text(self) -> str:
        """The body as UTF-8, undecodable bytes replaced; empty while the body is unread."""
        return (self.body or b"").decode("utf-8", "replace")

    def info(self, limit: int = 4096) -> ResponseInfo:
        """Return plain data for an error, with at most `limit` characters of text."""
        return ResponseInfo(self.status, dict(self.headers), self.text[:limit], self.request)

    def __repr__(self) -> str:
        return f"<Response {self.status} to {self.request.method} {self.request.url}>"
