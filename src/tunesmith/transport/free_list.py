"""Connections that wait for their next request, by the server they lead to."""

from __future__ import annotations

from typing import Generic, Protocol, TypeVar

from .limits import origin_of

__all__ = ["FreeList"]


class _Slot(Protocol):
    """One connection, of either colour."""

    origin: str


SlotT = TypeVar("SlotT", bound=_Slot)


class FreeList(Generic[SlotT]):
    """Free connections; the most recently used is taken first. Each step is atomic in CPython."""

    def __init__(self) -> None:
        self._slots: dict[str, list[SlotT]] = {}

    def take(self, url: str) -> SlotT | None:
        """Return a connection for an address, None where all are in use."""
        try:
            return self._slots[origin_of(url)].pop()
        except (KeyError, IndexError):
            return None

    def keep(self, slot: SlotT) -> None:
        """Let a connection wait here."""
        self._slots.setdefault(slot.origin, []).append(slot)

    def empty(self) -> list[SlotT]:
        """Return all connections; none is kept any more."""
        slots, self._slots = self._slots, {}
        return [slot for group in slots.values() for slot in group]
