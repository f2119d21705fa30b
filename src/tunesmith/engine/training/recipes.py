"""Which layers to train and in what precision, chosen by estimated time.

    fast  An adapter (LoRA, rank 16) on the upper fifth of the layers. The lower layers are
          frozen and their outputs cached, so each further epoch costs little.
    lora  An adapter (LoRA, rank 16) on all linear layers.
    qlora The same on a base whose linear layers are in four bits. A base in 16 bits is faster, so
          it is chosen only where that does not fit (see memory_choice.py).
    full  All weights, in 32 bits.

The estimate counts arithmetic, per token and weight two operations forward, two backward
through frozen weights and two more for trained ones, divided by a measured rate; and it counts
steps, as a step of a few tokens takes what reading the weights and starting some hundred small
operations takes. It depends on nothing that varies from run to run, so the same data on the
same machine always get the same recipe.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import nn

from tunesmith.engine.domain.errors import TrainingError

from .lora import AdapterConfig, load_adapter_config
from .recipe_rules import recipe_by_time

if TYPE_CHECKING:
    from pathlib import Path

    from tunesmith.types.job_parameters import Recipe

    from .spec import TrainingSpec
    from .split_model import SplitModel

__all__ = [
    "ChosenRecipe",
    "Work",
    "choose_recipe",
    "estimate_seconds",
    "first_of_top",
]

_RANK = 16
_ALPHA = 32.0
_TOP_SHARE = 0.2
# Operations per second that trainings of small models reach, per CPU thread or per GPU. Those of
# Apple's are a guess.
_RATE = {
    ("cpu", torch.bfloat16): 1.4e11,
    ("cpu", torch.float32): 0.5e11,
    ("cuda", torch.bfloat16): 1.0e14,
    ("cuda", torch.float32): 1.0e13,
    ("mps", torch.bfloat16): 3.0e12,
    ("mps", torch.float32): 1.5e12,
}
# Of one pass of a batch, forward and backward: seconds for what surrounds each linear layer,
# and bytes of weights read per second.
_LAYER_SECONDS = {"cpu": 0.35e-3, "cuda": 0.2e-3, "mps": 0.4e-3}
_READ_RATE = {"cpu": 1.0e10, "cuda": 1.0e12, "mps": 1.0e11}


@dataclass(frozen=True, slots=True)
class ChosenRecipe:
    """The recipe of a training.

    Attributes:
        recipe: Its name.
        reason: Why this one, for the user.
        adapter: Size and place of the adapter; None for `full`.
        first_layer: Index of the first trained layer; 0 unless the recipe is `fast`.
    """

    recipe: Recipe
    reason: str
    adapter: AdapterConfig | None
    first_layer: int = 0


@dataclass(frozen=True, slots=True)
class Work:
    """How much a training computes.

    Attributes:
        epoch_tokens: Tokens of all training examples.
        epoch_steps: Steps of one pass over them.
        n_epochs: Passes over them.
        threads: Threads that compute.
    """

    epoch_tokens: int
    epoch_steps: int
    n_epochs: int
    threads: int


def choose_recipe(
    spec: TrainingSpec, model: SplitModel, work: Work, example: torch.Tensor | None = None
) -> ChosenRecipe:
    """Return how to train.

    Args:
        spec: The job; its recipe may be "auto".
        model: The base model.
        work: How much there is to compute.
        example: Token ids of a training example, to try whether the layers run in parts.

    Raises:
        TrainingError: The requested recipe cannot train this model.
    """
    if spec.initial_adapter_path is not None:
        return _recipe_to_continue(spec, model, example, spec.initial_adapter_path)
    count = len(model.layers)
    first = first_of_top(count)
    seconds = estimate_seconds(model, work, first)
    if spec.recipe != "auto":
        recipe: Recipe = spec.recipe
        reason = "as requested"
        if recipe == "fast" and not model.can_run_in_parts(example, first):
            msg = (
                "The base model's layers do not compute the same in two parts as in one, so `fast` "
                "cannot train it; use `lora`."
            )
            raise TrainingError(msg, "invalid_hyperparameters")
    elif not model.can_run_in_parts(example, first):
        recipe, reason = "lora", "the only adapter that fits this base model"
    elif recipe_by_time(seconds, model.device.type) == "lora":
        recipe = "lora"
        reason = f"all layers take about {_format_seconds(seconds['lora'])}"
    else:
        recipe = "fast"
        reason = (
            f"about {_format_seconds(seconds['fast'])}, where training all layers would take about "
            f"{_format_seconds(seconds['lora'])}"
        )
    if recipe == "full":
        return ChosenRecipe(recipe, reason, None)
    layers = tuple(range(first, count)) if recipe == "fast" else None
    experts = model.expert_names() if spec.train_experts else ()
    adapter = AdapterConfig(_RANK, _ALPHA, model.linear_names(), layers, experts)
    return ChosenRecipe(recipe, reason, adapter, first if recipe == "fast" else 0)


def first_of_top(layers: int) -> int:
    """Return the index of the first layer that `fast` trains of a model with so many."""
    return layers - max(1, round(layers * _TOP_SHARE))


def _recipe_to_continue(
    spec: TrainingSpec, model: SplitModel, example: torch.Tensor | None, folder: Path
) -> ChosenRecipe:
    """Return the recipe by which the model in `folder` was trained."""
    if not (folder / "adapter_config.json").is_file():
        if spec.recipe not in {"auto", "full"}:
            msg = (
                f"The model to continue from has whole weights, so `{spec.recipe}` cannot train "
                "it; use `full`."
            )
            raise TrainingError(msg, "invalid_hyperparameters")
        return ChosenRecipe("full", "the model to continue from has whole weights", None)
    adapter = load_adapter_config(folder)
    count = len(model.layers)
    start = len(model.layers_name) + 1
    adapted = {
        int(name[start:].partition(".")[0])
        for name in adapter.target_modules
        if name.startswith(f"{model.layers_name}.")
    }
    first = min(adapted, default=0)
    is_top = first > 0 and adapted == set(range(first, count))
    recipe: Recipe = "fast" if is_top and model.can_run_in_parts(example, first) else "lora"
    if recipe == "lora" and spec.recipe == "qlora":
        recipe = "qlora"  # the same adapter; of the base only the precision differs
    if spec.recipe not in {"auto", recipe}:
        msg = (
            f"The model to continue from was trained by `{recipe}`, so `{spec.recipe}` cannot "
            "train it."
        )
        raise TrainingError(msg, "invalid_hyperparameters")
    reason = "as the model to continue from was trained"
    return ChosenRecipe(recipe, reason, adapter, first if recipe == "fast" else 0)


def estimate_seconds(model: SplitModel, work: Work, first: int) -> dict[Recipe, float]:
    """Return how long each recipe takes, within a factor of two on an idle machine.

    Args:
        model: The base model.
        work: How much there is to compute.
        first: Index of the first layer that `fast` trains.
    """
    weights = [sum(p.numel() for p in layer.parameters()) for layer in model.layers]
    lower, upper = sum(weights[:first]), sum(weights[first:])
    device = model.device.type
    rate = _RATE[device, model.dtype] * (work.threads if device == "cpu" else 1)
    seen = work.epoch_tokens * work.n_epochs
    steps = work.epoch_steps * work.n_epochs
    head: int = model.whole.get_output_embeddings().weight.numel()
    linears = [sum(isinstance(m, nn.Linear) for m in layer.modules()) for layer in model.layers]

    def around(trained: int, layers: int) -> float:
        """Return the seconds of all steps that depend on no tokens."""
        read: float = 2 * (trained + head) * model.dtype.itemsize / _READ_RATE[device]
        return steps * (read + layers * _LAYER_SECONDS[device])

    return {
        "fast": (2 * lower * work.epoch_tokens + 4 * upper * seen) / rate
        + around(upper, sum(linears[first:])),
        "lora": 4 * (lower + upper) * seen / rate + around(lower + upper, sum(linears)),
        "full": 6 * (lower + upper) * seen / rate + around(4 * (lower + upper), sum(linears)),
    }


def _format_seconds(seconds: float) -> str:
    if seconds < 100:  # noqa: PLR2004 - longer times read better in minutes
        return f"{max(seconds, 1):.0f} seconds"
    if seconds < 6000:  # noqa: PLR2004
        return f"{seconds / 60:.0f} minutes"
    return f"{seconds / 3600:.0f} hours"
