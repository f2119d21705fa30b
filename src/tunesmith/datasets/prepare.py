"""The guided preparation of a file for fine-tuning: what it asks, what it writes, what comes next.

The file is looked at, each change is put to the user with its evidence, and the rows are written
as JSONL with their prompt format beside them. Whoever asks and prints is passed in, so the same
guide serves the command line, a notebook and a test.
"""

from __future__ import annotations

import json
import shlex
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

from tunesmith.atomic import write_atomically

from .class_numbers import number_labels, sharing_first_token
from .dataset import Dataset, read
from .dataset_errors import DatasetError
from .pairs import pairs
from .plan_execution import shorten
from .prompt_format import PromptFormat, format_path, saved_format
from .rules import RULES

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping

    from .dataset import Plan
    from .plan_execution import Fix
    from .report import Report

__all__ = ["Conversation", "Preparation", "Prepared", "prepare_data"]

# The old tool's share and its ceiling.
_VALIDATION_SHARE: Final = 0.2
_MOST_VALIDATION_ROWS: Final = 1_000
_BINARY: Final = 2
_AFFIRMATIVE: Final = frozenset({"positive", "pos", "yes", "true", "1", "spam"})
_CLASSES_NAMED: Final = 10
# Faults of a file that cost no row and that nobody would notice in the written one.
_TOLD: Final = frozenset({"encoding-guessed", "sheets-ignored"})


class Conversation(Protocol):
    """How the guide talks with its user."""

    def say(self, text: str) -> None:
        """Show a paragraph."""
        ...

    def ask(self, question: str, *, default: bool) -> bool:
        """Ask a question and return whether the answer is yes."""
        ...


@dataclass(frozen=True, slots=True)
class Preparation:
    """What the guide found out about the data before anything was changed.

    Attributes:
        dataset: The file.
        plan: The proposed fixes.
        classes: For classification each label with its number of rows, the most frequent first.
    """

    dataset: Dataset
    plan: Plan
    classes: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Prepared:
    """What the guide wrote.

    Attributes:
        training: The training file.
        validation: The validation file, or None where the rows were not split.
        format_file: The prompt format of both, or None for rows of other shapes.
        prompt_format: The same as an object.
        command: The shell command that starts the fine-tune.
        inference_parameters: What to send with each completion request.
        class_numbers: The number that stands for each class, where classes became numbers.
        report: What is still worth knowing about the written rows.
    """

    training: Path
    validation: Path | None
    format_file: Path | None
    prompt_format: PromptFormat | None
    command: str
    inference_parameters: Mapping[str, Any]
    class_numbers: Mapping[str, str]
    report: Report


def prepare_data(
    path: str | os.PathLike[str],
    conversation: Conversation,
    *,
    prompt: str | None = None,
    completion: str | None = None,
) -> Prepared | None:
    """Guide a user from a file to training data.

    Args:
        path: CSV, TSV, XLSX, JSON, JSONL, TXT or Parquet.
        conversation: Who is asked and told.
        prompt: Column that holds the prompts, if it is not called "prompt".
        completion: Column that holds the completions, if it is not called "completion".

    Returns:
        What was written, or None if the user chose to write nothing.

    Raises:
        DatasetError: The file cannot be read, a column is missing, or there is nothing to learn
            from the rows.
    """
    source = Path(path)
    dataset = read(source, prompt=prompt, completion=completion, prompt_format=saved_format(source))
    preparation = _analyse(dataset)
    conversation.say(_overview(source, preparation))
    plan = _decide(preparation.plan, conversation)
    fixed = plan.apply()
    training, validation = _divide(fixed, preparation, conversation)
    targets = _targets(source, split=validation is not None)
    names = " and ".join(repr(target.name) for target in targets)
    if not conversation.ask(f"Your data will be written to {names}. Proceed?", default=True):
        conversation.say("Nothing was written.")
        return None
    training.write(targets[0])
    if validation is not None:
        validation.write(targets[1])
    classes = _classes(plan) if preparation.classes else {}
    numbers = _save_numbers(plan, preparation, targets[0])
    prepared = Prepared(
        training=targets[0],
        validation=targets[1] if validation is not None else None,
        format_file=format_path(targets[0]) if plan.format else None,
        prompt_format=plan.format,
        command=_command(targets, classes, plan.format),
        inference_parameters=_inference_parameters(plan, classes),
        class_numbers=numbers,
        report=fixed.check(prompt_format=plan.format),
    )
    conversation.say(_next_steps(prepared, preparation))
    return prepared


def _analyse(dataset: Dataset) -> Preparation:
    plan = dataset.plan(dataset.prompt_format)
    prompts: set[str] = set()
    labels: Counter[str] = Counter()
    rows = 0
    for pair in pairs(plan.rows()):
        rows += 1
        prompts.add(pair.prompt)
        form = plan.format
        labels[form.bare_completion(pair.completion).strip() if form else pair.completion] += 1
    if plan.format is not None and rows == 0:
        raise DatasetError("The file holds no row to learn from." + _first_fault(dataset))
    if plan.format is not None:
        _refuse_sameness(prompts, labels, rows)
    classes = dict(labels.most_common()) if plan.task == "classification" else {}
    return Preparation(dataset, plan, classes)


def _classes(plan: Plan) -> dict[str, int]:
    """Return the labels that the rows will have, with their numbers of rows."""
    form = plan.format or PromptFormat()
    said = (form.bare_completion(pair.completion).strip() for pair in pairs(plan.rows()))
    return dict(Counter(said).most_common())


def _save_numbers(plan: Plan, preparation: Preparation, training: Path) -> dict[str, str]:
    """Write down beside the data which number stands for which class, if numbers do."""
    if not any(fix.id == "number-classes" and fix.enabled for fix in plan.fixes):
        return {}
    numbers = number_labels(preparation.classes)
    with write_atomically(_numbers_path(training)) as stream:
        stream.write(json.dumps(numbers, indent=2).encode() + b"\n")
    return numbers


def _numbers_path(training: Path) -> Path:
    return training.with_name(training.stem + ".classes.json")


def _first_fault(dataset: Dataset) -> str:
    """Say why no row could be read, if that is so."""
    faults = (fault for batch in dataset.source.batches() for fault in batch.faults)
    place = next((fault.location for fault in faults if fault.id != "blank-line"), None)
    if place is None:
        return ""
    return f" The first line that cannot be read is {place}: {place.message}."


def _refuse_sameness(prompts: set[str], labels: Counter[str], rows: int) -> None:
    if rows == 1:
        return
    if len(labels) == 1:
        raise DatasetError(
            f"All {rows:,} completions are {next(iter(labels))!r}: there is nothing to tell "
            "apart. Add rows with other completions."
        )
    if len(prompts) == 1 and next(iter(prompts)):
        raise DatasetError(
            f"All {rows:,} prompts are the same. To generate text without a prompt, leave the "
            "prompts empty; otherwise check which column holds them (--prompt)."
        )


def _overview(source: Path, preparation: Preparation) -> str:
    plan = preparation.plan
    lines = [f"Analysing {source.name} …", ""]
    rows, faults = 0, Counter[str]()
    for batch in preparation.dataset.source.batches():
        rows += len(batch.values)
        faults.update(fault.id for fault in batch.faults if fault.id in _TOLD)
    shape = "prompt/completion" if plan.format else preparation.dataset.shape
    lines.append(f"- The file holds {rows:,} {shape} {'row' if rows == 1 else 'rows'}.")
    lines += [f"- {RULES[fault].sentence(count)}." for fault, count in faults.items()]
    if plan.task:
        lines.append(f"- They look like {plan.task}{_class_list(preparation.classes)}.")
    if plan.inference is not None:
        found = plan.inference
        evidence = (found.separator, found.leading_whitespace, found.stop)
        # What labels have in common is no news to anyone.
        shown = [part for part in evidence if part.value or not preparation.classes]
        lines += [f"- {part}" for part in shown if part.value or part.refused]
    if preparation.dataset.source.format != "jsonl":
        kind = preparation.dataset.source.format.upper()
        lines.append(f"- {kind} will be converted to JSONL.")
    return "\n".join(lines)


def _class_list(classes: Mapping[str, int]) -> str:
    if not classes:
        return ""
    named = [f"{label!r} ({count:,})" for label, count in classes.items()][:_CLASSES_NAMED]
    more = ", …" if len(classes) > _CLASSES_NAMED else ""
    return f" with {len(classes):,} classes: {', '.join(named)}{more}"


def _decide(plan: Plan, conversation: Conversation) -> Plan:
    """Put each fix to the user and return the plan as decided."""
    proposed = plan.fixes
    if not proposed:
        conversation.say("No changes are needed.")
        return plan
    conversation.say("These changes are proposed:")
    for fix in proposed:
        if fix.necessary:
            conversation.say(f"- [Necessary] {_explain(fix)}")
            continue
        kind = "Recommended" if fix.enabled else "Optional"
        if conversation.ask(f"- [{kind}] {_explain(fix)}", default=fix.enabled):
            plan.enable(fix.id)
        else:
            plan.disable(fix.id)
    return _without_refused_marks(plan, {fix.id for fix in proposed if not fix.necessary})


def _without_refused_marks(plan: Plan, asked: set[str]) -> Plan:
    """Take out of the format the marks that no row has and that the user does not want."""
    if plan.format is None or plan.inference is None:
        return plan
    found, refused = plan.inference.format, {fix.id for fix in plan.fixes if not fix.enabled}
    marks = {
        "separator": "" if not found.separator else None,
        "stop": "" if not found.stop else None,
        "leading_whitespace": "" if not found.leading_whitespace else None,
    }
    changes = {
        name: mark
        for name, mark in marks.items()
        if mark is not None
        and (identifier := name.replace("_", "-")) in asked
        and identifier in refused
    }
    return plan.edit(prompt_format=replace(plan.format, **changes)) if changes else plan


def _explain(fix: Fix) -> str:
    rows = "row" if fix.count == 1 else "rows"
    lines = [f"{fix.description} ({fix.count:,} {rows})."]
    if fix.evidence:
        lines.append(f"    {fix.evidence}")
    if fix.samples:
        before, after, line = fix.samples[0]
        changed = [name for name in before if after is None or before[name] != after.get(name)]
        for name in changed[:2]:
            becomes = "dropped" if after is None else shorten(after.get(name, "left out"))
            lines.append(f"    line {line}: {shorten(before[name])} → {becomes}")
    return "\n".join(lines)


def _divide(
    fixed: Dataset, preparation: Preparation, conversation: Conversation
) -> tuple[Dataset, Dataset | None]:
    if len(preparation.classes) < _BINARY:
        return fixed, None
    question = (
        "- [Recommended] Split the rows into training and validation data, which classification "
        "metrics need.\n    Rows that are almost the same stay on one side."
    )
    if not conversation.ask(question, default=True):
        return fixed, None
    share = min(_VALIDATION_SHARE, _MOST_VALIDATION_ROWS / max(1, len(fixed)))
    training, validation = fixed.split(validation=share)
    if not validation.rows or not training.rows:
        conversation.say("There are too few different rows to hold any out; they stay together.")
        return fixed, None
    return training, validation


def _targets(source: Path, *, split: bool) -> list[Path]:
    """Return names that overwrite nothing: the old tool's, with a number where they are taken."""
    endings = ["_prepared_train", "_prepared_valid"] if split else ["_prepared"]
    number = 0
    while True:
        suffix = f" ({number})" if number else ""
        targets = [source.with_name(f"{source.stem}{end}{suffix}.jsonl") for end in endings]
        if not any(file.exists() for target in targets for file in (target, format_path(target))):
            return targets
        number += 1


def _command(targets: list[Path], classes: Mapping[str, int], form: PromptFormat | None) -> str:
    words = ["tunesmith", "api", "fine_tunes.create", "-t", str(targets[0])]
    if len(targets) > 1:
        words += ["-v", str(targets[1])]
        words += [] if _alike(classes, form) else _metrics(classes)
    if classes:
        words += ["-m", "ada"]
    return shlex.join(words)


def _alike(classes: Mapping[str, int], form: PromptFormat | None) -> list[str]:
    """Return the classes that begin like another: with them no metrics can be computed."""
    return sharing_first_token(classes, form.leading_whitespace if form else " ")


def _metrics(classes: Mapping[str, int]) -> list[str]:
    words = ["--compute_classification_metrics"]
    if len(classes) == _BINARY:
        return [*words, "--classification_positive_class", f" {_positive(classes)}"]
    return [*words, "--classification_n_classes", str(len(classes))]


def _positive(classes: Mapping[str, int]) -> str:
    """Return the class that says yes, if one does; else the most frequent, as the old tool."""
    return next((name for name in classes if name.casefold() in _AFFIRMATIVE), next(iter(classes)))


def _inference_parameters(plan: Plan, classes: Mapping[str, int]) -> dict[str, Any]:
    if plan.format is None:
        return {}
    return plan.format.inference_parameters(classes or None)


def _next_steps(prepared: Prepared, preparation: Preparation) -> str:
    lines = ["", "Written:"]
    for file in (prepared.training, prepared.validation):
        if file is not None:
            beside = f", its format in {format_path(file).name}" if prepared.prompt_format else ""
            lines.append(f"  {file}{beside}")
    advice = [finding for finding in prepared.report.findings if finding.severity != "error"]
    if advice:
        lines += ["", "Worth knowing:"]
        lines += [f"  {finding.id}: {finding.message}" for finding in advice]
    if preparation.classes:
        lines += ["", "For classification the smallest base model, ada, usually does as well."]
    elif preparation.plan.task == "conditional generation":
        lines += [
            "",
            "For generation, one or two epochs (--n_epochs 2) are often better than four.",
        ]
    if prepared.class_numbers:
        lines += ["", f"Which number is which class: {_numbers_path(prepared.training)}"]
    elif alike := _alike(preparation.classes, prepared.prompt_format):
        lines += ["", *_no_metrics(alike)]
    lines += ["", "Start the fine-tune:", f"  {prepared.command}"]
    if prepared.prompt_format is not None:
        lines += ["", *_how_to_ask(prepared.prompt_format, prepared.inference_parameters)]
    return "\n".join(lines)


def _no_metrics(alike: list[str]) -> list[str]:
    return [
        f"Metrics for classes are left out: {alike[0]!r} and others begin with the same token.",
        "Name the classes by words that begin differently, or accept numbers for them.",
    ]


def _how_to_ask(form: PromptFormat, parameters: Mapping[str, Any]) -> list[str]:
    lines: list[str] = []
    if form.separator:
        lines.append(f"End every prompt with {json.dumps(form.separator)}, as in training.")
    if parameters:
        lines.append("Send these parameters with every completion request:")
        lines.append(f"  {json.dumps(parameters)}")
    return lines
