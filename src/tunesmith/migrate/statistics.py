"""The statistics of paired comparisons: intervals and tests for answers to the same prompts.

Plain Python with the standard library; numpy makes resampling some ten times faster where it is
installed, with the same random numbers and the same results. Knows neither answers nor models:
values in, numbers out. What is random depends on the seed alone.

| Function | Definition |
|---|---|
| `wilson` | Wilson's score interval of a rate, without continuity correction |
| `grouped_rate` | the same where prompts come in conversations, with the effective sample size |
| `mcnemar` | the exact two-sided test of discordant pairs: binomial with 1/2 |
| `bootstrap_mean` | the percentile interval of a mean; whole groups are drawn, with replacement |
| `sign_flip_test` | the two-sided permutation test of paired differences; groups change sign |
| `holm` | Holm's step-down correction of several p-values |
"""

from __future__ import annotations

import math
import random
from array import array
from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING, Any

from tunesmith.datasets.optional import optional

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator, Sequence

__all__ = [
    "RESAMPLES",
    "Interval",
    "McNemar",
    "bootstrap_mean",
    "grouped_rate",
    "holm",
    "mcnemar",
    "needed_successes",
    "sign_flip_test",
    "wilson",
]

RESAMPLES = 10_000
"""Resamples of the bootstrap and of the permutation test."""

_WORD = 1 << 32
_AT_ONCE = 1 << 20  # random numbers that are drawn together


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate with its confidence interval.

    Attributes:
        estimate: The observed value.
        low: Lower bound.
        high: Upper bound.
        level: Confidence, such as 0.95.
    """

    estimate: float
    low: float
    high: float
    level: float = 0.95


@dataclass(frozen=True, slots=True)
class McNemar:
    """The test whether of two things that pass or fail on the same prompts one passes more often.

    Attributes:
        first_only: Prompts that only the first passes.
        second_only: Prompts that only the second passes.
        p: Two-sided p-value; 1 where no pair is discordant.
    """

    first_only: int
    second_only: int
    p: float


def wilson(successes: int, total: int, level: float = 0.95) -> Interval:
    """Return a rate with Wilson's score interval.

    Args:
        successes: How often it was so.
        total: Of how many.
        level: Confidence.

    Raises:
        ValueError: There is nothing to take a rate of, or more successes than trials.
    """
    if not 0 <= successes <= total or total == 0:
        raise ValueError(f"A rate needs 0 ≤ successes ≤ total, not {successes} of {total}.")
    return _wilson(successes / total, total, level)


def grouped_rate(
    outcomes: Sequence[bool], groups: Sequence[Hashable] | None = None, level: float = 0.95
) -> Interval:
    """Return a rate with Wilson's interval for prompts that come in conversations.

    Where prompts of one conversation resemble each other, they say less than as many single
    ones: the interval is that of the effective number of prompts, which is their number divided
    by the design effect (the variance with groups over the variance without). Where all outcomes
    are alike that cannot be estimated, and each conversation counts once.

    Args:
        outcomes: Whether it was so, for each prompt.
        groups: The conversation of each prompt, None if each prompt is one.
        level: Confidence.

    Raises:
        ValueError: There are no outcomes.
    """
    sums, sizes = _by_group([float(one) for one in outcomes], groups)
    count, rate = len(outcomes), sum(sums) / len(outcomes)
    effective = float(len(sums))
    if 0 < rate < 1 and 1 < len(sums) < count:
        spread = math.fsum(
            (total - size * rate) ** 2 for total, size in zip(sums, sizes, strict=True)
        )
        variance = spread / count**2 * len(sums) / (len(sums) - 1)
        effective = min(float(count), rate * (1 - rate) / variance) if variance else float(count)
    return _wilson(rate, max(1.0, effective), level)


def _wilson(rate: float, total: float, level: float) -> Interval:
    z = _quantile(level)
    denominator = 1 + z * z / total
    centre = (rate + z * z / (2 * total)) / denominator
    spread = z / denominator * math.sqrt(rate * (1 - rate) / total + z * z / (4 * total * total))
    low = 0.0 if rate == 0 else centre - spread
    high = 1.0 if rate == 1 else centre + spread
    return Interval(rate, low, high, level)


def needed_successes(rate: float, level: float = 0.95) -> int | None:
    """Return the least number of prompts, all of them successes, whose lower bound is `rate`.

    With fewer no result can show that the rate is reached. None where no number can: at 1.
    """
    if rate >= 1:
        return None
    z = _quantile(level)
    return max(1, math.ceil(max(0.0, rate) * z * z / (1 - rate) - 1e-9))


def mcnemar(first_only: int, second_only: int) -> McNemar:
    """Return the exact McNemar test of the two counts of discordant pairs.

    Args:
        first_only: Prompts that only the first passes.
        second_only: Prompts that only the second passes.
    """
    pairs = first_only + second_only
    # Whole numbers until the one division, so the value is exact for any counts.
    term = total = 1
    for number in range(min(first_only, second_only)):
        term = term * (pairs - number) // (number + 1)
        total += term
    p = 1.0 if pairs == 0 else min(1.0, (2 * total) / (1 << pairs))
    return McNemar(first_only, second_only, p)


def bootstrap_mean(
    values: Sequence[float],
    groups: Sequence[Hashable] | None = None,
    *,
    level: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Interval:
    """Return a mean with the percentile interval of the bootstrap.

    Args:
        values: A value for each prompt: a score, or the difference of two scores.
        groups: The conversation of each prompt; values of one conversation depend on each other,
            so conversations are drawn, not prompts. None if each prompt is one.
        level: Confidence.
        resamples: How often to draw.
        seed: Same seed, same interval.

    Raises:
        ValueError: There are no values.
    """
    sums, sizes = _by_group(values, groups)
    mean = math.fsum(sums) / sum(sizes)
    if len(sums) == 1 or len(set(zip(sums, sizes, strict=True))) == 1:
        return Interval(mean, mean, mean, level)
    draws = sorted(_resampled_means(sums, sizes, resamples, seed))
    return Interval(
        mean,
        _percentile(draws, (1 - level) / 2),
        _percentile(draws, (1 + level) / 2),
        level,
    )


def sign_flip_test(
    differences: Sequence[float],
    groups: Sequence[Hashable] | None = None,
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> float:
    """Return the two-sided p-value that paired differences have the mean 0.

    If the two sides were alike, each conversation's difference could as well have the other
    sign. All assignments of signs are tried where there are at most `resamples`, else as many at
    random.

    Args:
        differences: For each prompt, second minus first.
        groups: The conversation of each prompt, as for `bootstrap_mean`.
        resamples: Assignments of signs to try at most.
        seed: Same seed, same value.

    Raises:
        ValueError: There are no differences.
    """
    sums = [value for value in _by_group(differences, groups)[0] if value]
    if not sums:
        return 1.0
    observed = abs(math.fsum(sums))
    # Sums of the same numbers in another order differ by their rounding.
    least = observed * (1 - 1e-12)
    if 2 ** len(sums) <= resamples:
        extreme = sum(abs(total) >= least for total in _all_signed_sums(sums))
        return float(extreme / 2 ** len(sums))
    extreme = sum(abs(total) >= least for total in _signed_sums(sums, resamples, seed))
    return float((extreme + 1) / (resamples + 1))


def holm(p_values: Sequence[float]) -> list[float]:
    """Return the p-values corrected for their number, in the given order.

    Args:
        p_values: Of tests that were made on the same data.
    """
    order = sorted(range(len(p_values)), key=p_values.__getitem__)
    corrected = [0.0] * len(p_values)
    highest = 0.0
    for rank, place in enumerate(order):
        highest = max(highest, min(1.0, p_values[place] * (len(p_values) - rank)))
        corrected[place] = highest
    return corrected


def _quantile(level: float) -> float:
    if not 0 < level < 1:
        raise ValueError(f"A confidence level lies between 0 and 1, not {level}.")
    return NormalDist().inv_cdf((1 + level) / 2)


def _by_group(
    values: Sequence[float], groups: Sequence[Hashable] | None
) -> tuple[list[float], list[int]]:
    """Return the sum of the values of each group and their number, in order of appearance."""
    if not values:
        raise ValueError("There are no values.")
    if groups is None:
        return list(map(float, values)), [1] * len(values)
    members: dict[Hashable, list[float]] = {}
    for value, group in zip(values, groups, strict=True):
        members.setdefault(group, []).append(value)
    return [math.fsum(one) for one in members.values()], [len(one) for one in members.values()]


def _percentile(ordered: Sequence[float], share: float) -> float:
    """Return a percentile, interpolated between the two nearest values."""
    place = share * (len(ordered) - 1)
    below = math.floor(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (place - below)


def _resampled_means(
    sums: Sequence[float], sizes: Sequence[int], resamples: int, seed: int
) -> Iterator[float]:
    """Yield the mean of each resample of groups."""
    count = len(sums)
    equal = sizes[0] if len(set(sizes)) == 1 else 0
    numpy = optional("numpy")
    for words, rows in _random_words(count, resamples, seed):
        if numpy is not None:
            yield from _means_by_numpy(numpy, words, rows, sums, sizes)
            continue
        for row in range(rows):
            places = [word * count >> 32 for word in words[row * count : (row + 1) * count]]
            total = sum(map(sums.__getitem__, places))
            yield total / (equal * count if equal else sum(map(sizes.__getitem__, places)))


def _means_by_numpy(
    numpy: Any, words: array[int], rows: int, sums: Sequence[float], sizes: Sequence[int]
) -> Iterator[float]:
    drawn = numpy.frombuffer(words, dtype=numpy.uint32).reshape(rows, len(sums))
    places = (drawn.astype(numpy.uint64) * len(sums)) >> 32
    totals = numpy.asarray(sums)[places].sum(axis=1)
    yield from (totals / numpy.asarray(sizes)[places].sum(axis=1)).tolist()


def _signed_sums(sums: Sequence[float], resamples: int, seed: int) -> Iterator[float]:
    count = len(sums)
    numpy = optional("numpy")
    half = _WORD // 2
    for words, rows in _random_words(count, resamples, seed):
        if numpy is not None:
            drawn = numpy.frombuffer(words, dtype=numpy.uint32).reshape(rows, count)
            yield from numpy.where(drawn < half, 1.0, -1.0).dot(numpy.asarray(sums)).tolist()
            continue
        for row in range(rows):
            signs = words[row * count : (row + 1) * count]
            yield sum(
                value if word < half else -value for value, word in zip(sums, signs, strict=True)
            )


def _all_signed_sums(sums: Sequence[float]) -> list[float]:
    totals = [0.0]
    for value in sums:
        totals = [total + sign * value for total in totals for sign in (1, -1)]
    return totals


def _random_words(count: int, resamples: int, seed: int) -> Iterator[tuple[array[int], int]]:
    """Yield 32-bit random numbers, `count` for each resample, with the number of resamples."""
    generator = random.Random(seed)  # noqa: S311 - a bootstrap keeps no secret
    rows = max(1, _AT_ONCE // count)
    for start in range(0, resamples, rows):
        now = min(rows, resamples - start)
        words = array("I")
        words.frombytes(generator.randbytes(4 * count * now))
        yield words, now
