"""Divides rows into training and validation data that share nothing.

The division depends on the content of the rows only, not on their order: the same rows are
divided in the same way on every machine. Rows that are almost the same stay on one side, so that
validation measures what the model has understood, not what it remembers. Classes keep their
shares, and each is on both sides where that is possible without a leak.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeVar

from .dataset_errors import DatasetError
from .near_duplicates import DEFAULT_THRESHOLD, cluster, row_digest, sketch_row
from .pairs import Pair, completion_text, prompt_text
from .rows import Row
from .task import infer_task

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

__all__ = ["split"]

_RowT = TypeVar("_RowT", bound="Row | Mapping[str, Any]")

_MIN_GROUPS: Final = 2


def split(
    rows: Iterable[_RowT],
    validation: float = 0.2,
    *,
    stratify: bool | None = None,
    near_duplicates: bool = True,
    threshold: float = DEFAULT_THRESHOLD,
    seed: int = 0,
) -> tuple[list[_RowT], list[_RowT]]:
    """Divides rows into training and validation rows; each keeps the order it had.

    Args:
        rows: Rows or mappings of any row format.
        validation: Share of the rows to hold out, between 0 and 1, or their number, from 1.
        stratify: Whether classes keep their shares; default: if the rows look like
            classification.
        near_duplicates: Whether rows whose prompts are almost the same stay together; exact
            duplicates always do.
        threshold: Jaccard similarity from which prompts count as almost the same.
        seed: Another number gives another division, which is just as reproducible.

    Returns:
        Training rows and validation rows.

    Raises:
        DatasetError: `validation` is out of range.
    """
    all_rows = [*rows]
    values = [row.value if isinstance(row, Row) else row for row in all_rows]
    share = _share(validation, len(all_rows))
    labels = [completion_text(value).strip() for value in values]
    if stratify is None:
        stratify = _looks_like_classification(values, labels)
    groups = _groups(values, threshold if near_duplicates else None, seed)
    held_out = _hold_out(groups, labels if stratify else [""] * len(labels), share)
    training = [row for index, row in enumerate(all_rows) if index not in held_out]
    return training, [row for index, row in enumerate(all_rows) if index in held_out]


def _share(validation: float, count: int) -> float:
    if 0 < validation < 1:
        return validation
    if validation >= 1 and float(validation).is_integer() and validation < count:
        return validation / count
    raise DatasetError(
        f"validation={validation} is neither a share between 0 and 1 nor a number of rows below "
        f"the {count:,} there are."
    )


def _looks_like_classification(values: Sequence[Mapping[str, Any]], labels: Sequence[str]) -> bool:
    rows = (
        Pair(prompt_text(value), label, line)
        for line, (value, label) in enumerate(zip(values, labels, strict=True), 1)
    )
    return infer_task(rows) == "classification"


@dataclass(frozen=True, slots=True)
class _Group:
    """Rows that must stay together, by index; groups are taken in the order of their digest."""

    digest: bytes
    members: tuple[int, ...]


def _groups(
    values: Sequence[Mapping[str, Any]], threshold: float | None, seed: int
) -> list[_Group]:
    if threshold is None:
        first: dict[bytes, int] = {}
        keys = [first.setdefault(row_digest(value, 0), index) for index, value in enumerate(values)]
    else:
        keys = cluster([sketch_row(value) for value in values], threshold)
    members: defaultdict[int, list[int]] = defaultdict(list)
    for index, key in enumerate(keys):
        members[key].append(index)
    return sorted(
        (
            _Group(min(row_digest(values[index], seed) for index in group), tuple(group))
            for group in members.values()
        ),
        key=lambda group: group.digest,
    )


def _hold_out(groups: Sequence[_Group], labels: Sequence[str], share: float) -> set[int]:
    """Return the rows to hold out, class by class."""
    by_class: defaultdict[str, list[_Group]] = defaultdict(list)
    for group in groups:
        most_common = Counter(labels[index] for index in group.members).most_common()
        # Of equally common labels the alphabetically first, whatever the order of the rows.
        label = min(most_common, key=lambda item: (-item[1], item[0]))[0]
        by_class[label].append(group)
    held_out: set[int] = set()
    for label in sorted(by_class):
        for group in _take(by_class[label], share):
            held_out.update(group.members)
    return held_out


def _take(groups: Sequence[_Group], share: float) -> list[_Group]:
    """Return groups that hold as many rows as possible without exceeding the share.

    Of two or more groups, at least one is taken and one is left.
    """
    if len(groups) < _MIN_GROUPS:
        return []
    rows = sum(len(group.members) for group in groups)
    wanted = max(1, round(share * rows))
    taken: list[_Group] = []
    for group in groups:
        if len(group.members) <= wanted and len(taken) < len(groups) - 1:
            taken.append(group)
            wanted -= len(group.members)
    return taken or [min(groups, key=lambda group: len(group.members))]
