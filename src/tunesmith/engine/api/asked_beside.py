"""The new model asked beside the old service: the caller's question as a request of its own.

It goes through the application itself, so that it is read, checked and answered as any request
is; only that nobody waits for it, that it is not streamed and not stored.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from dataclasses import replace
from http import HTTPStatus
from typing import TYPE_CHECKING

from tunesmith.engine.routing.decisions import Observation

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from fastapi import Request
    from starlette.types import ASGIApp, Message, Scope

    from tunesmith.engine.routing.upstream_client import ServiceCall
    from tunesmith.engine.security.keys import Identity

__all__ = ["beside"]


def beside(
    request: Request, call: ServiceCall, request_id: str, limit: float
) -> Callable[[], Awaitable[Observation]]:
    """Return what asks the model here the same question, as a request of its own.

    Args:
        request: The caller's; its key is asked with, its shares and limits are not touched.
        call: What it asks for.
        request_id: Stands in the log of both.
        limit: Most seconds.
    """
    app, identity = request.app, request.scope["identity"]

    async def ask() -> Observation:
        observation = Observation()
        try:
            async with asyncio.timeout(limit):
                await _ask_app(app, _beside_scope(call, identity, request_id), call, observation)
        except TimeoutError:
            observation.fail(f"it did not answer within {limit:g} s")
        except Exception as error:  # noqa: BLE001 - the application has logged it
            observation.fail(type(error).__name__, HTTPStatus.INTERNAL_SERVER_ERROR)
        return observation

    return ask


def _beside_scope(call: ServiceCall, identity: Identity, request_id: str) -> Scope:
    path = f"/v1/{call.endpoint}"
    # A key of its own: the callers' shares and limits are theirs alone.
    beside = replace(identity, key_id=f"{identity.key_id or ''}/beside")
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "root_path": "",
        "query_string": b"",
        "headers": [(b"content-type", b"application/json")],
        "client": None,
        "server": ("127.0.0.1", 80),
        "state": {},
        "request_id": request_id,
        "identity": beside,
        "is_beside": True,
        "after_answer": contextlib.ExitStack(),
    }


async def _ask_app(app: ASGIApp, scope: Scope, call: ServiceCall, observation: Observation) -> None:
    left_out = {"stream", "stream_options", "store"}
    fields = {name: value for name, value in call.fields.items() if name not in left_out}
    body = json.dumps({**fields, "model": call.name}).encode()
    unread = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> Message:
        if unread:
            return unread.pop()
        await asyncio.Event().wait()  # nobody disconnects
        raise AssertionError

    async def send(message: Message) -> None:
        if message["type"] == "http.response.start":
            observation.status = message["status"]
        elif message.get("body"):
            observation.add(message["body"])

    with scope["after_answer"]:
        await app(scope, receive, send)
    observation.end(is_whole=True)
    if observation.status != HTTPStatus.OK:
        observation.error = _error_message(bytes(observation.content))


def _error_message(body: bytes) -> str:
    try:
        return str(json.loads(body)["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return "no reason given"
