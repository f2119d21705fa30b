"""A local job for each archived one: which base, which settings, what cannot be carried over.

What the old service chose by itself is chosen anew: its 'auto' stays auto, and its learning rate
multiplier, relative to a rate that nobody knows, is never copied. Knows no engine: which bases
there are comes from the caller, and which of them suits from `base_advice`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from tunesmith.datasets.training_defaults import default_batch_size, default_epochs

from .archive import Archive, ArchiveError
from .base_advice import advised_base, estimate
from .shutdown_dates import base_model
from .training_rows import TrainingRows, read_rows

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence

    from .archive import ArchivedFile, ArchivedJob
    from .base_advice import Base, Machine

__all__ = ["Plan", "PlannedJob", "plan"]


@dataclass(slots=True)
class PlannedJob:
    """One local job, as the plan's file has it.

    Attributes:
        name: Of this entry, unlike any other's.
        run: Whether `train` runs it.
        old_model: The model that it replaces; the name that callers ask for.
        old_job: The job that made it.
        after: The old model that this one continued; its replacement is trained first.
        bases: Base models to train, side by side.
        training_file: Path relative to the archive.
        validation_file: Path relative to the archive, None for none.
        method: "supervised" or "dpo".
        n_epochs: A number or "auto".
        batch_size: A number or "auto".
        learning_rate_multiplier: "auto", or what the user writes there.
        beta: Of "dpo": a number or "auto".
        suffix: Part of the new model's name.
        seed: The old job's.
        early_stopping: Epochs without a lower validation loss; None for never.
        keep_best: Whether the best epoch's model is kept.
        require: What a comparison has to show before traffic moves.
        was: What the old service used: for people.
        estimate: Tokens, memory and time, in words.
        notes: What cannot be carried over, and why; what the user has to decide.
    """

    name: str
    run: bool
    old_model: str
    old_job: str
    bases: list[str]
    training_file: str | None
    validation_file: str | None = None
    after: str | None = None
    method: Literal["supervised", "dpo"] = "supervised"
    n_epochs: int | Literal["auto"] = "auto"
    batch_size: int | Literal["auto"] = "auto"
    learning_rate_multiplier: float | Literal["auto"] = "auto"
    beta: float | Literal["auto"] = "auto"
    suffix: str | None = None
    seed: int | None = None
    early_stopping: int | None = None
    keep_best: bool = False
    require: list[str] = field(default_factory=list[str])
    was: str = ""
    estimate: str = ""
    notes: list[str] = field(default_factory=list[str])


@dataclass(slots=True)
class Plan:
    """The local jobs of an archive.

    Attributes:
        archive: The archive's folder.
        jobs: Parents before those that continue them.
        machine: What it was made for.
        left_out: Old jobs that made no model, by id, with the reason.
    """

    archive: str
    jobs: list[PlannedJob] = field(default_factory=list[PlannedJob])
    machine: str = ""
    left_out: dict[str, str] = field(default_factory=dict[str, str])


def plan(
    archive: Archive | str | os.PathLike[str],
    bases: Sequence[Base] = (),
    machine: Machine | None = None,
    *,
    project: str | None = None,
    models: Sequence[str] | None = None,
    check: bool = True,
) -> Plan:
    """Return a local job for each archived job that made a model.

    Args:
        archive: The archive, or its folder.
        bases: The base models that can be trained; without any, a person chooses.
        machine: Where, to leave out bases that do not fit.
        project: Only this project's jobs.
        models: Only the jobs that made these models, and those that they continued.
        check: Check each training file as the engine will read it.

    Raises:
        ArchiveError: There is no archive, it cannot be read, or no job of it made such a model.
    """
    found = archive if isinstance(archive, Archive) else Archive(archive)
    made = Plan(str(found.folder), machine="" if machine is None else machine.name)
    profiles: dict[str, TrainingRows] = {}
    planned: set[str] = set()
    archived = sorted(found.jobs(project), key=lambda job: int(job.job.get("created_at") or 0))
    if models is not None:
        archived = _with_parents(archived, models)
    for job in archived:
        if job.fine_tuned_model is None:
            made.left_out[job.id] = f"it ended {job.job.get('status')} without a model"
            continue
        made.jobs.append(_planned(found, job, bases, machine, planned, profiles, check=check))
        planned.add(job.fine_tuned_model)
    return made


def _with_parents(archived: Sequence[ArchivedJob], models: Sequence[str]) -> list[ArchivedJob]:
    """Return the jobs that made these models, and those that they continued, in order."""
    by_model = {job.fine_tuned_model: job for job in archived if job.fine_tuned_model}
    unknown = [name for name in models if name not in by_model]
    if unknown:
        raise ArchiveError(f"No job of the archive made {', '.join(unknown)}.")
    wanted = set(models)
    for job in reversed(archived):  # newest first: a job is seen before its parent
        if job.fine_tuned_model in wanted:
            wanted.add(job.base_model)
    return [job for job in archived if job.fine_tuned_model in wanted]


def _planned(  # noqa: PLR0917 - one call, each of them needed
    archive: Archive,
    job: ArchivedJob,
    bases: Sequence[Base],
    machine: Machine | None,
    models: set[str],
    profiles: dict[str, TrainingRows],
    *,
    check: bool,
) -> PlannedJob:
    notes: list[str] = []
    training = _file(archive, job, job.training_file, "training", notes)
    validation = _file(archive, job, job.validation_file, "validation", notes)
    rows = TrainingRows()
    if training is not None:
        path = str(training.content)
        if path not in profiles:
            profiles[path] = read_rows(training, check=check)
        rows = profiles[path]
    parent = job.base_model if _is_fine_tuned(job.base_model) else None
    base = base_model(job.base_model) if parent else job.base_model
    if parent and parent not in models:
        notes.append(
            f"It continued {parent}, which is not in this archive: train on both files together, "
            "or on this one alone."
        )
    method = _method(job, notes)
    hyperparameters = _hyperparameters(job)
    advised, recipe = advised_base(base, rows, bases, machine, notes)
    _note_rows(rows, notes)
    _note_extras(job, notes)
    epochs = _kept(hyperparameters.get("n_epochs"), default_epochs(max(1, rows.count)))
    batch = _kept(hyperparameters.get("batch_size"), default_batch_size(max(1, rows.count)))
    can_run = training is not None and bool(advised) and method is not None
    return PlannedJob(
        name=job.fine_tuned_model or job.id,
        run=can_run,
        old_model=job.fine_tuned_model or "",
        old_job=job.id,
        after=parent if parent in models else None,
        bases=[] if advised is None else [advised.name],
        training_file=_relative(archive, training),
        validation_file=_relative(archive, validation),
        method=method or "supervised",
        n_epochs=epochs,
        batch_size=batch,
        beta=_kept(hyperparameters.get("beta"), None) if method == "dpo" else "auto",
        suffix=_suffix(job),
        seed=job.job.get("seed"),
        early_stopping=2 if validation is not None else None,
        keep_best=validation is not None,
        require=["agreement>=0.9"] if rows.classes else ["agreement.difference>=-0.02"],
        was=", ".join(f"{name} {value}" for name, value in hyperparameters.items()),
        estimate=estimate(rows, epochs, advised, recipe, machine),
        notes=notes,
    )


def _file(
    archive: Archive, job: ArchivedJob, identity: str | None, what: str, notes: list[str]
) -> ArchivedFile | None:
    if identity is None:
        return None
    found = archive.file(job.project, identity)
    if found is None or found.content is None:
        gap = next((one for one in archive.gaps if one.remote_id == identity), None)
        why = "it is not in the archive" if gap is None else f"{gap.status}: {gap.message}"
        notes.append(f"The {what} file {identity} is missing ({why}).")
        return None
    return found


def _relative(archive: Archive, file: ArchivedFile | None) -> str | None:
    if file is None or file.content is None:
        return None
    return file.content.relative_to(archive.folder).as_posix()


def _is_fine_tuned(model: str) -> bool:
    return model.startswith("ft:") or ":ft-" in model or ".ft-" in model


def _method(job: ArchivedJob, notes: list[str]) -> Literal["supervised", "dpo"] | None:
    described = job.job.get("method")
    kind = described.get("type") if isinstance(described, dict) else "supervised"
    if kind == "supervised":
        return "supervised"
    if kind == "dpo":
        return "dpo"
    notes.append(
        f"Its method was {kind!r}, which is not trained here. The rows and the grader are in the "
        "archive: the old model's recorded answers that the grader scores well can be rows of a "
        "supervised job, where the service's terms allow it."
    )
    return None


def _hyperparameters(job: ArchivedJob) -> dict[str, Any]:
    """Return what the service used, of either API; the place in `method` comes first."""
    found: dict[str, Any] = {}
    for values in (job.job.get("hyperparams"), job.job.get("hyperparameters")):
        found.update(values if isinstance(values, dict) else {})
    method = job.job.get("method")
    if isinstance(method, dict):
        config = method.get(str(method.get("type")))
        inner = config.get("hyperparameters") if isinstance(config, dict) else None
        found.update(inner if isinstance(inner, dict) else {})
    return {name: value for name, value in found.items() if value is not None}


def _kept(value: Any, automatic: int | None) -> Any:
    """Return a setting of the old job; what its service chose by the number of rows is 'auto'."""
    if isinstance(value, bool) or not isinstance(value, int | float) or value == automatic:
        return "auto"
    return value


def _suffix(job: ArchivedJob) -> str | None:
    suffix = job.job.get("user_provided_suffix") or job.job.get("suffix")
    if suffix:
        return str(suffix)[:64]
    parts = (job.fine_tuned_model or "").split(":")
    return parts[3] or None if len(parts) > 3 and parts[0] == "ft" else None  # noqa: PLR2004 - ft:base:org:suffix


def _note_rows(rows: TrainingRows, notes: list[str]) -> None:
    for kind, count in rows.not_text.items():
        notes.append(f"{count} parts of its rows are {kind}: models here read text alone.")
    notes.extend(f"The engine refuses the training file: {fault}" for fault in rows.faults)


def _note_extras(job: ArchivedJob, notes: list[str]) -> None:
    hyperparameters = _hyperparameters(job)
    multiplier = hyperparameters.get("learning_rate_multiplier")
    if isinstance(multiplier, int | float):
        notes.append(
            f"learning_rate_multiplier was {multiplier:g}: relative to a rate of the old service, "
            "so it says nothing here and is 'auto'."
        )
    weight = hyperparameters.get("prompt_loss_weight")
    if weight:
        notes.append(f"prompt_loss_weight was {weight:g}, the default of its API; 0 here.")
    for one in job.job.get("integrations") or ():
        kind = one.get("type") if isinstance(one, dict) else None
        notes.append(
            f"It reported to {kind}; old runs stay there. `tunesmith {kind} sync` reports new ones."
        )
