"""Requests to another service, sent as its own client would, with the key from the settings.

The caller's body is passed on byte by byte. Of the header fields only those that the other side
needs go either way; the caller's own key stays here, and the other service's never leaves.
"""

from __future__ import annotations

import asyncio
import importlib.util
import json
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode, urlsplit

from tunesmith.core.headers import HeaderFields
from tunesmith.core.options import Timeout
from tunesmith.core.redact import MASK
from tunesmith.core.request import Request
from tunesmith.errors import APIConnectionError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tunesmith.core.response import Response
    from tunesmith.engine.config import UpstreamConfig

__all__ = ["ServiceAnswer", "ServiceCall", "ServiceFailedError", "UpstreamClient"]

_TIMEOUT = Timeout(None, connect=10.0)  # the route's limit ends what takes too long
_MAX_CONNECTIONS = 1024
_SENT_FIELDS = frozenset(
    {
        "accept",
        "content-type",
        "idempotency-key",
        "openai-beta",
        "user-agent",
        "x-ms-client-request-id",
    }
)
_RETURNED_FIELDS = frozenset(
    {
        "apim-request-id",
        "cache-control",
        "content-type",
        "openai-processing-ms",
        "openai-version",
        "retry-after",
        "retry-after-ms",
        "x-should-retry",
    }
)
_RETURNED_PREFIXES = ("x-ratelimit-", "x-ms-")
_GONE_CODES = frozenset({"model_not_found", "DeploymentNotFound", "deployment_not_found"})


class ServiceFailedError(Exception):
    """The other service gave no answer that the caller should see, if another side has one.

    Attributes:
        reason: Why, in a few words, without anything secret.
        status: Its HTTP status; 0 without an answer.
        answer: What it answered, to be passed on where no other side answers; None if it
            answered nothing, or refused this engine's key.
    """

    def __init__(self, reason: str, status: int = 0, answer: ServiceAnswer | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.status = status
        self.answer = answer


@dataclass(frozen=True, slots=True)
class ServiceCall:
    """A caller's request.

    Attributes:
        endpoint: "chat/completions" or "completions".
        name: The name of the model that it asked for.
        body: As it was sent.
        fields: The same, read.
        headers: Header fields by lower-case name.
    """

    endpoint: str
    name: str
    body: bytes
    fields: Mapping[str, Any]
    headers: Mapping[str, str]


@dataclass(slots=True)
class ServiceAnswer:
    """An answer of the other service.

    Attributes:
        status: Its HTTP status.
        headers: The header fields to pass on.
        body: The whole body, or the first piece of a stream.
        stream: The rest of an event stream; None if the body is whole.
    """

    status: int
    headers: dict[str, str]
    body: bytes
    stream: Any = None


class UpstreamClient:
    """Sends requests to other services."""

    def __init__(self) -> None:
        from tunesmith.transport.factory import make_async_transport  # noqa: PLC0415 - loads httpx

        # A quarter of what a request costs the engine is its client on httpx.
        kind = "fast" if importlib.util.find_spec("pyreqwest") else "httpx"
        self._transport = make_async_transport(kind, max_connections=_MAX_CONNECTIONS)

    async def close(self) -> None:
        """Close the idle connections."""
        await self._transport.aclose()

    async def ask(
        self, upstream: UpstreamConfig, call: ServiceCall, seconds: float
    ) -> ServiceAnswer:
        """Send a request once and return the answer once it has begun, or is whole.

        Args:
            upstream: The settings of the service.
            call: The request.
            seconds: Most time until then.

        Raises:
            ServiceFailedError: It cannot be reached, takes too long, fails, refuses the key or no
                longer has the model.
        """
        try:
            async with asyncio.timeout(seconds):
                response = await self._transport.send(_request(upstream, call))
                answer = await _begun(response)
        except TimeoutError:
            raise ServiceFailedError(f"it did not answer within {seconds:g} s") from None
        except APIConnectionError as error:
            reason = _without_key(str(error), upstream)
            raise ServiceFailedError(f"it could not be reached ({reason})") from None
        return _checked(answer, upstream)


def _request(upstream: UpstreamConfig, call: ServiceCall) -> Request:
    headers = HeaderFields(
        {name: value for name, value in call.headers.items() if name in _SENT_FIELDS}
    )
    headers["content-type"] = "application/json"
    if upstream.kind == "azure":
        headers["api-key"] = upstream.api_key
    else:
        headers["authorization"] = f"Bearer {upstream.api_key}"
    if upstream.organization is not None:
        headers["openai-organization"] = upstream.organization
    if upstream.project is not None:
        headers["openai-project"] = upstream.project
    url, names_model = _address(upstream, call)
    body = call.body
    if not names_model and call.fields.get("model") != call.name:
        # The caller named its model in the path; the service wants it in the body.
        body = json.dumps({**call.fields, "model": call.name}, ensure_ascii=False).encode()
    return Request("POST", url, headers, body, _TIMEOUT, stream=True)


def _address(upstream: UpstreamConfig, call: ServiceCall) -> tuple[str, bool]:
    """Return the URL of a call, and whether it names the model."""
    url = upstream.url.rstrip("/")
    if upstream.kind == "openai":
        if not urlsplit(url).path:
            url += "/v1"
        return f"{url}/{call.endpoint}", False
    root = url.removesuffix("/v1").removesuffix("/openai")
    if upstream.api_version is None:
        return f"{root}/openai/v1/{call.endpoint}", False
    query = urlencode({"api-version": upstream.api_version})
    name = quote(call.name, safe="")
    return f"{root}/openai/deployments/{name}/{call.endpoint}?{query}", True


async def _begun(response: Response) -> ServiceAnswer:
    """Return the answer of a response: an event stream with its first piece, all else whole."""
    stream = response.stream
    headers = _returned(response)
    if stream is None:
        return ServiceAnswer(response.status, headers, response.body or b"")
    try:
        if headers.get("content-type", "").startswith("text/event-stream"):
            first = await stream.read()
            return ServiceAnswer(response.status, headers, first, stream)
        pieces: list[bytes] = []
        while piece := await stream.read():
            pieces.append(piece)
    except BaseException:
        await stream.aclose()
        raise
    return ServiceAnswer(response.status, headers, b"".join(pieces))


def _returned(response: Response) -> dict[str, str]:
    fields = {
        name: value
        for name, value in response.headers.items()
        if name in _RETURNED_FIELDS or name.startswith(_RETURNED_PREFIXES)
    }
    if response.request_id is not None:
        fields["x-upstream-request-id"] = response.request_id
    return fields


def _checked(answer: ServiceAnswer, upstream: UpstreamConfig) -> ServiceAnswer:
    """Return an answer for the caller: of any status, but of the service's own and with no key.

    Raises:
        ServiceFailedError: It is of no use to the caller if another side has an answer.
    """
    status = answer.status
    if answer.stream is None:
        answer.body = answer.body.replace(upstream.api_key.encode(), MASK.encode())
    if status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
        # What it says of the key is for the one who runs this engine, not for its callers.
        raise ServiceFailedError(f"it refuses this engine's key for it ({status})", status)
    if HTTPStatus.MULTIPLE_CHOICES <= status < HTTPStatus.BAD_REQUEST:
        raise ServiceFailedError(f"it redirects to another address ({status})", status)
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        raise ServiceFailedError(f"it failed with the status {status}", status, answer)
    if status == HTTPStatus.GONE or (
        status == HTTPStatus.NOT_FOUND and _error_code(answer.body) in _GONE_CODES
    ):
        raise ServiceFailedError(f"it no longer has the model ({status})", status, answer)
    return answer


def _error_code(body: bytes) -> str | None:
    try:
        return str(json.loads(body)["error"]["code"])
    except (ValueError, KeyError, TypeError):
        return None


def _without_key(text: str, upstream: UpstreamConfig) -> str:
    return text.replace(upstream.api_key, MASK)
