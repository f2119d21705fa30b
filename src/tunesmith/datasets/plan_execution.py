"""Runs the steps of a plan over the rows of a source: to fix the rows, or to count what changes.

The source is read as often as needed and none of it is kept in memory, except for samples.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from itertools import islice
from typing import IO, TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias

from .dataset_errors import BrokenRowError
from .json_types import is_array, is_object
from .readers import Batch, ListLocations
from .readers.batch import pairs_of
from .rows import Row

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from .fixes import Step, Transform, Value
    from .readers import Source

    _CountedTransform: TypeAlias = tuple["Fix", Transform, Callable[[Value], str] | None]

__all__ = [
    "ABSENT",
    "Change",
    "Fix",
    "FixedRows",
    "Sample",
    "count_fixes",
    "describe_fix",
    "read_rows",
    "shorten",
]

_MAX_SAMPLES: Final = 3
_BATCH_ROWS: Final = 1024


class Absent:
    """The value of a field that is not there."""

    def __repr__(self) -> str:
        return "left out"


ABSENT: Final = Absent()


class Change(NamedTuple):
    """A part of a row before and after a fix; `ABSENT` where it is not there."""

    path: str
    old: Any
    new: Any


class Sample(NamedTuple):
    """One row before and after a fix.

    Attributes:
        before: The row.
        after: The fixed row, or None where the row is dropped.
        line: Line of the row in its source.
    """

    before: dict[str, Any]
    after: dict[str, Any] | None
    line: int

    def changes(self) -> list[Change]:
        """Return the parts of the row that differ; of a dropped row, all of its fields."""
        if self.after is None:
            return [Change(name, content, ABSENT) for name, content in self.before.items()]
        return list(_differences("", self.before, self.after))


@dataclass(slots=True)
class Fix:
    """One proposed change.

    Attributes:
        id: Stable name, for `Plan.disable`.
        description: What it does.
        evidence: Why it is proposed.
        count: Rows that it changes or drops.
        samples: The first of these rows.
        enabled: Whether it will be applied.
        necessary: Whether the rows are unusable without it.
        reasons: Why each of these rows is changed; empty where before and after say it.
    """

    id: str
    description: str
    evidence: str = ""
    count: int = 0
    samples: list[Sample] = field(default_factory=list[Sample])
    enabled: bool = True
    necessary: bool = False
    reasons: list[str] = field(default_factory=list[str])

    def to_dict(self) -> dict[str, Any]:
        """Return the fix as plain JSON data."""
        return {
            "id": self.id,
            "description": self.description,
            "evidence": self.evidence,
            "count": self.count,
            "enabled": self.enabled,
            "necessary": self.necessary,
            "samples": [sample._asdict() for sample in self.samples],
            **({"reasons": list(self.reasons)} if self.reasons else {}),
        }


class FixedRows:
    """A `Source` that applies the enabled steps to the rows of another source as it is read.

    Rows keep the locations they have in the other source; lines that cannot be read are left out.

    Args:
        source: The rows to fix.
        steps: The steps; disabled ones are skipped.
    """

    format = "rows"
    size: int | None = None

    def __init__(self, source: Source, steps: Sequence[Step]) -> None:
        self.name: str | None = source.name
        self._source = source
        self._steps = [step for step in steps if step.enabled]

    def __iter__(self) -> Iterator[Row]:
        for value, batch, index in self._values():
            line, offset = batch.locations.line(index), batch.locations.offset(index)
            yield Row(value, line, offset, self.name)

    def _values(self) -> Iterator[tuple[Value, Batch, int]]:
        """Yield each fixed row, the batch it comes from and its place there."""
        exempt = _exemption(self._steps)
        transforms = [(step.new_transform(), step.exempt) for step in self._steps]
        every = [transform for transform, _ in transforms]
        few = [transform for transform, exemption in transforms if exemption is None]
        for batch in self._source.batches():
            for index, row in enumerate(batch.values):
                value = _apply(few if exempt(row) else every, row)
                if value is not None:
                    yield value, batch, index

    def batches(self) -> Iterator[Batch]:
        """See `Source.batches`."""
        rows = self._values()
        while part := list(islice(rows, _BATCH_ROWS)):
            values = [value for value, _, _ in part]
            lines = [batch.locations.line(index) for _, batch, index in part]
            pairs = pairs_of(values)
            yield Batch(values, ListLocations(lines), len(part), pairs=pairs)


class WrittenRows:
    """A `Source` that writes the rows of another one as JSONL whenever it is read.

    Args:
        source: The rows.
        stream: Where to write them.
    """

    def __init__(self, source: Source, stream: IO[bytes]) -> None:
        self.name: str | None = source.name
        self.format: str = source.format
        self.size: int | None = source.size
        self.rows: int = 0
        self._source = source
        self._stream = stream

    def batches(self) -> Iterator[Batch]:
        """See `Source.batches`.

        Raises:
            BrokenRowError: A row cannot be written as JSON.
        """
        self.rows = 0
        self._stream.seek(0)
        self._stream.truncate()
        for batch in self._source.batches():
            plain = _json_of_pairs(batch)
            self._stream.writelines(
                map(json_line, batch.rows(self.name)) if plain is None else [plain]
            )
            self.rows += len(batch.values)
            yield batch


_ENCODE: Final = json.JSONEncoder(ensure_ascii=False).encode


def json_line(row: Row) -> bytes:
    """Return a row as a line of JSONL.

    Raises:
        BrokenRowError: It cannot be written as JSON.
    """
    try:
        return _ENCODE(row.value).encode("utf-8") + b"\n"
    except (UnicodeEncodeError, TypeError, ValueError, RecursionError) as error:
        raise BrokenRowError(
            f"line {row.line} cannot be written as JSON: {error}.", row.line, row.byte_offset
        ) from None


def _json_of_pairs(batch: Batch) -> bytes | None:
    """Return what `json_line` makes of the rows, where each is a prompt and then a completion.

    None for all others, and where a row cannot be written.
    """
    if batch.pairs is None or {next(iter(value)) for value in batch.values} != {"prompt"}:
        return None
    lines = [
        f'{{"prompt": {_ENCODE(prompt)}, "completion": {_ENCODE(completion)}}}\n'
        for prompt, completion in zip(*batch.pairs, strict=True)
    ]
    try:
        return "".join(lines).encode("utf-8")
    except UnicodeEncodeError:
        return None


def read_rows(source: Source) -> Iterator[Row]:
    """Yield the rows of a source; lines that cannot be read are left out."""
    for batch in source.batches():
        yield from batch.rows(source.name)


def _exemption(steps: Sequence[Step]) -> Callable[[Value], bool]:
    """Return the fast test of rows that the steps with an exemption leave as they are."""
    return next((step.exempt for step in steps if step.exempt is not None), lambda _: False)


def _apply(transforms: Sequence[Transform], value: Value) -> Value | None:
    for transform in transforms:
        after = transform(value)
        if after is None:
            return None
        value = after
    return value


def count_fixes(
    source: Source, steps: Sequence[Step], observe: Callable[[Value], None] | None = None
) -> list[Fix]:
    """Count the rows that each step changes or drops, after the enabled steps before it.

    Args:
        source: The rows.
        steps: The steps.
        observe: Called with each row that the enabled steps leave.

    Returns:
        One fix for each step, and before them one for the lines that cannot be read and one for
        the rows that cannot be converted.
    """
    unreadable = Fix(
        "drop-unreadable-lines",
        "Leave out lines that cannot be read",
        "They hold no row that could be repaired here.",
        necessary=True,
    )
    unconverted = Fix(
        "drop-unconverted-rows",
        "Leave out rows that cannot be converted",
        "What they say cannot be said in the other format.",
        necessary=True,
    )
    fixes = [
        Fix(
            step.id,
            step.description,
            step.evidence,
            enabled=step.enabled,
            necessary=step.necessary,
        )
        for step in steps
    ]
    every = [
        (fix, step.new_transform(), step.explain) for fix, step in zip(fixes, steps, strict=True)
    ]
    few = [part for part, step in zip(every, steps, strict=True) if step.exempt is None]
    exempt = _exemption(steps)
    for batch in source.batches():
        if batch.faults:
            _count_faults(batch, unreadable, unconverted)
        for index, row in enumerate(batch.values):
            value = _count_row(few if exempt(row) else every, row, batch, index)
            if value is not None and observe is not None:
                observe(value)
    return [unreadable, unconverted, *fixes]


def _count_row(
    transforms: Sequence[_CountedTransform], value: Value, batch: Batch, index: int
) -> Value | None:
    """Count the steps that change a row; return what the enabled ones leave of it."""
    for fix, transform, explain in transforms:
        after = transform(value)
        if after is value:
            continue
        fix.count += 1
        if len(fix.samples) < _MAX_SAMPLES:
            if explain is not None:
                fix.reasons.append(explain(value))
            fix.samples.append(Sample(value, after, batch.locations.line(index)))
        if not fix.enabled:
            continue
        if after is None:
            return None
        value = after
    return value


def _count(fix: Fix, sample: Sample) -> None:
    fix.count += 1
    if len(fix.samples) < _MAX_SAMPLES:
        fix.samples.append(sample)


def _count_faults(batch: Batch, unreadable: Fix, unconverted: Fix) -> None:
    for fault in batch.faults:
        if not fault.lost:
            continue
        location = fault.location
        fix = unconverted if fault.id == "row-not-converted" else unreadable
        if len(fix.samples) < _MAX_SAMPLES:
            fix.reasons.append(location.message)
        _count(fix, Sample({"": location.excerpt or location.message}, None, location.line))


def describe_fix(fix: Fix) -> str:
    """Return a fix with its count, its evidence and its samples as lines of text."""
    state = "" if fix.enabled else " (not applied unless enabled)"
    rows = "row" if fix.count == 1 else "rows"
    lines = [f"{fix.id}: {fix.description}: {fix.count:,} {rows}{state}"]
    if fix.evidence:
        lines.append(f"  {fix.evidence}")
    for number, sample in enumerate(fix.samples):
        reason = f": {fix.reasons[number]}" if fix.reasons else ""
        lines.append(f"  line {sample.line}{reason}")
        changes = sample.changes()
        lines += [f"  - {path}: {shorten(old)}" for path, old, _ in changes if old is not ABSENT]
        lines += [f"  + {path}: {shorten(new)}" for path, _, new in changes if new is not ABSENT]
        if sample.after is None:
            lines.append("  + (dropped)")
    return "\n".join(lines)


def _differences(path: str, old: Any, new: Any) -> Iterator[Change]:
    """Yield the smallest parts in which two JSON values differ."""
    if is_object(old) and is_object(new):
        for name in [*old, *(key for key in new if key not in old)]:
            inner = f"{path}.{name}" if path else name
            yield from _differences(inner, old.get(name, ABSENT), new.get(name, ABSENT))
    elif is_array(old) and is_array(new) and len(old) == len(new):
        for index, pair in enumerate(zip(old, new, strict=True)):
            yield from _differences(f"{path}[{index}]", *pair)
    elif is_array(old) and is_array(new) and old[: len(new)] == new:
        for index in range(len(new), len(old)):
            yield Change(f"{path}[{index}]", old[index], ABSENT)
    elif type(old) is not type(new) or old != new:
        yield Change(path, old, new)


def shorten(value: object, width: int = 100) -> str:
    """Return a value as JSON on one line; of a long one both ends, where formats differ."""
    text = json.dumps(value, ensure_ascii=False).encode("utf-8", "backslashreplace").decode()
    if len(text) <= width:
        return text
    half = (width - 3) // 2
    return f"{text[:half]} … {text[-half:]}"
