"""Removal of files and folders in two steps: a rename within a transaction, the rest after it.

A rename takes no time, so it can be part of the transaction that finds that nothing refers
to the path any more. Removing large contents takes long, and would make every writer wait.
Files in use stay readable until they are closed. What a crash leaves between the steps is
collected as garbage.
"""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

from .records import new_token

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["remove", "set_aside"]


def set_aside(path: Path) -> Path | None:
    """Rename a file or folder, and return where it is now; None if it does not exist.

    Raises:
        OSError: It cannot be renamed.
    """
    aside = path.with_name(f".deleted-{new_token(8)}")
    try:
        path.replace(aside)
    except FileNotFoundError:
        return None
    return aside


def remove(path: Path) -> None:
    """Remove a file or folder that was set aside."""
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
