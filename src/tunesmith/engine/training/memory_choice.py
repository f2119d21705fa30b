"""What fits the device, chosen before a model is loaded: recipe, optimizer, and the plan.

An adapter on a base in 16 bits comes first; where its weights and one example do not fit, the
base is kept in four bits. What cannot fit at all is refused with the arithmetic, and with what
would. Reads a model's configuration, and none of its weights.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch

from tunesmith.engine.domain.errors import TrainingError

from .memory_plan import MemoryNeeds, MemoryPlan, OptimizerName, memory_needs, plan_memory, usable
from .recipe_rules import why_no_four_bits

if TYPE_CHECKING:
    from tunesmith.engine.models.verdicts import ModelPath
    from tunesmith.types.job_parameters import Recipe, RecipeChoice

    from .spec import TrainingSpec

__all__ = ["MemoryChoice", "MemoryFit", "memory_budget"]

_OPTIMIZERS: tuple[OptimizerName, ...] = ("adamw", "adamw_8bit")


@dataclass(frozen=True, slots=True)
class MemoryFit:
    """One way to train that fits.

    Attributes:
        plan: How it is kept within the memory.
        optimizer: What keeps state for the trained weights.
    """

    plan: MemoryPlan
    optimizer: OptimizerName = "adamw"


def memory_budget(spec: TrainingSpec, device: torch.device) -> float | None:
    """Return the bytes of a device's memory that a training may use; None for no limit.

    Args:
        spec: The job; a limit of its own comes first.
        device: Where it will run.
    """
    if spec.memory_bytes is not None:
        return spec.memory_bytes
    if device.type == "cuda":
        # What torch holds already are weights, which the plan counts.
        return torch.cuda.mem_get_info(device)[0] + torch.cuda.memory_reserved(device)
    if device.type == "mps":
        return torch.mps.recommended_max_memory()  # the memory is the host's
    return None


class MemoryChoice:
    """Finds what fits into a budget.

    Args:
        config: Configuration of the model, of transformers.
        longest: Tokens of the longest example.
        budget: Bytes that may be used.
        optimizer: The optimizer of a training that is resumed; None to choose one.
        devices: Devices that share the training, each with that budget. What they share is in 16
            or 32 bits, and so is the optimizer's state.
        experts: Whether adapters are put on experts, too.
    """

    def __init__(
        self,
        config: Any,
        longest: int,
        budget: float,
        optimizer: OptimizerName | None = None,
        *,
        devices: int = 1,
        experts: bool = False,
    ) -> None:
        self._config = config
        self._longest = longest
        self._budget = budget
        self._devices = devices
        self._experts = experts
        possible = _OPTIMIZERS if devices == 1 else _OPTIMIZERS[:1]
        self._optimizers = possible if optimizer is None else (optimizer,)

    def recipe(self, wanted: RecipeChoice, path: ModelPath) -> tuple[RecipeChoice, str | None]:
        """Return the recipe to load a model for, and why if it is another than the wanted one.

        Args:
            wanted: The job's recipe; "auto" stays so where an adapter on 16 bits fits.
            path: By which path the model is trained.
        """
        if wanted != "auto" or self._devices > 1 or why_no_four_bits() is not None:
            return wanted, None
        needs = self._needs("lora", path, "adamw")
        if needs is None or self._plan(needs).tokens >= self._longest:
            return wanted, None
        if self.fit("qlora", "general") is None:
            return wanted, None
        least = self._least(needs)
        return "qlora", (
            f"`lora` would need {least / 1e9:.1f} GB, and {self._budget / 1e9:.1f} GB are free"
        )

    def fit(self, recipe: Recipe, path: ModelPath) -> MemoryFit | None:
        """Return how a training by a recipe fits; None if it does not, or cannot be computed."""
        for optimizer in self._optimizers if recipe == "full" else ("adamw",):
            needs = self._needs(recipe, path, optimizer)
            if needs is None or (optimizer == "adamw_8bit" and why_no_four_bits() is not None):
                return None
            plan = self._plan(needs)
            if plan.tokens >= self._longest:
                if optimizer == "adamw_8bit":
                    plan = replace(plan, reason=f"{plan.reason}, AdamW's moments in 8 bits")
                return MemoryFit(plan, optimizer)
        return None

    def require(self, recipe: Recipe, path: ModelPath) -> MemoryFit | None:
        """Return how a training by a recipe fits; None if that cannot be computed.

        Raises:
            TrainingError: It does not fit; the text says how much it needs, and what would fit.
        """
        needs = self._needs(recipe, path, self._optimizers[0])
        if needs is None:
            return None
        found = self.fit(recipe, path)
        if found is not None:
            return found
        msg = (
            f"Training by the recipe `{recipe}` needs {self._least(needs) / 1e9:.1f} GB of memory "
            f"for its longest example of {self._longest:,} tokens, and {self._budget / 1e9:.1f} GB "
            f"are free. {self._way_out(needs, recipe)}"
        )
        raise TrainingError(msg, "out_of_memory")

    def _way_out(self, needs: MemoryNeeds, recipe: Recipe) -> str:
        ways = []
        others: tuple[Recipe, ...] = ("lora", "qlora", "fast")
        for other in others[others.index(recipe) + 1 if recipe in others else 0 :]:
            if other == "qlora" and (self._devices > 1 or why_no_four_bits() is not None):
                continue
            if self.fit(other, "general" if other == "qlora" else "fast") is not None:
                ways.append(f"the recipe `{other}`, which fits")
                break
        most = int(
            (usable(self._budget) - needs.fixed_on(self._devices)) / needs.per_token(needs.layers)
        )
        if most > 0:
            ways.append(f"examples of at most {most:,} tokens")
        ways.append("a smaller base model")
        return f"Use {', or '.join(ways)}."

    def _least(self, needs: MemoryNeeds) -> float:
        """Return the least budget into which the longest example fits."""
        fixed = needs.fixed_on(self._devices)
        return (fixed + self._longest * needs.per_token(needs.layers)) / usable(1.0)

    def _plan(self, needs: MemoryNeeds) -> MemoryPlan:
        return plan_memory(needs, self._budget, self._longest, devices=self._devices)

    def _needs(
        self, recipe: Recipe, path: ModelPath, optimizer: OptimizerName
    ) -> MemoryNeeds | None:
        try:
            return memory_needs(
                self._config,
                recipe,
                path=path,
                optimizer=optimizer,
                length=self._longest,
                experts=self._experts and recipe == "lora",
            )
        except ValueError:
            return None
