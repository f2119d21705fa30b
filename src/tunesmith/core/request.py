"""From an operation's parameters to one HTTP request: paths, queries, header fields, bodies.

A `RequestSpec` says what an operation asks; `build_request` joins it with the client's
settings. The outcome is plain data that any transport can send.
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import quote, urlencode

from tunesmith.errors import DeadlineExceededError, RequestInfo

from .headers import HeaderFields
from .options import NotGiven, Omit, RequestOptions, Timeout, without_omitted

if TYPE_CHECKING:
    from .redact import Secret
    from .settings import Settings

__all__ = [
    "Body",
    "Request",
    "RequestSpec",
    "build_request",
    "deadline_exceeded",
    "fill_path",
    "json_body",
]

# Characters that RFC 3986 allows in a path segment; a slash is never left as it is,
# so an id cannot reach another route.
_SEGMENT_SAFE = ":@!$&'()*+,;=~-._"


class Body(Protocol):
    """A request body that is read piece by piece and can be sent again."""

    @property
    def content_type(self) -> str:
        """The media type, with its boundary if it has one."""
        ...

    @property
    def length(self) -> int | None:
        """The size in bytes, None where it is not known before the end."""
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
    """What one operation asks of a server, before the client's settings are added.

    Attributes:
        json: Body fields to send as JSON; marks for "omit" are dropped.
        body: A ready body, which excludes `json`.
        stream: Whether the answer's body is to be left unread.
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
        deadline: `time.monotonic()` value after which nothing more may happen.
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
        """Return the time limits, none longer than what the deadline leaves."""
        if self.deadline is None:
            return self.timeout
        return self.timeout.clipped(max(0.0, self.deadline - time.monotonic()))

    def __repr__(self) -> str:
        return f"<Request {self.method} {self.url} {self.headers!r}>"


def deadline_exceeded(request: Request) -> DeadlineExceededError:
    """Return the error for a call whose total time has passed."""
    return DeadlineExceededError(
        f"{request.method} {request.url} was not done within the {request.timeout.total:g} seconds "
        "allowed in total. Allow more with timeout=Timeout(total=…).",
        request=request.info,
        retryable=False,
    )


def fill_path(template: str, **values: str) -> str:
    """Return `template` with each `{name}` replaced by its value, quoted as one path segment.

    Raises:
        ValueError: A value is empty, or would climb in the path.
    """
    for name, value in values.items():
        if not value:
            raise ValueError(f"Expected a non-empty value for `{name}` but received {value!r}")
        if value in {".", ".."}:
            raise ValueError(f"{value!r} is not a usable value for `{name}`.")
    return template.format_map(
        {name: quote(str(value), safe=_SEGMENT_SAFE) for name, value in values.items()}
    )


def build_request(settings: Settings, spec: RequestSpec, key: Secret | None) -> Request:
    """Return the request for `spec`, with the client's settings and the credential added."""
    options = spec.options
    headers = HeaderFields(settings.headers)
    if key is not None:
        headers.update(settings.credential_headers(key.reveal()))
    if spec.headers:
        headers.update(spec.headers)
    body = spec.body or json_body(spec.json, options.get("extra_body"))
    if isinstance(body, bytes):
        headers["content-type"] = "application/json"
    elif body is not None:
        headers["content-type"] = body.content_type
    if spec.method == "POST":
        headers["idempotency-key"] = options.get("idempotency_key") or f"tunesmith-{uuid.uuid4()}"
    _add_extra_headers(headers, options.get("extra_headers"))
    timeout = options.get("timeout", settings.timeout)
    limits = settings.timeout if isinstance(timeout, NotGiven) else Timeout.of(timeout)
    return Request(
        spec.method,
        _join_url(settings, spec),
        headers,
        body,
        limits,
        stream=spec.stream,
        deadline=None if limits.total is None else time.monotonic() + limits.total,
    )


def json_body(fields: Mapping[str, Any] | None, extra: object | None = None) -> bytes | None:
    """Return fields as JSON bytes, None when there is no body at all.

    Raises:
        ValueError: A value is NaN or infinite, which JSON cannot say.
        TypeError: A value is not JSON and not a wire object.
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
        value, ensure_ascii=False, separators=(",", ":"), allow_nan=False, default=_plain
    )
    # Lone surrogates in a text cannot be UTF-8; JSON escapes can carry them.
    try:
        return text.encode()
    except UnicodeEncodeError:
        return json.dumps(value, separators=(",", ":"), allow_nan=False, default=_plain).encode()


def _plain(value: object) -> object:
    dump = getattr(value, "model_dump", None)
    if dump is not None:
        return dump(mode="json", exclude_unset=True, by_alias=True)
    if isinstance(value, Mapping):
        return without_omitted(value)
    if isinstance(value, Iterable):
        return list(value)
    raise TypeError(f"A value of type {type(value).__name__} cannot be sent as JSON: {value!r:.80}")


def _add_extra_headers(headers: HeaderFields, extra: Mapping[str, str | Omit] | None) -> None:
    for name, value in (extra or {}).items():
        if isinstance(value, Omit):
            headers.pop(name.lower(), None)
        else:
            headers[name.lower()] = value


def _join_url(settings: Settings, spec: RequestSpec) -> str:
    if "://" in spec.path:
        url = spec.path
    elif settings.azure is not None:
        url = settings.azure.url(spec)
    else:
        url = settings.base_url + spec.path
    extra = spec.options.get("extra_query")
    if not (settings.default_query or spec.query or extra):
        return url
    query = {**settings.default_query, **(spec.query or {}), **(extra or {})}
    text = urlencode(list(_query_pairs(without_omitted(query))))
    if not text:
        return url
    return f"{url}{'&' if '?' in url else '?'}{text}"


def _query_pairs(values: Mapping[str, object]) -> Iterator[tuple[str, str]]:
    """Yield pairs as the hosted API reads them: `metadata[k]=v`, `ids[]=1&ids[]=2`."""
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
