"""Downloads a model's repository from the model hub, and verifies every file of it.

A model that is pinned is the files that its pin names, each with its SHA-256. Of any other
model the hub itself says what its files are: the SHA-256 of large files, the git hash of the
others. A file that is not what it should be is removed and named. What a file holds beyond
that is of no interest here.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from tunesmith.disk_space import folder_bytes, require_space
from tunesmith.downloads.package_index import file_sha256

from .model_errors import PullError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from .model_info import BaseModel

__all__ = ["HubUnavailableError", "download"]

_TIMEOUT_SECONDS = 8.0
_FILES = (".safetensors", ".json", ".jinja", ".model", "merges.txt")
_COMMIT = re.compile(r"[0-9a-f]{40}")


class HubUnavailableError(Exception):
    """The hub did not provide the model; the message says why."""


def download(
    base: BaseModel, folder: Path, report: Callable[[str, int, int], None]
) -> dict[str, Any]:
    """Download the model's files to `folder`, where what an earlier attempt left is used.

    Args:
        base: A model with a hub id.
        folder: Exists.
        report: Called with the activity, and bytes done and in total.

    Returns:
        The commit (`revision`), and the SHA-256 of each file (`files`).

    Raises:
        HubUnavailableError: The hub cannot be reached, or does not have the model or one of its
            files.
        PullError: A file is not what the pin, or the hub, says that it is.
        NotEnoughSpaceError: The disk is too full.
    """
    import huggingface_hub  # noqa: PLC0415 - an extra, loaded only where it is needed

    assert base.hub_id is not None  # noqa: S101 - pull() has checked it
    endpoint = os.environ.get("HF_ENDPOINT")
    report(f"asking the model hub for {base.hub_id}", 0, 1)
    with _hub_errors(base.hub_id, base.revision):
        info = huggingface_hub.HfApi(endpoint=endpoint).model_info(
            base.hub_id, revision=base.revision, files_metadata=True, timeout=_TIMEOUT_SECONDS
        )
    _check_commit(base, info.sha)
    offered = {file.rfilename: file for file in info.siblings or []}
    names = _names(base, offered)
    sizes = {name: offered[name].size or 0 for name in names}
    total = sum(sizes.values())
    require_space(folder, total - folder_bytes(folder), f"pull {base.hub_id}")
    before = 0
    for name in names:
        with _hub_errors(base.hub_id, info.sha):
            huggingface_hub.hf_hub_download(
                base.hub_id,
                name,
                revision=info.sha,
                local_dir=folder,
                etag_timeout=_TIMEOUT_SECONDS,
                endpoint=endpoint,
                tqdm_class=_progress_bar(before, total, f"downloading {base.hub_id}", report),
            )
        before += sizes[name]
        report(f"downloading {base.hub_id}", before, total)
    hashes = {name: _verified(base, folder / name, offered[name]) for name in names}
    for path in folder.iterdir():
        if path.name not in hashes:  # the library's own, or of a revision tried before
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    return {"revision": info.sha, "files": hashes}


def _check_commit(base: BaseModel, commit: str | None) -> None:
    if base.revision and _COMMIT.fullmatch(base.revision) and commit != base.revision:
        raise PullError(
            f"The model hub answers with commit {commit} of {base.hub_id} where "
            f"{base.revision} was asked for. Nothing was installed."
        )


def _names(base: BaseModel, offered: dict[str, Any]) -> list[str]:
    """Return the files to download: those that are pinned, else all that a model needs."""
    if base.files:
        if missing := sorted(set(base.files) - set(offered)):
            raise HubUnavailableError(
                f"{base.hub_id} has no {', '.join(missing)} at {base.revision}"
            )
        return sorted(base.files)
    names = [name for name in offered if name.endswith(_FILES) and "/" not in name]
    # Mistral's repositories have the same weights twice, once for its own programs.
    if any(name.startswith("model") and name.endswith(".safetensors") for name in names):
        names = [name for name in names if not name.startswith("consolidated")]
    if not any(name.endswith(".safetensors") for name in names):
        raise HubUnavailableError(
            f"{base.hub_id} has no safetensors weights, and other formats are not loaded"
        )
    return names


def _verified(base: BaseModel, path: Path, offered: Any) -> str:
    """Return the SHA-256 of a downloaded file that is what it should be."""
    found = file_sha256(path)
    if base.files:
        expected, says, actual = base.files[path.name], "it is pinned as", found
    elif offered.lfs is not None:
        expected, says, actual = offered.lfs.sha256, "the hub's own metadata says", found
    elif offered.blob_id is not None:
        expected, says = offered.blob_id, "the hub's own metadata says"
        actual = _git_hash(path)
    else:
        return found
    if actual != expected:
        path.unlink()
        raise PullError(
            f"{path.name} of {base.hub_id} is not the file that it should be: its hash is "
            f"{actual}, but {says} {expected}. The file was removed, and nothing was installed. "
            "If a second attempt gives the same, whoever answers as the hub has changed the file."
        )
    return found


def _git_hash(path: Path) -> str:
    """Return the id that git gives to a file's content."""
    digest = hashlib.sha1(f"blob {path.stat().st_size}\0".encode(), usedforsecurity=False)
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


@contextmanager
def _hub_errors(hub_id: str, revision: str | None) -> Iterator[None]:
    from huggingface_hub.errors import (  # noqa: PLC0415 - an extra
        GatedRepoError,
        RevisionNotFoundError,
    )

    try:
        yield
    except GatedRepoError as error:
        raise PullError(
            f"{hub_id} is gated: the hub gives it only to accounts that have accepted its licence. "
            f"Accept it at https://huggingface.co/{hub_id}, then log in with `hf auth login`, or "
            "set HF_TOKEN to a token of that account."
        ) from error
    except RevisionNotFoundError as error:
        raise HubUnavailableError(
            f"the hub has no commit {revision} of it any more, to which the table of base models "
            "or its first pull (models.lock.json) holds it. For another commit, give it an entry "
            "in models.toml, or pull with --newest"
        ) from error
    except Exception as error:
        # The hub's library raises its own errors, its transport's and the system's. Each means
        # that the hub did not provide the model.
        reason = next(iter(str(error).strip().splitlines()), "") or type(error).__name__
        raise HubUnavailableError(reason) from error


def _progress_bar(
    before: int, total: int, activity: str, report: Callable[[str, int, int], None]
) -> Any:
    """Return a tqdm class that draws nothing and passes its count to `report`."""
    from tqdm import tqdm  # type: ignore[import-untyped]  # noqa: PLC0415 - has no stubs; an extra

    class Bar(tqdm):  # type: ignore[misc]  # has no stubs
        def __init__(self, *arguments: Any, **options: Any) -> None:
            options.pop("name", None)
            super().__init__(*arguments, **(options | {"disable": True}))
            self._done = int(options.get("initial") or 0)

        def update(self, n: float | None = 1) -> bool | None:
            self._done += int(n or 0)
            report(activity, min(before + self._done, total), total)
            return None

    return Bar
