"""How long a training takes and what memory it needs, before anything is loaded.

The model is built from its configuration with shapes and no values, so the numbers are those of
the code that trains: `recipes.estimate_seconds` and `memory_plan.memory_needs`. They are measured
once for a model, in a process that loads torch, and kept as `TrainingCosts`; from then on it is
plain arithmetic. What trainings on this machine took is better than any of it: who knows such
times uses them instead.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .recipe_rules import recipe_by_time

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from tunesmith.types.job_parameters import Recipe, RecipeChoice

__all__ = ["TOKENS_AT_ONCE", "TrainingCosts", "training_costs"]

TOKENS_AT_ONCE = {"cpu": 1024, "cuda": 16384, "mps": 4096}
"""That go through the layers together where no plan of memory says it, by device."""


@dataclass(frozen=True, slots=True)
class TrainingCosts:
    """What trainings of one model cost on this machine.

    Attributes:
        device: Where they run: "cpu", "cuda" or "mps".
        seconds: By recipe, of a token of the file, of a token that is seen, and of a step.
        memory: By recipe, bytes whatever the data, and bytes of a token that is computed at a
            time; a recipe of which it cannot be computed is left out.
    """

    device: str
    seconds: Mapping[Recipe, tuple[float, float, float]]
    memory: Mapping[Recipe, tuple[float, float]]

    def time(self, tokens: int, steps: int, n_epochs: int) -> dict[Recipe, float]:
        """Return the seconds by recipe on an idle machine, within a factor of two.

        Args:
            tokens: Tokens of all examples.
            steps: Steps of one pass over them.
            n_epochs: Passes over them.
        """
        return {
            recipe: once * tokens + seen * tokens * n_epochs + step * steps * n_epochs
            for recipe, (once, seen, step) in self.seconds.items()
        }

    def recipe(self, wanted: RecipeChoice, seconds: Mapping[Recipe, float]) -> Recipe:
        """Return the recipe that will be chosen where memory allows it."""
        return recipe_by_time(seconds, self.device) if wanted == "auto" else wanted

    def memory_bytes(self, recipe: Recipe, longest: int, batch_size: int) -> int | None:
        """Return the bytes at the peak; None if they cannot be computed.

        Args:
            recipe: The recipe.
            longest: Tokens of the longest example.
            batch_size: Examples of a step.
        """
        if recipe not in self.memory:
            return None
        fixed, token = self.memory[recipe]
        at_once = min(longest * batch_size, max(longest, TOKENS_AT_ONCE[self.device]))
        return int(fixed + at_once * token)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> TrainingCosts:
        """Make costs of what `dataclasses.asdict` returned and JSON may have carried."""
        seconds = {recipe: tuple(parts) for recipe, parts in data["seconds"].items()}
        memory = {recipe: tuple(parts) for recipe, parts in data["memory"].items()}
        return cls(data["device"], seconds, memory)


def training_costs(base_path: Path, longest: int) -> TrainingCosts | None:
    """Return what trainings of a model cost; None if it cannot be built from its shapes.

    Args:
        base_path: Folder of the base model.
        longest: Tokens of the longest example, which count where attention keeps pairs of them.
    """
    from torch._subclasses.fake_tensor import FakeTensorMode  # noqa: PLC0415 - loads torch
    from transformers import AutoConfig  # noqa: PLC0415

    from tunesmith.engine.models.devices import best_dtype, pick_device  # noqa: PLC0415

    from .environment import available_threads  # noqa: PLC0415
    from .memory_plan import memory_needs  # noqa: PLC0415
    from .recipes import Work, estimate_seconds, first_of_top  # noqa: PLC0415
    from .saved_tensors import build_without_values  # noqa: PLC0415

    device = pick_device()
    threads = available_threads()
    units = (
        Work(1_000_000, 0, 1, threads),
        Work(1_000_000, 0, 2, threads),
        Work(0, 1000, 1, threads),
    )
    try:
        config = AutoConfig.from_pretrained(
            base_path, trust_remote_code=False, local_files_only=True
        )
        with FakeTensorMode(allow_non_fake_inputs=True), device:
            model = build_without_values(config, best_dtype(device))
            first = first_of_top(len(model.layers))
            once, twice, steps = (estimate_seconds(model, work, first) for work in units)
    except Exception:  # noqa: BLE001 - whatever a model does that shapes do not answer
        return None
    seconds: dict[Recipe, tuple[float, float, float]] = {}
    memory: dict[Recipe, tuple[float, float]] = {}
    for recipe in once:
        seen = twice[recipe] - once[recipe]
        seconds[recipe] = ((once[recipe] - seen) / 1e6, seen / 1e6, steps[recipe] / 1e3)
        try:
            needs = memory_needs(config, recipe, length=longest)
        except ValueError:
            continue
        memory[recipe] = (needs.fixed, needs.per_token(0))
    seconds["qlora"] = seconds["lora"]
    return TrainingCosts(device.type, seconds, memory)
