"""The statistics of comparisons, equal to statsmodels' and scipy's on fixed data.

The expected values were made with statsmodels 0.15.0 and scipy 1.17.1; where these are installed
they are asked again.
"""

import importlib.util
import math
import random

import pytest

from tunesmith.migrate import statistics
from tunesmith.migrate.statistics import (
    bootstrap_mean,
    grouped_rate,
    holm,
    mcnemar,
    needed_successes,
    sign_flip_test,
    wilson,
)

needs_statsmodels = pytest.mark.skipif(
    importlib.util.find_spec("statsmodels") is None, reason="statsmodels is not installed"
)
needs_scipy = pytest.mark.skipif(
    importlib.util.find_spec("scipy") is None, reason="scipy is not installed"
)

RATES = [
    ((0, 10, 0.95), (0.0, 0.2775327998628892)),
    ((10, 10, 0.95), (0.7224672001371107, 1.0)),
    ((47, 50, 0.95), (0.8378290831116182, 0.979385029651026)),
    ((812, 1000, 0.99), (0.778156612230858, 0.8417305008694164)),
    ((1, 3, 0.9), (0.07826572633372836, 0.746466131718776)),
]
DISCORDANT = [
    ((0, 0), 1.0),
    ((1, 0), 1.0),
    ((5, 1), 0.21875),
    ((10, 4), 0.1795654296875),
    ((30, 12), 0.007915897334896727),
    ((7, 7), 1.0),
    ((400, 350), 0.07350777405843484),
    ((0, 20), 1.9073486328125e-06),
]
P_VALUES = [0.01, 0.04, 0.03, 0.005, 0.5, 0.04]
HOLM = [0.05, 0.12, 0.12, 0.03, 0.5, 0.12]
DIFFERENCES = [0.5, -0.2, 0.9, 0.1, 0.4, -0.3, 0.8, 0.25, 0.0, 0.6]
SIGN_FLIP = 0.05078125


def seeded(seed):
    return random.Random(seed)  # noqa: S311 - data of a test


@pytest.mark.parametrize(("counts", "bounds"), RATES)
def test_wilson_equals_statsmodels(counts, bounds):
    found = wilson(*counts)
    assert (found.low, found.high) == pytest.approx(bounds, abs=1e-12)
    assert found.estimate == counts[0] / counts[1]


@pytest.mark.parametrize(("counts", "p"), DISCORDANT)
def test_mcnemar_equals_statsmodels(counts, p):
    assert mcnemar(*counts).p == pytest.approx(p, rel=1e-12)


def test_mcnemar_of_many_pairs_does_not_overflow():
    assert 0 < mcnemar(20_300, 19_700).p < 0.01


def test_holm_equals_statsmodels():
    assert holm(P_VALUES) == pytest.approx(HOLM, abs=1e-12)
    assert holm([]) == []


def test_sign_flips_equal_scipys_permutation_test_where_all_are_tried():
    assert sign_flip_test(DIFFERENCES) == pytest.approx(SIGN_FLIP, abs=1e-12)


@needs_statsmodels
def test_wilson_mcnemar_and_holm_equal_the_installed_statsmodels():
    from statsmodels.stats.contingency_tables import mcnemar as reference_mcnemar
    from statsmodels.stats.multitest import multipletests
    from statsmodels.stats.proportion import proportion_confint

    for (count, total, level), _ in RATES:
        low, high = proportion_confint(count, total, alpha=1 - level, method="wilson")
        found = wilson(count, total, level)
        assert (found.low, found.high) == pytest.approx((low, high), abs=1e-12)
    for (first, second), _ in DISCORDANT[1:]:
        expected = reference_mcnemar([[3, first], [second, 4]], exact=True).pvalue
        assert mcnemar(first, second).p == pytest.approx(expected, rel=1e-9)
    assert holm(P_VALUES) == pytest.approx(list(multipletests(P_VALUES, method="holm")[1]))


@needs_scipy
def test_wilson_mcnemar_sign_flips_and_bootstrap_equal_the_installed_scipy():
    import numpy as np
    from scipy import stats

    for (count, total, level), _ in RATES:
        expected = stats.binomtest(count, total).proportion_ci(level, method="wilson")
        found = wilson(count, total, level)
        assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=1e-12)
    for (first, second), _ in DISCORDANT[1:]:
        expected = stats.binomtest(min(first, second), first + second).pvalue
        assert mcnemar(first, second).p == pytest.approx(expected, rel=1e-9)
    expected = stats.permutation_test(
        (np.array(DIFFERENCES),), np.mean, permutation_type="samples", n_resamples=np.inf
    )
    assert sign_flip_test(DIFFERENCES) == pytest.approx(expected.pvalue, abs=1e-12)
    generator = seeded(3)
    values = [generator.gauss(0.3, 1) for _ in range(200)]
    found = bootstrap_mean(values, resamples=20_000)
    reference = stats.bootstrap(
        (np.array(values),), np.mean, method="percentile", n_resamples=20_000, rng=1
    ).confidence_interval
    # Two sets of random numbers: the bounds differ by what 20,000 draws leave open.
    assert (found.low, found.high) == pytest.approx((reference.low, reference.high), abs=0.01)


def test_the_bootstrap_is_the_percentile_interval_of_all_resamples():
    """Of three values there are 27 resamples: drawing often comes to their exact percentiles."""
    values = [0.0, 1.0, 5.0]
    means = sorted((a + b + c) / 3 for a in values for b in values for c in values)
    found = bootstrap_mean(values, level=0.8, resamples=50_000)
    assert found.estimate == 2.0
    assert found.low in means
    assert found.high in means
    assert sum(mean <= found.low for mean in means) / 27 >= 0.1
    assert sum(mean < found.low for mean in means) / 27 <= 0.1


def test_the_bootstrap_draws_conversations_not_prompts():
    """Ten answers of one conversation that are alike say no more than one of them."""
    alone = bootstrap_mean([0.0, 1.0, 0.0, 1.0, 1.0])
    repeated = bootstrap_mean(
        [value for value in (0.0, 1.0, 0.0, 1.0, 1.0) for _ in range(10)],
        [group for group in range(5) for _ in range(10)],
    )
    assert (repeated.low, repeated.high) == (alone.low, alone.high)
    as_prompts = bootstrap_mean([value for value in (0.0, 1.0, 0.0, 1.0, 1.0) for _ in range(10)])
    assert as_prompts.high - as_prompts.low < (repeated.high - repeated.low) / 2


def test_groups_of_unequal_size_weigh_by_their_prompts():
    found = bootstrap_mean([1.0, 1.0, 1.0, 0.0], ["a", "a", "a", "b"])
    assert found.estimate == 0.75
    assert (found.low, found.high) == (0.0, 1.0)


def test_the_same_seed_gives_the_same_interval_with_and_without_numpy(monkeypatch):
    generator = seeded(5)
    values = [generator.random() for _ in range(300)]
    groups = [generator.randrange(100) for _ in values]
    differences = [value - 0.48 for value in values]
    first = bootstrap_mean(values, groups), sign_flip_test(differences, groups)
    assert bootstrap_mean(values, groups, seed=1) != first[0]
    monkeypatch.setattr(statistics, "optional", lambda _: None)
    plain = bootstrap_mean(values, groups), sign_flip_test(differences, groups)
    assert (plain[0].low, plain[0].high) == pytest.approx((first[0].low, first[0].high), abs=1e-12)
    assert plain[1] == first[1]


def test_the_sampled_sign_flip_test_is_near_the_complete_one():
    generator = seeded(2)
    differences = [generator.gauss(0.35, 1) for _ in range(13)]  # 8,192 assignments
    complete = sign_flip_test(differences)
    assert sign_flip_test(differences, resamples=8_191) == pytest.approx(complete, abs=0.02)


def test_differences_that_are_all_zero_are_no_difference():
    assert sign_flip_test([0.0, 0.0]) == 1.0
    assert bootstrap_mean([0.0, 0.0]).high == 0.0


def test_a_rate_of_single_prompts_is_wilsons():
    assert grouped_rate([True] * 47 + [False] * 3) == wilson(47, 50)


def test_a_rate_of_conversations_that_are_alike_inside_counts_each_once():
    outcomes = [outcome for outcome in [True] * 8 + [False] * 2 for _ in range(5)]
    groups = [group for group in range(10) for _ in range(5)]
    found = grouped_rate(outcomes, groups)
    # Wilson's interval of ten conversations; nine degrees of freedom estimate the variance.
    assert found.low == pytest.approx(wilson(8, 10).low, abs=0.03)
    assert found.high == pytest.approx(wilson(8, 10).high, abs=0.03)
    assert grouped_rate([True] * 50, groups) == wilson(10, 10)


def test_a_rate_of_independent_prompts_in_conversations_is_not_widened_much():
    generator = seeded(4)
    outcomes = [generator.random() < 0.8 for _ in range(1000)]
    found = grouped_rate(outcomes, [place // 2 for place in range(1000)])
    plain = wilson(sum(outcomes), 1000)
    assert found.high - found.low == pytest.approx(plain.high - plain.low, rel=0.1)


@pytest.mark.parametrize("rate", [0.5, 0.8, 0.95, 0.99])
def test_the_needed_number_is_the_least_that_can_show_a_rate(rate):
    needed = needed_successes(rate)
    assert wilson(needed, needed).low >= rate
    assert wilson(needed - 1, needed - 1).low < rate
    assert needed_successes(1.0) is None


def test_nothing_is_no_value():
    for call in (lambda: wilson(0, 0), lambda: wilson(3, 2), lambda: bootstrap_mean([])):
        with pytest.raises(ValueError, match=r"values|rate"):
            call()
    with pytest.raises(ValueError, match="confidence"):
        wilson(1, 2, 95)


def test_coverage_of_the_bootstrap_is_near_its_level():
    generator = seeded(8)
    hits = 0
    for trial in range(60):
        values = [generator.gauss(1, 2) for _ in range(40)]
        found = bootstrap_mean(values, resamples=1000, seed=trial)
        hits += found.low <= 1 <= found.high
    assert hits / 60 >= 0.85
    assert math.isfinite(found.low)
