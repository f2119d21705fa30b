"""Two recordings compared: what the new model answers where the old one's answer is known.

Prompts are paired. An agreement stands beside its ceiling, how far the old model agrees with
itself where a prompt was recorded twice; a quality stands beside the old model's. Every rate has
Wilson's interval, every difference a bootstrap over conversations and a test, corrected by Holm for
the number of tests. Judges' scores come from outside: nothing here asks a model.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from .answers import Answer, answer_of
from .measures import (
    AGREEMENTS,
    NUMBERS,
    QUALITIES,
    class_agreement,
    class_of,
    infer_classes,
    shared_logprobs,
    text_agreement,
)
from .recordings import RecordingError
from .statistics import (
    Interval,
    McNemar,
    bootstrap_mean,
    grouped_rate,
    holm,
    mcnemar,
    sign_flip_test,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from tunesmith.graders.definitions import TextMetric

    from .recordings import Prompt, Recording

__all__ = ["Case", "Comparison", "Confusion", "Measure", "Scores", "compare_recordings", "pairs_of"]

Kind: TypeAlias = Literal["agreement", "quality", "number"]
Scores: TypeAlias = "Mapping[tuple[str, str], float | None]"
"""A grader's scores by side ("old", "new") and prompt; None where there is none."""

SIDES = ("old", "new")


@dataclass(frozen=True, slots=True)
class Pair:
    """A prompt with both models' answers.

    Attributes:
        prompt: The prompt.
        old: The old model's answer.
        new: The new model's answer.
        again: The old model's second answer, None if it was asked once.
    """

    prompt: Prompt
    old: Answer
    new: Answer
    again: Answer | None = None


@dataclass(slots=True)
class Measure:
    """One line of the comparison.

    Attributes:
        name: By which requirements refer to it.
        kind: "agreement" of new with old, "quality" of each alone, "number" without good or bad.
        prompts: How many prompts it applies to.
        conversations: How many conversations they belong to.
        value: The agreement, or the new model's quality.
        old: The ceiling, the old model's agreement with itself; or the old model's quality.
        difference: `value` minus `old` on the prompts that have both, paired.
        paired: How many prompts those are.
        mcnemar: Of pass and fail, where each is one of them; first is old, second is new.
        p: That the difference is 0: McNemar's, or that of the sign-flip test.
        p_corrected: The same, corrected for the number of tests of this comparison.
        is_rate: Whether every value is pass or fail.
    """

    name: str
    kind: Kind
    prompts: int
    conversations: int
    value: Interval
    old: Interval | None = None
    difference: Interval | None = None
    paired: int = 0
    mcnemar: McNemar | None = None
    p: float | None = None
    p_corrected: float | None = None
    is_rate: bool = False


@dataclass(frozen=True, slots=True)
class Confusion:
    """How often the new model names each class where the old one names another.

    Attributes:
        classes: The classes, the last one for whatever is none of them.
        counts: A row for each class of the old model, a column for each of the new one.
        agreement: For each class of the old model, how often the new one agrees; None where the
            old model never names it.
        kappa: Cohen's kappa; None where both always name the same class.
    """

    classes: tuple[str, ...]
    counts: tuple[tuple[int, ...], ...]
    agreement: tuple[Interval | None, ...]
    kappa: float | None


@dataclass(frozen=True, slots=True)
class Case:
    """One prompt of the comparison.

    Attributes:
        prompt: The prompt.
        old: The old answer.
        new: The new answer.
        values: Each agreement that applies, by name, and each quality as (old, new).
        badness: By which cases are sorted: 0 for the same answer, more for a worse one.
    """

    prompt: Prompt
    old: Answer
    new: Answer
    values: Mapping[str, Any]
    badness: float


@dataclass(slots=True)
class Comparison:
    """What a comparison found.

    Attributes:
        old_model: Whose answers are the standard.
        new_model: Whose answers are judged.
        prompts: Compared prompts.
        conversations: The conversations they belong to.
        twice: Prompts that the old model answered twice.
        old_failed: Prompts that the old model did not answer, left out.
        not_asked: Prompts with an old answer that the new model was not asked, left out.
        by_source: Compared prompts by where they come from.
        level: Confidence of the intervals.
        seed: Of what is random.
        measures: Agreements first, then qualities, then numbers.
        confusion: For classes; None where the answers are none.
        cases: Every compared prompt, the worst first.
        warnings: What a reader has to know.
        old_facts: What the old recording says of itself.
        new_facts: What the new recording says of itself.
    """

    old_model: str
    new_model: str
    prompts: int
    conversations: int
    twice: int
    old_failed: int
    not_asked: int
    by_source: Mapping[str, int]
    level: float
    seed: int
    measures: list[Measure]
    confusion: Confusion | None
    cases: list[Case]
    warnings: list[str] = field(default_factory=list[str])
    old_facts: Mapping[str, Any] = field(default_factory=dict[str, Any])
    new_facts: Mapping[str, Any] = field(default_factory=dict[str, Any])

    def measure(self, name: str) -> Measure | None:
        """Return the measure of that name, None if it does not apply to these prompts."""
        return next((one for one in self.measures if one.name == name), None)


def pairs_of(old: Recording, new: Recording) -> tuple[list[Pair], int, int]:
    """Return the pairs that can be compared, and how many cannot.

    Returns:
        The pairs in the order of the old recording; how many prompts the old model did not
        answer; how many with an old answer the new model was not asked.
    """
    pairs: list[Pair] = []
    failed = not_asked = 0
    for identity, prompt in old.prompts.items():
        recorded = old.answer(identity)
        if recorded is None or recorded.response is None:
            failed += 1
            continue
        answered = new.answer(identity)
        if answered is None:
            not_asked += 1
            continue
        twice = old.answer(identity, 1)
        again = None if twice is None or twice.response is None else answer_of(twice)
        pairs.append(Pair(prompt, answer_of(recorded), answer_of(answered), again))
    return pairs, failed, not_asked


def compare_recordings(
    old: Recording,
    new: Recording,
    *,
    classes: Sequence[str] | None = None,
    similarity: TextMetric = "rouge_l",
    scores: Mapping[str, Scores] | None = None,
    level: float = 0.95,
    seed: int = 0,
) -> Comparison:
    """Compare a new model's recorded answers with an old one's.

    Args:
        old: The old model's answers, some of them recorded twice.
        new: The new model's answers to the same prompts.
        classes: The classes that answers name; None to recognise them, an empty list for none.
        similarity: The metric of text similarity.
        scores: The scores of each grader, by its name; see `tunesmith.migrate.compare`.
        level: Confidence of the intervals.
        seed: Of the bootstrap.

    Raises:
        RecordingError: No prompt has an answer in both recordings.
    """
    pairs, failed, not_asked = pairs_of(old, new)
    if not pairs:
        raise RecordingError(
            f"No prompt has an answer both of {old.model} and of {new.model}: {failed} have none "
            f"of the old model, {not_asked} none of the new one."
        )
    if classes is None:
        classes = infer_classes([pair.old for pair in pairs]) or []
    agreements = dict(AGREEMENTS)
    if classes:
        agreements["class_agreement"] = class_agreement(classes)
    agreements["similarity"] = text_agreement(similarity)
    table = _Table(pairs, level, seed)
    for name, agree in agreements.items():
        table.add_agreement(name, agree)
    for name, quality in QUALITIES.items():
        table.add_quality(name, "quality", quality)
    for name, given in (scores or {}).items():
        table.add_scores(name, given)
    for name, number in NUMBERS.items():
        table.add_quality(name, "number", number)
    table.add_shared_logprobs()
    table.correct()
    sources: dict[str, int] = {}
    for pair in pairs:
        sources[pair.prompt.source] = sources.get(pair.prompt.source, 0) + 1
    twice = sum(pair.again is not None for pair in pairs)
    return Comparison(
        old_model=old.model,
        new_model=new.model,
        prompts=len(pairs),
        conversations=len(set(table.groups)),
        twice=twice,
        old_failed=failed,
        not_asked=not_asked,
        by_source=sources,
        level=level,
        seed=seed,
        measures=table.measures,
        confusion=_confusion(pairs, classes, level) if classes else None,
        cases=table.cases(),
        warnings=_warnings(pairs, twice, failed, not_asked, sources),
        old_facts=old.facts,
        new_facts=new.facts,
    )


class _Table:
    """The measures of a comparison while they are made, and each prompt's values of them."""

    def __init__(self, pairs: Sequence[Pair], level: float, seed: int) -> None:
        self.pairs = pairs
        self.level = level
        self.seed = seed
        self.groups: list[str] = [pair.prompt.conversation or pair.prompt.id for pair in pairs]
        self.measures: list[Measure] = []
        self._values: list[dict[str, Any]] = [{} for _ in pairs]

    def add_agreement(
        self, name: str, agree: Callable[[Prompt, Answer, Answer], float | None]
    ) -> None:
        news = [agree(pair.prompt, pair.old, pair.new) for pair in self.pairs]
        olds = [
            None if pair.again is None else agree(pair.prompt, pair.old, pair.again)
            for pair in self.pairs
        ]
        for values, value in zip(self._values, news, strict=True):
            if value is not None:
                values[name] = value
        self._add(name, "agreement", olds, news)

    def add_quality(
        self, name: str, kind: Kind, quality: Callable[[Prompt, Answer], float | None]
    ) -> None:
        olds = [quality(pair.prompt, pair.old) for pair in self.pairs]
        news = [quality(pair.prompt, pair.new) for pair in self.pairs]
        self._add_both(name, kind, olds, news)

    def add_scores(self, name: str, scores: Scores) -> None:
        olds, news = ([scores.get((side, pair.prompt.id)) for pair in self.pairs] for side in SIDES)
        self._add_both(name, "quality", olds, news)

    def add_shared_logprobs(self) -> None:
        shared = [shared_logprobs(pair.old, pair.new) for pair in self.pairs]
        olds = [None if one is None else one[0] for one in shared]
        news = [None if one is None else one[1] for one in shared]
        self._add_both("shared_logprob", "number", olds, news)

    def correct(self) -> None:
        """Correct the p-values for the number of tests."""
        tested = [one for one in self.measures if one.p is not None]
        for measure, p in zip(tested, holm([one.p or 0.0 for one in tested]), strict=True):
            measure.p_corrected = p

    def cases(self) -> list[Case]:
        """Return every prompt, the worst first; what is equally bad stays in its order."""
        cases = [
            Case(pair.prompt, pair.old, pair.new, values, _badness(values))
            for pair, values in zip(self.pairs, self._values, strict=True)
        ]
        return sorted(cases, key=lambda case: -case.badness)

    def _add_both(
        self, name: str, kind: Kind, olds: Sequence[float | None], news: Sequence[float | None]
    ) -> None:
        for values, old, new in zip(self._values, olds, news, strict=True):
            if kind == "quality" and (old is not None or new is not None):
                values[name] = (old, new)
        self._add(name, kind, olds, news)

    def _add(
        self, name: str, kind: Kind, olds: Sequence[float | None], news: Sequence[float | None]
    ) -> None:
        places = [place for place, value in enumerate(news) if value is not None]
        if not places:
            return
        is_rate = kind != "number" and all(value in {None, 0, 1} for value in (*olds, *news))
        interval = partial(self._interval, is_rate=is_rate)
        measure = Measure(
            name,
            kind,
            prompts=len(places),
            conversations=len({self.groups[place] for place in places}),
            value=interval(news, places),
            is_rate=is_rate,
        )
        old_places = [place for place, value in enumerate(olds) if value is not None]
        if old_places:
            measure.old = interval(olds, old_places)
        both = [place for place in places if olds[place] is not None]
        if both:
            self._add_difference(measure, olds, news, both)
        self.measures.append(measure)

    def _interval(
        self, values: Sequence[float | None], places: Sequence[int], *, is_rate: bool
    ) -> Interval:
        groups = [self.groups[place] for place in places]
        numbers = [_number(values[place]) for place in places]
        if is_rate:
            return grouped_rate([number == 1 for number in numbers], groups, self.level)
        return bootstrap_mean(numbers, groups, level=self.level, seed=self.seed)

    def _add_difference(
        self,
        measure: Measure,
        olds: Sequence[float | None],
        news: Sequence[float | None],
        places: Sequence[int],
    ) -> None:
        groups = [self.groups[place] for place in places]
        both = [(_number(olds[place]), _number(news[place])) for place in places]
        differences = [new - old for old, new in both]
        measure.paired = len(places)
        measure.difference = bootstrap_mean(differences, groups, level=self.level, seed=self.seed)
        if measure.is_rate:
            measure.mcnemar = mcnemar(both.count((1.0, 0.0)), both.count((0.0, 1.0)))
        if measure.kind == "number":
            return
        # McNemar takes each prompt for itself: where conversations have several, they change sign.
        if measure.mcnemar is not None and len(set(groups)) == len(groups):
            measure.p = measure.mcnemar.p
        else:
            measure.p = sign_flip_test(differences, groups, seed=self.seed)


def _number(value: float | None) -> float:
    return math.nan if value is None else float(value)


def _badness(values: Mapping[str, Any]) -> float:
    """Return how bad a case is: what is lost of each quality, then how far the answers differ."""
    lost = sum(
        max(0.0, (0.0 if value[0] is None else value[0]) - (0.0 if value[1] is None else value[1]))
        for value in values.values()
        if isinstance(value, tuple)
    )
    agreements = [value for value in values.values() if not isinstance(value, tuple)]
    apart = 1 - sum(agreements) / len(agreements) if agreements else 0.0
    return lost + apart


def _confusion(pairs: Sequence[Pair], classes: Sequence[str], level: float) -> Confusion:
    from .measures import OTHER  # noqa: PLC0415 - the one word

    names = (*dict.fromkeys(classes), OTHER)
    index = {name: number for number, name in enumerate(names)}
    counts = [[0] * len(names) for _ in names]
    for pair in pairs:
        row, column = (index[class_of(answer, classes)] for answer in (pair.old, pair.new))
        counts[row][column] += 1
    rows = [sum(row) for row in counts]
    columns = [sum(column) for column in zip(*counts, strict=True)]
    observed = sum(counts[place][place] for place in range(len(names))) / len(pairs)
    expected = sum(a * b for a, b in zip(rows, columns, strict=True)) / len(pairs) ** 2
    return Confusion(
        names,
        tuple(map(tuple, counts)),
        tuple(
            grouped_rate(
                [True] * counts[place][place] + [False] * (total - counts[place][place]),
                level=level,
            )
            if total
            else None
            for place, total in enumerate(rows)
        ),
        None if expected >= 1 else (observed - expected) / (1 - expected),
    )


def _warnings(
    pairs: Sequence[Pair], twice: int, failed: int, not_asked: int, sources: Mapping[str, int]
) -> list[str]:
    found: list[str] = []
    if not twice:
        found.append(
            "No prompt was recorded twice, so the old model's agreement with itself, the ceiling, "
            "is not known. Record a share twice."
        )
    if failed:
        found.append(f"{failed} prompts have no answer of the old model and are left out.")
    if not_asked:
        found.append(f"{not_asked} prompts were not asked of the new model and are left out.")
    if trained := sources.get("training"):
        found.append(
            f"{trained} of {len(pairs)} prompts are training rows, which the old model may have "
            "memorised; the new one, too, if it was trained on them."
        )
    if len(pairs) < 100:  # noqa: PLR2004 - below it intervals of rates are wider than ten points
        found.append(f"{len(pairs)} prompts are few: look at the intervals, not at the values.")
    return found
