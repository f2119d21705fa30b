"""Runs the flows of `resources` as class methods of the old SDK, sync and async.

Settings are read for each call: first the call's own (`api_key=`, `api_base=`, …), then
the module's (`openai.api_key = …`), then the environment. Clients are cached per set
of settings, so that connections are reused.
"""

from __future__ import annotations

import functools
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tunesmith.client import AsyncClient, Client
from tunesmith.core.exchange import exchange
from tunesmith.core.flow import Flow, OpenStream
from tunesmith.core.options import RequestOptions, Timeout
from tunesmith.core.request import Body, RequestSpec, fill_path
from tunesmith.errors import APIResponseValidationError
from tunesmith.types.base import WireModel

from . import settings
from .error import InvalidAPIType, translated
from .objects import OpenAIObject, convert

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine, Iterator

    from tunesmith.core.response import Response

__all__ = ["Call", "StreamResult", "async_method", "sync_method"]

_OPEN_AI = ("open_ai", "openai")
_CONNECT_SECONDS = 5.0


class _Event(WireModel):
    """Any event of a stream. Each has an `object` field, which an error in its place has not."""

    object: str


@dataclass(frozen=True, slots=True)
class StreamResult:
    """A flow's value that is a stream, to be wrapped as a sync or async iterator."""

    stream: Any


@dataclass(slots=True)
class Call:
    """One call: its client and options, and the flows of its requests.

    Attributes:
        client: A Client or an AsyncClient.
        options: Time limits, header fields and the idempotency key.
    """

    client: Any
    options: RequestOptions = field(default_factory=RequestOptions)

    def get(self, path: str, query: dict[str, Any] | None = None, **ids: str) -> Flow[Any]:
        """Get an object; `ids` fill the placeholders of the path."""
        return self._ask(RequestSpec("GET", fill_path(path, **ids), query=_given(query)))

    def post(self, path: str, fields: dict[str, Any] | None = None, **ids: str) -> Flow[Any]:
        """Create or change something; a field `stream` that is true opens a stream."""
        body = _given(fields)
        spec = RequestSpec("POST", fill_path(path, **ids), json=body)
        return self._open(spec) if body and body.get("stream") else self._ask(spec)

    def upload(self, path: str, body: Body) -> Flow[Any]:
        """Send a form with a file."""
        return self._ask(RequestSpec("POST", path, body=body))

    def delete(self, path: str, **ids: str) -> Flow[Any]:
        """Delete something."""
        return self._ask(RequestSpec("DELETE", fill_path(path, **ids)))

    def content(self, path: str, **ids: str) -> Flow[bytes]:
        """Get the content of something as bytes."""
        response = yield from self._exchange(RequestSpec("GET", fill_path(path, **ids)))
        return response.body or b""

    def stream(self, path: str, **ids: str) -> Flow[StreamResult]:
        """Open a stream of events."""
        return self._open(RequestSpec("GET", fill_path(path, **ids), query={"stream": True}))

    def _ask(self, spec: RequestSpec) -> Flow[Any]:
        response = yield from self._exchange(spec)
        try:
            return convert(json.loads(response.body or b""))
        except ValueError:
            raise APIResponseValidationError(
                f"The answer to {spec.method} {response.request.url} is not JSON. It begins: "
                f"{response.text[:200]!r}",
                response=response.info(),
            ) from None

    def _open(self, spec: RequestSpec) -> Flow[StreamResult]:
        spec.stream = True
        response = yield from self._exchange(spec)
        stream = yield OpenStream(response, _Event)
        return StreamResult(stream)

    def _exchange(self, spec: RequestSpec) -> Flow[Response]:
        spec.options = self.options
        return exchange(self.client._executor.settings, spec)  # noqa: SLF001 - same package


class sync_method:  # noqa: N801 - used as a decorator
    """The blocking form of a flow, as a method of a resource class.

    The flow takes the class's `path` and a `Call` first. The method takes, besides the flow's own
    parameters, `api_key`, `api_base`, `api_type`, `api_version`, `organization`, `request_id`,
    `request_timeout`, `idempotency_key` and `headers`. A stream comes as an iterator.
    """

    def __init__(self, flow: Callable[..., Flow[Any]]) -> None:
        self._flow = flow

    def __get__(self, instance: object, owner: type[Any]) -> Callable[..., Any]:
        @functools.wraps(self._flow)
        def method(*args: Any, **params: Any) -> Any:
            with translated():
                call = _call(Client, params)
                value = call.client._executor.run(self._flow(owner.path, call, *args, **params))  # noqa: SLF001
            return _items(value.stream) if isinstance(value, StreamResult) else value

        return method


class async_method:  # noqa: N801 - as above
    """The awaitable form of a flow; a stream comes as an asynchronous iterator."""

    def __init__(self, flow: Callable[..., Flow[Any]]) -> None:
        self._flow = flow

    def __get__(
        self, instance: object, owner: type[Any]
    ) -> Callable[..., Coroutine[Any, Any, Any]]:
        @functools.wraps(self._flow)
        async def method(*args: Any, **params: Any) -> Any:
            with translated():
                call = _call(AsyncClient, params)
                flow = self._flow(owner.path, call, *args, **params)
                value = await call.client._executor.run(flow)  # noqa: SLF001
            return _async_items(value.stream) if isinstance(value, StreamResult) else value

        return method


def _items(stream: Any) -> Iterator[OpenAIObject]:
    with translated(), stream:
        for event in stream:
            yield convert(event.to_dict())


async def _async_items(stream: Any) -> AsyncIterator[OpenAIObject]:
    with translated():
        async with stream:
            async for event in stream:
                yield convert(event.to_dict())


def _call(kind: Callable[..., Any], params: dict[str, Any]) -> Call:
    """Take the settings out of a call's parameters and return the call."""
    api_type = params.pop("api_type", None) or settings.read("api_type")
    if api_type not in _OPEN_AI:
        raise InvalidAPIType(
            f"api_type is {api_type!r}; tunesmith.v0 speaks to 'open_ai' servers. For Azure, use "
            "tunesmith.AzureClient."
        )
    params.pop("api_version", None)
    client = _client(
        kind,
        params.pop("api_key", None) or settings.read("api_key"),
        params.pop("api_base", None) or settings.read("api_base"),
        params.pop("organization", None) or settings.read("organization"),
    )
    return Call(client, _options(params))


@functools.lru_cache(maxsize=32)
def _client(
    kind: Callable[..., Any], api_key: str | None, api_base: str | None, organization: str | None
) -> Any:
    return kind(api_key, base_url=api_base, organization=organization)


def _options(params: dict[str, Any]) -> RequestOptions:
    options = RequestOptions()
    headers = dict(params.pop("headers", None) or {})
    if request_id := params.pop("request_id", None):
        headers["x-request-id"] = request_id
    if headers:
        options["extra_headers"] = headers
    if key := params.pop("idempotency_key", None):
        options["idempotency_key"] = key
    if (timeout := params.pop("request_timeout", None)) is not None:
        options["timeout"] = _timeout(timeout)
    return options


def _timeout(value: float | tuple[float, float]) -> Timeout:
    """Return the limits for the old SDK's number, or its pair of connect and read."""
    if isinstance(value, tuple):
        connect, read = value
        return Timeout(read, connect=connect)
    return Timeout(value, connect=min(value, _CONNECT_SECONDS))


def _given(values: dict[str, Any] | None) -> dict[str, Any] | None:
    """Return the values that are not None: the old SDK left those out."""
    if values is None:
        return None
    return {name: value for name, value in values.items() if value is not None}
