"""Optional packages: used where they are installed."""

from __future__ import annotations

from functools import cache
from importlib import import_module
from typing import Any

__all__ = ["optional"]


@cache
def optional(name: str) -> Any:
    """Return a module, or None where it is not installed."""
    try:
        return import_module(name)
    except ImportError:
        return None
