"""One page of a list, as it stands on the wire."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Generic, TypeVar

from tunesmith._lazy import set_public_module

from .base import WireModel

__all__ = ["ListPage"]

ItemT = TypeVar("ItemT")


class ListPage(WireModel, Generic[ItemT]):
    """One page of a list; the ids are null or absent on some lists."""

    _essential: ClassVar[frozenset[str] | None] = frozenset({"data"})

    object: str | None = "list"
    data: list[ItemT]
    first_id: str | None = None
    last_id: str | None = None
    has_more: bool | None = None

    @classmethod
    def _mended(cls, content: Any, position: int) -> Any:
        """A bare array is a list, and a null one an empty list, as servers in Go send it."""
        if isinstance(content, list):
            return {"data": content}
        if isinstance(content, Mapping) and content.get("data", ...) is None:
            return {**content, "data": []}
        return content


set_public_module(globals(), "tunesmith.types")
