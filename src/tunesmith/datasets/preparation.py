"""The results of a guided preparation, and the texts in which the guide reports them.

`Analysis` is what was found in a file, `PreparedData` what was written for it. The functions turn
them into text; they decide nothing and print nothing.
"""

from __future__ import annotations

import json
import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from .class_numbers import beginnings
from .findings import LocationCounter
from .plan_execution import ABSENT, shorten
from .prompt_format import format_path
from .rules import make_finding

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from .dataset import Dataset, Plan
    from .plan_execution import Fix
    from .prompt_format import PromptFormat
    from .report import Report

__all__ = [
    "Analysis",
    "PreparedData",
    "class_numbers_path",
    "create_command",
    "describe_analysis",
    "describe_errors",
    "describe_proposal",
    "describe_results",
]

_TWO_CLASSES: Final = 2
_POSITIVE_LABELS: Final = frozenset({"positive", "pos", "yes", "true", "1", "spam"})
_MAX_CLASSES_LISTED: Final = 10
_MAX_CHANGES_SHOWN: Final = 2
# Faults of a file that cost no row, and that cannot be seen in the written file.
_REPORTED_FAULTS: Final = frozenset(
    {
        "bom-inside",
        "cell-value",
        "column-unnamed",
        "conversion-loss",
        "encoding-guessed",
        "encoding-replaced",
        "sheets-ignored",
        "table-header",
    }
)


@dataclass(frozen=True, slots=True)
class Analysis:
    """What was found in the data before anything was changed.

    Attributes:
        source: The file.
        dataset: Its rows.
        plan: The proposed fixes.
        classes: For classification each label with its number of rows, the most frequent first.
    """

    source: Path
    dataset: Dataset
    plan: Plan
    classes: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class PreparedData:
    """What was written.

    Attributes:
        training: The training file.
        validation: The validation file, or None where the rows were not split.
        format_file: The file with the prompt format of both, or None if the rows are not
            prompt/completion rows.
        prompt_format: The prompt format itself.
        command: The shell command that starts the fine-tune.
        inference_parameters: What to send with each completion request.
        class_numbers: The number that stands for each class, where classes became numbers.
        report: What a check of the written rows found.
    """

    training: Path
    validation: Path | None
    format_file: Path | None
    prompt_format: PromptFormat | None
    command: str
    inference_parameters: Mapping[str, Any]
    class_numbers: Mapping[str, str]
    report: Report


def class_numbers_path(training: Path) -> Path:
    """Return the file beside the training data that names the class behind each number."""
    return training.with_name(training.stem + ".classes.json")


def describe_analysis(analysis: Analysis) -> str:
    """Return rows, task and prompt format of the data."""
    plan, source = analysis.plan, analysis.dataset.source
    lines = [f"Analysing {analysis.source.name} …", ""]
    rows, faults = 0, dict[str, LocationCounter]()
    for batch in source.batches():
        rows += len(batch)
        for fault in batch.faults:
            if fault.id in _REPORTED_FAULTS:
                faults.setdefault(fault.id, LocationCounter(1)).add(fault.location, fault.count)
    row_format = "prompt/completion" if plan.format else analysis.dataset.shape
    lines.append(f"- The file holds {rows:,} {row_format} {'row' if rows == 1 else 'rows'}.")
    lines += [f"- {make_finding(rule, counter).message}." for rule, counter in faults.items()]
    if plan.task:
        lines.append(f"- They look like {plan.task}{_class_list(analysis.classes)}.")
    if plan.inference is not None:
        parts = (plan.inference.separator, plan.inference.leading_whitespace, plan.inference.stop)
        for evidence in parts:
            # What labels have in common but is no marker is left out: that is expected of labels.
            rejected = evidence.refused and not analysis.classes
            if evidence.value or rejected:
                lines.append(f"- {evidence}")
    if source.format != "jsonl":
        lines.append(f"- {source.format.upper()} will be converted to JSONL.")
    return "\n".join(lines)


def _class_list(classes: Mapping[str, int]) -> str:
    if not classes:
        return ""
    listed = [f"{label!r} ({count:,})" for label, count in classes.items()][:_MAX_CLASSES_LISTED]
    more = ", …" if len(classes) > _MAX_CLASSES_LISTED else ""
    return f" with {len(classes):,} classes: {', '.join(listed)}{more}"


def describe_proposal(fix: Fix) -> str:
    """Return a fix with its evidence and its first sample, for the question about it."""
    rows = "row" if fix.count == 1 else "rows"
    lines = [f"{fix.description} ({fix.count:,} {rows})."]
    if fix.evidence:
        lines.append(f"    {fix.evidence}")
    if fix.samples:
        sample = fix.samples[0]
        if fix.reasons:
            lines.append(f"    line {sample.line}: {fix.reasons[0]}")
        for path, old, new in sample.changes()[:_MAX_CHANGES_SHOWN]:
            before = "nothing" if old is ABSENT else shorten(old)
            gone = "dropped" if sample.after is None else "left out"
            after = gone if new is ABSENT else shorten(new)
            lines.append(
                f"    line {sample.line}: {path + ': ' if '.' in path else ''}{before} → {after}"
            )
    return "\n".join(lines)


def create_command(
    files: Sequence[Path], classes: Mapping[str, int], prompt_format: PromptFormat | None
) -> str:
    """Return the shell command that starts the fine-tune.

    Args:
        files: The training file and, if there is one, the validation file.
        classes: The labels as they were written, with their numbers of rows.
        prompt_format: The prompt format of the files.
    """
    words = ["tunesmith", "api", "fine_tunes.create", "-t", str(files[0])]
    if len(files) > 1:
        words += ["-v", str(files[1])]
        words += [] if _ambiguous(classes, prompt_format) else _metric_options(classes)
    if classes:
        words += ["-m", "ada"]
    return shlex.join(words)


def _ambiguous(classes: Mapping[str, int], prompt_format: PromptFormat | None) -> Mapping[str, str]:
    """Return the classes that begin another, which rules out metrics where nothing ends them."""
    return {} if prompt_format and prompt_format.stop else beginnings(classes)


def _metric_options(classes: Mapping[str, int]) -> list[str]:
    options = ["--compute_classification_metrics"]
    if len(classes) == _TWO_CLASSES:
        return [*options, "--classification_positive_class", f" {_positive_class(classes)}"]
    return [*options, "--classification_n_classes", str(len(classes))]


def _positive_class(classes: Mapping[str, int]) -> str:
    """Return the class with an affirmative name, or else the most frequent one."""
    affirmative = (name for name in classes if name.casefold() in _POSITIVE_LABELS)
    return next(affirmative, next(iter(classes)))


def describe_errors(report: Report) -> str:
    """Return the errors that the rows would be written with, each with its first location."""
    lines = ["These errors are left, and a job would refuse the file:"]
    for finding in report.errors:
        lines.append(f"  {finding.id}: {finding.message}")
        lines += [f"    {finding.fix}"] if finding.fix else []
    return "\n".join(lines)


def describe_results(prepared: PreparedData, analysis: Analysis) -> str:
    """Return the written files, what is worth knowing about them, and the next commands."""
    lines = ["", "Written:"]
    for file in (prepared.training, prepared.validation):
        if file is not None:
            beside = f", its format in {format_path(file).name}" if prepared.prompt_format else ""
            lines.append(f"  {file}{beside}")
    advice = prepared.report.findings
    if advice:
        lines += ["", "Worth knowing:"]
        lines += [f"  {finding.id}: {finding.message}" for finding in advice]
    if analysis.classes:
        lines += ["", "For classification the smallest base model, ada, usually does as well."]
    elif analysis.plan.task == "conditional generation":
        lines += [
            "",
            "For generation, one or two epochs (--n_epochs 2) are often better than four.",
        ]
    if prepared.class_numbers:
        lines += ["", f"Which number is which class: {class_numbers_path(prepared.training)}"]
    elif ambiguous := _ambiguous(analysis.classes, prepared.prompt_format):
        short, long = next(iter(ambiguous.items()))
        lines += [
            "",
            f"Metrics for classes are left out: {long!r} begins with {short!r}, and no stop",
            "sequence tells where a class ends. Prepare the data with one.",
        ]
    lines += ["", "Start the fine-tune:", f"  {prepared.command}"]
    if prepared.prompt_format is not None:
        lines += ["", *_inference_advice(prepared.prompt_format, prepared.inference_parameters)]
    return "\n".join(lines)


def _inference_advice(prompt_format: PromptFormat, parameters: Mapping[str, Any]) -> list[str]:
    lines: list[str] = []
    if prompt_format.separator:
        lines.append(
            f"End every prompt with {json.dumps(prompt_format.separator)}, as in training."
        )
    if parameters:
        lines.append("Send these parameters with every completion request:")
        lines.append(f"  {json.dumps(parameters)}")
    return lines
