"""Loss and accuracy curves as an image. Needs the extra `plots` (matplotlib); opens no window."""

from __future__ import annotations

from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

from tunesmith.atomic import write_atomically
from tunesmith.errors import MissingExtraError, TunesmithError

from .rows import classification_metrics, measured

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence

    from .rows import ResultRow

__all__ = ["draw"]

TRAINING = "#1f6fb4"
VALIDATION = "#d1571b"
CLASSIFICATION = ("#2a8c5a", "#7b4fa6", "#a8851a", "#b03a5b", "#4a6a78", "#555555")


def draw(
    rows: Sequence[ResultRow],
    path: str | os.PathLike[str] | None = None,
    *,
    title: str | None = None,
) -> Any:
    """Draw the curves: loss on the left, accuracy and classification metrics on the right.

    Thin lines are the measured values, thick lines their moving mean.

    Args:
        rows: The rows of a result file.
        path: File to write the image to; its suffix selects the format.
        title: Title above both panels.

    Returns:
        The matplotlib figure.

    Raises:
        MissingExtraError: matplotlib is not installed.
        TunesmithError: It draws no files of this kind.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtraError("Drawing curves", "plots") from error
    _require_format(path)
    figure: Any = Figure(figsize=(10, 4), layout="constrained")
    loss, accuracy = figure.subplots(1, 2)
    _curve(loss, measured(rows, "training_loss"), "training", TRAINING)
    _curve(loss, measured(rows, "validation_loss"), "validation", VALIDATION)
    _finish(loss, "loss")
    loss.set_ylim(bottom=0)
    _curve(accuracy, measured(rows, "training_token_accuracy"), "training tokens", TRAINING)
    _curve(accuracy, measured(rows, "validation_token_accuracy"), "validation tokens", VALIDATION)
    for name, color in zip(classification_metrics(rows), CLASSIFICATION, strict=False):
        points = _axes(measured(rows, name))
        accuracy.plot(*points, "o-", color=color, linewidth=1.2, label=name, markersize=4)
    _finish(accuracy, "accuracy")
    accuracy.set_ylim(0, 1.02)
    if title:
        figure.suptitle(title)
    if path is not None:
        _save(figure, path)
    return figure


def _curve(axes: Any, points: list[tuple[int, float]], label: str, color: str) -> None:
    if not points:
        return
    steps, values = _axes(points)
    axes.plot(steps, values, color=color, alpha=0.25, linewidth=0.8)
    window = max(1, len(values) // 10)
    means = [fmean(values[max(0, end - window) : end]) for end in range(1, len(values) + 1)]
    axes.plot(steps, means, color=color, linewidth=1.8, label=label)


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


def _require_format(path: str | os.PathLike[str] | None) -> None:
    """Refuse a kind of file that is not drawn, before anything is computed."""
    from matplotlib.backend_bases import FigureCanvasBase

    known = sorted(FigureCanvasBase.get_supported_filetypes())
    if path is not None and _suffix(path) not in known:
        raise TunesmithError(
            f"Curves cannot be drawn to a .{_suffix(path)} file. Name one that ends in .png, .pdf "
            f"or .svg ({', '.join(known)} work)."
        )


def _suffix(path: str | os.PathLike[str]) -> str:
    return Path(path).suffix.lstrip(".").lower() or "png"


def _save(figure: Any, path: str | os.PathLike[str]) -> None:
    suffix = _suffix(path)
    with write_atomically(path) as output:
        figure.savefig(output, format=suffix, dpi=150)
