"""Unpacks the archive of an export: regular files, in a new folder, and nothing outside of it."""

from __future__ import annotations

import shutil
import tarfile
from pathlib import Path, PurePosixPath

from tunesmith.atomic import publish_folder
from tunesmith.errors import TunesmithError

__all__ = ["unpack"]

_NOT_IN_NAMES = set('\\:*?"<>|')


def unpack(archive: Path, folder: Path) -> None:
    """Unpack an archive; the folder appears whole or not at all.

    Args:
        archive: A tar file with one folder in it, whose files are unpacked.
        folder: A path that does not exist.

    Raises:
        TunesmithError: The archive holds something else than plain files within one folder.
        OSError: The disk is full, or the folder cannot be written.
    """
    temporary = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    try:
        with tarfile.open(archive, mode="r:") as members:
            for member in members:
                path = temporary / _place(member)
                path.parent.mkdir(parents=True, exist_ok=True)
                source = members.extractfile(member)
                with path.open("xb") as output:
                    shutil.copyfileobj(source, output, 1 << 20)  # type: ignore[arg-type] # a file
        publish_folder(temporary, folder)
    except tarfile.TarError as error:
        raise TunesmithError(f"{archive} is no archive of an export: {error}.") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _place(member: tarfile.TarInfo) -> Path:
    """Return where a member goes, below the new folder."""
    parts = PurePosixPath(member.name).parts
    is_safe = len(parts) > 1 and ".." not in parts and parts[0] != "/"
    if not member.isreg() or not is_safe or _NOT_IN_NAMES & set(member.name):
        raise TunesmithError(
            f"The archive holds {member.name!r:.200}, which is no plain file within its folder. "
            "Nothing was unpacked."
        )
    return Path(*parts[1:])
