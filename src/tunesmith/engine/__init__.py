"""The embedded fine-tuning platform: a server that trains and serves on this machine.

`start()` runs it in a process of its own for as long as a `with` block lasts;
`serve()` runs it in this process. Both need `pip install 'tunesmith[engine]'`, and nothing of
that is loaded before one of them is used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .config import EngineConfig, Limits
    from .domain.errors import EngineError
    from .home import Home
    from .process import Engine, start
    from .server import serve

__all__ = ["Engine", "EngineConfig", "EngineError", "Home", "Limits", "serve", "start"]

_ROOMS = {
    "Engine": "process",
    "EngineConfig": "config",
    "EngineError": "domain.errors",
    "Home": "home",
    "Limits": "config",
    "serve": "server",
    "start": "process",
}


def __getattr__(name: str) -> Any:
    if name not in _ROOMS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib  # noqa: PLC0415 - not at import

    return getattr(importlib.import_module(f"{__name__}.{_ROOMS[name]}"), name)


def __dir__() -> list[str]:
    return __all__
