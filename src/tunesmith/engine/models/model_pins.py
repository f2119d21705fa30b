"""What was pulled once is what is pulled again, and what stays on the disk.

A repository that the table of base models does not pin by hashes is trusted the first time: its
commit and the SHA-256 of its files are written to `models.lock.json`, and a later pull, on this
machine or on one that has a copy of that file, must give the same. What a folder holds is compared
with its `provenance.json`. How files are downloaded is not known here.
"""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING, Any, TypeAlias

import pydantic

from tunesmith.atomic import write_atomically
from tunesmith.downloads.package_index import file_sha256
from tunesmith.file_lock import exclusive_lock

from .model_errors import CatalogError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from tunesmith.engine.home import Home

    from .model_info import BaseModel

__all__ = [
    "changed_files",
    "commit_of",
    "forget_pin",
    "keep_pin",
    "not_as_pulled",
    "origin_of",
    "pinned",
]


class _Pin(pydantic.BaseModel):
    revision: str
    files: dict[str, str]


_Pins: TypeAlias = dict[str, _Pin]
_PINS: pydantic.TypeAdapter[_Pins] = pydantic.TypeAdapter(_Pins)


def pinned(home: Home, base: BaseModel) -> BaseModel:
    """Return a base model with the commit and the hashes of its first pull, where there was one.

    What the table of base models says of commit and hashes counts more.

    Raises:
        CatalogError: `models.lock.json` is damaged.
    """
    pin = _read(home).get(base.hub_id or "")
    if pin is None or base.files is not None or base.revision not in {None, pin.revision}:
        return base
    return dataclasses.replace(base, revision=pin.revision, files=pin.files)


def keep_pin(home: Home, hub_id: str, revision: str, files: Mapping[str, str]) -> None:
    """Hold later pulls of a repository to this commit and these hashes."""
    _change(home, lambda pins: pins.update({hub_id: _Pin(revision=revision, files=dict(files))}))


def forget_pin(home: Home, hub_id: str) -> None:
    """Let the next pull of a repository take what is there then."""
    _change(home, lambda pins: pins.pop(hub_id, None))


def origin_of(folder: Path) -> Mapping[str, Any]:
    """Return what was written down when a model was pulled; nothing for a folder of one's own."""
    try:
        found: Any = json.loads((folder / "provenance.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def commit_of(base: BaseModel) -> str | None:
    """Return the commit that a base model was pulled from, or else is to be pulled from."""
    revision: str | None = origin_of(base.path).get("revision", base.revision)
    return revision


def changed_files(folder: Path) -> list[str]:
    """Return the files of a pulled model that are not as they were pulled, or are gone."""
    files: Any = origin_of(folder).get("files")
    if not isinstance(files, dict):
        return []
    return sorted(str(name) for name, sha256 in files.items() if _hash(folder / name) != sha256)


def not_as_pulled(names: list[str]) -> str:
    """Return why a model with these changed files is not used, and the way out."""
    return (
        f"{', '.join(names)} {'is' if len(names) == 1 else 'are'} not as pulled; remove the model "
        "and pull it again, or put your own version into another folder and add that with "
        "`tunesmith models add`"
    )


def _hash(path: Path) -> str | None:
    try:
        return file_sha256(path)
    except OSError:
        return None


def _change(home: Home, change: Callable[[_Pins], object]) -> None:
    home.downloads.mkdir(parents=True, exist_ok=True)
    path = home.base_model_pins
    with exclusive_lock(home.downloads / f"{path.name}.lock"):
        pins = _read(home)
        before = dict(pins)
        change(pins)
        if pins != before:
            with write_atomically(path) as file:
                file.write(_PINS.dump_json(pins, indent=2) + b"\n")


def _read(home: Home) -> _Pins:
    path = home.base_model_pins
    try:
        return _PINS.validate_json(path.read_bytes())
    except FileNotFoundError:
        return {}
    except (OSError, pydantic.ValidationError) as error:
        reason = error.errors()[0]["msg"] if isinstance(error, pydantic.ValidationError) else error
        raise CatalogError(
            f"{path} cannot be read ({reason}). It says which commit and which files of each model "
            "were pulled first. Restore it, or delete it to trust the next pull of each."
        ) from None
