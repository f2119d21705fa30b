"""Requests as plain data, and the encoding of their parts: paths, queries, JSON bodies.

A `RequestSpec` is what an operation requests; a `Request` is what any transport can send.
`exchange` builds the second from the first and the client's settings, of which nothing
here knows.
"""

from __future__ import annotations

import json
import math
import re
import time
from collections.abc import Iterator, Mapping, Sequence, ValuesView
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import quote, urlencode

from tunesmith.errors import DeadlineExceededError, RequestInfo

from .options import RequestOptions, Timeout, is_omitted, without_omitted
from .urls import shown_url

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
    "text_of",
]

# Characters that RFC 3986 allows in a path segment; a slash is always quoted, so an id
# cannot reach another route.
_SEGMENT_SAFE = ":@!$&'()*+,;=~-._"
# What needs no quoting, as almost every id.
_PLAIN_SEGMENT = re.compile(r"[\w.:-]+", re.ASCII)
# What becomes a JSON array. An iterable of another kind, such as a data frame or a page of
# results, would iterate over something else than its author meant.
_ARRAYS = (Sequence, AbstractSet, Iterator, ValuesView)
_BYTES = (bytes, bytearray, memoryview)


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
        """Method and URL, for errors: without credentials."""
        return RequestInfo(self.method, shown_url(self.url))

    def end_by(self, deadline: float) -> None:
        """Bring the deadline forward, if it is later."""
        self.deadline = deadline if self.deadline is None else min(self.deadline, deadline)

    def limits(self) -> Timeout:
        """Return the time limits, none longer than the time left until the deadline."""
        if self.deadline is None:
            return self.timeout
        return self.timeout.clipped(max(0.0, self.deadline - time.monotonic()))

    def __repr__(self) -> str:
        return f"<Request {self.method} {shown_url(self.url)} {self.headers!r}>"


def deadline_exceeded(request: Request) -> DeadlineExceededError:
    """Return the error for a call whose total time has passed."""
    total = request.timeout.total
    limit = (
        "before the end of the wait that it belongs to."
        if total is None
        else f"within the {total:g} seconds allowed in total. Allow more with "
        "timeout=Timeout(total=…)."
    )
    return DeadlineExceededError(
        f"{request.method} {shown_url(request.url)} did not finish {limit}",
        request=request.info,
        retryable=False,
    )


def fill_path(template: str, **values: str) -> str:
    """Return `template` with each `{name}` replaced by its value, quoted as one path segment.

    Raises:
        ValueError: A value is empty, or would change the path's depth.
        TypeError: A value is not text.
    """
    for name, value in values.items():
        if not value:
            raise ValueError(f"Expected a non-empty value for `{name}` but received {value!r}")
        given: Any = value
        if not isinstance(given, str):
            kind = type(given).__name__
            hint = ": pass its id" if isinstance(getattr(given, "id", None), str) else ""
            raise TypeError(f"Expected text for `{name}`, not {kind}{hint}.")
        if value in {".", ".."}:
            raise ValueError(f"{value!r} is not a valid value for `{name}`.")
    return template.format_map({name: _segment(name, value) for name, value in values.items()})


def _segment(name: str, value: str) -> str:
    if type(value) is str and _PLAIN_SEGMENT.fullmatch(value):
        return value
    try:
        return quote(str(value), safe=_SEGMENT_SAFE)
    except UnicodeEncodeError:
        problem = f"The value for `{name}` holds half of a character (a lone surrogate)."
    raise ValueError(problem)


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
    content: object = without_omitted(fields or {})
    if isinstance(extra, Mapping):
        content = {**without_omitted(fields or {}), **extra}
    elif extra is not None:
        content = extra
    try:
        return _to_json(content)
    except (TypeError, ValueError, RecursionError) as error:
        reason = str(error)
    # Only now, because it costs more than the encoder: markers within are dropped, arrays and
    # objects become plain, and what cannot be sent is named with its place.
    try:
        return _to_json(_plain(content, "", reason))
    except RecursionError:
        raise ValueError("The request body is nested too deeply, or contains itself.") from None


def _to_json(value: object) -> bytes:
    try:
        text = json.dumps(
            value, ensure_ascii=False, separators=(",", ":"), allow_nan=False, default=_to_plain
        )
    except RecursionError:
        text = ""
    if not text:
        raise ValueError("The request's body is nested too deeply to be sent as JSON.")
    # Lone surrogates in a text cannot be encoded as UTF-8; JSON escapes can carry them.
    try:
        return text.encode()
    except UnicodeEncodeError:
        escaped = json.dumps(value, separators=(",", ":"), allow_nan=False, default=_to_plain)
        return escaped.encode()


def _to_plain(value: object) -> object:
    """Return what the JSON encoder does not know as something that it knows."""
    if isinstance(value, _Spent):
        raise TypeError(value.message)
    dump = getattr(value, "model_dump", None)
    if dump is not None and not isinstance(value, type):
        added = getattr(value, "added_here", None)
        sent: object = dump(mode="json", exclude_unset=True, by_alias=True, exclude=added)
        completed = getattr(value, "_completed", None)
        return sent if completed is None else completed(sent)
    if isinstance(value, Mapping):
        return without_omitted(value)
    if isinstance(value, Enum):
        return value.value
    if not isinstance(value, _BYTES) and not hasattr(value, "read"):
        if isinstance(value, _ARRAYS):
            return list(value)
        to_list = getattr(value, "tolist", None)
        if to_list is not None:
            return to_list()  # arrays and scalars of NumPy, PyTorch and pandas
    raise TypeError(f"A {type(value).__name__} cannot be sent as JSON.")


class _Spent:
    """An iterator that was read in the first attempt to encode it."""

    def __init__(self, place: str, reason: str) -> None:
        self.message = (
            f"{place} can be read only once, and the body could not be sent: {reason} Pass a list."
        )


def _plain(value: object, place: str, reason: str) -> object:
    """Return `value` as plain JSON data without omitted fields; `reason` is why it is none.

    Raises:
        TypeError: Something in it is no JSON; the message names its place.
        ValueError: A number in it is NaN or infinite.
    """
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError(f"{place} is {value}, which JSON cannot represent.")
        return value
    if isinstance(value, Mapping):
        return {
            _key(key, place): _plain(inner, f"{place}.{key}" if place else str(key), reason)
            for key, inner in without_omitted(value).items()
        }
    if isinstance(value, list | tuple):
        kept = (item for item in value if not is_omitted(item))
        return [_plain(item, f"{place}[{index}]", reason) for index, item in enumerate(kept)]
    if isinstance(value, Iterator) and not hasattr(value, "read"):
        return _Spent(place, reason)
    try:
        plain = _to_plain(value)
    except TypeError:
        hint = "; decode it to text first" if isinstance(value, _BYTES) else ""
        raise TypeError(
            f"{place or 'The body'} is of type {type(value).__name__}, which cannot be sent as "
            f"JSON{hint}."
        ) from None
    return _plain(plain, place, reason)


def _key(key: object, place: str) -> Any:
    if key is None or isinstance(key, str | int | float):
        return key
    raise TypeError(
        f"{place or 'The body'} has a key of type {type(key).__name__}, which cannot be sent as "
        "JSON."
    )


def query_string(values: Mapping[str, object]) -> str:
    """Return query parameters as the hosted API reads them: `metadata[k]=v`, `ids[]=1&ids[]=2`.

    Raises:
        TypeError: A value is neither text, a number, a bool, None, a list nor a mapping of such.
        ValueError: A value cannot be part of a URL.
    """
    pairs = list(_query_pairs(without_omitted(values)))
    try:
        return urlencode(pairs)
    except UnicodeEncodeError:
        names = ", ".join(name for name, _ in pairs)
    raise ValueError(f"A query parameter holds half of a character (a lone surrogate): {names!a}.")


def _query_pairs(values: Mapping[str, object]) -> Iterator[tuple[str, str]]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _query_pairs({f"{name}[{key}]": inner for key, inner in value.items()})
        elif isinstance(value, list | tuple):
            for item in value:
                yield f"{name}[]", text_of(item, name)
        else:
            yield name, text_of(value, name)


def text_of(value: object, name: str) -> str:
    """Return a plain value as queries and forms have it.

    Raises:
        TypeError: The value of `name` is no plain value.
    """
    if isinstance(value, Enum):
        value = value.value
    if isinstance(value, str):
        return value
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return str(value)
    raise TypeError(
        f"`{name}` is text, a number, a bool, or a list or mapping of them, "
        f"not {type(value).__name__}."
    )
