"""From a local file to the id of an uploaded one, with the prompt format that belongs to it.

`datasets` saves the prompt format of `train.jsonl` beside it, in `train.format.json`. It travels
with every upload of the file, so that the trained model knows its separator and stop sequence. A
file that the server already has is used again only if content and prompt format are the same.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunesmith.core.flow import Flow
from tunesmith.core.options import NotGiven, Omit, RequestOptions, is_omitted, omit
from tunesmith.core.paging import PageCursor
from tunesmith.errors import TunesmithError
from tunesmith.transport.file_source import FileSource, FileTypes, open_source
from tunesmith.transport.upload import multipart_upload
from tunesmith.types.files import FileObject

from .base import APIResource, split_extra_fields

if TYPE_CHECKING:
    from tunesmith.transport.upload import Progress

__all__ = ["find_uploaded", "format_beside", "upload", "uploaded_id"]

PURPOSE = "fine-tune"
_EXCERPT = 80
_READABLE_STATUSES = frozenset({"processed", "uploaded"})


def upload(
    resource: APIResource[Any],
    file: FileTypes,
    purpose: str,
    *,
    fields: Mapping[str, Any] | None = None,
    prompt_format: Mapping[str, object] | Omit | NotGiven | None = omit,
    on_progress: Progress | None = None,
    options: RequestOptions | None = None,
) -> Flow[FileObject]:
    """Upload a file, with the prompt format that is saved beside it.

    Args:
        resource: Sends the request.
        file: As for `files.create`.
        purpose: What the file is for.
        fields: Further fields of the form.
        prompt_format: The prompt format to send; omitted, the one beside the file; None for none.
        on_progress: Called with the bytes sent so far and the total.
        options: The request options.
    """
    source = open_source(file)
    if is_omitted(prompt_format):
        prompt_format = format_beside(source, purpose)
    form: dict[str, Any] = {"purpose": purpose, **(fields or {})}
    if prompt_format is not None:
        form["prompt_format"] = json.dumps(prompt_format, ensure_ascii=False)
    extra, options = split_extra_fields(options or {})
    body = multipart_upload({**form, **extra}, source, on_progress=on_progress)
    return resource._request("POST", "/files", FileObject, options, body=body)


def uploaded_id(
    resource: APIResource[Any], file: str | os.PathLike[str], parameter: str
) -> Flow[str]:
    """Return the id of a training or validation file given by id or by path.

    A path is uploaded, unless the server has an identical file.

    Args:
        resource: Sends the requests.
        file: Id or path.
        parameter: The name of the parameter, for errors.

    Raises:
        TunesmithError: There is no file at the path.
    """
    if isinstance(file, str) and not file:
        raise TunesmithError(f"{parameter} is empty. Give a path, or the id of an uploaded file.")
    if isinstance(file, str) and not _is_path(file):
        if _looks_like_path(file):
            shown = file if len(file) <= _EXCERPT else file[:_EXCERPT] + "…"
            raise TunesmithError(
                f"{parameter}: there is no file {shown!r}. Give a path that exists, or the id of "
                'an uploaded file ("file-…"); content is uploaded with files.create first.'
            )
        return file
    resource._refuse_streaming(f"A fine-tune whose {parameter} is a path")
    found = yield from find_uploaded(resource, file, PURPOSE)
    if found is None:
        found = yield from upload(resource, file, PURPOSE)
    return found.id


def find_uploaded(
    resource: APIResource[Any], file: FileTypes, purpose: str
) -> Flow[FileObject | None]:
    """Page through the uploaded files and return one identical to `file`, or None.

    Identical means the same name, size and purpose, and the same SHA-256 and prompt format on
    servers that report them.
    """
    source = open_source(file)
    if source.length is None or not source.replayable:
        return None
    prompt_format = format_beside(source, purpose)
    pages = resource._pages("/files", FileObject, {"purpose": purpose})
    cursor: PageCursor | None = PageCursor()
    while cursor is not None:
        page = yield from pages(cursor)
        found = _identical(source, page.data, purpose, prompt_format)
        if found is not None:
            return found
        cursor = page.next
    return None


def _identical(
    source: FileSource,
    files: Iterable[FileObject],
    purpose: str,
    prompt_format: Mapping[str, object] | None,
) -> FileObject | None:
    """Return the first of `files` with the content and the prompt format of `source`, or None."""
    digest: str | None = None
    for file in files:
        if (file.filename, file.bytes, file.purpose) != (source.name, source.length, purpose):
            continue
        if file.status not in _READABLE_STATUSES:
            continue
        sha256 = getattr(file, "sha256", None)
        if sha256 is None:
            # This server reports no hashes, and so has no place for prompt formats either.
            return file
        if getattr(file, "prompt_format", None) != prompt_format:
            continue
        digest = digest or _sha256(source)
        if sha256 == digest:
            return file
    return None


def format_beside(source: FileSource, purpose: str) -> Mapping[str, object] | None:
    """Return the prompt format saved beside a training file, None where there is none.

    Raises:
        PromptFormatError: There is one, but it cannot be read.
    """
    if purpose != PURPOSE or not isinstance(source.content, Path):
        return None
    from tunesmith.datasets.prompt_format import saved_format

    found = saved_format(source.content)
    return None if found is None else found.to_dict()


def _is_path(text: str) -> bool:
    """Return whether there is a file of this name; an id is one, even beside such a file."""
    if text.startswith("file-") and not Path(text).suffix and "/" not in text:
        return False
    try:
        return Path(text).expanduser().exists()
    except (OSError, RuntimeError):
        return False


def _looks_like_path(text: str) -> bool:
    """Return whether text that names no file cannot be an id either."""
    return (
        os.sep in text
        or "/" in text
        or "\n" in text
        or text.startswith(("{", "["))
        or Path(text).suffix in {".jsonl", ".json", ".csv"}
    )


def _sha256(source: FileSource) -> str:
    digest = hashlib.sha256()
    for chunk in source.chunks():
        digest.update(chunk)
    # An open file is left where it was, so that it can be uploaded next.
    source.rewind()
    return digest.hexdigest()
