"""One page of a list, as it stands on the wire."""

from __future__ import annotations

from typing import Generic, TypeVar

from tunesmith._lazy import set_public_module

from .base import WireModel

__all__ = ["ListPage"]

ItemT = TypeVar("ItemT")


class ListPage(WireModel, Generic[ItemT]):
    """One page of a list; the ids are null or absent on some lists."""

    object: str | None = "list"
    data: list[ItemT]
    first_id: str | None = None
    last_id: str | None = None
    has_more: bool | None = None


set_public_module(globals(), "tunesmith.types")
