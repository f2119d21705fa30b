"""Which base model suits what an old job needs, whether it fits, and how long it will take.

Knows no engine and no archive: which bases there are, and this machine's memory, come from the
caller.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from tunesmith.datasets.training_defaults import default_epochs

from .training_rows import CHARACTERS_PER_TOKEN

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .training_rows import TrainingRows

__all__ = ["Base", "Machine", "advised_base", "estimate"]

_FLOATING_POINT_PER_TOKEN = 6  # operations for each parameter and token: forward and backward
_OTHER_LETTERS = 0.02  # of the text; above it a base that knows English alone is not advised

# The size that replaces a hosted family, in billions of parameters: small ones for what was small,
# and for classification whatever it was. The recording decides in the end.
_SIZES: Final[tuple[tuple[str, float], ...]] = (
    ("gpt-4.1-nano", 4),
    ("gpt-4.1-mini", 8),
    ("gpt-4o-mini", 8),
    ("gpt-3.5", 4),
    ("gpt-35", 4),
    ("gpt-4", 32),
    ("babbage", 1.7),
    ("davinci", 4),
    ("ada", 1.7),
    ("curie", 1.7),
)
_UNKNOWN_SIZE = 8.0
_CLASSIFICATION_SIZE = 4.0


@dataclass(frozen=True, slots=True)
class Base:
    """A base model that could be trained here.

    Attributes:
        name: By which jobs ask for it.
        parameters: Their number; None if it is not known.
        context: Tokens of its context, None if it is not known.
        tools: Whether it calls tools, None if it is not known.
        thinks: "never", "switch" (it can be switched off) or "always"; None if it is not known.
        languages: Which it knows, in words; None if it is not known.
        installed: Whether it is on this machine.
        gated: Whether its licence has to be accepted first.
        memory: Bytes that training needs, by recipe: "qlora", "lora".
    """

    name: str
    parameters: int | None = None
    context: int | None = None
    tools: bool | None = None
    thinks: str | None = None
    languages: str | None = None
    installed: bool = False
    gated: bool = False
    memory: dict[str, int] = field(default_factory=dict[str, int])


@dataclass(frozen=True, slots=True)
class Machine:
    """Where the jobs will run.

    Attributes:
        name: For people.
        memory: Bytes of memory.
        flops: Floating-point operations a second that training reaches; None for no estimate.
        recipes: The recipes that run there, the most exact first.
    """

    name: str
    memory: int
    flops: float | None = None
    recipes: tuple[str, ...] = ("lora",)


def advised_base(
    hosted: str,
    rows: TrainingRows,
    bases: Sequence[Base],
    machine: Machine | None,
    notes: list[str],
) -> tuple[Base | None, str | None]:
    """Return the base that suits best, and the recipe that fits; say what stood in the way."""
    wanted = next((size for name, size in _SIZES if name in hosted), _UNKNOWN_SIZE)
    if rows.classes:
        wanted = min(wanted, _CLASSIFICATION_SIZE)
    longest = rows.longest / CHARACTERS_PER_TOKEN
    suitable: list[tuple[Base, str | None]] = []
    refused: Counter[str] = Counter()
    for base in bases:
        recipe = _recipe_that_fits(base, machine)
        reason = _why_not(base, rows, longest)
        if reason is None and machine is not None and recipe is None:
            reason = f"needs more memory than {machine.name} has"
        if reason is None:
            suitable.append((base, recipe))
        else:
            refused[reason] += 1
    if not suitable:
        why = ", ".join(f"{count} {reason}" for reason, count in refused.most_common())
        notes.append(f"No base is advised: write one into `bases`. {why}".rstrip())
        return None, None

    def distance(one: tuple[Base, str | None]) -> tuple[float, bool, bool, bool, str]:
        size = (one[0].parameters or 0) / 1e9
        # A base that is twice as large is as far away as one of half the size.
        apart = max(size, 1e-3) / wanted
        return (
            round(max(apart, 1 / apart), 1),
            one[0].thinks != "never",
            one[0].gated,
            not one[0].installed,
            one[0].name,
        )

    chosen, recipe = min(suitable, key=distance)
    reason = "classification" if rows.classes else hosted
    size = "" if chosen.parameters is None else f", {chosen.parameters / 1e9:.2g}B parameters"
    notes.append(
        f"Base {chosen.name}{size}: nearest to the {wanted:g}B that {reason} asks for, of "
        f"{len(suitable)} that fit. Train others beside it, and let the comparison decide."
    )
    if not chosen.installed:
        notes.append(f"Get it first: tunesmith models pull {chosen.name}")
    if chosen.thinks == "switch":
        notes.append(
            "This base can think before it answers; the old model did not. Keep thinking switched "
            "off when it is served."
        )
    return chosen, recipe


def _why_not(base: Base, rows: TrainingRows, longest: float) -> str | None:
    if rows.tools and not base.tools:
        return "not known to call tools"
    if base.context is not None and base.context < longest:
        return "too short a context for the longest row"
    if base.thinks == "always":
        return "cannot be kept from thinking"
    if rows.other_letters > _OTHER_LETTERS and base.languages == "English":
        return "English alone"
    return None


def _recipe_that_fits(base: Base, machine: Machine | None) -> str | None:
    if machine is None:
        return None
    for recipe in machine.recipes:
        if base.memory.get(recipe, machine.memory + 1) <= machine.memory:
            return recipe
    return None


def estimate(
    rows: TrainingRows,
    epochs: int | str,
    base: Base | None,
    recipe: str | None,
    machine: Machine | None,
) -> str:
    """Return what a job will take, in words: rows, tokens, memory and time."""
    passes = epochs if isinstance(epochs, int) else default_epochs(max(1, rows.count))
    parts = [f"{rows.count:,} rows, about {rows.tokens:,} tokens, {passes} epochs"]
    if base is None:
        return parts[0]
    if recipe is not None and recipe in base.memory:
        parts.append(f"{base.memory[recipe] / 1e9:.1f} GB of memory by {recipe}")
    if machine is not None and machine.flops and base.parameters:
        work = _FLOATING_POINT_PER_TOKEN * base.parameters * rows.tokens * passes
        parts.append(
            f"about {_duration(work / machine.flops)} on {machine.name}, within a factor of 3"
        )
    return "; ".join(parts)


def _duration(seconds: float) -> str:
    for unit, size in (("days", 86_400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{max(1, round(seconds))} seconds"
