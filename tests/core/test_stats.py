"""Intervals: known values, and their coverage, computed exactly where possible."""

from __future__ import annotations

import math

import numpy as np
import pytest

from edgetl.core.stats import paired_drop_interval, photos_for_drop, quantile, quantile_interval, share_interval
from edgetl.stages.recipe import VerifyOptions
from edgetl.verdicts.check import verdict


def binomial(k: int, n: int, p: float) -> float:
    return math.comb(n, k) * p**k * (1 - p) ** (n - k)


# --- a share ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("hits", "n", "low", "high"),
    # Newcombe 1998, Statistics in Medicine 17, table I, method 3 (Wilson's score interval).
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
    ids=str,
)
def test_the_interval_of_a_share_is_wilsons(hits, n, low, high):
    assert share_interval(hits, n) == pytest.approx((low, high), abs=5e-5)
    mirrored = share_interval(n - hits, n)
    assert mirrored == pytest.approx((1 - high, 1 - low), abs=5e-5)


def test_the_interval_of_no_photos_is_everything():
    assert share_interval(0, 0) == (0.0, 1.0)


@pytest.mark.parametrize("n", [30, 100, 300])
def test_the_interval_of_a_share_covers_the_truth_in_95_of_100(n):
    coverages = []
    for p in np.linspace(0.5, 0.99, 50):
        coverages.append(
            sum(binomial(k, n, p) for k in range(n + 1) if share_interval(k, n)[0] <= p <= share_interval(k, n)[1])
        )
    # Wilson's interval covers 95% on the average of p; at single values it dips (Brown, Cai, DasGupta 2001, figure 5).
    assert 0.94 < np.mean(coverages) < 0.97
    assert min(coverages) > 0.88


# --- a drop ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("lost", "gained", "n"), [(10, 4, 300), (0, 0, 50), (7, 7, 100), (0, 9, 200)], ids=str)
def test_the_interval_of_a_drop_contains_the_drop_and_mirrors_with_its_sign(lost, gained, n):
    low, high = paired_drop_interval(lost, gained, n)
    assert low < (lost - gained) / n < high
    assert paired_drop_interval(gained, lost, n) == pytest.approx((-high, -low))


def test_the_interval_of_a_drop_narrows_with_the_root_of_the_photos():
    narrow, wide = (np.diff(paired_drop_interval(3 * k, k, 100 * k))[0] for k in (16, 1))
    assert wide / narrow == pytest.approx(4.0, rel=0.15)


def test_a_paired_interval_is_narrower_than_that_of_two_separate_shares():
    """On the same photos, those that both get right or wrong cancel; so a drop of one point can be judged."""
    low, high = paired_drop_interval(6, 2, 400)
    a, b = share_interval(370, 400), share_interval(366, 400)
    assert high - low < 0.4 * (a[1] - a[0] + b[1] - b[0])


@pytest.mark.parametrize(
    ("n", "lost", "gained"), [(100, 0.03, 0.02), (300, 0.03, 0.01), (300, 0.005, 0.005), (1000, 0.05, 0.02)], ids=str
)
def test_the_interval_of_a_drop_covers_the_truth_in_95_of_100(n, lost, gained):
    draws = np.random.default_rng(0).multinomial(n, [lost, gained, 1 - lost - gained], size=4000)
    pairs, weights = np.unique(draws[:, :2], axis=0, return_counts=True)
    covered = 0
    for (b, c), weight in zip(pairs.tolist(), weights, strict=True):
        low, high = paired_drop_interval(b, c, n)
        covered += weight * (low <= lost - gained <= high)
    # Four standard errors of 4000 draws at 95% are 1.4 points.
    assert covered / 4000 > 0.936


UNDECIDED = [
    (n, lost, gained, limit)
    for n in (50, 100, 300, 1000)
    for lost in range(0, 20, 2)
    for gained in range(0, 20, 3)
    for limit in (0.005, 0.01, 0.02)
    if verdict(limit, paired_drop_interval(lost, gained, n)) == "inconclusive" and lost - gained != limit * n
]


def test_the_reported_number_of_photos_decides_it():
    """At the same rates, that many photos have their interval on one side of the limit."""
    assert len(UNDECIDED) > 100
    for n, lost, gained, limit in UNDECIDED:
        needed = photos_for_drop(lost, gained, n, limit)
        more = needed / n
        assert needed > n, (n, lost, gained, limit)
        assert verdict(limit, paired_drop_interval(lost * more, gained * more, needed)) != "inconclusive", (
            n,
            lost,
            gained,
            limit,
            needed,
        )


def test_a_drop_that_is_the_limit_is_never_decided():
    assert photos_for_drop(3, 1, 200, 0.01) is None


# --- a quantile --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("share", "expected"),
    [(0.0, 1.0), (0.1, 1.0), (0.5, 5.0), (0.9, 9.0), (0.91, 10.0), (0.99, 10.0), (1.0, 10.0)],
    ids=str,
)
def test_a_quantile_is_a_value_that_was_measured(share, expected):
    values = [float(v) for v in (3, 1, 2, 10, 9, 8, 7, 4, 5, 6)]
    assert quantile(values, share) == expected
    assert values[0] == 3.0, "the values stay in their order"


def test_one_value_is_every_quantile():
    assert quantile([7.0], 0.9) == 7.0 and quantile_interval([7.0], 0.9) == (7.0, 7.0)


def test_the_fewest_runs_that_a_recipe_allows_give_a_valid_interval():
    n = next(rule.ge for rule in VerifyOptions.model_fields["runs"].metadata if hasattr(rule, "ge"))
    low, high = quantile_interval(range(1, n + 1), 0.9)
    assert sum(binomial(k, n, 0.9) for k in range(low, high)) > 0.949


@pytest.mark.parametrize("n", [30, 50, 100, 200, 1000])
@pytest.mark.parametrize("share", [0.5, 0.9])
def test_the_interval_of_a_quantile_covers_the_truth_in_95_of_100(share, n):
    """For the values 1..n the interval is a pair of ranks, and what a pair of ranks covers is a binomial's sum."""
    low, high = quantile_interval(range(1, n + 1), share)
    assert sum(binomial(k, n, share) for k in range(low, high)) > 0.949


def test_the_interval_of_a_quantile_assumes_no_distribution():
    values = np.random.default_rng(0).lognormal(0, 1, 200)
    low, high = quantile_interval(values.tolist(), 0.9)
    squared = quantile_interval((values**2).tolist(), 0.9)
    assert squared == pytest.approx((low**2, high**2)), "it turns with any monotone change of scale"
    assert low < quantile(values.tolist(), 0.9) < high


def test_one_stray_run_does_not_move_a_p90():
    quiet = [5.0 + i / 100 for i in range(200)]
    assert quantile_interval([*quiet[:-1], 900.0], 0.9) == quantile_interval(quiet, 0.9)
