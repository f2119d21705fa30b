"""Rows as frozen records, one class per table, and the generation of ids."""

from __future__ import annotations

import secrets
import string
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from tunesmith.engine.domain.job import TERMINAL_STATUSES

if TYPE_CHECKING:
    from sqlalchemy import Row

    from tunesmith.engine.domain.job import Api

__all__ = [
    "CheckpointPermissionRow",
    "CheckpointRow",
    "EventRow",
    "ExportRow",
    "FileRow",
    "JobRow",
    "ModelRouteRow",
    "ModelRow",
    "RouteDecisionRow",
    "StoredCompletionRow",
    "UploadPartRow",
    "UploadRow",
    "from_row",
    "new_token",
]

_ALPHABET = string.ascii_letters + string.digits


def new_token(length: int = 24) -> str:
    """Return random letters and digits, the variable part of an id."""
    return "".join(secrets.choice(_ALPHABET) for _ in range(length))


@dataclass(frozen=True, slots=True)
class FileRow:
    """A file. `prompt_format` is the format of its prompts, if the upload named one."""

    id: str
    organization: str
    created_at: float
    filename: str
    purpose: str
    bytes: int
    sha256: str
    expires_at: float | None = None
    prompt_format: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class UploadRow:
    """A file that arrives in parts.

    Attributes:
        expires_at: No parts are accepted from then on.
        bytes: The size that was announced.
        lifetime_seconds: How long the file is kept; None for ever.
        status: "pending", "completed" or "cancelled".
        file_id: The file, once the upload is completed.
    """

    id: str
    organization: str
    created_at: float
    expires_at: float
    filename: str
    purpose: str
    bytes: int
    lifetime_seconds: int | None = None
    status: str = "pending"
    file_id: str | None = None


@dataclass(frozen=True, slots=True)
class UploadPartRow:
    """One part of an upload, whose content is in the upload's folder."""

    id: str
    upload_id: str
    created_at: float
    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class JobRow:
    """A job of either API.

    Attributes:
        id: Without the prefix "ft-" or "ftjob-" of the two APIs.
        api: The API that created it; it determines the form of the model's name.
        status: As in the fine-tuning jobs API, "paused" included.
        model: The name in the request.
        base_model: Id of the base model behind it.
        parent_model: The fine-tuned model that is trained further, if any.
        family: The base name in the new model's name.
        requested_hyperparameters: As in the request; the engine chooses the absent ones.
        resolved_hyperparameters: Those in use, once the training has resolved them.
        worker_id: The lease: a random token known only to the process that may write.
        attempts: Number of starts since the training last made progress.
        event_count: Number of events, which is the sequence of the last one.
    """

    id: str
    api: Api
    organization: str
    created_at: float
    updated_at: float
    status: str
    model: str
    base_model: str
    family: str
    training_file: str
    seed: int
    method: str
    requested_hyperparameters: dict[str, Any]
    parent_model: str | None = None
    validation_file: str | None = None
    suffix: str | None = None
    resolved_hyperparameters: dict[str, Any] | None = None
    metadata: dict[str, str] | None = None
    integrations: list[dict[str, Any]] | None = None
    total_steps: int | None = None
    steps_done: int = 0
    estimated_finish: float | None = None
    trained_tokens: int | None = None
    finished_at: float | None = None
    fine_tuned_model: str | None = None
    result_file: str | None = None
    error: dict[str, Any] | None = None
    worker_id: str | None = None
    worker_host: str | None = None
    worker_pid: int | None = None
    heartbeat_at: float | None = None
    attempts: int = 0
    event_count: int = 0

    @property
    def is_terminal(self) -> bool:
        """True once the status can no longer change."""
        return self.status in TERMINAL_STATUSES


@dataclass(frozen=True, slots=True)
class EventRow:
    """An event of a job, as data: each API has its own message for it.

    Attributes:
        sequence: 1 for the job's first event, without gaps.
        key: Identifies the event in its job; an event that is reported twice is stored once.
    """

    job_id: str
    sequence: int
    id: str
    key: str
    created_at: float
    level: str
    kind: str
    data: dict[str, Any]


@dataclass(frozen=True, slots=True)
class ModelRow:
    """A fine-tuned model or a checkpoint of one (`step`). `path` is relative to the home."""

    name: str
    organization: str
    created_at: float
    job_id: str
    base_model: str
    family: str
    path: str
    step: int | None = None
    prompt_format: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class CheckpointRow:
    """A checkpoint of a job; `model` is the name of a usable model."""

    id: str
    job_id: str
    step: int
    created_at: float
    model: str
    metrics: dict[str, Any]


@dataclass(frozen=True, slots=True)
class CheckpointPermissionRow:
    """The permission of `organization` to use another one's `model`."""

    id: str
    model: str
    organization: str
    created_at: float


@dataclass(frozen=True, slots=True)
class ModelRouteRow:
    """A name of an organisation's own that leads to a model of the engine, or to another service.

    Attributes:
        name: As requests spell it.
        target: The model that stands behind it; None as long as only the other service answers.
        upstream: The other service, by its name in the settings; None for a mere alias.
        stage: Who answers: "upstream", "mirror", "percentage" or "local".
        percentage: Share of the requests that the target answers in the stage "percentage".
        sticky_by: What keeps to one side: "user", "conversation" or "request".
        fallback: Whether the other side answers when the one whose turn it is fails.
        timeout_seconds: How long a side may take until its answer begins.
        keep_contents: Whether requests and answers are kept with the decisions.
    """

    organization: str
    name: str
    created_at: float
    updated_at: float
    target: str | None
    upstream: str | None = None
    stage: str = "local"
    percentage: float = 0.0
    sticky_by: str = "user"
    fallback: bool = True
    timeout_seconds: float = 120.0
    keep_contents: bool = False


@dataclass(frozen=True, slots=True)
class RouteDecisionRow:
    """How one request to a name with a route was answered.

    Attributes:
        minute: `created_at` in whole minutes, by which curves are grouped.
        side: Whose answer the caller got: "upstream" or "local"; "none" if neither had one.
        fallback: Whether that is the side whose turn it was not.
        mirror: What became of the new model's answer beside the old one: "compared", "failed" or
            "dropped"; None where none was asked for.
        upstream_status: HTTP status of the other service; None if it was not asked, 0 without one.
        local_status: The same of the target.
        upstream_seconds: Time until the whole answer.
        same_text: Whether both answers are equal; None if they were not compared.
        same_normalized: The same without case, spaces and punctuation at the ends.
        same_calls: Whether both call the same tools with the same arguments; None without calls.
        same_class: Whether two short answers are the same class; None for longer ones.
        data: Time until the first byte, usage and finish reasons of each side, and contents.
    """

    id: str
    organization: str
    created_at: float
    minute: int
    name: str
    target: str | None
    stage: str
    side: str
    fallback: bool
    mirror: str | None
    upstream_status: int | None
    local_status: int | None
    upstream_seconds: float | None
    local_seconds: float | None
    same_text: bool | None
    same_normalized: bool | None
    same_calls: bool | None
    same_class: bool | None
    data: dict[str, Any]


@dataclass(frozen=True, slots=True)
class StoredCompletionRow:
    """An answer of the chat API that was asked for with `store`.

    Attributes:
        expires_at: Nobody sees it from then on.
        model: The name in the request.
        completion: The answer as it was sent, with the request's settings, without metadata.
        messages: The messages that it answers, as they came.
    """

    id: str
    organization: str
    created_at: float
    expires_at: float
    model: str
    completion: dict[str, Any]
    messages: list[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class ExportRow:
    """An export of a model.

    Attributes:
        format: "peft", "merged", "gguf" or "ollama".
        quantization: The type of its weights.
        with_base: Whether the base model's files are beside the adapter.
        compare: Whether its answers are compared with the served model's.
        status: "queued", "running", "succeeded", "failed" or "cancelled".
        step: What its process does now.
        progress: Share of its steps that are done, 0 to 1.
        attempts: Number of starts; what an earlier one reports is not stored.
        expires_at: It is removed then; None until it has ended.
        filename: Name that the archive has for users; `bytes` and `sha256` are the archive's.
        comparison: Fields of `types.ModelExportComparison`; `error`: of `ModelExportError`.
    """

    id: str
    organization: str
    created_at: float
    model: str
    format: str
    quantization: str
    with_base: bool
    compare: bool
    status: str = "queued"
    step: str = ""
    progress: float = 0.0
    attempts: int = 0
    finished_at: float | None = None
    expires_at: float | None = None
    filename: str | None = None
    bytes: int | None = None
    sha256: str | None = None
    comparison: dict[str, Any] | None = None
    error: dict[str, Any] | None = None


Record = TypeVar(
    "Record",
    FileRow,
    JobRow,
    EventRow,
    ModelRow,
    ModelRouteRow,
    RouteDecisionRow,
    CheckpointRow,
    CheckpointPermissionRow,
    StoredCompletionRow,
    ExportRow,
    UploadRow,
    UploadPartRow,
)


def from_row(kind: type[Record], row: Row[Any]) -> Record:
    """Return the record of a row that selects exactly its table's columns."""
    return kind(**row._mapping)  # noqa: SLF001 - public in all but name # pyright: ignore[reportPrivateUsage]
