"""Engines for the tests of applications that fine-tune.

`simulate()` runs the engine's own HTTP API, store and state machine inside the test
process; jobs take milliseconds and memorise their training data, so neither torch nor a
model is needed (extra `testing`). `start_tiny()` runs the real engine on a tiny model
with random weights (extra `engine`). `tunesmith.testing.plugin` gives both as pytest fixtures.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .simulated_backend import Prompt
    from .simulated_engine import SimulatedEngine, simulate
    from .tiny_model import start_tiny, write_tiny_home, write_tiny_model

__all__ = [
    "Prompt",
    "SimulatedEngine",
    "simulate",
    "start_tiny",
    "write_tiny_home",
    "write_tiny_model",
]

_MODULES = {
    "Prompt": "simulated_backend",
    "SimulatedEngine": "simulated_engine",
    "simulate": "simulated_engine",
    "start_tiny": "tiny_model",
    "write_tiny_home": "tiny_model",
    "write_tiny_model": "tiny_model",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f".{_MODULES[name]}", __name__), name)
