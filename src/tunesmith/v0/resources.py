"""The old SDK's resource classes. Each operation is declared once, as a flow."""

from __future__ import annotations

from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any, ClassVar

from tunesmith.core.flow import Flow, Sleep
from tunesmith.transport.file_source import open_source
from tunesmith.transport.upload import multipart_upload

from .calls import Call, StreamResult, async_method, sync_method
from .error import OpenAIError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .objects import OpenAIObject

__all__ = [
    "ChatCompletion",
    "Completion",
    "Engine",
    "File",
    "FineTune",
    "FineTuningJob",
    "Model",
]

_FINAL_STATUSES = ("processed", "error", "deleted")
_POLL_SECONDS = 5.0


def _create(path: str, call: Call, **params: Any) -> Flow[Any]:
    """Create one; of completions, `stream=True` gives them piece by piece."""
    engine = params.pop("engine", None) or params.pop("deployment_id", None)
    if engine and not params.get("model"):
        params["model"] = engine
    # How long to wait for a model to warm up; the engine answers once it has loaded.
    params.pop("timeout", None)
    return call.post(path, params)


def _retrieve(path: str, call: Call, id: str) -> Flow[OpenAIObject]:  # noqa: A002 - the old name
    """Return one."""
    return call.get(path + "/{id}", id=id)


def _list(
    path: str, call: Call, starting_after: str | None = None, **query: Any
) -> Flow[OpenAIObject]:
    """Return the list, or a page of it."""
    return call.get(path, {"after": starting_after} | query)


def _delete(path: str, call: Call, sid: str) -> Flow[OpenAIObject]:
    """Delete one."""
    return call.delete(path + "/{id}", id=sid)


def _cancel(path: str, call: Call, id: str) -> Flow[OpenAIObject]:  # noqa: A002
    """Cancel a job."""
    return call.post(path + "/{id}/cancel", id=id)


def _list_events(path: str, call: Call, id: str, **query: Any) -> Flow[OpenAIObject]:  # noqa: A002
    """Return the events so far: of a fine-tune oldest first, of a job newest first."""
    return call.get(path + "/{id}/events", query, id=id)


def _stream_events(path: str, call: Call, id: str) -> Flow[StreamResult]:  # noqa: A002
    """Return the events from the first one on, as they happen, until the job has ended."""
    return call.stream(path + "/{id}/events", id=id)


def _delete_its_model(path: str, call: Call, sid: str) -> Flow[OpenAIObject]:
    """Delete the fine-tuned model of this name, as the service has it."""
    del path
    return _delete("/models", call, sid)


def _create_file(  # noqa: PLR0917 - the old parameters, by position too
    path: str,
    call: Call,
    file: Any,
    purpose: str,
    model: str | None = None,
    user_provided_filename: str | None = None,
) -> Flow[OpenAIObject]:
    """Upload a file: an open handle (binary or text), bytes or a path."""
    name = user_provided_filename or _name_of(file)
    content = Path(file) if isinstance(file, str) else file
    source = open_source((name, content) if name else content)
    fields = {"purpose": purpose} | ({"model": model} if model else {})
    return call.upload(path, multipart_upload(fields, source))


def _download(path: str, call: Call, id: str) -> Flow[bytes]:  # noqa: A002
    """Return a file's content."""
    return call.content(path + "/{id}/content", id=id)


def _find_matching_files(
    path: str,
    call: Call,
    name: str,
    bytes: int,  # noqa: A002
    purpose: str,
) -> Flow[list[OpenAIObject]]:
    """Return the files of the same base name, size and purpose."""
    files = yield from call.get(path)
    base = PurePath(name).name
    return [
        file
        for file in files.data
        if (PurePath(file.filename).name, file.bytes, file.purpose) == (base, bytes, purpose)
    ]


def _wait_for_processing(
    path: str,
    call: Call,
    id: str,  # noqa: A002
    max_wait_seconds: float = 30 * 60,
) -> Flow[str]:
    """Return the file's status once it is "processed", "error" or "deleted"."""
    waited = 0.0
    while True:
        file = yield from call.get(path + "/{id}", id=id)
        if file.status in _FINAL_STATUSES:
            return str(file.status)
        if waited >= max_wait_seconds:
            raise OpenAIError(
                f"File {id} is still {file.status!r} after {max_wait_seconds:g} seconds."
            )
        yield Sleep(_POLL_SECONDS)
        waited += _POLL_SECONDS


def _name_of(file: Any) -> str | None:
    """Return the name to store: the old SDK sent "file" for what has none."""
    if isinstance(file, str | PurePath):
        return None
    name = getattr(file, "name", None)
    return PurePath(name).name if isinstance(name, str) else "file"


class Creatable:
    """Can be created with a JSON body."""

    create: ClassVar[sync_method] = sync_method(_create)
    acreate: ClassVar[async_method] = async_method(_create)


class Readable:
    """Can be read by its id, and listed."""

    retrieve: ClassVar[sync_method] = sync_method(_retrieve)
    aretrieve: ClassVar[async_method] = async_method(_retrieve)
    list: ClassVar[sync_method] = sync_method(_list)
    alist: ClassVar[async_method] = async_method(_list)


class Deletable:
    """Can be deleted."""

    delete: ClassVar[sync_method] = sync_method(_delete)
    adelete: ClassVar[async_method] = async_method(_delete)


class Job(Creatable, Readable):
    """A job of either fine-tuning API, created from the id of an uploaded file."""

    cancel: ClassVar[sync_method] = sync_method(_cancel)
    acancel: ClassVar[async_method] = async_method(_cancel)
    list_events: ClassVar[sync_method] = sync_method(_list_events)
    alist_events: ClassVar[async_method] = async_method(_list_events)


class Completion(Creatable):
    """`/completions`."""

    path: ClassVar[str] = "/completions"


class ChatCompletion(Creatable):
    """`/chat/completions`."""

    path: ClassVar[str] = "/chat/completions"


class File(Readable, Deletable):
    """`/files`."""

    path: ClassVar[str] = "/files"
    create: ClassVar[sync_method] = sync_method(_create_file)
    acreate: ClassVar[async_method] = async_method(_create_file)
    download: ClassVar[sync_method] = sync_method(_download)
    adownload: ClassVar[async_method] = async_method(_download)
    find_matching_files: ClassVar[sync_method] = sync_method(_find_matching_files)
    afind_matching_files: ClassVar[async_method] = async_method(_find_matching_files)
    wait_for_processing: ClassVar[sync_method] = sync_method(_wait_for_processing)
    await_for_processing: ClassVar[async_method] = async_method(_wait_for_processing)


class FineTune(Job):
    """`/fine-tunes`. `delete` deletes the fine-tuned model, as the service has it."""

    path: ClassVar[str] = "/fine-tunes"
    delete: ClassVar[sync_method] = sync_method(_delete_its_model)
    adelete: ClassVar[async_method] = async_method(_delete_its_model)
    stream_events: ClassVar[sync_method] = sync_method(_stream_events)
    astream_events: ClassVar[async_method] = async_method(_stream_events)


class FineTuningJob(Job):
    """`/fine_tuning/jobs`."""

    path: ClassVar[str] = "/fine_tuning/jobs"

    @classmethod
    def auto_paging_iter(cls, **params: Any) -> Iterator[OpenAIObject]:
        """Yield all jobs, page after page of `limit` (20)."""
        params = {"limit": 20} | params
        while True:
            page = cls.list(**params)
            yield from page.data
            if not page.data or not page.get("has_more"):
                return
            params["after"] = page.data[-1].id


class Model(Readable, Deletable):
    """`/models`."""

    path: ClassVar[str] = "/models"


class Engine(Readable):
    """The oldest name for models."""

    path: ClassVar[str] = "/models"
