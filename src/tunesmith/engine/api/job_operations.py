"""Operations that both job APIs share: create, find and change a job, stream its events."""

from __future__ import annotations

import json
import secrets
import time
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from fastapi.responses import StreamingResponse

from tunesmith.engine.domain.errors import QueueFullError
from tunesmith.engine.domain.job import JOBS_API, LEGACY_API, internal_id
from tunesmith.engine.jobs.event_messages import KINDS
from tunesmith.engine.jobs.lifecycle import create as insert_job
from tunesmith.engine.store import file_queries, job_queries
from tunesmith.engine.store.records import JobRow, new_token
from tunesmith.engine.training.recipe_rules import why_impossible, why_no_experts

from .dependencies import Services, get_services
from .http_errors import ApiError, invalid
from .idempotency import IdempotencyKey, fingerprint_of
from .job_requests import CreateFineTune, CreateFineTuningJob
from .keyed_route import KeyCheck

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from fastapi import Request
    from sqlalchemy import Connection

    from tunesmith.engine.domain.job import Api
    from tunesmith.engine.jobs.watcher import EventWatcher
    from tunesmith.engine.model_registry import TrainableModel
    from tunesmith.engine.security.keys import Identity
    from tunesmith.engine.store.records import EventRow
    from tunesmith.types.job_parameters import RecipeChoice

    from .job_requests import Method

__all__ = ["change_job", "create_job", "find_job", "stream_events"]

_STREAM_HEADERS = {"cache-control": "no-cache", "x-accel-buffering": "no"}


def create_job(
    services: Services, key: Identity, request: Request, body: CreateFineTune | CreateFineTuningJob
) -> JobRow:
    """Validate a request for a job and queue the job.

    Raises:
        ApiError: The request names a file that does not exist, contradicts itself, or asks for
            something that this engine does not support.
        UnknownModelError: The organisation has no model of this name.
        ModelNotInstalledError: The base model is not on this machine.
        QueueFullError: The organisation has too many unfinished jobs.
    """
    api: Api = LEGACY_API if isinstance(body, CreateFineTune) else JOBS_API
    idempotency = IdempotencyKey.from_request(request, key.organization, api)
    fingerprint = fingerprint_of(body.model_dump(mode="json"))
    model = services.models.trainable(body.model, key.organization)
    requested = body.requested_hyperparameters()
    _check_classification(requested, body.validation_file)
    _check_recipe(services, key, model, requested)
    _check_own_settings(requested, body.validation_file)
    method, metadata = "supervised", None
    if isinstance(body, CreateFineTuningJob):
        _refuse_integrations(body)
        method = body.method.type if body.method else method
        _refuse_other_method(body.method)
        metadata = body.metadata
        _check_method(method, requested)
    now = time.time()
    job = JobRow(
        id=new_token(),
        api=api,
        organization=key.organization,
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
        requested_hyperparameters=requested,
        metadata=metadata,
    )
    with services.database.write_for_request() as connection:
        previous = idempotency.find_previous(connection, fingerprint)
        if previous is not None:
            return find_job(connection, key, previous)
        _check_files(connection, job)
        _check_queue(connection, job, services.config.limits.queued_jobs)
        insert_job(connection, job)
        _warn_of_equal_files(connection, job)
        idempotency.record(connection, fingerprint, job.id)
        job = find_job(connection, key, job.id)
    services.dispatcher.wake()
    return job


def find_job(connection: Connection, key: Identity, identity: str) -> JobRow:
    """Return a job of the key's organisation by its id in either API.

    Raises:
        ApiError: There is no such job.
    """
    job = job_queries.get(connection, key.organization, internal_id(identity))
    if job is None:
        raise ApiError(
            HTTPStatus.NOT_FOUND,
            f"No such fine-tuning job: {identity}",
            param="id",
            code="job_not_found",
        )
    return job


def change_job(
    services: Services, key: Identity, identity: str, change: Callable[[Connection, JobRow], None]
) -> JobRow:
    """Apply a change to a locked job and return the changed job.

    Raises:
        ApiError: There is no such job.
        JobStateError: Its status does not allow it.
    """
    with services.database.read() as connection:  # an unknown id does not wait for writers
        job = find_job(connection, key, identity)
    with services.database.write_for_request() as connection:
        locked = job_queries.lock(connection, job.id)
        change(connection, locked or job)
        job = find_job(connection, key, identity)
    services.dispatcher.wake()
    return job


def stream_events(
    request: Request, job_id: str, api: Api, render: Callable[[EventRow], dict[str, Any]]
) -> StreamingResponse:
    """Return a response that streams all events of a job, past and future, until it ends.

    The events are data-only server-sent events; after the last one `[DONE]` is sent and the
    body ends. If the server stops before the job ends, or the key is revoked, the body ends
    without `[DONE]` and the client reads again.

    Args:
        request: The request.
        job_id: The job.
        api: The API whose kinds of events are sent.
        render: Turns an event into its JSON object.
    """
    return StreamingResponse(
        _event_lines(get_services(request).watcher, KeyCheck(request), job_id, api, render),
        media_type="text/event-stream",
        headers=_STREAM_HEADERS,
    )


async def _event_lines(
    watcher: EventWatcher,
    key: KeyCheck,
    job_id: str,
    api: Api,
    render: Callable[[EventRow], dict[str, Any]],
) -> AsyncIterator[str]:
    kinds = KINDS[api]
    async for batch in watcher.follow(job_id):
        if await key.is_revoked():
            return
        if batch is None:
            yield "data: [DONE]\n\n"
            return
        lines = [
            f"data: {json.dumps(render(event), separators=(',', ':'))}\n\n"
            for event in batch
            if event.kind in kinds
        ]
        if lines:
            yield "".join(lines)
        elif not batch:  # a comment keeps the connection alive and detects clients that have gone
            yield ": \n\n"


def _check_files(connection: Connection, job: JobRow) -> None:
    for param in ("training_file", "validation_file"):
        file_id = getattr(job, param)
        if file_id is None:
            continue
        file = file_queries.get(connection, job.organization, file_id)
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
            "The validation file must not be the training file: it would measure memorisation.",
            param="validation_file",
        )


def _check_queue(connection: Connection, job: JobRow, limit: int) -> None:
    if job_queries.unfinished_count(connection, job.organization) >= limit:
        raise QueueFullError(
            f"The queue holds {limit} unfinished jobs of your organisation, which is the limit. "
            "Wait for one to end, or cancel one."
        )


def _check_own_settings(requested: dict[str, Any], validation_file: str | None) -> None:
    for name in ("early_stopping", "keep_best"):
        if requested.get(name) and validation_file is None:
            raise invalid(
                f"{name} compares the validation losses of epochs; it needs a validation_file.",
                param="validation_file",
            )


def _check_classification(requested: dict[str, Any], validation_file: str | None) -> None:
    classes = requested.get("classification_n_classes")
    positive = requested.get("classification_positive_class")
    if not requested.get("compute_classification_metrics"):
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


def _refuse_other_method(method: Method | None) -> None:
    """Raise ApiError if hyperparameters are given for a method that is not the one in use."""
    if method is not None and (other := method.unused()) is not None:
        raise invalid(
            f"method.{other} has hyperparameters, but method.type is {method.type!r}. Leave "
            f"method.{other} out, or set the type to {other!r}.",
            param=f"method.{other}",
        )


def _check_method(method: str, requested: dict[str, Any]) -> None:
    if method == "dpo" and requested.get("prompt_loss_weight") is not None:
        raise invalid(
            "prompt_loss_weight is for the method 'supervised': preferences are learned from the "
            "replies alone.",
            param="prompt_loss_weight",
        )


def _check_recipe(
    services: Services, key: Identity, model: TrainableModel, requested: dict[str, Any]
) -> None:
    """Raise ApiError if the requested recipe cannot train the model, or not its experts."""
    parent = None
    if model.parent is not None:
        row = services.models.fine_tuned(model.parent, key.organization)
        parent = None if row is None else services.models.folder(row)
    base = services.models.base(model.base_model).path
    recipe: RecipeChoice = requested.get("recipe") or "auto"
    processes = services.config.training_processes
    message = why_impossible(recipe, base, parent, processes=processes)
    if message is not None:
        raise invalid(message, param="recipe")
    wanted = bool(requested.get("train_experts"))
    message = why_no_experts(recipe, base, parent, wanted=wanted, processes=processes)
    if message is not None:
        raise invalid(message, param="train_experts")


def _warn_of_equal_files(connection: Connection, job: JobRow) -> None:
    """Add an event if two files of a job have the same content."""
    if job.validation_file is None:
        return
    rows = [
        file_queries.get(connection, job.organization, file_id)
        for file_id in (job.training_file, job.validation_file)
    ]
    if len({row.sha256 for row in rows if row is not None}) == 1:
        message = (
            "The validation file has the same content as the training file: its metrics will "
            "measure memorisation."
        )
        note = {"message": message}
        job_queries.add_event(connection, job.id, "note:equal-files", "note", note, level="warn")


def _refuse_integrations(body: CreateFineTuningJob) -> None:
    if body.integrations:
        raise invalid(
            "This engine does not write to other services. Leave integrations out; "
            "`tunesmith wandb sync` copies jobs to Weights & Biases afterwards.",
            param="integrations",
            code="unsupported",
        )
