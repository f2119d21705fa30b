"""The errors of exports and imports."""

from __future__ import annotations

from tunesmith.engine.domain.errors import EngineError

__all__ = ["ExportError", "ImportModelError"]


class ExportError(EngineError):
    """A model cannot be exported; the message says why and what can be done. No folder is left."""


class ImportModelError(EngineError):
    """An adapter cannot be imported; the message says why. Nothing of it is stored."""
