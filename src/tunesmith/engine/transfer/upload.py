"""Uploads an exported folder to the model hub, into a private repository unless told otherwise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from .transfer_errors import ExportError

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["HubCommit", "upload_to_hub"]


@dataclass(frozen=True, slots=True)
class HubCommit:
    """What the hub has made of an upload.

    Attributes:
        repository: Id of the repository.
        url: The commit's page.
        private: Whether only its owner sees the repository.
    """

    repository: str
    url: str
    private: bool


def upload_to_hub(folder: Path, repository: str, *, public: bool = False) -> HubCommit:
    """Upload every file of `folder` to a repository, which is created if it does not exist.

    The token is the one of `hf auth login`, or HF_TOKEN. Files of the repository that the folder
    lacks stay.

    Args:
        folder: An exported folder.
        repository: Its id, `organisation/name`.
        public: Create a repository that everyone can read. One that exists stays as it is.

    Raises:
        ExportError: The hub cannot be reached, or refuses; the folder stays.
    """
    from huggingface_hub import HfApi  # noqa: PLC0415 - comes with the engine

    api = HfApi()
    try:
        created = api.create_repo(repository, private=not public, exist_ok=True)
        commit = api.upload_folder(
            repo_id=created.repo_id,
            folder_path=folder,
            allow_patterns=["*"],
            commit_message="Upload a model exported from tunesmith",
        )
        private = bool(api.repo_info(created.repo_id).private)
    except Exception as error:
        # Its own errors, those of the HTTP library of its version, and those of the disk.
        lines = str(error).strip().splitlines()
        msg = (
            f"The hub did not take the model: {lines[-1] if lines else type(error).__name__} The "
            f"exported folder is {folder}. Log in with `hf auth login`, or set HF_TOKEN to a token "
            "that may write."
        )
        raise ExportError(msg) from error
    return HubCommit(created.repo_id, commit.commit_url, private)
