"""Cursor pagination: the `limit` parameter and the list object around the items."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from .http_errors import invalid

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["check_limit", "cursor_of", "list_object", "page_object"]

_Row = TypeVar("_Row")


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


def cursor_of(after: str | None, what: str, find: Callable[[str], _Row | None]) -> _Row | None:
    """Return the row after which a page begins; None for the first page.

    Args:
        after: The parameter of this name.
        what: The kind of row, for the message.
        find: Returns the row of an id, None if there is none.

    Raises:
        ApiError: There is no such row.
    """
    if after is None:
        return None
    found = find(after)
    if found is None:
        raise invalid(f"No such {what} to list after: {after}", param="after")
    return found


def page_object(
    rows: Sequence[_Row], size: int, render: Callable[[_Row], dict[str, Any]]
) -> dict[str, Any]:
    """Return a page of at most `size` rows as JSON data; one row more says that there are more."""
    return list_object([render(row) for row in rows[:size]], has_more=len(rows) > size)
