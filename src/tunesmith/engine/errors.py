"""What can stop the engine from starting or from going on, told as one paragraph each."""

from __future__ import annotations

from tunesmith.errors import TunesmithError

__all__ = ["CorruptFileError", "EngineError", "LostLeaseError", "StoreError"]


class EngineError(TunesmithError):
    """The engine cannot start or was found in a state that it cannot serve from."""


class StoreError(EngineError):
    """The database or the folder of files cannot be used; the text says why and what to do."""


class CorruptFileError(StoreError):
    """A stored file no longer has the content that was uploaded."""


class LostLeaseError(EngineError):
    """Another process has taken this process's job over; it must stop and write nothing."""
