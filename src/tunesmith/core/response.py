"""One response of a server, as transports return it to flows, and the request it responds to.

Both have the attributes that code written for httpx reads most: `status_code`, `headers`,
`content`, `text`, `json()`, `is_closed`, `close()`; `method`, `url`, `headers`, `content`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from tunesmith.errors import RequestInfo, ResponseInfo

from .headers import Headers
from .redact import redacted_headers

if TYPE_CHECKING:
    from .request import Request

__all__ = ["Response", "SentRequest", "UnreadFields"]

_SUCCESS = range(200, 300)


@dataclass(frozen=True, slots=True)
class SentRequest:
    """A request as it was sent, with its credential masked.

    Attributes:
        method: The HTTP method.
        url: The whole URL.
        headers: The header fields; the values of secret ones are masked.
        content: The body; empty if there was none, or if it was read while it was sent.
    """

    method: str
    url: str
    headers: Headers
    content: bytes = b""

    @classmethod
    def of(cls, request: Request) -> SentRequest:
        """Return what may be shown of a request."""
        headers = Headers(redacted_headers(request.headers.items()).items())
        body = request.body if isinstance(request.body, bytes) else b""
        return cls(request.method, request.url, headers, body)


class UnreadFields(Protocol):
    """Header fields as a transport's library holds them."""

    def get(self, name: str) -> str | None:
        """Return one field; `name` is in lower case."""
        ...

    def decoded(self) -> Headers:
        """Return all fields."""
        ...


class Response:
    """Status, header fields and body of one exchange.

    Attributes:
        status: The HTTP status.
        body: The whole body, decompressed; None while it is a stream.
        request: Method and URL of the request.
        stream: The transport's handle of an unread body, or None.
        elapsed: Seconds between sending and the end of the header fields.
        attempts: How many times the request was sent, this time included.
        sent: The request itself, credential included, once the exchange has ended.
    """

    __slots__ = (
        "_headers", "_raw", "attempts", "body", "elapsed", "request", "sent", "status", "stream",
    )  # fmt: skip

    def __init__(
        self,
        status: int,
        raw_headers: list[tuple[bytes, bytes]] | Headers | UnreadFields,
        body: bytes | None,
        request: RequestInfo,
        *,
        stream: Any = None,
        elapsed: float = 0.0,
    ) -> None:
        """Initialise; `raw_headers` are Headers, or fields that are decoded when first needed.

        Those are a list of byte pairs, or `UnreadFields`.
        """
        self.status: int = status
        self.body: bytes | None = body
        self.request: RequestInfo = request
        self.stream: Any = stream
        self.elapsed: float = elapsed
        self.attempts: int = 1
        self.sent: Request | SentRequest | None = None
        self._raw = raw_headers
        self._headers: Headers | None = None

    @property
    def headers(self) -> Headers:
        """The header fields."""
        if self._headers is None:
            raw = self._raw
            if isinstance(raw, list):
                self._headers = Headers.from_raw(raw)
            else:
                self._headers = raw if isinstance(raw, Headers) else raw.decoded()
        return self._headers

    @property
    def is_success(self) -> bool:
        """True for status 2xx."""
        return self.status in _SUCCESS

    @property
    def request_id(self) -> str | None:
        """The server's id of this request, from `x-request-id`."""
        # The one field that every success needs; the others are decoded when needed.
        raw = self._raw if self._headers is None else self._headers
        if not isinstance(raw, list):
            return raw.get("x-request-id")
        for name, value in raw:
            if name.lower() == b"x-request-id":
                return str(value, "latin-1")
        return None

    @property
    def http_request(self) -> SentRequest:
        """The request that it responds to."""
        if self.sent is None:
            return SentRequest(self.request.method, self.request.url, Headers())
        return self.sent if isinstance(self.sent, SentRequest) else SentRequest.of(self.sent)

    @property
    def http_response(self) -> Response:
        """This response; the same as the attribute of raw and streamed responses."""
        return self

    @property
    def url(self) -> str:
        """The URL of the request."""
        return self.request.url

    @property
    def status_code(self) -> int:
        """The HTTP status."""
        return self.status

    @property
    def content(self) -> bytes:
        """The body; empty while it is unread."""
        return self.body or b""

    @property
    def text(self) -> str:
        """The body as UTF-8, undecodable bytes replaced; empty while the body is unread."""
        return self.content.decode("utf-8", "replace")

    def json(self) -> Any:
        """Return the body parsed as JSON.

        Raises:
            ValueError: It is not JSON.
        """
        return json.loads(self.content)

    @property
    def is_closed(self) -> bool:
        """Whether the connection is free: the body was read to its end, or given up."""
        return self.stream is None or bool(self.stream.is_closed)

    def close(self) -> None:
        """Give up the rest of the body and free the connection, on a blocking client.

        Raises:
            RuntimeError: The response is an asyncio client's, so `await aclose()` closes it.
        """
        if self.is_closed:
            return
        if not hasattr(self.stream, "close"):
            raise RuntimeError("This response belongs to an asyncio client: await aclose().")
        self.stream.close()

    async def aclose(self) -> None:
        """Give up the rest of the body and free the connection, on an asyncio client.

        Raises:
            RuntimeError: The response is a blocking client's, so `close()` closes it.
        """
        if self.is_closed:
            return
        if not hasattr(self.stream, "aclose"):
            raise RuntimeError("This response belongs to a blocking client: call close().")
        await self.stream.aclose()

    def info(self, limit: int = 4096) -> ResponseInfo:
        """Return plain data for an error, with at most `limit` characters of text."""
        headers = redacted_headers(self.headers.items())
        return ResponseInfo(self.status, headers, self.text[:limit], self.request)

    def __getstate__(self) -> dict[str, Any]:
        """Return what another process can use: no connection and no credential."""
        state = {name: getattr(self, name) for name in self.__slots__}
        state["_raw"], state["stream"] = self.headers, None
        state["sent"] = None if self.sent is None else self.http_request
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        for name, value in state.items():
            setattr(self, name, value)

    def __repr__(self) -> str:
        return f"<Response {self.status} to {self.request.method} {self.request.url}>"
