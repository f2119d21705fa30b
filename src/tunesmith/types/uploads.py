"""Uploads, `/v1/uploads`: a large file that arrives in parts and then becomes a file object."""

from __future__ import annotations

from typing import ClassVar, Literal

from tunesmith._lazy import set_public_module

from .base import WireModel
from .files import FileObject

__all__ = ["Upload", "UploadPart", "UploadStatus"]

UploadStatus = Literal["pending", "completed", "cancelled", "expired"] | str


class Upload(WireModel):
    """A file on its way.

    Attributes:
        id: "upload_…".
        bytes: The size that was announced; all parts together must have it.
        expires_at: Unix time in seconds, one hour after the start.
        file: The file object, once the upload is completed.
    """

    _essential: ClassVar[frozenset[str] | None] = frozenset({"id", "status", "file"})

    id: str
    bytes: int = 0
    created_at: int = 0
    expires_at: int = 0
    filename: str = ""
    object: Literal["upload"] | str = "upload"
    purpose: str = ""
    status: UploadStatus
    file: FileObject | None = None


class UploadPart(WireModel):
    """One part of an upload; at most 64 MB."""

    _essential: ClassVar[frozenset[str] | None] = frozenset({"id"})

    id: str
    created_at: int = 0
    object: Literal["upload.part"] | str = "upload.part"
    upload_id: str = ""


set_public_module(globals(), "tunesmith.types")
