"""What a command says when it fails: one paragraph with the way out, whatever went wrong.

An error that nobody expected is said to be one, and its traceback is kept in a file for who can do
something about it.
"""

from __future__ import annotations

import errno
import tempfile
import traceback

from tunesmith._install import install_command, install_extra
from tunesmith.errors import TunesmithError

__all__ = ["message_of"]

_MOST_SHOWN = 300
_MOST_NAMED = 60
_WAYS_OUT = {
    errno.ENOSPC: "The disk is full: free some space, and run the command again.",
    errno.EDQUOT: "Your share of the disk is used up: free some, and run the command again.",
    errno.EACCES: "Name another place, or change who may use this one.",
    errno.EPERM: "Name another place, or change who may use this one.",
    errno.EROFS: "This place cannot be written to: name another one.",
    errno.EISDIR: "Name a file.",
    errno.ENOTDIR: "A part of this path is a file.",
    errno.EMFILE: "Raise the limit of open files, `ulimit -n`.",
}
_EXTRAS = {
    "engine": "alembic fastapi jinja2 numpy peft platformdirs safetensors sqlalchemy tokenizers "
    "tomlkit torch transformers uvicorn",
    "migrate": "jsonschema yaml",
    "plots": "matplotlib",
}
_EXTRA_OF = {name: extra for extra, names in _EXTRAS.items() for name in names.split()}


def message_of(error: Exception) -> str:
    """Return what to tell the user of a command that ended with this error."""
    if isinstance(error, TunesmithError):
        return str(error)
    if isinstance(error, OSError):  # a file or a folder that the user named cannot be used
        place = f"{error.filename}: " if error.filename else ""
        return f"{place}{error.strerror or error}. {_WAYS_OUT.get(error.errno or 0, '')}".strip()
    if isinstance(error, UnicodeEncodeError):
        return (
            f"{error.object[:_MOST_NAMED]!a} holds what is no text in UTF-8, so it cannot be "
            "sent. Type it again, or set your terminal to UTF-8."
        )
    if isinstance(error, ModuleNotFoundError) and error.name:
        name = error.name.partition(".")[0]
        extra = _EXTRA_OF.get(name)
        command = install_command(name) if extra is None else install_extra(extra)
        return f"The package {name} is not installed. Install it with: {command}"
    return _unexpected(error)


def _unexpected(error: Exception) -> str:
    what = f"{type(error).__name__}: {error}".strip().splitlines()[0][:_MOST_SHOWN]
    said = f"Something went wrong that should not have ({what})."
    try:
        with tempfile.NamedTemporaryFile(
            "w", prefix="tunesmith-", suffix=".txt", delete=False, encoding="utf-8"
        ) as file:
            traceback.print_exception(error, file=file)
    except OSError:
        return said
    return f"{said} The details are in {file.name}; please report them."
