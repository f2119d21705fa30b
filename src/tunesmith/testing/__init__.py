"""Engines for the tests of applications that fine-tune.

`simulate()` runs the engine's own HTTP API, store and state machine inside the test
process; jobs take milliseconds and learn their training data by heart, so neither torch
nor a model is needed (extra `testing`). `start_tiny()` runs the real engine on a tiny
random model (extra `engine`). `tunesmith.testing.plugin` gives both as pytest fixtures.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .prompt import Prompt
    from .simulated import SimulatedEngine, simulate
    from .tiny import start_tiny, write_tiny_home, write_tiny_model

__all__ = [
    "Prompt",
    "SimulatedEngine",
    "simulate",
    "start_tiny",
    "write_tiny_home",
    "write_tiny_model",
]

_PLACES = {
    "Prompt": "prompt",
    "SimulatedEngine": "simulated",
    "simulate": "simulated",
    "start_tiny": "tiny",
    "write_tiny_home": "tiny",
    "write_tiny_model": "tiny",
}


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f".{_PLACES[name]}", __name__), name)
