"""What both job APIs do in the same way: create, find, change."""

from __future__ import annotations

import secrets
import time
from typing import TYPE_CHECKING, Any

from tunesmith.engine.domain.errors import QueueFullError
from tunesmith.engine.jobs.lifecycle import create as create_row
from tunesmith.engine.store import file_rows, job_rows
from tunesmith.engine.store.records import JobRow, new_token

from .errors import ApiError, invalid
from .idempotent import Repeat, fingerprint_of
from .job_requests import CreateFineTune, CreateFineTuningJob

if TYPE_CHECKING:
    from collections.abc import Callable

    from fastapi import Request
    from sqlalchemy import Connection

    from tunesmith.engine.security.keys import Identity
    from tunesmith.engine.store.records import Api

    from .context import Parts

__all__ = ["change_job", "create_job", "find_job", "job_key"]

_PREFIXES = ("ftjob-", "ft-")


def create_job(
    parts: Parts, asker: Identity, request: Request, body: CreateFineTune | CreateFineTuningJob
) -> JobRow:
    """Check a request for a job against what the engine has, and queue it.

    Raises:
        ApiError: The request names a file or model that is not there, contradicts itself, or
            asks for something that this engine does not do.
    """
    first = isinstance(body, CreateFineTune)
    api: Api = "fine-tunes" if first else "fine-tuning"
    repeat = Repeat.of(request, asker.organization, api)
    fingerprint = fingerprint_of(body.model_dump(mode="json"))
    model = parts.models.trainable(body.model, asker.organization)
    asked = body.asked()
    _check_classification(asked, body.validation_file)
    method, metadata = "supervised", None
    if isinstance(body, CreateFineTuningJob):
        _refuse_integrations(body)
        method = body.method.type if body.method else method
        metadata = body.metadata
    now = time.time()
    job = JobRow(
        id=new_token(),
        api=api,
        organization=asker.organization,
        created_at=now,
        updated_at=now,
        status="validating_files",
        model=body.model,
        base_model=model.base_model,
        parent_model=model.parent,
        family=model.family,
        training_file=body.training_file,
        validation_file=body.validation_file,
        suffix=body.suffix,
        seed=secrets.randbelow(2**31) if body.seed is None else body.seed,
        method=method,
        asked=asked,
        metadata=metadata,
    )
    with parts.database.write() as connection:
        earlier = repeat.earlier(connection, fingerprint)
        if earlier is not None:
            return find_job(connection, asker, earlier)
        _check_files(connection, job)
        _check_queue(connection, job, parts.config.limits.queued_jobs)
        create_row(connection, job)
        repeat.remember(connection, fingerprint, job.id)
        job = find_job(connection, asker, job.id)
    parts.dispatcher.wake()
    return job


def job_key(identity: str) -> str:
    """Return the part of a job's id that both APIs share."""
    for prefix in _PREFIXES:
        if identity.startswith(prefix):
            return identity.removeprefix(prefix)
    return identity


def find_job(connection: Connection, asker: Identity, identity: str) -> JobRow:
    """Return a job of the asker's organisation by its id in either API.

    Raises:
        ApiError: There is none.
    """
    job = job_rows.get(connection, asker.organization, job_key(identity))
    if job is None:
        raise ApiError(
            404, f"No such fine-tuning job: {identity}", param="id", code="job_not_found"
        )
    return job


def change_job(
    parts: Parts, asker: Identity, identity: str, act: Callable[[Connection, JobRow], None]
) -> JobRow:
    """Do something to a job and return it as it is afterwards.

    Raises:
        ApiError: There is no such job.
        JobStateError: Its status does not allow it.
    """
    with parts.database.write() as connection:
        job = find_job(connection, asker, identity)
        locked = job_rows.lock(connection, job.id)
        act(connection, locked or job)
        job = find_job(connection, asker, identity)
    parts.dispatcher.wake()
    return job


def _check_files(connection: Connection, job: JobRow) -> None:
    for param in ("training_file", "validation_file"):
        file_id = getattr(job, param)
        if file_id is None:
            continue
        file = file_rows.get(connection, job.organization, file_id)
        if file is None:
            message = f"No such file: {file_id}. Upload it first, with the purpose 'fine-tune'."
            raise invalid(message, param=param, code="file_not_found")
        if file.purpose != "fine-tune":
            raise invalid(
                f"The file {file_id} was uploaded with the purpose {file.purpose!r}; training "
                "needs the purpose 'fine-tune'.",
                param=param,
                code="wrong_purpose",
            )
    if job.validation_file == job.training_file:
        raise invalid(
            "The validation file must not be the training file: it would measure memory.",
            param="validation_file",
        )


def _check_queue(connection: Connection, job: JobRow, most: int) -> None:
    if job_rows.unfinished_count(connection, job.organization) >= most:
        raise QueueFullError(
            f"The queue holds {most} unfinished jobs of your organisation, which is the limit. "
            "Wait for one to end, or cancel one."
        )


def _check_classification(asked: dict[str, Any], validation_file: str | None) -> None:
    classes = asked.get("classification_n_classes")
    positive = asked.get("classification_positive_class")
    if not asked.get("compute_classification_metrics"):
        return
    if validation_file is None:
        raise invalid(
            "compute_classification_metrics needs a validation_file to compute them on.",
            param="validation_file",
        )
    if classes is None and positive is None:
        raise invalid(
            "compute_classification_metrics needs classification_n_classes, or "
            "classification_positive_class if there are two.",
            param="classification_n_classes",
        )
    if positive is not None and classes not in (None, 2):
        raise invalid(
            "classification_positive_class is for two classes; classification_n_classes says "
            f"{classes}.",
            param="classification_positive_class",
        )


def _refuse_integrations(body: CreateFineTuningJob) -> None:
    if body.integrations:
        raise invalid(
            "This engine does not write to other services. Leave integrations out; "
            "`tunesmith wandb sync` copies jobs to Weights & Biases afterwards.",
            param="integrations",
            code="unsupported",
        )
