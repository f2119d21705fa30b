"""A result file in a few lines: where it started, where it ended, its best step, over-fitting."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .table import Results

__all__ = ["Summary", "summarise"]

# Single batches are noisy, so figures are means over this share of the points (at least one).
SMOOTHING_SHARE = 0.1
# Validation loss is called over-fitting when its last third is this much above an earlier third.
OVERFITTING_RATIO = 1.1
FEWEST_FOR_OVERFITTING = 3


@dataclass(frozen=True, slots=True)
class Summary:
    """The figures of a training; each is None where the file does not have it.

    Losses and accuracies of single batches are noisy: `first` and `final` figures are
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
        from .html import summary_html

        return summary_html(self)

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
            figures = ", ".join(
                f"{name} {value:.3f}" for name, value in self.classification.items()
            )
            lines.append(f"On the whole validation set after the last epoch: {figures}.")
        return lines


def summarise(results: Results) -> Summary:
    """Return the summary of a result file."""
    training_loss = results.series("training_loss")
    validation_loss = results.series("validation_loss")
    best_step, best_loss = _lowest(validation_loss)
    final_loss = _final(validation_loss)
    last = results.rows[-1] if results.rows else None
    epochs = [row for row in results if row.classification]
    return Summary(
        steps=len(results),
        elapsed_tokens=last.elapsed_tokens if last else None,
        elapsed_examples=last.elapsed_examples if last else None,
        first_training_loss=_final(training_loss[::-1]),
        final_training_loss=_final(training_loss),
        final_training_token_accuracy=_final(results.series("training_token_accuracy")),
        final_validation_loss=final_loss,
        final_validation_token_accuracy=_final(results.series("validation_token_accuracy")),
        best_validation_loss=best_loss,
        best_step=best_step,
        overfitting=_rises([value for _, value in validation_loss]),
        classification=dict(epochs[-1].classification) if epochs else {},
        best_epoch_metric=_best_metric(results),
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
    """Compare means over thirds: single validation batches are too noisy to be compared."""
    if len(losses) < FEWEST_FOR_OVERFITTING:
        return False
    size = len(losses) // 3
    first, last = fmean(losses[:size]), fmean(losses[-size:])
    middle = fmean(losses[size:-size])
    return last > OVERFITTING_RATIO * min(first, middle)


def _best_metric(results: Results) -> tuple[str, float, int] | None:
    """Return the main metric's name, best value and step: accuracy if the file has it."""
    names = results.classification_columns
    if not names:
        return None
    name = "accuracy" if "accuracy" in names else names[0]
    measured = [
        (row.classification[name], -row.step) for row in results if name in row.classification
    ]
    if not measured:
        return None
    value, step = max(measured)
    return name, value, -step
