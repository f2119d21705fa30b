"""Several jobs side by side, best first."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from .table import html_table

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .summary import Summary
    from .table import Results

__all__ = ["Comparison", "compare"]


@dataclass(frozen=True, slots=True)
class Comparison:
    """Summaries of several jobs.

    Attributes:
        metric: The metric that orders them: a classification metric if all have it, else
            "validation_loss" if all have it, else "training_loss".
        entries: (name, summary, value of the metric), best first.
    """

    metric: str
    entries: tuple[tuple[str, Summary, float | None], ...]

    def __str__(self) -> str:
        lines = [self._header, *self._rows]
        widths = [max(len(row[column]) for row in lines) for column in range(len(self._header))]
        return "\n".join(
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
            for row in lines
        )

    def _repr_html_(self) -> str:
        return html_table(self._header, self._rows)

    @property
    def _header(self) -> tuple[str, ...]:
        return ("job", self.metric, "training loss", "validation loss", "steps")

    @property
    def _rows(self) -> list[tuple[str, ...]]:
        return [
            (
                name,
                _format(value),
                _format(summary.final_training_loss),
                _format(summary.final_validation_loss),
                str(summary.steps),
            )
            for name, summary, value in self.entries
        ]


def compare(results: Mapping[str, Results]) -> Comparison:
    """Compare jobs by the best metric that all of them have.

    Args:
        results: Name of each job → its result file.
    """
    summaries = {name: table.summary() for name, table in results.items()}
    metric, values, higher_is_better = _metric(summaries)
    sign = -1 if higher_is_better else 1
    ordered = sorted(
        summaries,
        key=lambda name: float("inf") if (value := values[name]) is None else sign * value,
    )
    return Comparison(metric, tuple((name, summaries[name], values[name]) for name in ordered))


def _metric(summaries: Mapping[str, Summary]) -> tuple[str, dict[str, float | None], bool]:
    """Return the metric's name, its value by job, and whether higher is better."""
    best = {name: summary.best_epoch_metric for name, summary in summaries.items()}
    names = {entry[0] if entry else None for entry in best.values()}
    common = names.pop() if len(names) == 1 else None
    if common:
        return common, {name: entry and entry[1] for name, entry in best.items()}, True
    validation = {name: summary.best_validation_loss for name, summary in summaries.items()}
    if summaries and all(value is not None for value in validation.values()):
        return "validation_loss", validation, False
    training = {name: summary.final_training_loss for name, summary in summaries.items()}
    return "training_loss", training, False


def _format(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
