"""Examines a data file and makes training data of it, in a process of its own.

A file of a user may be anything: a bomb of a workbook, a document of a gigabyte, bytes that a
reader stumbles over. So it is opened here, where memory, processor time and the size of written
files are limited, and never in the server. The order comes as JSON on standard input, the result
goes as JSON to the file that the order names. Knows no database and no network; who starts it is
`data_preparation`.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import sys
import tempfile
import time
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from tunesmith.datasets import Dataset, read
from tunesmith.datasets.dataset_errors import DatasetError
from tunesmith.datasets.pairs import pairs
from tunesmith.datasets.plan_execution import ABSENT, WrittenRows, shorten
from tunesmith.datasets.prompt_format import PromptFormat
from tunesmith.datasets.readers.columns import Columns

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from tunesmith.datasets import Plan
    from tunesmith.datasets.plan_execution import Fix
    from tunesmith.engine.serving.vocabulary import FileVocabulary
    from tunesmith.engine.training.rows import TextRow

__all__ = ["main"]

_SHOWN_ROWS: Final = 5
_SHOWN_TOKENS: Final = 400
_SHOWN_CHANGES: Final = 4
_SHOWN_COLUMNS: Final = 60
_SHOWN_CLASSES: Final = 12
_EXAMPLES: Final = 5
_CHUNK: Final = 512
_COUNT_SECONDS: Final = 20.0  # what is not counted by then is extrapolated
_MAX_CLASSES: Final = 100
_TABLES: Final = frozenset({"csv", "tsv", "xlsx", "parquet"})
_COMPLETIONS: Final = (
    *("completion", "label", "answer", "output", "response", "target", "category", "class"),
    *("sentiment", "reply", "summary", "translation", "intent"),
)
_PROMPTS: Final = (
    *("prompt", "text", "question", "input", "review", "comment", "message", "sentence"),
    *("content", "source", "title", "subject", "body", "document", "query", "instruction"),
)


def main() -> int:
    """Carry out the order on standard input."""
    order: dict[str, Any] = json.loads(sys.stdin.buffer.read())
    _limit(order)
    try:
        result = {"examine": _examine, "prepare": _prepare, "costs": _costs}[order["action"]](order)
    except DatasetError as error:
        result = {"problem": str(error)}
    except MemoryError:
        result = {
            "problem": "The file needs more memory than a page may use. Prepare it on the command "
            "line, where there is no such limit: tunesmith tools fine_tunes.prepare_data -f FILE."
        }
    Path(order["result"]).write_text(json.dumps(result), encoding="utf-8")
    return 0


def _limit(order: dict[str, Any]) -> None:
    try:
        import resource  # noqa: PLC0415 - not on every system
    except ImportError:
        return
    for name, value in (
        ("RLIMIT_CPU", order["seconds"]),
        ("RLIMIT_AS", order["memory_bytes"]),
        ("RLIMIT_FSIZE", order["file_bytes"]),
        ("RLIMIT_CORE", 0),
    ):
        kind: int = getattr(resource, name)
        hard = resource.getrlimit(kind)[1]
        limit = value if hard == resource.RLIM_INFINITY else min(value, hard)
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(kind, (limit, limit))


def _examine(order: dict[str, Any]) -> dict[str, Any]:
    """Return what is in a file, what would be changed, and how the model will see the rows."""
    if order.get("as_is"):
        return _examine_as_is(order)
    source, columns = _open(order)
    result: dict[str, Any] = {"columns": columns, "format": source.source.format}
    if columns is not None and not (columns["prompt"] and columns["completion"]):
        return result | {
            "needs_columns": True,
            "problem": "Choose the column that holds the prompts and the one that holds the "
            "completions.",
        }
    dataset, converted = _as_trained(source)
    report = dataset.check(max_examples=_EXAMPLES)
    plan = _decided(dataset, order)
    with tempfile.NamedTemporaryFile(suffix=".jsonl") as stream:
        written = WrittenRows(plan.needed_rows(), stream)
        after = Dataset(written).check(prompt_format=plan.format, max_examples=_EXAMPLES)
        stream.flush()
        classes = _classes(plan)
        method = "dpo" if after.shape == "preference" else "supervised"
        seen = _seen(order, Path(stream.name), method) if written.rows else {}
    return result | {
        "converted_from": converted,
        "shape": after.shape,
        "method": method,
        "task": plan.task,
        "lines": report.lines,
        "rows_before": report.rows,
        "rows": written.rows,
        "findings": [finding.to_dict() for finding in report.findings],
        "fixes": [_shown_fix(fix) for fix in plan.fixes],
        "left": [finding.to_dict() for finding in after.errors],
        "ok": after.ok and bool(written.rows) and not seen.get("unlearnable"),
        "classes": classes,
        "prompt_format": plan.format.to_dict() if plan.format else None,
        "tokens": None,
        "preview": [],
        **seen,
    }


def _examine_as_is(order: dict[str, Any]) -> dict[str, Any]:
    """Return whether a job can train on the file as it lies there."""
    method = order["method"]
    shape: Any = "preference" if method == "dpo" else None
    dataset = read(order["path"], format="jsonl")
    report = dataset.check(shape=shape, max_examples=_EXAMPLES)
    seen = _seen(order, Path(order["path"]), method) if report.ok else {}
    return {
        "rows": report.rows,
        "findings": [finding.to_dict() for finding in report.findings],
        "left": [finding.to_dict() for finding in report.errors],
        "ok": report.ok and not seen.get("unlearnable"),
        "tokens": None,
        "preview": [],
        **seen,
    }


def _prepare(order: dict[str, Any]) -> dict[str, Any]:
    """Write training and validation rows; return their names and numbers."""
    dataset, _ = _as_trained(_open(order)[0])
    plan = _decided(dataset, order)
    fixed = plan.apply()
    report = fixed.check(prompt_format=plan.format)
    if not report.ok:
        raise DatasetError(f"Errors are left: {report.first_error()}.")
    folder = Path(order["output"])
    training: Dataset = fixed
    validation: Dataset | None = None
    if order["hold_out"]:
        split = fixed.split(validation=order["hold_out"])
        if split.validation.rows and split.training.rows:
            training, validation = split.training, split.validation
    training.write(folder / "training.jsonl")
    if validation is not None:
        validation.write(folder / "validation.jsonl")
    return {
        "validation": validation is not None,
        "prompt_format": plan.format.to_dict() if plan.format else None,
    }


def _costs(order: dict[str, Any]) -> dict[str, Any]:
    """Return what trainings of a model cost; see `training.estimates`."""
    from tunesmith.engine.training.estimates import training_costs  # noqa: PLC0415 - loads torch

    found = training_costs(Path(order["base_path"]), order["longest"])
    return {} if found is None else asdict(found)


def _open(order: dict[str, Any]) -> tuple[Dataset, dict[str, Any] | None]:
    """Return the rows, and for a table its columns with those in use."""
    given = order.get("prompt_format")
    prompt_format = None if given is None else PromptFormat.from_dict(given)
    dataset = read(order["path"], prompt_format=prompt_format)
    found = dataset.recognised
    asked = order.get("prompt"), order.get("completion")
    if not any(asked) and (found is not None or dataset.source.format not in _TABLES):
        return dataset, None
    first = next(dataset.readable_rows(), None)
    if first is None:
        return dataset, None
    names = list(first.value)[:_SHOWN_COLUMNS]
    known = {name.strip().casefold(): name for name in names}
    completion = asked[1] or _named(known, _COMPLETIONS)
    prompt = asked[0] or _named(known, _PROMPTS)
    columns = {"names": names, "prompt": prompt, "completion": completion}
    if prompt and completion:
        return Dataset(Columns(dataset.source, prompt, completion, keep_others=True)), columns
    return dataset, columns


def _named(known: dict[str, str], likely: Iterable[str]) -> str | None:
    return next((known[name] for name in likely if name in known), None)


def _as_trained(dataset: Dataset) -> tuple[Dataset, str | None]:
    """Return rows of a format that is trained on, and the format that they were converted from."""
    found = dataset.recognised
    if found is None or found.target is None or found.name == found.target:
        return dataset, None
    return dataset.convert(found.target), found.label


def _decided(dataset: Dataset, order: dict[str, Any]) -> Plan:
    """Return the plan with the fixes that were accepted and refused; unknown ids are left out."""
    plan = dataset.plan(dataset.prompt_format)
    known = {fix.id: fix for fix in plan.fixes}
    for name in order.get("refused", ()):
        if name in known and not known[name].necessary:
            plan.disable(name)
    for name in order.get("accepted", ()):
        if name in known:
            plan.enable(name)
    return plan


def _classes(plan: Plan) -> dict[str, int]:
    if plan.task != "classification" or plan.format is None:
        return {}
    prompt_format = plan.format
    labels: Counter[str] = Counter()
    for pair in pairs(plan.rows()):
        labels[prompt_format.bare_completion(pair.completion).strip()] += 1
        if len(labels) > _MAX_CLASSES:
            return {}
    return dict(labels.most_common(_SHOWN_CLASSES))


def _shown_fix(fix: Fix) -> dict[str, Any]:
    samples: list[dict[str, Any]] = []
    for index, sample in enumerate(fix.samples):
        changes = [
            (
                path,
                "nothing" if old is ABSENT else shorten(old),
                ("row left out" if sample.after is None else "left out")
                if new is ABSENT
                else shorten(new),
            )
            for path, old, new in sample.changes()[:_SHOWN_CHANGES]
        ]
        reason = fix.reasons[index] if index < len(fix.reasons) else ""
        samples.append({"line": sample.line, "changes": changes, "reason": reason})
    return {
        "id": fix.id,
        "description": fix.description,
        "evidence": fix.evidence,
        "count": fix.count,
        "enabled": fix.enabled,
        "necessary": fix.necessary,
        "samples": samples,
    }


def _seen(order: dict[str, Any], path: Path, method: str) -> dict[str, Any]:
    """Return the rows as the base model will see them, and how many tokens they have."""
    if not order.get("base_path"):
        return {}
    from tunesmith.engine.domain.errors import TrainingError  # noqa: PLC0415 - only here
    from tunesmith.engine.serving.generation_errors import GenerationError  # noqa: PLC0415

    try:
        return _tokenized(order, path, method)
    except (TrainingError, GenerationError) as error:
        return {"unlearnable": str(error)}


def _tokenized(order: dict[str, Any], path: Path, method: str) -> dict[str, Any]:
    from tunesmith.engine.serving.input_processor import chat_template  # noqa: PLC0415 - only here
    from tunesmith.engine.serving.vocabulary import read_vocabulary  # noqa: PLC0415
    from tunesmith.engine.training.examples import RowEncoder, check_texts  # noqa: PLC0415
    from tunesmith.engine.training.rows import (  # noqa: PLC0415
        read_preference_texts,
        read_texts,
    )

    vocabulary = read_vocabulary(Path(order["base_path"]))
    template = chat_template(vocabulary)
    reading = read_preference_texts if method == "dpo" else read_texts
    code: Any = "invalid_training_file"
    limit = min(order.get("max_tokens") or vocabulary.context_length, vocabulary.context_length)
    check_texts(reading(path, template, code), vocabulary.tokenizer, max_tokens=limit, code=code)
    encoder = RowEncoder(vocabulary.tokenizer)
    preview: list[dict[str, Any]] = []
    rows = total = learned_tokens = longest = 0
    until = time.monotonic() + _COUNT_SECONDS
    texts: Iterator[TextRow] = iter(reading(path, template, code))
    while chunk := list(itertools.islice(texts, _CHUNK)):
        for row, tokens, learned in encoder.encode(chunk):
            rows += 1
            total += len(tokens)
            learned_tokens += sum(learned)
            longest = max(longest, len(tokens))
            if len(preview) < _SHOWN_ROWS:
                preview.append(_shown_row(vocabulary, row.line, tokens, learned))
        if time.monotonic() > until:
            break
    uncounted = sum(1 for _ in texts)
    share = (rows + uncounted) / max(1, rows)
    return {
        "preview": preview,
        "tokens": {
            "examples": (rows + uncounted) // (2 if method == "dpo" else 1),
            "total": round(total * share),
            "learned": round(learned_tokens * share),
            "longest": longest,
            "limit": limit,
            "estimated": bool(uncounted),
        },
    }


def _shown_row(
    vocabulary: FileVocabulary, line: int, tokens: list[int], learned: list[bool]
) -> dict[str, Any]:
    """Return the first tokens of a row as text; those that only together are letters are joined."""
    pieces: list[tuple[str, bool, int]] = []
    waiting, count = b"", 0
    shown = list(zip(tokens, learned, strict=True))[:_SHOWN_TOKENS]
    for index, (token, is_learned) in enumerate(shown):
        waiting += vocabulary.token_bytes[token]
        count += 1
        is_last = index + 1 == len(shown) or shown[index + 1][1] is not is_learned
        try:
            text = waiting.decode()
        except UnicodeDecodeError:
            if not is_last:
                continue
            text = waiting.decode("utf-8", "replace")
        pieces.append((text, is_learned, count))
        waiting, count = b"", 0
    return {
        "line": line,
        "pieces": pieces,
        "tokens": len(tokens),
        "learned": sum(learned),
        "more": max(0, len(tokens) - _SHOWN_TOKENS),
    }


if __name__ == "__main__":
    sys.exit(main())
