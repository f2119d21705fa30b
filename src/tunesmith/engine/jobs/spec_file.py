"""From a job's row to `spec.json`, the specification of its training."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from tunesmith.engine.models.verdicts import read_verdict
from tunesmith.engine.training.environment import available_threads
from tunesmith.engine.training.recipe_rules import why_impossible, why_no_experts
from tunesmith.engine.training.spec import TrainingSpec
from tunesmith.types.job_parameters import LEGACY_HYPERPARAMETERS, OWN_PARAMETERS

from .validation import data_path

if TYPE_CHECKING:
    from tunesmith.engine.config import EngineConfig
    from tunesmith.engine.model_registry import ModelRegistry
    from tunesmith.engine.models.model_info import ServableModel
    from tunesmith.engine.store.records import JobRow
    from tunesmith.types.job_parameters import RecipeChoice

__all__ = ["write_specification"]


def write_specification(config: EngineConfig, models: ModelRegistry, job: JobRow) -> None:
    """Write `spec.json` into the job's folder, complete or not at all.

    Raises:
        UnknownModelError: The model that the job starts from has gone.
        ModelNotInstalledError: Its base model has.
    """
    folder = config.home.job(job.id)
    source = models.resolve_model(job.parent_model or job.base_model, job.organization)
    verdict = read_verdict(config.home.proofs, source.base_path)
    requested = job.requested_hyperparameters
    names = [parameter.name for parameter in LEGACY_HYPERPARAMETERS + OWN_PARAMETERS]
    values = {name: requested[name] for name in names if requested.get(name) is not None}
    if requested.get("beta") is not None:
        values["dpo_beta"] = requested["beta"]
    spec = TrainingSpec(
        job_id=job.id,
        base_model=job.base_model,
        base_path=source.base_path,
        initial_adapter_path=source.adapter_path,
        training_path=data_path(config.home, job, "training_file"),
        validation_path=(
            None if job.validation_file is None else data_path(config.home, job, "validation_file")
        ),
        work_path=folder / "work",
        output_path=config.home.models / job.id,
        method="dpo" if job.method == "dpo" else "supervised",
        seed=job.seed,
        api="fine-tunes" if job.api == "fine-tunes" else "jobs",
        recipe=_recipe(requested, config, source),
        max_tokens=config.example_limit(job.family),
        checkpoint_every_seconds=config.checkpoint_every_seconds,
        threads=config.threads or available_threads(),
        path=None if verdict is None else verdict.training,
        serving_path=None if verdict is None else verdict.serving,
        **values,
    )
    folder.mkdir(parents=True, exist_ok=True)
    temporary = folder / f"spec.{job.worker_id}"
    with temporary.open("w", encoding="utf-8") as file:
        file.write(spec.model_dump_json(indent=2))
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(folder / "spec.json")


def _recipe(requested: dict[str, Any], config: EngineConfig, source: ServableModel) -> RecipeChoice:
    """Return the requested recipe, or the engine's default where it can train the model."""
    recipe: RecipeChoice | None = requested.get("recipe")
    if recipe is not None:
        return recipe
    default, base, parent = config.recipe, source.base_path, source.adapter_path
    processes, experts = config.training_processes, bool(requested.get("train_experts"))
    impossible = why_impossible(default, base, parent, processes=processes) or why_no_experts(
        default, base, parent, wanted=experts, processes=processes
    )
    return default if impossible is None else "auto"
