"""The plan as requests to other services: the request that each wants, and what is lost on the way.

Nothing is sent. A service's names and bounds are of November 2026, from its SDK or its public
reference; what could not be seen is said in the notes of each request.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from tunesmith.errors import TunesmithError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .planning import Plan, PlannedJob

__all__ = ["TARGETS", "ExportedJob", "export_plan"]

_Make: TypeAlias = Callable[["PlannedJob", str], "ExportedJob"]


@dataclass(slots=True)
class ExportedJob:
    """One job as a request to another service.

    Attributes:
        name: The plan's job.
        method: The HTTP method.
        path: The path below the service's address.
        body: The request's body; `<…>` stands for what only you know.
        before: What has to be done first, such as uploading files.
        lost: What the service has no place for.
    """

    name: str
    method: str
    path: str
    body: dict[str, Any]
    before: list[str] = field(default_factory=list[str])
    lost: list[str] = field(default_factory=list[str])

    def to_dict(self) -> dict[str, Any]:
        """Return the export as JSON data."""
        return {
            "name": self.name,
            "request": {"method": self.method, "path": self.path, "body": self.body},
            "before": self.before,
            "lost": self.lost,
        }


def export_plan(plan: Plan, target: str) -> list[ExportedJob]:
    """Return a plan's jobs as requests to another service.

    Args:
        plan: The plan.
        target: One of `TARGETS`.

    Raises:
        TunesmithError: There is no such target.
    """
    make = TARGETS.get(target)
    if make is None:
        raise TunesmithError(f"There is no target {target!r}; there is {', '.join(TARGETS)}.")
    return [make(job, base) for job in plan.jobs if job.run for base in job.bases]


def _without_none(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def _number(value: Any) -> Any:
    """Return a setting, None where it is left to the service."""
    return None if value == "auto" else value


def _lost(job: PlannedJob, *names: str) -> list[str]:
    """Return a sentence for each setting of the job that the service has no place for."""
    texts = {
        "seed": f"seed {job.seed}: the service has none",
        "suffix": f"suffix {job.suffix!r}: the service has none",
        "keep_best": "keep_best: the service keeps its last model; choose a checkpoint yourself",
        "early_stopping": f"early_stopping {job.early_stopping}: the service has none",
        "validation_file": "validation_file: the service takes none here",
    }
    lost = [texts[name] for name in names if getattr(job, name)]
    if job.learning_rate_multiplier != "auto":
        lost.append(
            f"learning_rate_multiplier {job.learning_rate_multiplier}: a multiplier is no rate; "
            "choose a learning rate of the service's"
        )
    if job.after:
        lost.append(f"it continues {job.after}: name the model that replaces it as the base")
    return lost


def _upload(job: PlannedJob, how: str) -> list[str]:
    files = [name for name in (job.training_file, job.validation_file) if name]
    return [f"upload {name} {how}" for name in files]


def _together(job: PlannedJob, base: str) -> ExportedJob:
    method: dict[str, Any] = {"method": "sft"}
    if job.method == "dpo":
        method = _without_none({"method": "dpo", "dpo_beta": _number(job.beta)})
    body = {
        "model": f"<Together's name of {base}>",
        "training_file": "<file id>",
        "validation_file": "<file id>" if job.validation_file else None,
        "n_evals": 10 if job.validation_file else None,
        # Left out it would be one epoch.
        "n_epochs": 3 if job.n_epochs == "auto" else job.n_epochs,
        "batch_size": "max" if job.batch_size == "auto" else job.batch_size,
        "random_seed": job.seed,
        "suffix": None if job.suffix is None else job.suffix[:40],
        "training_method": method,
        "training_type": {"type": "Lora", "lora_r": 16, "lora_alpha": 32},
    }
    lost = _lost(job, "keep_best", "early_stopping")
    if job.suffix and len(job.suffix) > 40:  # noqa: PLR2004 - the service's limit
        lost.append("suffix: cut to 40 characters")
    if job.n_epochs == "auto":
        lost.append("n_epochs auto: the service has none; 3 here, and 1 if it is left out")
    return ExportedJob(
        job.name, "POST", "/v1/fine-tunes", _without_none(body),
        _upload(job, "with purpose fine-tune"), lost,
    )  # fmt: skip


def _fireworks(job: PlannedJob, base: str) -> ExportedJob:
    kind = "dpoJobs" if job.method == "dpo" else "supervisedFineTuningJobs"
    body = {
        "dataset": "accounts/<account>/datasets/<id>",
        "evaluationDataset": "accounts/<account>/datasets/<id>" if job.validation_file else None,
        "baseModel": f"accounts/fireworks/models/<Fireworks' name of {base}>",
        "outputModel": f"accounts/<account>/models/{job.suffix}" if job.suffix else None,
        "epochs": _number(job.n_epochs),
        "batchSizeSamples": _number(job.batch_size),
        "loraRank": 16,
    }
    lost = _lost(job, "seed", "keep_best", "early_stopping")
    if job.method == "dpo":
        lost.append("the fields of DPO jobs were not seen: check them against the reference")
    return ExportedJob(
        job.name, "POST", f"/v1/accounts/<account>/{kind}", _without_none(body),
        _upload(job, "as a dataset"), lost,
    )  # fmt: skip


def _openai_body(job: PlannedJob, base: str) -> dict[str, Any]:
    names = ("n_epochs", "batch_size", *(("beta",) if job.method == "dpo" else ()))
    return _without_none(
        {
            "model": base,
            "training_file": "<file id>",
            "validation_file": "<file id>" if job.validation_file else None,
            "suffix": job.suffix,
            "seed": job.seed,
            "method": {
                "type": job.method,
                job.method: {"hyperparameters": {name: getattr(job, name) for name in names}},
            },
        }
    )


def _azure(job: PlannedJob, base: str) -> ExportedJob:
    body = _openai_body(job, f"<Azure's base in place of {base}>") | {"trainingType": "Standard"}
    lost = _lost(job, "keep_best", "early_stopping")
    if job.suffix and len(job.suffix) > 40:  # noqa: PLR2004 - the service's limit
        body["suffix"] = job.suffix[:40]
        lost.append("suffix: cut to 40 characters")
    lost.append("the model answers after it was deployed, by the deployment's name")
    return ExportedJob(
        job.name, "POST", "/openai/v1/fine_tuning/jobs", body,
        _upload(job, "with purpose fine-tune, with a byte order mark"), lost,
    )  # fmt: skip


def _nebius(job: PlannedJob, base: str) -> ExportedJob:
    body = _openai_body(job, base)
    body.pop("method")
    epochs, batch = job.n_epochs, job.batch_size
    hyperparameters: dict[str, Any] = {"lora": True, "lora_r": 16, "lora_alpha": 32}
    lost = _lost(job, "keep_best", "early_stopping")
    if epochs != "auto":
        hyperparameters["n_epochs"] = min(20, epochs)
        if epochs > 20:  # noqa: PLR2004 - the service's limit
            lost.append(f"n_epochs {epochs}: the service allows 20")
    if batch != "auto":
        hyperparameters["batch_size"] = min(32, batch)
        if batch > 32:  # noqa: PLR2004 - the service's limit
            lost.append(f"batch_size {batch}: the service allows 32")
    if job.method == "dpo":
        lost.append("method dpo: the service trains supervised only")
    lost.append("fields are from users' notes, not from the service's reference: check them")
    return ExportedJob(
        job.name, "POST", "/v1/fine_tuning/jobs", body | {"hyperparameters": hyperparameters},
        _upload(job, "with purpose fine-tune"), lost,
    )  # fmt: skip


def _bedrock(job: PlannedJob, base: str) -> ExportedJob:
    body = {
        "jobName": job.old_job,
        "customModelName": job.suffix or job.old_job,
        "roleArn": "<role>",
        "baseModelIdentifier": f"<Bedrock's base in place of {base}>",
        "customizationType": "FINE_TUNING",
        "trainingDataConfig": {"s3Uri": "s3://<bucket>/train.jsonl"},
        "validationDataConfig": {"validators": [{"s3Uri": "s3://<bucket>/valid.jsonl"}]}
        if job.validation_file
        else None,
        "outputDataConfig": {"s3Uri": "s3://<bucket>/output"},
        # The service wants strings.
        "hyperParameters": {
            name: str(value)
            for name, value in (("epochCount", job.n_epochs), ("batchSize", job.batch_size))
            if value != "auto"
        },
    }
    lost = _lost(job, "seed", "keep_best", "early_stopping")
    lost.append("rows have to be in the format of the base; weights are not handed out")
    if job.method == "dpo":
        lost.append("method dpo: FINE_TUNING is supervised")
    return ExportedJob(
        job.name, "POST", "/model-customization-jobs", _without_none(body),
        _upload(job, "to S3"), lost,
    )  # fmt: skip


TARGETS: Final[Mapping[str, _Make]] = {
    "together": _together,
    "fireworks": _fireworks,
    "azure": _azure,
    "nebius": _nebius,
    "bedrock": _bedrock,
}
"""The services that a plan can be exported for."""
