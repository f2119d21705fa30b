"""Full disks, too many open files, too little memory: how to know them, and what to say.

The libraries report them by many exceptions; what those have in common is the text. So
nothing heavy needs to be imported to recognise them.
"""

from __future__ import annotations

import errno

__all__ = [
    "DISK_FULL",
    "OUT_OF_MEMORY",
    "TOO_MANY_FILES",
    "is_disk_full",
    "is_out_of_memory",
    "is_too_many_files",
]

DISK_FULL = (
    "The engine's disk is full. Its operator can free space with `tunesmith engine gc`, or by "
    "deleting files and models that are no longer needed."
)

TOO_MANY_FILES = (
    "The engine has as many files and connections open as its system allows. Try again shortly; "
    "its operator can raise the limit (`ulimit -n`)."
)

OUT_OF_MEMORY = (
    "Not enough memory for this training. Use a smaller batch_size, shorter examples or a "
    "smaller base model."
)

_DISK_FULL_TEXTS = ("disk is full", "No space left", "os error 28")
_OUT_OF_MEMORY_TEXTS = ("out of memory", "can't allocate", "not enough memory")


def is_disk_full(error: BaseException) -> bool:
    """Return whether an error was raised because a disk, or a quota on it, is full."""
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno in {errno.ENOSPC, errno.EDQUOT}
    return any(text in str(error) for text in _DISK_FULL_TEXTS)


def is_too_many_files(error: BaseException) -> bool:
    """Return whether an error was raised because no more files may be open."""
    return isinstance(error, OSError) and error.errno in {errno.EMFILE, errno.ENFILE}


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error was raised because the memory, of the host or a GPU, is used up."""
    return isinstance(error, MemoryError) or any(
        text in str(error) for text in _OUT_OF_MEMORY_TEXTS
    )
