"""A training that computes nothing: plausible metrics, and a model that memorises its data.

It takes the engine's `TrainingSpec` and reports to its `TrainingObserver`, in the order and
with the columns of the real one, so everything around it is the engine's own code. The
metrics depend only on the specification.
"""

from __future__ import annotations

import json
import math
import random
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from tunesmith.engine.training.classification import Classes
from tunesmith.engine.training.hyperparameters import learning_rate_at, resolve_hyperparameters
from tunesmith.engine.training.result_file import ResultFile, classification_columns
from tunesmith.engine.training.spec import (
    CheckpointRecord,
    EpochRecord,
    StepRecord,
    TrainingOutcome,
    TrainingPlan,
    ValidationRecord,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    from tunesmith.engine.training.spec import StopRequest, TrainingObserver, TrainingSpec

    Row = dict[str, Any]

__all__ = ["load_answers", "simulate_training"]

_BYTES_PER_TOKEN = 4
_VALIDATIONS = 25
_SNAPSHOT_EPOCHS = 3
_REWARDS = ("rewards/chosen", "rewards/rejected", "rewards/margin", "rewards/accuracy")
_ANSWERS = "answers.json"


def simulate_training(
    spec: TrainingSpec, observer: TrainingObserver, pause: Callable[[], object] = lambda: None
) -> TrainingOutcome:
    """Simulate a training; one that was stopped resumes after its last step.

    Args:
        spec: The job.
        observer: Receives the progress, and says between steps whether to stop.
        pause: Called before each step.
    """
    training = _Training(spec, observer)
    stopped = training.run(pause)
    if stopped is None:
        training.write_model(spec.output_path)
    return TrainingOutcome(
        stopped=stopped,
        trained_tokens=training.elapsed_tokens(training.step),
        steps=training.step,
        results_path=training.results.path,
        output_path=spec.output_path if stopped is None else None,
    )


def load_answers(folder: Path | None) -> dict[str, str]:
    """Return the answers of a simulated model by prompt; none for a base model."""
    if folder is None:
        return {}
    answers: dict[str, str] = json.loads((folder / _ANSWERS).read_text(encoding="utf-8"))
    return answers


class _Training:
    """One simulated training."""

    def __init__(self, spec: TrainingSpec, observer: TrainingObserver) -> None:
        self._spec = spec
        self._observer = observer
        self._rows = _read(spec.training_path)
        self._validation = _read(spec.validation_path) if spec.validation_path else []
        self._values = resolve_hyperparameters(spec, len(self._rows))
        self._steps_per_epoch = math.ceil(len(self._rows) / self._values.batch_size)
        self._total = self._steps_per_epoch * self._values.n_epochs
        self._tokens = sum(map(_tokens, self._rows))
        spec.work_path.mkdir(parents=True, exist_ok=True)
        self._position = spec.work_path / "position.json"
        self.step, length = 0, 0
        if self._position.exists():
            self.step, length = json.loads(self._position.read_text(encoding="ascii"))
        extra = _REWARDS if spec.method == "dpo" else ()
        self.results = ResultFile(
            spec.work_path / "results.csv",
            classification_columns(spec),
            [*extra, *(f"validation_{name}" for name in extra)],
            length,
        )

    def run(self, pause: Callable[[], object]) -> StopRequest | None:
        """Run the remaining steps; return the request that stopped them, if one did."""
        self._observer.planned(
            TrainingPlan(
                hyperparameters=self._values,
                recipe="lora" if self._spec.recipe == "auto" else self._spec.recipe,
                reason="simulated, so nothing is computed",
                examples=len(self._rows),
                validation_examples=len(self._validation),
                tokens_per_epoch=self._tokens,
                total_steps=self._total,
                start_step=self.step,
            )
        )
        if self._spec.compute_classification_metrics:
            self._observer.note("classes", _classes(self._validation).advice())
        while self.step < self._total:
            pause()
            stop = self._observer.stop_requested()
            if stop is not None:
                position = [self.step, self.results.sync()]
                self._position.write_text(json.dumps(position), encoding="ascii")
                return stop
            self.step += 1
            self._report(self._record(self.step))
        return None

    def elapsed_tokens(self, step: int) -> int:
        """Return the tokens seen after a step."""
        return round(self._tokens * self._values.n_epochs * step / self._total)

    def write_model(self, folder: Path) -> None:
        """Write a model that knows the training data, and that of the model it started from."""
        folder.mkdir(parents=True, exist_ok=True)
        answers = load_answers(self._spec.initial_adapter_path)
        for row in self._rows:
            answers |= _answers(row)
        (folder / _ANSWERS).write_text(json.dumps(answers), encoding="utf-8")

    def _report(self, record: StepRecord) -> None:
        self.results.add(record)
        self._observer.step(record)
        if record.step % self._steps_per_epoch:
            return
        n_epochs = self._values.n_epochs
        self._observer.epoch(EpochRecord(record.epoch, n_epochs, record.step))
        if record.epoch > n_epochs - _SNAPSHOT_EPOCHS:
            folder = self._spec.work_path / "snapshots" / f"step-{record.step}"
            self.write_model(folder)
            self._observer.checkpoint(CheckpointRecord(record.step, folder, record))

    def _record(self, step: int) -> StepRecord:
        epoch = (step - 1) // self._steps_per_epoch + 1
        in_epoch = (step - 1) % self._steps_per_epoch + 1
        seen = min(in_epoch * self._values.batch_size, len(self._rows))
        loss, sequences, tokens = self._metrics(step, "training")
        record = StepRecord(
            step=step,
            total_steps=self._total,
            epoch=epoch,
            elapsed_tokens=self.elapsed_tokens(step),
            elapsed_examples=(epoch - 1) * len(self._rows) + seen,
            training_loss=loss,
            training_sequence_accuracy=sequences,
            training_token_accuracy=tokens,
            learning_rate=learning_rate_at(
                step, self._total, 1e-3 * self._values.learning_rate_multiplier
            ),
            extra=self._rewards(loss),
        )
        return self._validated(record)

    def _validated(self, record: StepRecord) -> StepRecord:
        ends_epoch = record.step % self._steps_per_epoch == 0
        due = record.step % math.ceil(self._total / _VALIDATIONS) == 0
        if not self._validation or not (ends_epoch or due):
            return record
        loss, sequences, tokens = self._metrics(record.step, "validation")
        rewards = {f"validation_{name}": value for name, value in self._rewards(loss).items()}
        names = classification_columns(self._spec) if ends_epoch else []
        return replace(
            record,
            validation=ValidationRecord(loss, sequences, tokens, full=ends_epoch, extra=rewards),
            classification=dict.fromkeys(names, round(0.5 + 0.45 * record.step / self._total, 4)),
            extra=record.extra | rewards,
        )

    def _metrics(self, step: int, data: str) -> tuple[float, float, float]:
        """Return loss, sequence accuracy and token accuracy; they improve with each step."""
        noise = random.Random(f"{self._spec.seed} {data} {step}")  # noqa: S311 - not a secret
        progress = step / self._total
        worse = 1.15 if data == "validation" else 1.0
        loss = worse * (0.1 + 2.4 * math.exp(-3 * progress)) * noise.uniform(0.95, 1.05)
        tokens = 1 - 0.6 * math.exp(-3 * progress) * worse
        return loss, tokens**3, tokens

    def _rewards(self, loss: float) -> dict[str, float]:
        if self._spec.method != "dpo":
            return {}
        return dict(zip(_REWARDS, (1 / loss, -1 / loss, 2 / loss, 1 / (1 + loss)), strict=True))


def _read(path: Path) -> list[Row]:
    lines = path.read_text(encoding="utf-8-sig").split("\n")
    return [json.loads(line) for line in lines if line.strip()]


def _tokens(row: Row) -> int:
    return len(json.dumps(row, ensure_ascii=False).encode()) // _BYTES_PER_TOKEN


def _classes(rows: Iterable[Row]) -> Classes:
    """Return the classes of the rows, each of which takes one token here, and one for its end."""
    names = sorted({row["completion"] for row in rows})
    tokens = [(number, len(names)) for number in range(len(names))]
    return Classes(names, tokens, actual=[], positive=None, betas=[])


def _answers(row: Row) -> dict[str, str]:
    """Return the answers of a row by their prompts."""
    if "prompt" in row:
        return {row["prompt"]: row["completion"]}
    if "messages" in row:
        return _replies(row["messages"])
    messages: Sequence[Row] = row["input"]["messages"]
    return _replies([*messages, *row["preferred_output"]])


def _replies(messages: Sequence[Row]) -> dict[str, str]:
    answers: dict[str, str] = {}
    prompt = ""
    for message in messages:
        text = message.get("content")
        if not isinstance(text, str):
            continue
        if message["role"] == "assistant":
            answers[prompt] = text
        else:
            prompt = text
    return answers
