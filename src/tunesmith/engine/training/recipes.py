"""How to train: which layers, and in what precision; chosen by the time it will take.

    fast  The lower layers are frozen and computed once; an adapter (LoRA, rank 16) on
          the upper fifth of the layers learns from that. Each epoch costs little.
    lora  An adapter (LoRA, rank 16) on all linear layers.
    full  All weights, in 32 bits.

The estimate counts arithmetic: per token two operations a weight forwards, two
backwards through frozen weights and two more for trained ones, over a rate that this
machine reached with such models. It depends on nothing that varies from run to run,
so the same data on the same machine meet the same recipe.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from tunesmith.engine.training.errors import TrainingError
from tunesmith.engine.training.lora import AdapterConfig, load_adapter_config

if TYPE_CHECKING:
    from tunesmith.engine.training.spec import TrainingSpec
    from tunesmith.engine.training.split_model import SplitModel
    from tunesmith.types.job_parameters import Recipe

__all__ = ["ChosenRecipe", "choose_recipe"]

_RANK = 16
_ALPHA = 32.0
_TOP_SHARE = 0.2
# A training that is over within this many seconds is not worth a shortcut.
_SHORT_SECONDS = 60.0
# Operations a second that trainings of small models reach, per thread, or per GPU.
_RATE = {
    ("cpu", torch.bfloat16): 1.4e11,
    ("cpu", torch.float32): 0.5e11,
    ("cuda", torch.bfloat16): 5.0e13,
    ("cuda", torch.float32): 1.0e13,
}


@dataclass(frozen=True, slots=True)
class ChosenRecipe:
    """The recipe of a training.

    Attributes:
        reason: Why this one, for people.
        shape: What the adapter covers; None for `full`.
        first_layer: The first layer that is trained; 0 unless the recipe is `fast`.
    """

    recipe: Recipe
    reason: str
    shape: AdapterConfig | None
    first_layer: int = 0


def choose_recipe(
    spec: TrainingSpec, network: SplitModel, epoch_tokens: int, n_epochs: int, threads: int
) -> ChosenRecipe:
    """Return how to train.

    Args:
        spec: The job; its recipe may be "auto".
        network: The base model.
        epoch_tokens: Tokens of all training examples.
        n_epochs: Passes over them.
        threads: Threads that compute.

    Raises:
        TrainingError: The recipe asked for is impossible here.
    """
    continued = spec.initial_adapter_path
    if continued is not None:
        return _continued(spec, network)
    count = len(network.layers)
    first = count - max(1, round(count * _TOP_SHARE))
    seconds = _estimate(network, epoch_tokens, n_epochs, threads, first)
    if spec.recipe != "auto":
        recipe: Recipe = spec.recipe
        reason = "as asked for"
        if recipe == "fast" and (not network.can_be_cut() or first == 0):
            msg = "The base model's layers are not of one kind, so `fast` cannot train it."
            raise TrainingError(msg, "invalid_hyperparameters")
    elif not network.can_be_cut() or first == 0:
        recipe, reason = "lora", "the only adapter that fits this base model"
    elif seconds["lora"] <= max(_SHORT_SECONDS, seconds["fast"]):
        recipe = "lora"
        reason = f"all layers take about {_spoken(seconds['lora'])}"
    else:
        recipe = "fast"
        reason = (
            f"about {_spoken(seconds['fast'])}, where training all layers would take about "
            f"{_spoken(seconds['lora'])}"
        )
    if recipe == "full":
        return ChosenRecipe(recipe, reason, None)
    layers = tuple(range(first, count)) if recipe == "fast" else None
    shape = AdapterConfig(_RANK, _ALPHA, network.linear_names(), layers)
    return ChosenRecipe(recipe, reason, shape, first if recipe == "fast" else 0)


def _continued(spec: TrainingSpec, network: SplitModel) -> ChosenRecipe:
    folder = spec.initial_adapter_path
    assert folder is not None  # noqa: S101 - the caller has looked
    if not (folder / "adapter_config.json").is_file():
        if spec.recipe not in {"auto", "full"}:
            msg = (
                f"The model to continue from has whole weights, so `{spec.recipe}` cannot train "
                "it; use `full`."
            )
            raise TrainingError(msg, "invalid_hyperparameters")
        return ChosenRecipe("full", "the model to continue from has whole weights", None)
    shape = load_adapter_config(folder)
    count = len(network.layers)
    first = min(shape.layers) if shape.layers else 0
    is_top = shape.layers == tuple(range(first, count)) and first > 0
    recipe: Recipe = "fast" if is_top and network.can_be_cut() else "lora"
    if spec.recipe not in {"auto", recipe}:
        msg = (
            f"The model to continue from was trained by `{recipe}`, so it cannot go on as "
            f"`{spec.recipe}`."
        )
        raise TrainingError(msg, "invalid_hyperparameters")
    reason = "as the model was trained that this continues from"
    return ChosenRecipe(recipe, reason, shape, first if recipe == "fast" else 0)


def _estimate(
    network: SplitModel, epoch_tokens: int, n_epochs: int, threads: int, first: int
) -> dict[Recipe, float]:
    weights = [sum(p.numel() for p in layer.parameters()) for layer in network.layers]
    below, above = sum(weights[:first]), sum(weights[first:])
    device, dtype = network.device.type, next(network.model.parameters()).dtype
    rate = _RATE[device, dtype] * (1 if device == "cuda" else threads)
    seen = epoch_tokens * n_epochs
    return {
        "fast": (2 * below * epoch_tokens + 4 * above * seen) / rate,
        "lora": 4 * (below + above) * seen / rate,
        "full": 6 * (below + above) * seen / rate,
    }


def _spoken(seconds: float) -> str:
    if seconds < 100:  # noqa: PLR2004 - where minutes become the better word
        return f"{max(seconds, 1):.0f} seconds"
    if seconds < 6000:  # noqa: PLR2004
        return f"{seconds / 60:.0f} minutes"
    return f"{seconds / 3600:.0f} hours"
