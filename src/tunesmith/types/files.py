"""Files: training data that is uploaded and the result files of jobs."""

from __future__ import annotations

from typing import ClassVar, Literal

from tunesmith._lazy import set_public_module

from .base import WireModel

__all__ = ["FileDeleted", "FileObject", "FilePurpose", "FileStatus"]

FilePurpose = (
    Literal[
        "assistants",
        "assistants_output",
        "batch",
        "batch_output",
        "evals",
        "fine-tune",
        "fine-tune-results",
        "user_data",
        "vision",
    ]
    | str
)
FileStatus = Literal["uploaded", "processed", "pending", "error", "deleting", "deleted"] | str


class FileObject(WireModel):
    """A file that the server holds.

    Attributes:
        id: "file-…".
        bytes: Size in bytes.
        created_at: Unix time in seconds.
        filename: Base name given at upload.
        purpose: What the file is for, "fine-tune" for training data.
        status: "uploaded", "processed" or "error"; kept for older clients.
    """

    list_columns: ClassVar[tuple[str, ...]] = (
        "id",
        "filename",
        "bytes",
        "purpose",
        "status",
        "created_at",
    )
    _essential: ClassVar[frozenset[str] | None] = frozenset({"id"})

    id: str
    bytes: int = 0
    created_at: int = 0
    filename: str = ""
    object: Literal["file"] | str = "file"
    purpose: FilePurpose = ""
    status: FileStatus = "processed"
    expires_at: int | None = None
    status_details: str | None = None


class FileDeleted(WireModel):
    """The answer to a deletion."""

    _essential: ClassVar[frozenset[str] | None] = frozenset({"id", "deleted"})

    id: str
    object: Literal["file"] | str = "file"
    deleted: bool = True


set_public_module(globals(), "tunesmith.types")
