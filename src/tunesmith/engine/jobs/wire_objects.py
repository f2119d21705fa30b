"""From the records of jobs, events, checkpoints and files to the JSON of the two APIs."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from tunesmith.datasets.training_defaults import LEGACY_EPOCHS
from tunesmith.engine.domain.job import JOBS_API, LEGACY_API, public_id
from tunesmith.engine.domain.json_values import find_json_fault
from tunesmith.types.files import FileObject
from tunesmith.types.fine_tuning import (
    FineTuningJob,
    FineTuningJobCheckpoint,
    FineTuningJobCheckpointMetrics,
    FineTuningJobError,
    FineTuningJobEvent,
    FineTuningJobHyperparameters,
    FineTuningJobMethod,
    FineTuningJobMethodConfig,
)
from tunesmith.types.graders import CheckpointPermission
from tunesmith.types.job_parameters import LEGACY_HYPERPARAMETERS
from tunesmith.types.legacy_fine_tunes import FineTune, FineTuneEvent, FineTuneHyperparams
from tunesmith.types.model_exports import ModelExport
from tunesmith.types.uploads import Upload

from .event_messages import event_message, event_metrics

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tunesmith.engine.store.records import (
        CheckpointPermissionRow,
        CheckpointRow,
        EventRow,
        ExportRow,
        FileRow,
        JobRow,
        UploadRow,
    )

__all__ = [
    "checkpoint_object",
    "event_object",
    "export_object",
    "file_object",
    "fine_tune",
    "fine_tune_event",
    "fine_tuning_job",
    "organization_id",
    "permission_object",
    "upload_object",
]

_LEGACY_STATUS = {"validating_files": "pending", "queued": "pending", "paused": "pending"}


def organization_id(organization: str) -> str:
    """Return the id of an organisation on the wire."""
    return f"org-{organization}"


def permission_object(row: CheckpointPermissionRow) -> dict[str, Any]:
    """Return a permission to use a model as JSON data."""
    return CheckpointPermission(
        id=row.id,
        created_at=int(row.created_at),
        project_id=organization_id(row.organization),
    ).model_dump()


def export_object(row: ExportRow) -> dict[str, Any]:
    """Return an export of a model as JSON data."""
    fields = asdict(row) | {
        name: None if value is None else int(value)
        for name, value in (
            ("created_at", row.created_at),
            ("finished_at", row.finished_at),
            ("expires_at", row.expires_at),
        )
    }
    known = {name: fields[name] for name in ModelExport.model_fields if name in fields}
    return ModelExport.model_validate(known).model_dump()


def file_object(row: FileRow) -> dict[str, Any]:
    """Return a file as JSON data."""
    file = FileObject(
        id=row.id,
        bytes=row.bytes,
        created_at=int(row.created_at),
        filename=row.filename,
        purpose=row.purpose,
    )
    data = file.model_dump(exclude={"expires_at", "status_details"})
    if row.expires_at is not None:
        data["expires_at"] = int(row.expires_at)
    data["sha256"] = row.sha256  # not in the hosted service: clients find identical uploads by it
    if row.prompt_format is not None and find_json_fault(row.prompt_format) is None:
        data["prompt_format"] = row.prompt_format
    return data


def upload_object(row: UploadRow, file: FileRow | None, now: float) -> dict[str, Any]:
    """Return an upload as JSON data, with its file once there is one."""
    is_expired = row.status == "pending" and row.expires_at <= now
    upload = Upload(
        id=row.id,
        bytes=row.bytes,
        created_at=int(row.created_at),
        expires_at=int(row.expires_at),
        filename=row.filename,
        purpose=row.purpose,
        status="expired" if is_expired else row.status,
    )
    return upload.model_dump() | {"file": None if file is None else file_object(file)}


def fine_tune(
    job: JobRow, files: Mapping[str, FileRow], events: Sequence[EventRow] | None = None
) -> dict[str, Any]:
    """Return a job as JSON data of the legacy API.

    Args:
        job: The job.
        files: Its files by id; those that were deleted are left out.
        events: Its events, oldest first; None leaves them out, as in lists.
    """

    def existing(file_id: str | None) -> list[dict[str, Any]]:
        file = files.get(file_id or "")
        return [] if file is None else [file_object(file)]

    resolved = job.resolved_hyperparameters or {}
    hyperparams = FineTuneHyperparams.model_validate(
        {
            "prompt_loss_weight": 0.0,
            "n_epochs": LEGACY_EPOCHS,  # this API's default, for a job that ended before its plan
            **job.requested_hyperparameters,
            **resolved,
        }
    ).model_dump()
    for parameter in LEGACY_HYPERPARAMETERS:
        if not parameter.is_hyperparameter and hyperparams[parameter.name] is None:
            del hyperparams[parameter.name]
    payload = FineTune(
        id=public_id(job.id, LEGACY_API),
        created_at=int(job.created_at),
        updated_at=int(job.updated_at),
        model=job.model,
        fine_tuned_model=job.fine_tuned_model,
        organization_id=organization_id(job.organization),
        status=_LEGACY_STATUS.get(job.status, job.status),
        hyperparams=FineTuneHyperparams(),
        training_files=[],
        validation_files=[],
        result_files=[],
    ).model_dump(exclude={"events"})
    payload["hyperparams"] = hyperparams
    payload["training_files"] = existing(job.training_file)
    payload["validation_files"] = existing(job.validation_file)
    payload["result_files"] = existing(job.result_file)
    payload["base_model"] = job.base_model
    if events is not None:
        payload["events"] = [fine_tune_event(event) for event in events]
    return payload


def fine_tune_event(event: EventRow) -> dict[str, Any]:
    """Return an event as JSON data of the legacy API."""
    return FineTuneEvent(
        created_at=int(event.created_at),
        level=event.level,
        message=event_message(event, LEGACY_API),
    ).model_dump()


def fine_tuning_job(job: JobRow) -> dict[str, Any]:
    """Return a job as JSON data of the fine-tuning jobs API."""
    auto = dict.fromkeys(FineTuningJobHyperparameters.model_fields, "auto")
    requested = job.requested_hyperparameters
    resolved = job.resolved_hyperparameters or {}
    values = auto | {name: requested[name] for name in auto if requested.get(name) is not None}
    values |= {name: value for name, value in resolved.items() if name in auto}
    extra = {"beta": requested.get("beta", "auto")} if job.method == "dpo" else {}
    config = FineTuningJobMethodConfig(hyperparameters=values | extra)
    method = FineTuningJobMethod.model_validate({"type": job.method, job.method: config})
    payload = FineTuningJob(
        id=public_id(job.id),
        created_at=int(job.created_at),
        error=None if job.error is None else FineTuningJobError(**job.error),
        fine_tuned_model=job.fine_tuned_model,
        finished_at=None if job.finished_at is None else int(job.finished_at),
        hyperparameters=FineTuningJobHyperparameters.model_validate(values),
        model=job.model,
        organization_id=organization_id(job.organization),
        result_files=[job.result_file] if job.result_file else [],
        seed=job.seed,
        status=job.status,
        trained_tokens=job.trained_tokens if job.is_terminal else None,
        training_file=job.training_file,
        validation_file=job.validation_file,
        estimated_finish=_estimate(job),
        integrations=[],
        metadata=job.metadata,
        user_provided_suffix=job.suffix,
    ).model_dump(exclude={"method"})
    payload["method"] = method.model_dump(exclude_none=True)
    payload["base_model"] = job.base_model
    return payload


def _estimate(job: JobRow) -> int | None:
    if job.status != "running" or job.estimated_finish is None:
        return None
    return int(job.estimated_finish)


def event_object(event: EventRow) -> dict[str, Any]:
    """Return an event as JSON data of the fine-tuning jobs API."""
    metrics = event_metrics(event)
    return FineTuningJobEvent(
        id=event.id,
        created_at=int(event.created_at),
        level=event.level,
        message=event_message(event, JOBS_API),
        data=metrics or {},
        type="message" if metrics is None else "metrics",
    ).model_dump()


def checkpoint_object(row: CheckpointRow) -> dict[str, Any]:
    """Return a checkpoint as JSON data, without metrics that were not computed."""
    payload = FineTuningJobCheckpoint(
        id=row.id,
        created_at=int(row.created_at),
        fine_tuned_model_checkpoint=row.model,
        fine_tuning_job_id=public_id(row.job_id),
        metrics=FineTuningJobCheckpointMetrics(),
        step_number=row.step,
    ).model_dump(exclude={"metrics"})
    payload["metrics"] = {name: value for name, value in row.metrics.items() if value is not None}
    return payload
