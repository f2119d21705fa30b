"""How much a folder takes on its disk, and whether there is room for what is to be written."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

from .errors import TunesmithError

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["NotEnoughSpaceError", "folder_bytes", "require_space"]

# Kept free for everything else that writes to the disk in the meantime.
_MARGIN_BYTES = 64 << 20


class NotEnoughSpaceError(TunesmithError):
    """A folder's disk has not enough free space for what is about to be written."""


def require_space(folder: Path, needed: int, purpose: str) -> None:
    """Check that the disk of `folder` has `needed` bytes free, and 64 MiB more.

    Args:
        folder: An existing folder on the disk.
        needed: The bytes about to be written.
        purpose: What they are for, as in "to download model.bin", for the message.

    Raises:
        NotEnoughSpaceError: It has less; the message names the bytes and the folder.
    """
    free = shutil.disk_usage(folder).free
    if free < needed + _MARGIN_BYTES:
        raise NotEnoughSpaceError(
            f"Not enough disk space to {purpose}: {needed + _MARGIN_BYTES:,} bytes are needed and "
            f"{free:,} bytes are free on the disk of {folder}. Free some space there, or set "
            "TUNESMITH_HOME to a folder on another disk."
        )


def folder_bytes(folder: Path) -> int:
    """Return the bytes of all files in a folder and in those below it; 0 if it is not there."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
