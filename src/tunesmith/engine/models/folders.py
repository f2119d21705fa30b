"""Make a finished folder appear under its name: whole, on the disk, or not at all."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["publish_folder"]


def publish_folder(gathered: Path, target: Path) -> None:
    """Bring every file of `gathered` to the disk, then rename the folder to `target`.

    Args:
        gathered: The complete folder, on the same disk as `target`.
        target: A name that is free.
    """
    for path in [*gathered.rglob("*"), gathered]:
        _sync(path)
    gathered.rename(target)
    _sync(target.parent)


def _sync(path: Path) -> None:
    if path.is_dir() and os.name == "nt":  # Windows opens no folders
        return
    descriptor = os.open(path, os.O_RDONLY if os.name != "nt" else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
