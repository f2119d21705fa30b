"""`PlannedFixes`: the fixes that a plan proposes for the rows of a source, each on or off.

Here they are counted, described, enabled and disabled. What a plan makes of a data set is in
`dataset`, and how the steps are found in `plan_steps`.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Self

from tunesmith._lazy import set_public_module

from .dataset_errors import DatasetError
from .plan_execution import FixedRows, count_fixes, describe_fix

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from .format_inference import Inference
    from .plan_execution import Fix
    from .plan_steps import PlanOptions
    from .prompt_format import PromptFormat
    from .readers import Source
    from .rows import Row

__all__ = ["PlannedFixes"]


class PlannedFixes:
    """Fixes proposed for the rows of a source: how often and how each would change them.

    Attributes:
        format: The prompt format that the rows will have; None if they are not
            prompt/completion rows.
        inference: The evidence for the format; None where it was given.
        task: What the rows are for; None if they are not prompt/completion rows.

    Args:
        source: The rows.
        options: What was asked of the plan.

    Raises:
        DatasetError: The rows have a format that has to be converted, or no column could be the
            prompt or the completion.
    """

    def __init__(self, source: Source, options: PlanOptions) -> None:
        from .plan_steps import propose_steps  # noqa: PLC0415 - as needed

        proposed = propose_steps(source, options)
        self.format: PromptFormat | None = proposed.prompt_format
        self.inference: Inference | None = proposed.inference
        self.task = proposed.task
        self._source = source
        self._options = options
        self._steps = proposed.steps
        self._fixes: list[Fix] | None = None

    @property
    def fixes(self) -> list[Fix]:
        """The fixes that concern at least one row, in the order in which they are applied.

        Each is counted on the rows as the enabled fixes before it leave them.
        """
        if self._fixes is None:
            return self.count_fixes()
        return [fix for fix in self._fixes if fix.count]

    def count_fixes(self, observe: Callable[[dict[str, Any]], None] | None = None) -> list[Fix]:
        """Read the data, count the fixes anew and return them, as `fixes` does.

        Args:
            observe: Called with each row as the enabled fixes leave it.
        """
        self._fixes = count_fixes(self._source, self._steps, observe)
        return [fix for fix in self._fixes if fix.count]

    @property
    def name(self) -> str | None:
        """Name of the data set, if it has one."""
        return self._source.name

    def enable(self, *ids: str) -> Self:
        """Apply these fixes; returns the plan.

        Raises:
            DatasetError: There is no such fix.
        """
        return self._set(ids, enabled=True)

    def disable(self, *ids: str) -> Self:
        """Do not apply these fixes; returns the plan.

        Raises:
            DatasetError: There is no such fix, or the rows would be unusable without it.
        """
        return self._set(ids, enabled=False)

    def _set(self, ids: Iterable[str], *, enabled: bool) -> Self:
        steps = {step.id: step for step in self._steps}
        for identifier in ids:
            if identifier not in steps:
                raise DatasetError(
                    f"The plan has no fix {identifier!r}; it has {', '.join(steps)}."
                )
            if steps[identifier].necessary and not enabled:
                raise DatasetError(f"Without the fix {identifier!r} the rows cannot be used.")
            steps[identifier].enabled = enabled
        self._fixes = None
        return self

    def rows(self) -> Iterator[Row]:
        """Yield the fixed rows, each with its location in the original data."""
        return iter(FixedRows(self._source, self._steps))

    def needed_rows(self) -> FixedRows:
        """Return the fixed rows as a source that leaves out the fixes which concern no row.

        For rows that are read at once: it relies on the last count, so the data must not change.
        """
        idle = {fix.id for fix in self._fixes or () if not fix.count}
        return FixedRows(self._source, [step for step in self._steps if step.id not in idle])

    def diff(self) -> str:
        """Return every fix with its count, its evidence and samples, as text."""
        return "\n\n".join(map(describe_fix, self.fixes)) or "Nothing needs to be changed."

    def to_json(self) -> str:
        """Return the plan as JSON: format, task, and each fix with its samples."""
        data = {
            "version": 1,
            "format": self.format.to_dict() if self.format else None,
            "task": self.task,
            "fixes": [fix.to_dict() for fix in self.fixes],
        }
        return json.dumps(data, indent=2)

    def __repr__(self) -> str:
        """Return task and fixes with the rows that each changes; reads the data once."""
        parts = [repr(self.name) if self.name else "in memory"]
        if self.task is not None:
            parts.append(f"task={self.task!r}")
        try:
            fixes = self.fixes
        except (DatasetError, OSError):
            parts.append("unreadable")
            fixes = []
        for title, enabled in (("fixes", True), ("disabled", False)):
            counts = [f"{fix.id}: {fix.count:,}" for fix in fixes if fix.enabled is enabled]
            if counts or enabled:
                parts.append(f"{title}={{{', '.join(counts)}}}")
        return f"Plan({', '.join(parts)})"


set_public_module(globals(), "tunesmith.datasets")
