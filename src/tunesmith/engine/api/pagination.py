"""Cursor pagination: the `limit` parameter and the list object around the items."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .http_errors import invalid

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["check_limit", "list_object"]


def check_limit(limit: int, maximum: int) -> int:
    """Return the page size; 0 gives an empty page.

    Raises:
        ApiError: It is negative or above `maximum`.
    """
    if not 0 <= limit <= maximum:
        raise invalid(f"limit must be between 0 and {maximum}, not {limit}.", param="limit")
    return limit


def list_object(items: Sequence[dict[str, Any]], *, has_more: bool) -> dict[str, Any]:
    """Return a page as JSON data. The first and last id of an empty page are empty strings."""
    return {
        "object": "list",
        "data": list(items),
        "first_id": items[0]["id"] if items else "",
        "last_id": items[-1]["id"] if items else "",
        "has_more": has_more,
    }
