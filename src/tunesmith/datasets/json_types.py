"""Type guards for decoded JSON: objects and arrays."""

from __future__ import annotations

from typing import Any

from typing_extensions import TypeIs

__all__ = ["is_array", "is_object"]


def is_object(value: Any) -> TypeIs[dict[str, Any]]:
    """Return whether a value is a JSON object; keys of decoded JSON are strings."""
    return isinstance(value, dict)


def is_array(value: Any) -> TypeIs[list[Any]]:
    """Return whether a value is a JSON array."""
    return isinstance(value, list)
