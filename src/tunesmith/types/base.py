"""The base of every wire object.

A wire object is strict about what identifies an answer, an id or a text, and lenient about
bookkeeping: a missing identifying field is an error that names it; other fields that a server
leaves out have the empty value of their type, 0, "" or []. Unknown enum values and extra fields
pass, so a server that grows does not break its clients. Fields keep the names and the order of
the public contract. Client and engine share these classes: what one side writes the other side
reads.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict

from tunesmith._lazy import set_public_module

__all__ = ["TERMINAL_STATUSES", "WireModel"]

TERMINAL_STATUSES = frozenset({"succeeded", "failed", "cancelled"})
"""The statuses in which a job of either API can no longer change; unknown ones are not."""


def _unset(kind: type[WireModel]) -> WireModel:
    """Return an object whose state pickle sets next."""
    return kind.__new__(kind)


class WireModel(BaseModel):
    """A JSON object of the wire contract.

    Fields beyond the declared ones are kept and readable as attributes
    (`model_extra`). `model_fields_set` tells which fields the server sent; in an answer a null
    counts as not sent where the field has no null. The schema is compiled on first use, which
    keeps imports cheap.
    """

    model_config: ClassVar[ConfigDict] = ConfigDict(
        extra="allow", defer_build=True, protected_namespaces=()
    )

    added_here: ClassVar[dict[str, Any] | None] = None
    """The fields that this package adds, which are left out where the object is sent."""

    list_columns: ClassVar[tuple[str, ...]] = ()
    """The fields that a notebook shows of each object in a list; empty for the first ones."""

    _essential: ClassVar[frozenset[str] | None] = None
    """The fields that an unreadable answer is an error for; None for all. Others are left out."""

    @classmethod
    def _mended(cls, content: Any, position: int) -> Any:
        """Return what a careless server's content of this object means.

        Called before validation is tried again. `position` is the object's place in its list.
        """
        return content

    # A slot of its own, as a private attribute would cost a Python call for each object made.
    __slots__ = ("_exchange_id",)

    @property
    def _request_id(self) -> str | None:
        """The server's name for the exchange that this object came with, where it sent one."""
        return getattr(self, "_exchange_id", None)

    def _set_request_id(self, request_id: str | None) -> None:
        object.__setattr__(self, "_exchange_id", request_id)

    def __reduce__(self) -> Any:
        """Pickle `Class[Parameter]` as `Class`, since pickle finds classes by their names."""
        kind = type(self)
        origin = kind.__pydantic_generic_metadata__["origin"] or kind
        return _unset, (origin,), self.__getstate__()

    def __getstate__(self) -> dict[Any, Any]:
        return {**super().__getstate__(), "_exchange_id": self._request_id}

    def __setstate__(self, state: dict[Any, Any]) -> None:
        super().__setstate__(state)
        self._set_request_id(state.get("_exchange_id"))

    def __copy__(self) -> Self:
        return self._same_exchange(super().__copy__())

    def __deepcopy__(self, memo: dict[int, Any] | None = None) -> Self:
        return self._same_exchange(super().__deepcopy__(memo))

    def _same_exchange(self, copied: Self) -> Self:
        object.__setattr__(copied, "_exchange_id", self._request_id)
        return copied

    def __str__(self) -> str:
        """Return the class's name and the fields, as people know it from `print(job)`."""
        return repr(self)

    def _repr_html_(self) -> str:
        from tunesmith.core.html import object_html  # noqa: PLC0415 - for notebooks alone

        return object_html(self)

    def to_dict(self, *, exclude_unset: bool = True) -> dict[str, Any]:
        """Return the object as JSON-ready Python data, without the fields the server left out."""
        return self.model_dump(mode="json", exclude_unset=exclude_unset)

    def to_json(self, *, indent: int | None = 2, exclude_unset: bool = True) -> str:
        """Return the object as JSON text, without the fields the server left out."""
        return self.model_dump_json(indent=indent, exclude_unset=exclude_unset)


def with_index(content: Mapping[str, Any], position: int) -> dict[str, Any]:
    """Return the content of an item; its index is its position if none was sent."""
    item = dict(content)
    if item.get("index") is None:
        item["index"] = position
    return item


set_public_module(globals(), "tunesmith.types")
