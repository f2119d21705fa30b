"""Classes of a classification data set: how many examples each has, and how they are spelled."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from tunesmith.datasets.class_numbers import beginnings
from tunesmith.datasets.findings import Location, LocationCounter
from tunesmith.datasets.rules import make_finding

from .prompt_format_check import expected_format

if TYPE_CHECKING:
    from tunesmith.datasets.findings import Finding

    from .base import CheckedData, ValidRows
    from .settings import CheckSettings

__all__ = ["Classes"]

_ADVISED_EXAMPLES: Final = 100
_MOST_CLASSES: Final = 10_000


class Classes:
    """How often each completion occurs, and the line on which it occurs first."""

    def __init__(self, settings: CheckSettings) -> None:
        self.settings = settings
        self.counts: Counter[str] = Counter()
        self.first: dict[str, Location] = {}

    def observe(self, rows: ValidRows) -> None:
        """See `Check.observe`."""
        if len(self.counts) > _MOST_CLASSES:
            return
        counts = rows.completion_counts
        for completion in counts.keys() - self.first.keys():
            self.first[completion] = rows.location(
                rows.completions.index(completion), "$.completion"
            )
        self.counts.update(counts)

    def merge(self, following: Classes, lines: int) -> None:
        """See `Check.merge`."""
        for completion, location in following.first.items():
            self.first.setdefault(completion, location.moved(lines))
        self.counts.update(following.counts)

    def labels(self) -> dict[str, tuple[int, Location]]:
        """Return the classes, stripped of the stop sequence, with count and first location."""
        stop = expected_format(self.settings).stop.strip()
        labels: dict[str, tuple[int, Location]] = {}
        for completion, count in self.counts.items():
            label = completion.strip().removesuffix(stop).strip()
            before, location = labels.get(label, (0, self.first[completion]))
            labels[label] = (before + count, min(location, self.first[completion], key=_line))
        return labels

    def conclude(self, data: CheckedData) -> list[Finding]:
        """See `Check.conclude`."""
        if len(self.counts) > _MOST_CLASSES or not self.counts:
            return []
        labels = self.labels()
        if len(labels) == 1:
            label, (_, location) = next(iter(labels.items()))
            detail = f"every completion is {label!r}"
            return [make_finding("class-single", self._count([location]), detail=detail)]
        findings = self._too_few(labels) + self._variants(labels)
        findings += self._tokens(labels, data.rows) + self._beginnings(labels)
        return findings

    def _count(self, locations: list[Location]) -> LocationCounter:
        counter = LocationCounter(self.settings.max_examples)
        for location in sorted(locations, key=_line):
            counter.add(location)
        return counter

    def _too_few(self, labels: dict[str, tuple[int, Location]]) -> list[Finding]:
        few = {label: found for label, found in labels.items() if found[0] < _ADVISED_EXAMPLES}
        if not few:
            return []
        counter = self._count(
            [_at(location, f"{label!r} has {count:,}") for label, (count, location) in few.items()]
        )
        rarest = sorted(few.items(), key=lambda item: (item[1][0], item[0]))[:3]
        detail = ", ".join(f"{label!r} has {count:,}" for label, (count, _) in rarest)
        return [make_finding("class-too-few", counter, detail=detail)]

    def _variants(self, labels: dict[str, tuple[int, Location]]) -> list[Finding]:
        spellings: dict[str, list[str]] = {}
        for label in labels:
            letters = "".join(filter(str.isalnum, label.casefold()))
            if letters:
                spellings.setdefault(letters, []).append(label)
        locations = [
            _at(labels[other][1], f"{other!r} beside {group[0]!r}")
            for group in spellings.values()
            for other in group[1:]
        ]
        return [make_finding("class-variants", self._count(locations))] if locations else []

    def _tokens(self, labels: dict[str, tuple[int, Location]], rows: int) -> list[Finding]:
        from tunesmith.datasets import tokens  # noqa: PLC0415 - loads a vocabulary

        encoder = tokens.encoder(self.settings.encoding)
        expected = expected_format(self.settings)
        lead = expected.leading_whitespace
        split = {label: encoder.encode(lead + label) for label in labels if label}
        findings: list[Finding] = []
        several = {label: ids for label, ids in split.items() if len(ids) > 1}
        if several:
            counter = self._count(
                [
                    _at(labels[label][1], f"{label!r} takes {len(ids)} tokens")
                    for label, ids in several.items()
                ]
            )
            findings.append(make_finding("class-not-single-token", counter))
            if not expected.stop and not self.settings.prompt_format_given:
                detail = "without one, an answer of several tokens never ends"
                findings.append(
                    make_finding("stop-missing", LocationCounter(0, rows), detail=detail)
                )
        by_first: dict[int, list[str]] = {}
        for label, ids in split.items():
            by_first.setdefault(ids[0], []).append(label)
        shared = [group for group in by_first.values() if len(group) > 1]
        if shared:
            counter = self._count(
                [
                    _at(labels[label][1], f"{label!r} starts with the same token as {other!r}")
                    for group in shared
                    for label, other in zip(group[1:], group, strict=False)
                ]
            )
            findings.append(make_finding("class-first-token-shared", counter))
        return findings

    def _beginnings(self, labels: dict[str, tuple[int, Location]]) -> list[Finding]:
        if expected_format(self.settings).stop:
            return []
        locations = [
            _at(labels[following][1], f"{following!r} begins with {label!r}")
            for label, following in beginnings(labels).items()
        ]
        return [make_finding("class-begins-another", self._count(locations))] if locations else []


def _line(location: Location) -> int:
    return location.line


def _at(location: Location, message: str) -> Location:
    return replace(location, message=message)
