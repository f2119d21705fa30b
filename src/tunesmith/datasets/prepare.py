"""The guided preparation of a file for fine-tuning.

The file is analysed, each change is put to the user with its evidence, and the rows are written
as JSONL with their prompt format beside them. How questions are asked and texts are shown is
passed in as a `Dialog`, so the same guide serves the command line, a notebook and a test. The
texts themselves are in `preparation`.
"""

from __future__ import annotations

import codecs
import json
import shutil
import tempfile
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final, Protocol

from tunesmith.atomic import write_atomically

from .class_numbers import number_labels
from .conversion.template import templated
from .dataset import Dataset, Plan
from .dataset_errors import DatasetError
from .pairs import pairs
from .plan_execution import WrittenRows, shorten
from .plan_steps import first_fault
from .preparation import (
    Analysis,
    PreparedData,
    class_numbers_path,
    create_command,
    describe_analysis,
    describe_errors,
    describe_proposal,
    describe_results,
)
from .prompt_format import PromptFormat, format_path, saved_format
from .readers import open_path
from .readers.columns import Columns
from .recognition import DATA_FORMATS

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping

    from .recognition import FormatName
    from .report import Report
    from .rows import RowFormat

__all__ = ["Dialog", "prepare_data"]

# The share and the maximum of the tool of openai 0.x.
_VALIDATION_SHARE: Final = 0.2
_MAX_VALIDATION_ROWS: Final = 1_000
_COPIED_AT_ONCE: Final = 1 << 20
# Formats whose prompts may stand in two columns, and the second of them.
_JOINING: Final = frozenset({"alpaca", "question_answer"})
_JOINED_COLUMNS: Final = frozenset({"input", "context"})
_EMPTY: Final[tuple[object, ...]] = (None, "", [], {})


class Dialog(Protocol):
    """How the guide talks with the user."""

    def say(self, text: str) -> None:
        """Show a paragraph."""
        ...

    def ask(self, question: str, *, default: bool) -> bool:
        """Ask a question and return whether the answer is yes."""
        ...


def prepare_data(
    path: str | os.PathLike[str],
    dialog: Dialog,
    *,
    format: str | None = None,  # noqa: A002 - the word
    encoding: str | None = None,
    sheet: str | None = None,
    prompt: str | None = None,
    completion: str | None = None,
    template: Mapping[str, str] | None = None,
    to: FormatName | None = None,
    byte_order_mark: bool = False,
) -> PreparedData | None:
    """Guide a user from a file to training data.

    Rows of a format that is not trained on, such as Alpaca or ShareGPT, are converted if the user
    agrees.

    Args:
        path: CSV, TSV, XLSX, JSON, JSONL, TXT or Parquet.
        dialog: Shows the texts and asks the questions.
        format: See `datasets.read`.
        encoding: See `datasets.read`.
        sheet: See `datasets.read`.
        prompt: Column that holds the prompts, if it is not called "prompt".
        completion: Column that holds the completions, if it is not called "completion".
        template: Texts with columns in braces, of which the rows are made; see `datasets.read`.
        to: Format into which the rows are converted, without a question.
        byte_order_mark: Whether the files start with one, as Azure requires.

    Returns:
        What was written, or None if the user chose to write nothing.

    Raises:
        DatasetError: The file cannot be read, a column is missing, or there is nothing to learn
            from the rows.
    """
    source = Path(path)
    opened = open_path(source, format, encoding=encoding, sheet=sheet)
    dataset = Dataset(opened, prompt_format=saved_format(source))
    if template is not None:
        dataset = Dataset(templated(opened, template))
    elif prompt is not None or completion is not None:
        asked = dialog if to is None else None
        dataset = _columns(dataset, prompt or "prompt", completion or "completion", asked)
    elif to is None:
        dataset = _offer_conversion(dataset, dialog)
    if to is not None:
        dataset = dataset.convert(to)
    analysis = _analyse(source, dataset)
    dialog.say(describe_analysis(analysis))
    plan = _decide(analysis.plan, dialog)
    with tempfile.TemporaryFile() as stream:
        # The rows are written while they are checked: fixing them takes longest.
        written = WrittenRows(plan.needed_rows(), stream)
        report = Dataset(written).check(prompt_format=plan.format)
        prepared = _finish(
            plan,
            report,
            analysis,
            stream if written.rows else None,
            dialog,
            byte_order_mark=byte_order_mark,
        )
    if prepared is not None:
        dialog.say(describe_results(prepared, analysis))
    return prepared


def _columns(whole: Dataset, prompt: str, completion: str, dialog: Dialog | None) -> Dataset:
    """Return rows made of two columns, which keep the others for the plan to name.

    Where the format is known and another column belongs to the prompt, the user is asked.
    """
    found = whole.recognised
    if dialog is not None and found is not None and found.name in _JOINING:
        names = _JOINED_COLUMNS - {prompt, completion}
        counts = Counter(
            name
            for row in whole.readable_rows()
            for name in names
            if row.value.get(name) not in _EMPTY
        )
        if counts:
            listed = ", ".join(f"{name!r} ({count:,} rows)" for name, count in counts.items())
            question = (
                f"- [Recommended] The rows have the format {found.label}: keep the text of "
                f"{listed} in the prompt."
            )
            if dialog.ask(question, default=True):
                return whole.convert("prompt_completion")
    keep_others = dialog is not None
    columns = Columns(whole.source, prompt, completion, keep_others=keep_others)
    return Dataset(columns, prompt_format=whole.prompt_format)


def _offer_conversion(dataset: Dataset, dialog: Dialog) -> Dataset:
    """Ask into which format rows are converted that have one that is not trained on."""
    found = dataset.recognised
    if found is None or found.target is None or found.name == found.target:
        return dataset
    dialog.say(f"The rows have the format {found.label}, with {found.keys}.")
    targets: dict[RowFormat, None] = dict.fromkeys((found.target, "chat", "prompt_completion"))
    for target in targets:
        converted = dataset.convert(target)
        first = next(converted.readable_rows(), None)
        if first is None:
            continue
        before = next(row for row in dataset.readable_rows() if row.line == first.line)
        question = (
            f"- [Recommended] Convert them to {DATA_FORMATS[target].label} rows.\n"
            f"    line {first.line}: {shorten(before.value)} →\n      {shorten(first.value)}"
        )
        if dialog.ask(question, default=True):
            return converted
    return dataset


def _finish(
    plan: Plan,
    report: Report,
    analysis: Analysis,
    stream: IO[bytes] | None,
    dialog: Dialog,
    *,
    byte_order_mark: bool,
) -> PreparedData | None:
    """Ask the last questions and write the files; None where nothing is to be written.

    Args:
        plan: The plan as decided.
        report: What a check found in the rows that it leaves.
        analysis: What was found before.
        stream: The rows as JSONL; None if there are none.
        dialog: Asks the questions.
        byte_order_mark: Whether the files begin with one.
    """
    fixed = plan.apply()
    if report.errors:
        dialog.say(describe_errors(report))
        if not dialog.ask("Write the file all the same?", default=False):
            dialog.say("Nothing was written.")
            return None
    training, validation = _divide(fixed, analysis, dialog)
    files = _free_paths(analysis.source, split=validation is not None)
    names = " and ".join(repr(file.name) for file in files)
    if not dialog.ask(f"Your data will be written to {names}. Proceed?", default=True):
        dialog.say("Nothing was written.")
        return None
    if validation is not None or stream is None:
        training.write(files[0], byte_order_mark=byte_order_mark)
    else:
        _keep(stream, files[0], plan.format, codecs.BOM_UTF8 if byte_order_mark else b"")
    if validation is not None:
        validation.write(files[1], byte_order_mark=byte_order_mark)
    classes = _count_labels(plan) if analysis.classes else {}
    parameters = plan.format.inference_parameters(classes or None) if plan.format else {}
    return PreparedData(
        training=files[0],
        validation=files[1] if validation is not None else None,
        format_file=format_path(files[0]) if plan.format else None,
        prompt_format=plan.format,
        command=create_command(files, classes, plan.format),
        inference_parameters=parameters,
        class_numbers=_save_class_numbers(plan, analysis, files[0]),
        report=report,
    )


def _keep(
    stream: IO[bytes], target: Path, prompt_format: PromptFormat | None, start: bytes
) -> None:
    """Write `start` and what is in a stream as a file, and its prompt format beside it."""
    stream.seek(0)
    with write_atomically(target) as copy:
        copy.write(start)
        shutil.copyfileobj(stream, copy, _COPIED_AT_ONCE)
    if prompt_format is not None:
        prompt_format.save(format_path(target))


def _analyse(source: Path, dataset: Dataset) -> Analysis:
    plan = dataset.plan(dataset.prompt_format)
    if plan.format is None:
        return Analysis(source, dataset, plan, {})
    variety = _Variety(plan.format, count_all=plan.task == "classification")
    plan.count_fixes(variety.observe)
    if not variety.rows:
        raise DatasetError("The file holds no row to learn from." + first_fault(dataset.source))
    _require_variety(variety)
    classes = dict(variety.labels.most_common()) if plan.task == "classification" else {}
    return Analysis(source, dataset, plan, classes)


class _Variety:
    """Which prompts and labels there are: all labels of classes, else only whether any differ.

    Args:
        prompt_format: The format of the rows.
        count_all: Whether to count each label.
    """

    def __init__(self, prompt_format: PromptFormat, *, count_all: bool) -> None:
        self.rows = 0
        self.prompts: set[str] = set()
        self.labels: Counter[str] = Counter()
        self._bare = prompt_format.bare_completion
        self._count_all = count_all

    def observe(self, value: dict[str, Any]) -> None:
        """Add a row."""
        self.rows += 1
        if len(self.prompts) <= 1:
            self.prompts.add(value["prompt"])
        if self._count_all or len(self.labels) <= 1:
            self.labels[self._bare(value["completion"]).strip()] += 1


def _count_labels(plan: Plan) -> dict[str, int]:
    """Return the labels that the rows will have after the decisions, the most frequent first."""
    prompt_format = plan.format or PromptFormat()
    labels = (prompt_format.bare_completion(pair.completion).strip() for pair in pairs(plan.rows()))
    return dict(Counter(labels).most_common())


def _require_variety(variety: _Variety) -> None:
    rows, prompts, labels = variety.rows, variety.prompts, variety.labels
    if rows == 1:
        return
    if len(labels) == 1:
        raise DatasetError(
            f"All {rows:,} completions are {next(iter(labels))!r}: there is nothing to "
            "distinguish. Add rows with other completions."
        )
    if len(prompts) == 1 and next(iter(prompts)):
        raise DatasetError(
            f"All {rows:,} prompts are the same. To generate text without a prompt, leave the "
            "prompts empty; otherwise check which column holds them (--prompt)."
        )


def _decide(plan: Plan, dialog: Dialog) -> Plan:
    """Ask about each fix that is not necessary and return the plan as decided.

    A fix that is declined may leave rows that another fix then concerns: that one is asked, too.
    """
    proposed = plan.fixes
    if not proposed:
        dialog.say("No changes are needed.")
        return plan
    dialog.say("These changes are proposed:")
    shown: set[str] = set()
    asked: set[str] = set()
    while proposed:
        for fix in proposed:
            shown.add(fix.id)
            if fix.necessary:
                dialog.say(f"- [Necessary] {describe_proposal(fix)}")
                continue
            asked.add(fix.id)
            kind = "Recommended" if fix.enabled else "Optional"
            accepted = dialog.ask(f"- [{kind}] {describe_proposal(fix)}", default=fix.enabled)
            if accepted != fix.enabled:
                (plan.enable if accepted else plan.disable)(fix.id)
        proposed = [fix for fix in plan.fixes if fix.id not in shown]
    return _without_rejected_parts(plan, asked)


def _without_rejected_parts(plan: Plan, asked: set[str]) -> Plan:
    """Take out of the format the parts that no row has and whose fix the user rejected."""
    if plan.format is None or plan.inference is None:
        return plan
    found = plan.inference.format
    rejected = asked & {fix.id for fix in plan.fixes if not fix.enabled}
    changes = {
        name: ""
        for name in ("separator", "stop", "leading_whitespace")
        if not getattr(found, name) and name.replace("_", "-") in rejected
    }
    return plan.edit(prompt_format=replace(plan.format, **changes)) if changes else plan


def _divide(fixed: Dataset, analysis: Analysis, dialog: Dialog) -> tuple[Dataset, Dataset | None]:
    if len(analysis.classes) <= 1:
        return fixed, None
    question = (
        "- [Recommended] Split the rows into training and validation data, which classification "
        "metrics need.\n    Rows that are almost the same stay on one side."
    )
    if not dialog.ask(question, default=True):
        return fixed, None
    share = min(_VALIDATION_SHARE, _MAX_VALIDATION_ROWS / max(1, len(fixed)))
    training, validation = fixed.split(validation=share)
    if not validation.rows or not training.rows:
        dialog.say("There are too few different rows to hold any out; they stay together.")
        return fixed, None
    return training, validation


def _free_paths(source: Path, *, split: bool) -> list[Path]:
    """Return paths that overwrite nothing: a number is appended where a name is taken."""
    endings = ["_prepared_train", "_prepared_valid"] if split else ["_prepared"]
    number = 0
    while True:
        suffix = f" ({number})" if number else ""
        paths = [source.with_name(f"{source.stem}{end}{suffix}.jsonl") for end in endings]
        if not any(file.exists() for path in paths for file in (path, format_path(path))):
            return paths
        number += 1


def _save_class_numbers(plan: Plan, analysis: Analysis, training: Path) -> dict[str, str]:
    """Write beside the data which number stands for which class, if classes became numbers."""
    if not any(fix.id == "number-classes" and fix.enabled for fix in plan.fixes):
        return {}
    numbers = number_labels(analysis.classes)
    with write_atomically(class_numbers_path(training)) as stream:
        stream.write(json.dumps(numbers, indent=2).encode() + b"\n")
    return numbers
