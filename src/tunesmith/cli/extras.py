"""Whether an extra is installed, asked before a command imports what it brings."""

from __future__ import annotations

from importlib.util import find_spec

from tunesmith.errors import MissingExtraError

__all__ = ["require_engine", "require_extra"]


def require_extra(feature: str, extra: str, *modules: str) -> None:
    """Check that modules of an extra can be imported, without importing them.

    Raises:
        MissingExtraError: One cannot; the message says what to install.
    """
    if any(find_spec(module) is None for module in modules):
        raise MissingExtraError(feature, extra)


def require_engine(feature: str = "The embedded engine") -> None:
    """Check that the engine's extra is installed."""
    require_extra(feature, "engine", "fastapi", "platformdirs", "sqlalchemy", "torch", "uvicorn")
