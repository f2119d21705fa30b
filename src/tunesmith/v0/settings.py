"""The module-wide settings of the old SDK, which live as attributes of `tunesmith.v0`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

__all__ = ["read"]


def read(name: str) -> Any:
    """Return the setting as the user last assigned it: `tunesmith.v0.api_key = …`."""
    module = sys.modules["tunesmith.v0"]
    if name == "api_key" and (path := module.api_key_path):
        return Path(path).read_text(encoding="utf-8").strip()
    return getattr(module, name)
