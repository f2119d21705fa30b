"""Loss and accuracy curves for a report. Needs the extra `plots` (matplotlib); opens no window."""

from __future__ import annotations

from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

from tunesmith.atomic import write_atomically
from tunesmith.errors import MissingExtraError

if TYPE_CHECKING:
    import os

    from .table import Results

__all__ = ["draw"]

TRAINING = "#1f6fb4"
VALIDATION = "#d1571b"
CLASSIFICATION = ("#2a8c5a", "#7b4fa6", "#a8851a", "#b03a5b", "#4a6a78", "#555555")


def draw(
    results: Results, path: str | os.PathLike[str] | None = None, *, title: str | None = None
) -> Any:
    """Draw the curves: loss on the left, accuracy and classification metrics on the right.

    Thin lines are the measured values, thick lines their moving mean.

    Args:
        results: The result file.
        path: Where to write the picture; its ending chooses the format. It is replaced whole.
        title: Set above both panels.

    Returns:
        The matplotlib figure, for further work.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtraError("Drawing curves", "plots") from error
    figure: Any = Figure(figsize=(10, 4), layout="constrained")
    loss, accuracy = figure.subplots(1, 2)
    _curve(loss, results.series("training_loss"), "training", TRAINING)
    _curve(loss, results.series("validation_loss"), "validation", VALIDATION)
    _finish(loss, "loss")
    loss.set_ylim(bottom=0)
    _curve(accuracy, results.series("training_token_accuracy"), "training tokens", TRAINING)
    _curve(accuracy, results.series("validation_token_accuracy"), "validation tokens", VALIDATION)
    for name, colour in zip(results.classification_columns, CLASSIFICATION, strict=False):
        points = results.series(f"classification/{name}")
        accuracy.plot(*_axes(points), "o-", color=colour, linewidth=1.2, label=name, markersize=4)
    _finish(accuracy, "accuracy")
    accuracy.set_ylim(0, 1.02)
    if title:
        figure.suptitle(title)
    if path is not None:
        _save(figure, path)
    return figure


def _curve(axes: Any, points: list[tuple[int, float]], label: str, colour: str) -> None:
    if not points:
        return
    steps, values = _axes(points)
    axes.plot(steps, values, color=colour, alpha=0.25, linewidth=0.8)
    window = max(1, len(values) // 10)
    means = [fmean(values[max(0, end - window) : end]) for end in range(1, len(values) + 1)]
    axes.plot(steps, means, color=colour, linewidth=1.8, label=label)


def _axes(points: list[tuple[int, float]]) -> tuple[list[int], list[float]]:
    return [step for step, _ in points], [value for _, value in points]


def _finish(axes: Any, name: str) -> None:
    axes.set_xlabel("step")
    axes.set_ylabel(name)
    axes.grid(visible=True, alpha=0.25)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(frameon=False)


def _save(figure: Any, path: str | os.PathLike[str]) -> None:
    ending = Path(path).suffix.lstrip(".") or "png"
    with write_atomically(path) as output:
        figure.savefig(output, format=ending, dpi=150)
