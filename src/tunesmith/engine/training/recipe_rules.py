"""Which recipes cannot train a model: what is certain before a job is queued.

Reads the small files in models' folders only. Whether a model's layers run in parts is tried
when it is loaded; here counts what its configuration says. Knows no tensors.
"""

from __future__ import annotations

import json
import re
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from tunesmith.errors import MissingExtraError

from .work_folder import WorkFolder, read_summary

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from tunesmith.types.job_parameters import Recipe, RecipeChoice

__all__ = [
    "recipe_by_time",
    "recipe_of",
    "trains_experts",
    "why_impossible",
    "why_no_experts",
    "why_no_four_bits",
    "why_not_shared",
]

# What the families of transformers call the number of experts in their configurations.
_EXPERTS = re.compile(r"(?:n|num|moe_num)_(?:local_|routed_)?experts")
# Up to this time a processor trains all layers, even if `fast` would take less. A GPU always does:
# it trains large models, of which one fifth of the layers learns much less.
_SHORT_SECONDS = 60.0


def recipe_by_time(seconds: Mapping[Recipe, float], device: str) -> Recipe:
    """Return `fast` or `lora`, by the estimated seconds of each, for a type of device."""
    is_short = seconds["lora"] <= max(_SHORT_SECONDS, seconds["fast"])
    return "lora" if device != "cpu" or is_short else "fast"


def why_impossible(
    recipe: RecipeChoice, base: Path, parent: Path | None, *, processes: int = 1
) -> str | None:
    """Return why a recipe cannot train a model, and what can; None if it can, or may.

    Args:
        recipe: The recipe.
        base: Folder of the base model.
        parent: Folder of the fine-tuned model that is continued, or None.
        processes: How many share the training.
    """
    if recipe == "auto":
        return None
    if recipe == "qlora":
        fault = why_not_shared(processes) or why_no_four_bits() or _why_not_in_four_bits(base)
        if fault is not None:
            return fault
    if parent is not None:
        trained_by = recipe_of(parent)
        if trained_by in {None, recipe} or {trained_by, recipe} == {"lora", "qlora"}:
            return None
        return (
            f"The model to continue from was trained by the recipe {trained_by!r}, so {recipe!r} "
            f"cannot continue it. Leave the recipe out, or use {trained_by!r}."
        )
    if recipe == "fast" and not _has_parts(base):
        return (
            "The base model's layers are of several kinds, or there is but one, so the recipe "
            "'fast' cannot train it. Leave the recipe out, or use 'lora'."
        )
    return None


def trains_experts(wanted: bool, parent: Path | None) -> bool:  # noqa: FBT001 - a job's setting
    """Return whether a training puts adapters on experts.

    Args:
        wanted: Whether the job asks for it.
        parent: Folder of the fine-tuned model that is continued, or None.
    """
    return wanted if parent is None else bool(_adapter_settings(parent).get("target_parameters"))


def why_no_experts(
    recipe: RecipeChoice,
    base: Path,
    parent: Path | None,
    *,
    wanted: bool = True,
    processes: int = 1,
) -> str | None:
    """Return why no adapters can be put on a model's experts; None if they can, or need not.

    Args:
        recipe: The job's recipe.
        base: Folder of the base model.
        parent: Folder of the fine-tuned model that is continued, or None.
        wanted: Whether the job asks for it.
        processes: How many share the training.
    """
    has_them = trains_experts(wanted, parent)
    if wanted and not has_them:
        return (
            "The model to continue from has no adapters on experts, so `train_experts` has nothing "
            "to continue. Leave it out, or start from the base model."
        )
    if not has_them:
        return None
    if recipe not in {"auto", "lora"}:
        return (
            f"Adapters on experts are trained by the recipe 'lora', not by {recipe!r}. Leave the "
            "recipe out, or `train_experts`."
        )
    if processes > 1:
        return (
            "Adapters on experts are trained in one process, as PEFT computes them: this engine's "
            f"settings share each training among {processes}. Leave `train_experts` out, or set "
            'launcher = "process" and processes_per_job = 1.'
        )
    if parent is None and not _has_experts(base):
        return (
            "The base model has no experts that `train_experts` could put adapters on: it is no "
            "mixture of experts. Leave it out."
        )
    return None


def why_not_shared(processes: int) -> str | None:
    """Return why weights in four bits cannot be trained by so many processes; None if by one."""
    if processes == 1:
        return None
    return (
        "The recipe 'qlora' trains in one process: weights in four bits are not spread over "
        f"several, and each training is shared among {processes} here. Use the recipe 'lora', "
        'whose weights are spread, or set launcher = "process" and processes_per_job = 1.'
    )


def why_no_four_bits() -> str | None:
    """Return why no model can be trained in four bits here; None if one can, or may."""
    if find_spec("bitsandbytes") is not None:
        return None
    return f"{MissingExtraError('The recipe qlora', 'quantized')}, or use the recipe 'lora'."


def recipe_of(folder: Path) -> Recipe | None:
    """Return the recipe by which the fine-tuned model in a folder was trained.

    Returns:
        None if the folder does not tell, as that of an adapter from elsewhere.
    """
    adapter = folder / "adapter_config.json"
    if not adapter.is_file():
        return "full"
    try:
        summary = read_summary(folder)
        if summary is not None:
            return summary.recipe
        # The model as it was after an epoch, in the work folder of its training.
        chosen: Recipe | None = WorkFolder(folder.parent.parent).read_choices().get("recipe")
        if chosen is not None and folder.parent.name == "snapshots":
            return chosen
        saved = json.loads(adapter.read_text(encoding="utf-8"))
        layers, targets = saved.get("layers_to_transform"), saved.get("target_modules")
    except (OSError, ValueError, TypeError, AttributeError):
        return None
    # Exact names may be those of the upper layers alone, short ones are those of every layer.
    has_exact_names = isinstance(targets, list) and any("." in str(name) for name in targets)
    return "lora" if layers is None and not has_exact_names else None


def _adapter_settings(folder: Path) -> dict[str, Any]:
    try:
        text = (folder / "adapter_config.json").read_text(encoding="utf-8")
        settings: Any = json.loads(text)
    except (OSError, ValueError):
        return {}
    return settings if isinstance(settings, dict) else {}


def _has_experts(base: Path) -> bool:
    try:
        values: dict[str, Any] = _read_config(base).to_dict()
    except Exception:  # noqa: BLE001 - loading the model tells what is wrong with its configuration
        return True
    numbers = [value for name, value in values.items() if _EXPERTS.fullmatch(name)]
    return any(isinstance(number, int) and number > 1 for number in numbers)


def _has_parts(base: Path) -> bool:
    try:
        config = _read_config(base)
        kinds = getattr(config, "layer_types", None) or ["full_attention"]
        return set(kinds) == {"full_attention"} and int(config.num_hidden_layers) > 1
    except Exception:  # noqa: BLE001 - loading the model tells what is wrong with its configuration
        return True


def _read_config(base: Path) -> Any:
    from transformers import AutoConfig  # noqa: PLC0415 - slow to import, seldom needed

    config: Any = AutoConfig.from_pretrained(base, trust_remote_code=False, local_files_only=True)
    return config.get_text_config()


def _why_not_in_four_bits(base: Path) -> str | None:
    try:
        config = json.loads((base / "config.json").read_text(encoding="utf-8"))
        method = (config.get("quantization_config") or {}).get("quant_method")
    except (OSError, ValueError, AttributeError):
        return None
    if method is None:
        return None
    return (
        f"The base model's weights are quantised already ({method}), so the recipe 'qlora' cannot "
        "put them into four bits. Leave the recipe out, or use 'lora'."
    )
