"""A result file in a few lines: loss at the start and the end, the best step, over-fitting."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from statistics import fmean
from typing import TYPE_CHECKING

from .rows import classification_metrics, measured

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from .rows import ResultRow

__all__ = ["Summary", "summarise"]

# Single batches are noisy, so values are means over this share of the points (at least one).
SMOOTHING_SHARE = 0.1
# A training over-fits if the last third of its validation losses is this much above an earlier one.
OVERFITTING_RATIO = 1.1
FEWEST_FOR_OVERFITTING = 3


@dataclass(frozen=True, slots=True)
class Summary:
    """The main metrics of a training; each is None if the file does not have it.

    Losses and accuracies of single batches are noisy: `first` and `final` values are
    means over the first and the last tenth of the measured steps.

    Attributes:
        steps: Training steps.
        best_step: Step of the lowest (smoothed) validation loss.
        classification: The metrics after the last epoch, on the whole validation set.
        best_epoch_metric: The best value of the main classification metric, and its step.
        overfitting: True where the last third of the validation losses is on average more
            than 10 % above the first third or the second.
    """

    steps: int
    elapsed_tokens: int | None
    elapsed_examples: int | None
    first_training_loss: float | None
    final_training_loss: float | None
    final_training_token_accuracy: float | None
    final_validation_loss: float | None
    final_validation_token_accuracy: float | None
    best_validation_loss: float | None
    best_step: int | None
    overfitting: bool
    classification: Mapping[str, float]
    best_epoch_metric: tuple[str, float, int] | None

    def __str__(self) -> str:
        return "\n".join(self.lines())

    def _repr_html_(self) -> str:
        return f"<ul>{''.join(f'<li>{escape(line)}</li>' for line in self.lines())}</ul>"

    def lines(self) -> list[str]:
        """Return the summary as lines of prose."""
        examples = "" if self.elapsed_examples is None else f", {self.elapsed_examples:,} examples"
        tokens = "" if self.elapsed_tokens is None else f", {self.elapsed_tokens:,} tokens"
        lines = [f"{self.steps:,} steps{examples}{tokens} (repeats included)."]
        if self.first_training_loss is not None and self.final_training_loss is not None:
            lines.append(
                f"Training loss {self.first_training_loss:.3f} at the start, "
                f"{self.final_training_loss:.3f} at the end"
                + _accuracy(self.final_training_token_accuracy)
            )
        if self.final_validation_loss is not None:
            lines.append(
                f"Validation loss {self.final_validation_loss:.3f} at the end"
                + _accuracy(self.final_validation_token_accuracy)
            )
        if self.overfitting:
            lines.append(
                f"It over-fits: validation loss was lowest, {self.best_validation_loss:.3f}, "
                f"at step {self.best_step}; train for fewer epochs or with a lower learning rate."
            )
        if self.classification:
            metrics = ", ".join(
                f"{name} {value:.3f}" for name, value in self.classification.items()
            )
            lines.append(f"On the whole validation set after the last epoch: {metrics}.")
        return lines


def summarise(rows: Sequence[ResultRow]) -> Summary:
    """Return the summary of a result file's rows."""
    training_loss = measured(rows, "training_loss")
    validation_loss = measured(rows, "validation_loss")
    best_step, best_loss = _lowest(validation_loss)
    last = rows[-1] if rows else None
    epochs = [row for row in rows if row.classification]
    return Summary(
        steps=len(rows),
        elapsed_tokens=last.elapsed_tokens if last else None,
        elapsed_examples=last.elapsed_examples if last else None,
        first_training_loss=_final(training_loss[::-1]),
        final_training_loss=_final(training_loss),
        final_training_token_accuracy=_final(measured(rows, "training_token_accuracy")),
        final_validation_loss=_final(validation_loss),
        final_validation_token_accuracy=_final(measured(rows, "validation_token_accuracy")),
        best_validation_loss=best_loss,
        best_step=best_step,
        overfitting=_rises([value for _, value in validation_loss]),
        classification=dict(epochs[-1].classification) if epochs else {},
        best_epoch_metric=_best_metric(rows),
    )


def _accuracy(value: float | None) -> str:
    return "." if value is None else f", token accuracy {value:.3f}."


def _window(count: int) -> int:
    return max(1, round(count * SMOOTHING_SHARE))


def _final(series: list[tuple[int, float]]) -> float | None:
    if not series:
        return None
    return fmean(value for _, value in series[-_window(len(series)) :])


def _lowest(series: list[tuple[int, float]]) -> tuple[int | None, float | None]:
    """Return the step and the value of the lowest moving average."""
    window = _window(len(series))
    averages = [
        (fmean(value for _, value in series[end - window : end]), series[end - 1][0])
        for end in range(window, len(series) + 1)
    ]
    if not averages:
        return None, None
    value, step = min(averages)
    return step, value


def _rises(losses: list[float]) -> bool:
    """Return whether the losses rise again. Means of thirds: single batches are too noisy."""
    if len(losses) < FEWEST_FOR_OVERFITTING:
        return False
    size = len(losses) // 3
    first, last = fmean(losses[:size]), fmean(losses[-size:])
    middle = fmean(losses[size:-size])
    return last > OVERFITTING_RATIO * min(first, middle)


def _best_metric(rows: Sequence[ResultRow]) -> tuple[str, float, int] | None:
    """Return the main metric's name, best value and step: accuracy if the file has it."""
    names = classification_metrics(rows)
    if not names:
        return None
    name = "accuracy" if "accuracy" in names else names[0]
    value, step = max((value, -step) for step, value in measured(rows, name))
    return name, value, -step
