"""The proof of a base model, before a job is queued: can it be trained, and can it be served?

Loads the model as a training and as a server would, which takes seconds to minutes, and keeps
the result beside the engine's other files. Nothing is trained that could not be served.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from tunesmith.engine.domain.errors import TrainingError
from tunesmith.engine.domain.exhausted import is_out_of_memory
from tunesmith.engine.models.catalog import load_catalog
from tunesmith.engine.models.memory_table import host_memory_bytes
from tunesmith.engine.models.model_info import weights_bytes
from tunesmith.engine.models.model_pins import changed_files, not_as_pulled
from tunesmith.engine.models.verdicts import Verdict, read_verdict, static_fault, write_verdict
from tunesmith.errors import TunesmithError

from .validation import JobFault

if TYPE_CHECKING:
    from pathlib import Path

    from tunesmith.engine.home import Home
    from tunesmith.engine.store.records import JobRow

__all__ = ["find_model_fault", "is_proven", "prove"]

_log = logging.getLogger("tunesmith.engine.proof")

# A model that takes more of the memory is not loaded a second time for a proof; the training
# then makes it with the model that it loads.
_SHARE_OF_MEMORY = 0.4


def find_model_fault(home: Home, job: JobRow) -> JobFault | None:
    """Return why a job's base model cannot be trained and served; None if it can.

    Args:
        home: The state folder.
        job: The job.
    """
    base = load_catalog(home).find(job.base_model)
    verdict = prove(home, base.path)
    if verdict is None or verdict.refused is None:
        return _experts_fault(job, base.path)
    message = f"The base model {base.id} can be neither trained nor served: {verdict.refused}."
    return JobFault("unsupported_model", message, "model")


def is_proven(home: Home, job: JobRow) -> bool:
    """Return whether a job's base model has been proven, so that its validation loads no PyTorch.

    Args:
        home: The state folder.
        job: The job.
    """
    try:
        return read_verdict(home.proofs, load_catalog(home).find(job.base_model).path) is not None
    except TunesmithError:
        return False


def _experts_fault(job: JobRow, model: Path) -> JobFault | None:
    """Return why a job's adapters cannot be put on experts, which it asks for."""
    if not job.requested_hyperparameters.get("train_experts"):
        return None
    from tunesmith.engine.training.plain_model import has_experts  # noqa: PLC0415 - torch

    if has_experts(model):
        return None
    message = (
        f"The base model {job.base_model} keeps no experts in stacked parameters, so "
        "`train_experts` has nothing to train. Leave it out."
    )
    return JobFault("unsupported_model", message, "train_experts")


def prove(home: Home, model: Path) -> Verdict | None:
    """Return by which path a base model is trained and served, proving it where that is needed.

    Args:
        home: The state folder, which keeps the result.
        model: Folder of the model.

    Returns:
        None if memory does not suffice for a proof now. A model that was pulled and whose files
        are others now is refused without one.
    """
    verdict = read_verdict(home.proofs, model)
    if verdict is not None:
        return verdict
    if changed := changed_files(model):
        # Not kept: the files may come back as they were, with the same sizes.
        return Verdict(refused=not_as_pulled(changed))
    if weights_bytes(model) > _SHARE_OF_MEMORY * host_memory_bytes():
        return None
    try:
        verdict = _prove(model)
    except (MemoryError, RuntimeError) as error:
        if is_out_of_memory(error):
            return None
        raise
    write_verdict(home.proofs, model, verdict)
    _log.info("proof of %s: %s", model.name, verdict)
    return verdict


def _prove(model: Path) -> Verdict:
    from tunesmith.engine.models.devices import best_dtype, pick_device  # noqa: PLC0415 - torch
    from tunesmith.engine.serving.generation_errors import GenerationError  # noqa: PLC0415
    from tunesmith.engine.serving.model_loader import load_base  # noqa: PLC0415
    from tunesmith.engine.training.plain_model import prove_training  # noqa: PLC0415

    fault = static_fault(model)
    if fault is not None:
        return Verdict(refused=fault)
    device = pick_device()
    try:
        training, reason = prove_training(model, best_dtype(device), device)
        served = load_base(model, model, device, best_dtype(device))
    except (TrainingError, GenerationError) as error:
        return Verdict(refused=str(error).rstrip("."))
    return Verdict(training, served.run_path, reason or served.path_reason)
