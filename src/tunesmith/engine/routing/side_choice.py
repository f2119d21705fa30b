"""Which side answers a request to a name with a route: decided by the request alone.

In the stage "percentage" a stable hash decides. Who has once been answered by the new model stays
with it while the percentage rises.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tunesmith.engine.store.records import ModelRouteRow

__all__ = ["Side", "side_of"]

Side = Literal["upstream", "local"]

_SHARES = 10_000
_USER_FIELDS = ("user", "safety_identifier", "prompt_cache_key")


def side_of(route: ModelRouteRow, fields: Mapping[str, Any]) -> Side:
    """Return the side whose turn it is to answer a request with this body."""
    if route.stage == "local":
        return "local"
    if route.stage == "percentage":
        share = _hash(route.name, _key(route.sticky_by, fields))
        return "local" if share < route.percentage * _SHARES / 100 else "upstream"
    return "upstream"


def _hash(name: str, key: str) -> int:
    digest = hashlib.sha256(f"{name}\0{key}".encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:8]) % _SHARES


def _key(sticky_by: str, fields: Mapping[str, Any]) -> str:
    """Return what keeps to one side; a request that names no user goes by its conversation."""
    if sticky_by == "user":
        for name in _USER_FIELDS:
            value = fields.get(name)
            if isinstance(value, str) and value:
                return value
    if sticky_by == "request":
        return _canonical(fields)
    return _canonical(_beginning(fields))


def _beginning(fields: Mapping[str, Any]) -> Any:
    """Return what all requests of one conversation begin with: up to the user's first message."""
    messages: Any = fields.get("messages")
    if not isinstance(messages, list):
        return fields.get("prompt")
    for number, message in enumerate(messages, start=1):
        if isinstance(message, dict) and message.get("role") == "user":
            return messages[:number]
    return messages


def _canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True, default=str)
