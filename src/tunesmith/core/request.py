"""Requests as plain data, and the encoding of their parts: paths, queries, JSON bodies.

A `RequestSpec` is what an operation requests; a `Request` is what any transport can send.
`exchange` builds the second from the first and the client's settings, of which nothing
here knows.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import quote, urlencode

from tunesmith.errors import DeadlineExceededError, RequestInfo

from .options import RequestOptions, Timeout, without_omitted

if TYPE_CHECKING:
    from .headers import HeaderFields

__all__ = [
    "Body",
    "Request",
    "RequestSpec",
    "deadline_exceeded",
    "fill_path",
    "json_body",
    "query_string",
]

# Characters that RFC 3986 allows in a path segment; a slash is always quoted, so an id
# cannot reach another route.
_SEGMENT_SAFE = ":@!$&'()*+,;=~-._"


class Body(Protocol):
    """A request body that is read chunk by chunk while it is sent."""

    @property
    def content_type(self) -> str:
        """The media type, with its boundary if it has one."""
        ...

    @property
    def length(self) -> int | None:
        """The size in bytes, None if it is not known before the end."""
        ...

    @property
    def replayable(self) -> bool:
        """Whether the body can be sent more than once."""
        ...

    def chunks(self) -> Iterator[bytes]:
        """Yield the body from its beginning."""
        ...


@dataclass(slots=True)
class RequestSpec:
    """What one operation requests of a server, before the client's settings are added.

    Attributes:
        json: Fields to send as a JSON body; fields marked `omit` are dropped.
        body: A complete body, in place of `json`.
        stream: Whether the response's body is left unread.
    """

    method: str
    path: str
    query: Mapping[str, object] | None = None
    json: Mapping[str, Any] | None = None
    body: Body | None = None
    headers: Mapping[str, str] | None = None
    options: RequestOptions = field(default_factory=RequestOptions)
    stream: bool = False


@dataclass(slots=True)
class Request:
    """One HTTP request, ready to be sent.

    Attributes:
        headers: Field values by lower-case name.
        body: The whole body, or one that is read while it is sent.
        deadline: `time.monotonic()` value by which the call must have ended.
    """

    method: str
    url: str
    headers: HeaderFields
    body: bytes | Body | None
    timeout: Timeout
    stream: bool = False
    deadline: float | None = None

    @property
    def info(self) -> RequestInfo:
        """Method and URL, for errors."""
        return RequestInfo(self.method, self.url)

    def limits(self) -> Timeout:
        """Return the time limits, none longer than the time left until the deadline."""
        if self.deadline is None:
            return self.timeout
        return self.timeout.clipped(max(0.0, self.deadline - time.monotonic()))

    def __repr__(self) -> str:
        return f"<Request {self.method} {self.url} {self.headers!r}>"


def deadline_exceeded(request: Request) -> DeadlineExceededError:
    """Return the error for a call whose total time has passed."""
    return DeadlineExceededError(
        f"{request.method} {request.url} did not finish within the {request.timeout.total:g} "
        "seconds allowed in total. Allow more with timeout=Timeout(total=…).",
        request=request.info,
        retryable=False,
    )


def fill_path(template: str, **values: str) -> str:
    """Return `template` with each `{name}` replaced by its value, quoted as one path segment.

    Raises:
        ValueError: A value is empty, or would change the path's depth.
    """
    for name, value in values.items():
        if not value:
            raise ValueError(f"Expected a non-empty value for `{name}` but received {value!r}")
        if value in {".", ".."}:
            raise ValueError(f"{value!r} is not a valid value for `{name}`.")
    return template.format_map(
        {name: quote(str(value), safe=_SEGMENT_SAFE) for name, value in values.items()}
    )


def json_body(fields: Mapping[str, Any] | None, extra: object | None = None) -> bytes | None:
    """Return fields as JSON bytes, None if there is no body at all.

    Args:
        fields: The fields; those marked `omit` are dropped.
        extra: More fields, which replace those of the same name, or a whole body of another kind.

    Raises:
        ValueError: A value is NaN or infinite, which JSON cannot represent.
        TypeError: A value is neither JSON nor a wire object.
    """
    if fields is None and extra is None:
        return None
    content = without_omitted(fields or {})
    if isinstance(extra, Mapping):
        content.update(extra)
    elif extra is not None:
        return _to_json(extra)
    return _to_json(content)


def _to_json(value: object) -> bytes:
    text = json.dumps(
        value, ensure_ascii=False, separators=(",", ":"), allow_nan=False, default=_to_plain
    )
    # Lone surrogates in a text cannot be encoded as UTF-8; JSON escapes can carry them.
    try:
        return text.encode()
    except UnicodeEncodeError:
        escaped = json.dumps(value, separators=(",", ":"), allow_nan=False, default=_to_plain)
        return escaped.encode()


def _to_plain(value: object) -> object:
    dump = getattr(value, "model_dump", None)
    if dump is not None:
        return dump(mode="json", exclude_unset=True, by_alias=True)
    if isinstance(value, Mapping):
        return without_omitted(value)
    if isinstance(value, Iterable):
        return list(value)
    raise TypeError(f"A value of type {type(value).__name__} cannot be sent as JSON: {value!r:.80}")


def query_string(values: Mapping[str, object]) -> str:
    """Return query parameters as the hosted API reads them: `metadata[k]=v`, `ids[]=1&ids[]=2`."""
    return urlencode(list(_query_pairs(without_omitted(values))))


def _query_pairs(values: Mapping[str, object]) -> Iterator[tuple[str, str]]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _query_pairs({f"{name}[{key}]": inner for key, inner in value.items()})
        elif isinstance(value, list | tuple):
            for item in value:
                yield f"{name}[]", _query_text(item)
        else:
            yield name, _query_text(value)


def _query_text(value: object) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)
