"""The addresses of a recorded organisation's files, jobs of both APIs, and models."""

from __future__ import annotations

import hashlib
import json
import re
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from .service import Answer, Caller, OrganizationService, Received, Refused, route

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["public_fields", "readable_number", "uploaded_file"]

# Files


def _file_ids(service: OrganizationService, caller: Caller) -> tuple[list[str], list[int | None]]:
    contents, purpose = service.contents, caller.query.get("purpose")
    made = [
        (one, None)
        for one, (meta, _) in reversed(service.uploaded.items())
        if meta["_project"] == caller.place and purpose in (None, meta["purpose"])
    ]
    old = [
        (contents.file_id(one), one)
        for one in contents.files_of(caller.place)
        if purpose in (None, contents.purpose(one))
    ]
    pairs = [pair for pair in [*made, *old] if pair[0] not in service.deleted]
    if caller.query.get("order") == "asc":
        pairs.reverse()
    return [one for one, _ in pairs], [number for _, number in pairs]


@route("GET", r"/files")
def _list_files(service: OrganizationService, caller: Caller, _: Any) -> dict[str, Any]:
    ids, numbers = _file_ids(service, caller)
    contents = service.contents

    def make(at: int) -> dict[str, Any]:
        number = numbers[at]
        return (
            public_fields(service.uploaded[ids[at]][0]) if number is None else contents.file(number)
        )

    def dead(at: int) -> bool:
        number = numbers[at]
        return number is not None and contents.fate(number) == "listed_only"

    return service.page(caller, ids, make, default=10_000, most=10_000, dead=dead)


def public_fields(meta: dict[str, Any]) -> dict[str, Any]:
    """Return an object that was made here as it is shown."""
    return {name: value for name, value in meta.items() if not name.startswith("_")}


def readable_number(service: OrganizationService, caller: Caller, file_id: str) -> int:
    """Return the position of one of the project's files that can be read.

    Raises:
        Refused: It is gone, or another project's.
    """
    number = service.contents.file_number(file_id)
    gone = number is None or file_id in service.deleted
    if not gone and number is not None:
        own = service.contents.file_project(number) == caller.project
        gone = not own or service.contents.fate(number) in {"deleted", "listed_only"}
    if gone or number is None:
        raise Refused(404, f"No such File object: {file_id}", param="id")
    return number


@route("GET", r"/files/(?P<id>[^/]+)")
def _get_file(service: OrganizationService, caller: Caller, found: re.Match[str]) -> dict[str, Any]:
    file_id = unquote(found["id"])
    if (made := uploaded_file(service, caller, file_id)) is not None:
        return public_fields(made[0])
    return service.contents.file(readable_number(service, caller, file_id))


@route("DELETE", r"/files/(?P<id>[^/]+)")
def _delete_file(
    service: OrganizationService, caller: Caller, found: re.Match[str]
) -> dict[str, Any]:
    file_id = unquote(found["id"])
    if uploaded_file(service, caller, file_id) is None:
        readable_number(service, caller, file_id)
    service.deleted.add(file_id)
    return {"id": file_id, "object": "file", "deleted": True}


def uploaded_file(
    service: OrganizationService, caller: Caller, file_id: str
) -> tuple[dict[str, Any], bytes] | None:
    """Return a file that was uploaded here, and its content; None if the project has no such."""
    made = service.uploaded.get(file_id)
    if made is None or made[0]["_project"] != caller.place or file_id in service.deleted:
        return None
    return made


@route("GET", r"/files/(?P<id>[^/]+)/content")
def _file_content(service: OrganizationService, caller: Caller, found: re.Match[str]) -> Answer:
    file_id = unquote(found["id"])
    if (made := uploaded_file(service, caller, file_id)) is not None:
        return _content(made[1])
    number = readable_number(service, caller, file_id)
    contents = service.contents
    fate = contents.fate(number)
    if fate == "expired":
        raise Refused(410, f"File {file_id} has expired.", "file_expired")
    if fate == "forbidden":
        raise Refused(403, "You do not have permission to read this file.", "forbidden")
    if service.quirks.free_account and contents.purpose(number) == "fine-tune":
        message = "To help mitigate abuse, downloading of fine-tune training files is disabled "
        raise Refused(400, message + "for free accounts.")
    answer = _content(contents.content(number))
    answer.cut = fate == "cut" and service.is_first_time(f"cut {file_id}")
    answer.slow = fate == "slow"
    return answer


def _content(body: bytes) -> Answer:
    tag = hashlib.sha256(body).hexdigest()[:32]
    return Answer(200, body, {"content-type": "application/octet-stream", "etag": f'"{tag}"'})


@route("POST", r"/files")
def _create_file(service: OrganizationService, caller: Caller, _: Any) -> dict[str, Any]:
    fields = _form(caller.received)
    if "file" not in fields:
        raise Refused(400, "'file' is a required property", param="file")
    name, body = fields["file"]
    file_id = f"file-{service.contents.token('uploaded', len(service.uploaded))}"
    made: dict[str, Any] = {
        "object": "file",
        "id": file_id,
        "purpose": fields.get("purpose", ("", b"fine-tune"))[1].decode(),
        "filename": name or "file",
        "bytes": len(body),
        "created_at": service.contents.now + len(service.uploaded),
        "expires_at": None,
        "status": "processed",
        "status_details": None,
        "_project": caller.place,
    }
    service.uploaded[file_id] = (made, body)
    return public_fields(made)


def _form(received: Received) -> dict[str, tuple[str, bytes]]:
    """Return the fields of a multipart form: file name and content by name."""
    found = re.search(r'boundary="?([^";]+)', received.headers.get("content-type", ""))
    if found is None:
        raise Refused(400, "The body is no multipart form.")
    fields: dict[str, tuple[str, bytes]] = {}
    for part in received.body.split(b"--" + found[1].encode())[1:-1]:
        head, _, content = part.partition(b"\r\n\r\n")
        names = dict(re.findall(r'(\w+)="([^"]*)"', head.decode("utf-8", "replace")))
        if "name" in names:
            fields[names["name"]] = (names.get("filename", ""), content.removesuffix(b"\r\n"))
    return fields


# Jobs


def _job_number(service: OrganizationService, caller: Caller, job_id: str, *, legacy: bool) -> int:
    contents = service.contents
    number = contents.job_number(job_id)
    if (
        number is None
        or (number < contents.legacy_count) != legacy
        or contents.job_project(number) != caller.project
    ):
        what = "fine-tune" if legacy else "fine-tuning job"
        raise Refused(404, f"Could not find {what}: {job_id}", "fine_tune_not_found", "id")
    return number


@route("GET", r"/fine_tuning/jobs")
def _list_jobs(service: OrganizationService, caller: Caller, _: Any) -> dict[str, Any]:
    contents = service.contents
    made = [
        one for one, job in reversed(service.made_jobs.items()) if job["_project"] == caller.place
    ]
    numbers = contents.jobs_of(caller.place, legacy=False)
    ids = [*made, *map(contents.job_id, numbers)]

    def make(at: int) -> dict[str, Any]:
        if at < len(made):
            return public_fields(service.made_jobs[made[at]])
        return contents.job(numbers[at - len(made)])

    return service.page(caller, ids, make, default=20, most=100, ends=False)


@route("GET", r"/fine_tuning/jobs/(?P<id>[^/]+)")
def _get_job(service: OrganizationService, caller: Caller, found: re.Match[str]) -> dict[str, Any]:
    made = service.made_jobs.get(found["id"])
    if made is not None and made["_project"] == caller.place:
        return public_fields(made)
    return service.contents.job(_job_number(service, caller, found["id"], legacy=False))


@route("POST", r"/fine_tuning/jobs")
def _create_job(service: OrganizationService, caller: Caller, _: Any) -> dict[str, Any]:
    body, contents = caller.json, service.contents
    file_id = body.get("training_file")
    made = uploaded_file(service, caller, str(file_id))
    if made is None:
        readable_number(service, caller, str(file_id))
    count = len(service.made_jobs)
    suffix, token = body.get("suffix") or "", contents.token("made", count, length=8)
    name = f"ft:{body.get('model')}:acme:{suffix}:{token}"
    job: dict[str, Any] = {
        **contents.job(contents.legacy_count),
        "id": f"ftjob-{contents.token('made job', count, length=24)}",
        "model": body.get("model"),
        "created_at": contents.now + count,
        "finished_at": contents.now + count,
        "fine_tuned_model": name,
        "result_files": [],
        "status": "succeeded",
        "training_file": file_id,
        "validation_file": body.get("validation_file"),
        "seed": body.get("seed") or 1,
        "metadata": body.get("metadata") or {},
        "integrations": [],
        "user_provided_suffix": suffix or None,
        "_project": caller.place,
    }
    service.made_jobs[job["id"]] = job
    service.learned[name] = dict(_learned(made[1] if made else b""))
    return public_fields(job)


def _learned(content: bytes) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the answers of a training file by the user's last message."""
    for line in content.decode("utf-8-sig", "replace").splitlines():
        try:
            messages = json.loads(line)["messages"]
            asked = [one for one in messages if one["role"] == "user"][-1]["content"]
        except (ValueError, KeyError, IndexError, TypeError):
            continue
        if isinstance(asked, str) and messages[-1]["role"] == "assistant":
            yield asked, messages[-1]


@route("GET", r"/fine_tuning/jobs/(?P<id>[^/]+)/events")
def _list_events(
    service: OrganizationService, caller: Caller, found: re.Match[str]
) -> dict[str, Any]:
    if found["id"] in service.made_jobs:
        return {"object": "list", "data": [], "has_more": False}
    events = service.contents.events(_job_number(service, caller, found["id"], legacy=False))
    return service.page_of(caller, events, default=20, most=100, ends=False)


@route("GET", r"/fine_tuning/jobs/(?P<id>[^/]+)/checkpoints")
def _list_checkpoints(
    service: OrganizationService, caller: Caller, found: re.Match[str]
) -> dict[str, Any]:
    if found["id"] in service.made_jobs:
        return {"object": "list", "data": [], "has_more": False, "first_id": None, "last_id": None}
    number = _job_number(service, caller, found["id"], legacy=False)
    points = service.contents.checkpoints(number)
    return service.page_of(caller, points, default=10, most=100)


@route("GET", r"/fine_tuning/checkpoints/(?P<name>[^/]+)/permissions")
def _list_permissions(_: OrganizationService, __: Caller, ___: Any) -> dict[str, Any]:
    return {"object": "list", "data": [], "has_more": False, "first_id": None, "last_id": None}


def _check_legacy(service: OrganizationService) -> None:
    if not service.quirks.legacy_api or service.contents.service != "openai":
        raise Refused(404, "Invalid URL (GET /v1/fine-tunes)", "unknown_url")


@route("GET", r"/fine-tunes")
def _list_fine_tunes(service: OrganizationService, caller: Caller, _: Any) -> dict[str, Any]:
    _check_legacy(service)
    numbers = service.contents.jobs_of(caller.place, legacy=True)
    tunes = [service.contents.fine_tune(one, events=False) for one in numbers]
    return {"object": "list", "data": tunes}


@route("GET", r"/fine-tunes/(?P<id>[^/]+)")
def _get_fine_tune(
    service: OrganizationService, caller: Caller, found: re.Match[str]
) -> dict[str, Any]:
    _check_legacy(service)
    return service.contents.fine_tune(_job_number(service, caller, found["id"], legacy=True))


@route("GET", r"/fine-tunes/(?P<id>[^/]+)/events")
def _list_legacy_events(
    service: OrganizationService, caller: Caller, found: re.Match[str]
) -> dict[str, Any]:
    _check_legacy(service)
    number = _job_number(service, caller, found["id"], legacy=True)
    return {"object": "list", "data": service.contents.legacy_events(number)}


# Models


@route("GET", r"/models")
def _list_models(service: OrganizationService, caller: Caller, _: Any) -> dict[str, Any]:
    contents = service.contents
    tuned = [
        contents.model(one)
        for one in contents.models_of(caller.place)
        if one.name not in service.deleted
    ]
    made = [
        {"id": job["fine_tuned_model"], "object": "model", "created": job["created_at"]}
        | {"owned_by": contents.organization_id}
        for job in service.made_jobs.values()
        if job["_project"] == caller.place
    ]
    return {"object": "list", "data": [*contents.base_models(), *tuned, *made]}


@route("GET", r"/models/(?P<name>[^/]+)")
def _get_model(
    service: OrganizationService, caller: Caller, found: re.Match[str]
) -> dict[str, Any]:
    wanted = unquote(found["name"])
    for one in _list_models(service, caller, found)["data"]:  # type: ignore[index]  # a page
        if one["id"] == wanted:
            return dict(one)
    message = f"The model '{wanted}' does not exist"
    raise Refused(404, message, "model_not_found", "model")


@route("DELETE", r"/models/(?P<name>[^/]+)")
def _delete_model(
    service: OrganizationService, caller: Caller, found: re.Match[str]
) -> dict[str, Any]:
    name = unquote(found["name"])
    service.find_model(caller, name)
    service.deleted.add(name)
    return {"id": name, "object": "model", "deleted": True}
