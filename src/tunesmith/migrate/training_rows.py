"""What the rows of a training file are like, as far as choosing a base model needs to know."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any

from tunesmith.datasets import check_file
from tunesmith.datasets.dataset_errors import DatasetError

from .archive import read_lines

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .archive import ArchivedFile

__all__ = ["CHARACTERS_PER_TOKEN", "TrainingRows", "read_rows"]

CHARACTERS_PER_TOKEN = 3.5
_SAMPLE = 2000  # rows of a file that are looked at
_MOST_CLASSES = 50


@dataclass(slots=True)
class TrainingRows:
    """What a training file's rows are like."""

    count: int = 0
    characters: int = 0
    longest: int = 0
    tools: bool = False
    other_letters: float = 0.0
    classes: int | None = None
    not_text: Counter[str] = field(default_factory=Counter[str])
    faults: list[str] = field(default_factory=list[str])

    @property
    def tokens(self) -> int:
        """About how many tokens all of them have."""
        return round(self.characters / CHARACTERS_PER_TOKEN)


def read_rows(file: ArchivedFile, *, check: bool) -> TrainingRows:
    """Return what a file's rows are like, from its first thousands."""
    rows = TrainingRows()
    answers: Counter[str] = Counter()
    letters = others = 0
    assert file.content is not None  # noqa: S101 - only such files come here
    for row in islice(read_lines(file.content), _SAMPLE):
        text = " ".join(_texts(row))
        rows.count += 1
        rows.characters += len(text)
        rows.longest = max(rows.longest, len(text))
        rows.tools = rows.tools or bool(row.get("tools") or row.get("functions"))
        letters += sum(sign.isalpha() for sign in text)
        others += sum(sign.isalpha() and ord(sign) > 0x24F for sign in text)  # noqa: PLR2004 - Latin
        answers[_answer(row)] += 1
        for kind in _parts_that_are_no_text(row):
            rows.not_text[kind] += 1
    if rows.count == _SAMPLE:  # the rest is counted by its size
        whole = file.content.stat().st_size / max(1, rows.characters)
        seen = rows.count
        with file.content.open("rb") as lines:
            rows.count = sum(1 for line in lines if line.strip())
        rows.characters = round(rows.characters * rows.count / seen) if whole else 0
    rows.other_letters = others / letters if letters else 0.0
    if len(answers) <= _MOST_CLASSES and 3 * len(answers) <= sum(answers.values()):
        rows.classes = len(answers)
    if check:
        try:
            report = check_file(file.content, profile="engine")
            rows.faults = [finding.message for finding in report.errors[:3]]
        except DatasetError as error:
            rows.faults = [str(error)]
    return rows


def _texts(value: Any) -> Iterator[str]:
    """Yield the texts of a row, without recursion."""
    waiting = [value]
    while waiting:
        one = waiting.pop()
        if isinstance(one, str):
            yield one
        elif isinstance(one, dict):
            waiting += [inner for name, inner in one.items() if name not in {"role", "type"}]
        elif isinstance(one, list):
            waiting += one


def _answer(row: dict[str, Any]) -> str:
    if isinstance(row.get("completion"), str):
        return str(row["completion"]).strip()
    messages = row.get("messages")
    last = messages[-1] if isinstance(messages, list) and messages else None
    content = last.get("content") if isinstance(last, dict) else None
    return content.strip() if isinstance(content, str) else json.dumps(row)[:200]


def _parts_that_are_no_text(row: dict[str, Any]) -> Iterator[str]:
    for message in row.get("messages") or ():
        content = message.get("content") if isinstance(message, dict) else None
        for part in content if isinstance(content, list) else ():
            kind = part.get("type") if isinstance(part, dict) else None
            if kind not in {None, "text", "refusal"}:
                yield str(kind)
