"""Cursor pages: `limit`, `after`, and the list object around the items."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .errors import invalid

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["check_limit", "list_object"]


def check_limit(limit: int, most: int) -> int:
    """Return a page size; 0 gives an empty page.

    Raises:
        ApiError: It is negative or above `most`.
    """
    if not 0 <= limit <= most:
        raise invalid(f"limit must be between 0 and {most}, not {limit}.", param="limit")
    return limit


def list_object(items: Sequence[dict[str, Any]], *, has_more: bool) -> dict[str, Any]:
    """Return a page as JSON data. An empty page's first and last id are empty text."""
    return {
        "object": "list",
        "data": list(items),
        "first_id": items[0]["id"] if items else "",
        "last_id": items[-1]["id"] if items else "",
        "has_more": has_more,
    }
