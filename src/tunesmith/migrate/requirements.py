"""Requirements: what a comparison has to show before traffic moves, such as `agreement>=0.95`.

A requirement is met by the bound of the confidence interval, never by the bare value: with `>=` the
lower bound must reach the limit, with `<=` the upper one.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from tunesmith.errors import TunesmithError

from .statistics import needed_successes

if TYPE_CHECKING:
    from .comparison import Comparison, Measure
    from .statistics import Interval

__all__ = [
    "Requirement",
    "RequirementError",
    "RequirementResult",
    "check_requirement",
    "parse_requirement",
]

_REQUIREMENT = re.compile(
    r"\s*(?P<name>.+?)(?P<part>\.difference)?\s*(?P<operator>>=|<=)\s*"
    r"(?P<limit>[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)\s*(?P<percent>%?)\s*"
)


class RequirementError(TunesmithError):
    """A requirement that cannot be read, or names what was not measured."""


@dataclass(frozen=True, slots=True)
class Requirement:
    """A requirement.

    Attributes:
        text: As it was written.
        name: The measure.
        part: Its value, or the paired difference to the old model (to the ceiling, for an
            agreement).
        operator: "≥" is judged by the lower bound, "≤" by the upper.
        limit: What the bound has to reach.
    """

    text: str
    name: str
    part: Literal["value", "difference"]
    operator: Literal[">=", "<="]
    limit: float


@dataclass(frozen=True, slots=True)
class RequirementResult:
    """Whether a requirement is met.

    Attributes:
        requirement: The requirement.
        is_met: Whether the bound reaches the limit.
        interval: What it was judged by.
        reason: A sentence for people.
    """

    requirement: Requirement
    is_met: bool
    interval: Interval
    reason: str


def parse_requirement(text: str) -> Requirement:
    """Return the requirement that a text describes.

    Args:
        text: `NAME>=NUMBER` or `NAME.difference>=NUMBER`, also with `<=`; numbers as 0.95 or 95%.

    Raises:
        RequirementError: It describes none.
    """
    found = _REQUIREMENT.fullmatch(text)
    if found is None:
        raise RequirementError(
            f"{text!r:.80} is no requirement. Write a measure, >= or <=, and a number: "
            "agreement>=0.95, or reference_match.difference>=-0.02."
        )
    limit = float(found["limit"]) / (100 if found["percent"] else 1)
    part: Literal["value", "difference"] = "difference" if found["part"] else "value"
    operator: Literal[">=", "<="] = ">=" if found["operator"] == ">=" else "<="
    return Requirement(text.strip(), found["name"], part, operator, limit)


def check_requirement(requirement: Requirement, comparison: Comparison) -> RequirementResult:
    """Return whether a comparison meets a requirement.

    Raises:
        RequirementError: The comparison has no such measure.
    """
    measure = comparison.measure(requirement.name)
    if measure is None:
        known = ", ".join(one.name for one in comparison.measures)
        raise RequirementError(
            f"{requirement.text}: {requirement.name!r} was not measured on these "
            f"prompts. There is {known}."
        )
    interval = measure.value if requirement.part == "value" else measure.difference
    if interval is None:
        missing = (
            "no prompt was recorded twice, so there is no ceiling to differ from"
            if measure.kind == "agreement"
            else "the old answers have no value of it"
        )
        raise RequirementError(f"{requirement.text}: {missing}.")
    lower = requirement.operator == ">="
    bound = interval.low if lower else interval.high
    is_met = bound >= requirement.limit if lower else bound <= requirement.limit
    side = "lower" if lower else "upper"
    reason = (
        f"{requirement.text}: {'met' if is_met else 'not met'}. The {side} bound of the "
        f"{interval.level:.0%} interval is {bound:.4f} (value {interval.estimate:.4f}, "
        f"{_count(measure, requirement)})."
    )
    if not is_met:
        reason += _hint(requirement, measure, interval)
    return RequirementResult(requirement, is_met, interval, reason)


def _count(measure: Measure, requirement: Requirement) -> str:
    count = measure.prompts if requirement.part == "value" else measure.paired
    return f"{count} prompts"


def _hint(requirement: Requirement, measure: Measure, interval: Interval) -> str:
    """Return how many prompts could show it, where too few is what stands in the way."""
    if requirement.part == "difference" or not measure.is_rate or requirement.operator == "<=":
        return ""
    needed = needed_successes(requirement.limit, interval.level)
    if needed is None:
        return " No number of prompts shows that a rate is 1."
    if measure.conversations < needed:
        return (
            f" Even if all agreed, it would take {needed} conversations to show it, and there are "
            f"{measure.conversations}."
        )
    return ""
