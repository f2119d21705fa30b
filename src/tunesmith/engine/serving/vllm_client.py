"""The HTTP calls to a running vLLM server, and what its errors mean for the engine's user.

The endpoints are those of vLLM's OpenAI-compatible server: `/v1/models`,
`/v1/load_lora_adapter`, `/v1/unload_lora_adapter` (both only with
VLLM_ALLOW_RUNTIME_LORA_UPDATING=True) and `/v1/completions`.
"""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from tunesmith.core.headers import HeaderFields
from tunesmith.core.options import Timeout
from tunesmith.core.request import Request, json_body
from tunesmith.core.sse import ServerSentEventDecoder
from tunesmith.engine.domain.errors import ErrorKind
from tunesmith.errors import APIConnectionError

from .generation_errors import GenerationError, ModelNotServedError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from tunesmith.core.redact import Secret
    from tunesmith.core.response import Response

__all__ = ["VllmClient"]

TIMEOUT = Timeout(600.0, connect=5.0)  # requests may wait long in a busy server's queue
HEALTH_TIMEOUT = Timeout(10.0, connect=2.0)
MAX_CONNECTIONS = 1024


class VllmClient:
    """A client of one vLLM server.

    Args:
        url: The server's URL, with or without `/v1`.
        key: The key that it was started with as `--api-key`, if any.
    """

    def __init__(self, url: str, key: Secret | None) -> None:
        from tunesmith.transport.async_httpx import AsyncHttpxTransport  # noqa: PLC0415 - loads httpx

        self.url: str = url.rstrip("/").removesuffix("/v1")
        self._key = key
        self._transport = AsyncHttpxTransport(max_connections=MAX_CONNECTIONS)

    async def close(self) -> None:
        """Close the idle connections."""
        await self._transport.aclose()

    async def health(self) -> int | None:
        """Return the status that `/health` has; None if the server does not answer it soon."""
        request = Request("GET", f"{self.url}/health", HeaderFields(), None, HEALTH_TIMEOUT)
        try:
            response = await self._transport.send(request)
        except APIConnectionError:
            return None
        return response.status

    async def models(self) -> list[dict[str, Any]]:
        """Return the models that the server has: base models, and adapters with their `parent`."""
        answer = await self._call("GET", "/v1/models")
        cards: list[dict[str, Any]] = answer["data"]
        return cards

    async def load_lora_adapter(self, name: str, folder: str) -> None:
        """Load an adapter; one of that name from another folder is replaced."""
        fields = {"lora_name": name, "lora_path": folder, "load_inplace": True}
        await self._call("POST", "/v1/load_lora_adapter", fields)

    async def unload_lora_adapter(self, name: str) -> None:
        """Unload an adapter."""
        await self._call("POST", "/v1/unload_lora_adapter", {"lora_name": name})

    async def complete(self, fields: dict[str, Any]) -> AsyncGenerator[dict[str, Any], None]:
        """Yield the chunks of a streamed completion; closing it early stops the generation.

        Raises:
            GenerationError: The server rejects the request, or the connection fails.
        """
        response = await self._send("POST", "/v1/completions", fields | {"stream": True})
        if not response.is_success:
            raise self._error(response.status, response.body, "/v1/completions")
        decoder = ServerSentEventDecoder()
        try:
            while piece := await response.stream.read():
                for event in decoder.feed(piece):
                    if event.data == b"[DONE]":
                        await response.stream.drain()
                        return
                    chunk: dict[str, Any] = json.loads(event.data)
                    if "error" in chunk:
                        status = HTTPStatus.INTERNAL_SERVER_ERROR
                        raise self._error(status, event.data, "/v1/completions")
                    yield chunk
        except APIConnectionError as error:
            raise self._unreachable(error) from error
        finally:
            await response.stream.aclose()

    async def _call(
        self, method: str, path: str, fields: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        response = await self._send(method, path, fields)
        if not response.is_success:
            raise self._error(response.status, response.body, path)
        try:
            answer: dict[str, Any] = json.loads(response.body or b"")
        except ValueError:  # "Success: …", after an adapter was loaded
            return {}
        return answer

    async def _send(self, method: str, path: str, fields: dict[str, Any] | None) -> Response:
        headers = HeaderFields()
        body = json_body(fields)
        if body is not None:
            headers["content-type"] = "application/json"
        if self._key is not None:
            headers["authorization"] = f"Bearer {self._key.reveal()}"
        stream = fields is not None and "stream" in fields
        request = Request(method, self.url + path, headers, body, TIMEOUT, stream=stream)
        try:
            return await self._transport.send(request)
        except APIConnectionError as error:
            raise self._unreachable(error) from error

    def _unreachable(self, error: APIConnectionError) -> GenerationError:
        return GenerationError(
            f"The vLLM server at {self.url} that answers for this engine cannot be reached "
            f"({error}). Start it, or correct `url` under [serving] in the engine's settings.",
            kind=ErrorKind.UNAVAILABLE,
            code="serving_unreachable",
        )

    def _error(self, status: int, body: bytes | None, path: str) -> GenerationError:
        message = _message(body)
        if status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
            return GenerationError(
                f"The vLLM server at {self.url} rejects this engine's API key ({status}). Set "
                "`api_key` under [serving] in the engine's settings to that of its --api-key.",
                kind=ErrorKind.UPSTREAM,
                code="serving_refused",
            )
        if status == HTTPStatus.NOT_FOUND and path.endswith("lora_adapter"):
            return GenerationError(
                f"The vLLM server at {self.url} does not load adapters at run time. Start it "
                "with --enable-lora and VLLM_ALLOW_RUNTIME_LORA_UPDATING=True.",
                kind=ErrorKind.UPSTREAM,
                code="serving_refused",
            )
        if status == HTTPStatus.BAD_REQUEST:
            return GenerationError(f"vLLM rejects the request: {message}", code="serving_refused")
        error_class = ModelNotServedError if status == HTTPStatus.NOT_FOUND else GenerationError
        return error_class(
            f"The vLLM server at {self.url} failed ({status}): {message}",
            kind=ErrorKind.UPSTREAM,
            code="serving_failed",
        )


def _message(body: bytes | None) -> str:
    """Return the message of an error envelope, or the start of any other body."""
    text = (body or b"").decode("utf-8", "replace")
    try:
        content = json.loads(text)
        error = content.get("error", content)
        return str(error["message"] if isinstance(error, dict) else error)
    except (ValueError, KeyError, AttributeError, TypeError):
        return text[:200].strip() or "no reason given"
