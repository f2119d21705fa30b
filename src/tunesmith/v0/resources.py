"""The old SDK's resource classes. Each operation stands once; `create` and `acreate` are a pair."""

from __future__ import annotations

import io
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from tunesmith.core.flow import Flow, Sleep
from tunesmith.transport.upload import multipart_upload, open_source

from .calls import Call, Opened, pair
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

_SETTLED = ("processed", "error", "deleted")
_POLL_SECONDS = 5.0


def _model_of(params: dict[str, Any]) -> dict[str, Any]:
    """Return the parameters with `engine` and `deployment_id` under today's name, `model`."""
    engine = params.pop("engine", None) or params.pop("deployment_id", None)
    if engine and not params.get("model"):
        params["model"] = engine
    # How long to wait for a model to warm up; the engine answers once it has loaded.
    params.pop("timeout", None)
    return params


def _create_completion(call: Call, **params: Any) -> Flow[Any]:
    """Complete a prompt; with `stream=True`, piece by piece."""
    return call.post("/completions", _model_of(params))


class Completion:
    """`/completions`."""

    create, acreate = pair(_create_completion)


def _create_chat_completion(call: Call, **params: Any) -> Flow[Any]:
    """Answer a conversation; with `stream=True`, piece by piece."""
    return call.post("/chat/completions", _model_of(params))


class ChatCompletion:
    """`/chat/completions`."""

    create, acreate = pair(_create_chat_completion)


def _create_file(
    call: Call,
    file: Any,
    purpose: str,
    model: str | None = None,
    user_provided_filename: str | None = None,
) -> Flow[OpenAIObject]:
    """Upload a file: an open handle (binary or text), bytes or a path."""
    name = user_provided_filename or _name_of(file)
    source = open_source((name, _binary(file)) if name else _binary(file))
    fields = {"purpose": purpose} | ({"model": model} if model else {})
    return call.upload("/files", multipart_upload(fields, source))


def _name_of(file: Any) -> str | None:
    """Return the name to store: the old SDK sent "file" for what has none."""
    if isinstance(file, str | PurePath):
        return None
    name = getattr(file, "name", None)
    return PurePath(name).name if isinstance(name, str) else "file"


def _binary(file: Any) -> Any:
    return file.read().encode() if isinstance(file, io.TextIOBase) else file


def _retrieve_file(call: Call, id: str) -> Flow[OpenAIObject]:  # noqa: A002 - the old SDK's name
    """Return what the server knows of a file."""
    return call.get("/files/{id}", id=id)


def _list_files(call: Call, **query: Any) -> Flow[OpenAIObject]:
    """Return the files."""
    return call.get("/files", query)


def _delete_file(call: Call, sid: str) -> Flow[OpenAIObject]:
    """Delete a file."""
    return call.delete("/files/{id}", id=sid)


def _download_file(call: Call, id: str) -> Flow[bytes]:  # noqa: A002
    """Return a file's content."""
    return call.content("/files/{id}/content", id=id)


def _find_matching_files(
    call: Call,
    name: str,
    bytes: int,  # noqa: A002
    purpose: str,
) -> Flow[list[OpenAIObject]]:
    """Return the files of the same base name, size and purpose."""
    files = yield from call.get("/files")
    base = PurePath(name).name
    return [
        file
        for file in files.data
        if (PurePath(file.filename).name, file.bytes, file.purpose) == (base, bytes, purpose)
    ]


def _wait_for_processing(
    call: Call,
    id: str,  # noqa: A002
    max_wait_seconds: float = 30 * 60,
) -> Flow[str]:
    """Return the file's status once it is "processed", "error" or "deleted"."""
    waited = 0.0
    while True:
        file = yield from call.get("/files/{id}", id=id)
        if file.status in _SETTLED:
            return str(file.status)
        if waited >= max_wait_seconds:
            raise OpenAIError(
                f"File {id} is still {file.status!r} after {max_wait_seconds:g} seconds."
            )
        yield Sleep(_POLL_SECONDS)
        waited += _POLL_SECONDS


class File:
    """`/files`."""

    create, acreate = pair(_create_file)
    retrieve, aretrieve = pair(_retrieve_file)
    list, alist = pair(_list_files)
    delete, adelete = pair(_delete_file)
    download, adownload = pair(_download_file)
    find_matching_files, afind_matching_files = pair(_find_matching_files)
    wait_for_processing, await_for_processing = pair(_wait_for_processing)


def _create_fine_tune(call: Call, **params: Any) -> Flow[OpenAIObject]:
    """Create a fine-tune from the id of an uploaded file."""
    return call.post("/fine-tunes", params)


def _retrieve_fine_tune(call: Call, id: str) -> Flow[OpenAIObject]:  # noqa: A002
    """Return a fine-tune with its events."""
    return call.get("/fine-tunes/{id}", id=id)


def _list_fine_tunes(call: Call, **query: Any) -> Flow[OpenAIObject]:
    """Return the fine-tunes."""
    return call.get("/fine-tunes", query)


def _cancel_fine_tune(call: Call, id: str) -> Flow[OpenAIObject]:  # noqa: A002
    """Cancel a fine-tune."""
    return call.post("/fine-tunes/{id}/cancel", id=id)


def _delete_model(call: Call, sid: str) -> Flow[OpenAIObject]:
    """Delete a fine-tuned model."""
    return call.delete("/models/{id}", id=sid)


def _list_fine_tune_events(call: Call, id: str, **query: Any) -> Flow[OpenAIObject]:  # noqa: A002
    """Return the events so far, oldest first."""
    return call.get("/fine-tunes/{id}/events", query, id=id)


def _stream_fine_tune_events(call: Call, id: str) -> Flow[Opened]:  # noqa: A002
    """Return the events from the first one on, as they happen, until the job has ended."""
    return call.stream("/fine-tunes/{id}/events", id=id)


class FineTune:
    """`/fine-tunes`. `delete` deletes the fine-tuned model, as the service has it."""

    create, acreate = pair(_create_fine_tune)
    retrieve, aretrieve = pair(_retrieve_fine_tune)
    list, alist = pair(_list_fine_tunes)
    cancel, acancel = pair(_cancel_fine_tune)
    delete, adelete = pair(_delete_model)
    list_events, alist_events = pair(_list_fine_tune_events)
    stream_events, astream_events = pair(_stream_fine_tune_events)


def _create_job(call: Call, **params: Any) -> Flow[OpenAIObject]:
    """Create a fine-tuning job from the id of an uploaded file."""
    return call.post("/fine_tuning/jobs", params)


def _retrieve_job(call: Call, id: str) -> Flow[OpenAIObject]:  # noqa: A002
    """Return a job."""
    return call.get("/fine_tuning/jobs/{id}", id=id)


def _list_jobs(call: Call, starting_after: str | None = None, **query: Any) -> Flow[OpenAIObject]:
    """Return one page of the jobs, newest first."""
    return call.get("/fine_tuning/jobs", {"after": starting_after} | query)


def _cancel_job(call: Call, id: str) -> Flow[OpenAIObject]:  # noqa: A002
    """Cancel a job."""
    return call.post("/fine_tuning/jobs/{id}/cancel", id=id)


def _list_job_events(call: Call, id: str, **query: Any) -> Flow[OpenAIObject]:  # noqa: A002
    """Return one page of a job's events, newest first."""
    return call.get("/fine_tuning/jobs/{id}/events", query, id=id)


class FineTuningJob:
    """`/fine_tuning/jobs`."""

    create, acreate = pair(_create_job)
    retrieve, aretrieve = pair(_retrieve_job)
    list, alist = pair(_list_jobs)
    cancel, acancel = pair(_cancel_job)
    list_events, alist_events = pair(_list_job_events)

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


def _retrieve_model(call: Call, id: str) -> Flow[OpenAIObject]:  # noqa: A002
    """Return a model."""
    return call.get("/models/{id}", id=id)


def _list_models(call: Call) -> Flow[OpenAIObject]:
    """Return the models."""
    return call.get("/models")


class Model:
    """`/models`."""

    retrieve, aretrieve = pair(_retrieve_model)
    list, alist = pair(_list_models)
    delete, adelete = pair(_delete_model)


class Engine:
    """The oldest name for models."""

    retrieve, aretrieve = pair(_retrieve_model)
    list, alist = pair(_list_models)
