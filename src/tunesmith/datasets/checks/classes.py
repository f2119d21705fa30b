"""Classes of a classification data set: how many examples each has, and how they are spelled."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final

from tunesmith.datasets.catalogue import finding_of
from tunesmith.datasets.checks.prompt_format_keeping import expected_format
from tunesmith.datasets.findings import Location, Tally

if TYPE_CHECKING:
    from tunesmith.datasets.checks.fold import Outcome, SoundRows
    from tunesmith.datasets.checks.settings import Settings
    from tunesmith.datasets.findings import Finding

__all__ = ["Classes"]

_ADVISED_EXAMPLES: Final = 100
_MOST_CLASSES: Final = 10_000


class Classes:
    """How often each completion occurs, and the line on which it occurs first."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.counts: Counter[str] = Counter()
        self.first: dict[str, Location] = {}

    def observe(self, rows: SoundRows) -> None:
        """See `Fold.observe`."""
        if len(self.counts) > _MOST_CLASSES:
            return
        counts = rows.completion_counts
        for completion in counts.keys() - self.first.keys():
            self.first[completion] = rows.location(
                rows.completions.index(completion), "$.completion"
            )
        self.counts.update(counts)

    def merge(self, following: Classes, lines: int) -> None:
        """See `Fold.merge`."""
        for completion, place in following.first.items():
            self.first.setdefault(completion, place.moved(lines))
        self.counts.update(following.counts)

    def labels(self) -> dict[str, tuple[int, Location]]:
        """Return the classes without whitespace and stop sequence: examples, first place."""
        written = expected_format(self.settings)
        labels: dict[str, tuple[int, Location]] = {}
        for completion, count in self.counts.items():
            label = completion.strip()
            if written.stop:
                label = label.removesuffix(written.stop.strip()) if written.stop.strip() else label
            label = label.strip()
            before, place = labels.get(label, (0, self.first[completion]))
            labels[label] = (before + count, min(place, self.first[completion], key=_line))
        return labels

    def conclude(self, outcome: Outcome) -> list[Finding]:
        """See `Fold.conclude`."""
        if len(self.counts) > _MOST_CLASSES or not self.counts:
            return []
        labels = self.labels()
        if len(labels) == 1:
            label, (_, place) = next(iter(labels.items()))
            detail = f"every completion is {label!r}"
            return [finding_of("class-single", self._tally([place]), detail=detail)]
        findings = self._too_few(labels) + self._variants(labels)
        findings += self._tokens(labels, outcome.rows)
        return findings

    def _tally(self, places: list[Location]) -> Tally:
        tally = Tally(self.settings.max_examples)
        for place in sorted(places, key=_line):
            tally.add(place)
        return tally

    def _too_few(self, labels: dict[str, tuple[int, Location]]) -> list[Finding]:
        few = {label: found for label, found in labels.items() if found[0] < _ADVISED_EXAMPLES}
        if not few:
            return []
        tally = self._tally(
            [_said(place, f"{label!r} has {count:,}") for label, (count, place) in few.items()]
        )
        rarest = sorted(few.items(), key=lambda item: (item[1][0], item[0]))[:3]
        detail = ", ".join(f"{label!r} has {count:,}" for label, (count, _) in rarest)
        return [finding_of("class-too-few", tally, detail=detail)]

    def _variants(self, labels: dict[str, tuple[int, Location]]) -> list[Finding]:
        spellings: dict[str, list[str]] = {}
        for label in labels:
            letters = "".join(filter(str.isalnum, label.casefold()))
            if letters:
                spellings.setdefault(letters, []).append(label)
        places = [
            _said(labels[other][1], f"{other!r} beside {group[0]!r}")
            for group in spellings.values()
            for other in group[1:]
        ]
        return [finding_of("class-variants", self._tally(places))] if places else []

    def _tokens(self, labels: dict[str, tuple[int, Location]], rows: int) -> list[Finding]:
        from tunesmith.datasets import tokens  # noqa: PLC0415 - loads a vocabulary

        encoder = tokens.encoder(self.settings.encoding)
        written = expected_format(self.settings)
        lead = written.leading_whitespace
        split = {label: encoder.encode(lead + label) for label in labels if label}
        findings: list[Finding] = []
        long = {label: ids for label, ids in split.items() if len(ids) > 1}
        if long:
            tally = self._tally(
                [
                    _said(labels[label][1], f"{label!r} takes {len(ids)} tokens")
                    for label, ids in long.items()
                ]
            )
            findings.append(finding_of("class-not-single-token", tally))
            if not written.stop and not self.settings.format_given:
                detail = "without one, an answer of several tokens does not end"
                findings.append(finding_of("stop-missing", Tally(0, rows), detail=detail))
        by_first: dict[int, list[str]] = {}
        for label, ids in split.items():
            by_first.setdefault(ids[0], []).append(label)
        shared = [group for group in by_first.values() if len(group) > 1]
        if shared:
            tally = self._tally(
                [
                    _said(labels[label][1], f"{label!r} starts with the same token as {other!r}")
                    for group in shared
                    for label, other in zip(group[1:], group, strict=False)
                ]
            )
            findings.append(finding_of("class-first-token-shared", tally))
        return findings


def _line(place: Location) -> int:
    return place.line


def _said(place: Location, message: str) -> Location:
    return Location(
        place.line, place.byte_offset, place.path, message, place.excerpt, file=place.file
    )
