"""Cursor pagination: the last item's id is the next page's `after`.

Servers differ: some omit `has_more`, some ignore `after` and send the same page forever.
The rules here end in every case, and yield no item of a repeated page twice.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from .flow import Flow

__all__ = ["PageCursor", "PageData", "PageFlow"]

T = TypeVar("T")


@dataclass(slots=True)
class PageCursor:
    """The position in a list: the next `after` and the cursors already used."""

    after: str | None = None
    seen: frozenset[str] = frozenset()


@dataclass(slots=True)
class PageData(Generic[T]):
    """One page as received.

    Attributes:
        data: Its items, in the server's order.
        has_more: What the server says, None if it says nothing.
        paged: False for lists that are always sent whole.
        next: The cursor of the next page; None at the end.
    """

    data: list[T]
    has_more: bool | None = None
    paged: bool = True
    object: str | None = "list"
    response: Any = None
    next: PageCursor | None = field(default=None, init=False)

    def follow(self, cursor: PageCursor) -> None:
        """Set `next`, and drop the items if this page has been seen before."""
        last = _id_of(self.data)
        if last is not None and last in cursor.seen:
            self.data = []
            return
        if not self.paged or self.has_more is False or last is None:
            return
        self.next = PageCursor(last, cursor.seen | {last})


PageFlow = Callable[[PageCursor], Flow[PageData[T]]]


def _id_of(items: Sequence[object]) -> str | None:
    """Return the last item's id; None for no items or for items without one."""
    identity = getattr(items[-1], "id", None) if items else None
    return identity if isinstance(identity, str) and identity else None
