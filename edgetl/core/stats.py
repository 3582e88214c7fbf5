"""Confidence intervals of measurements. Standard library only, so that verdicts need no installed package.

All intervals are two-sided, 95%.
"""

from __future__ import annotations

import itertools
import math
import random
import statistics
from collections.abc import Callable, Sequence

_Z = 1.959963984540054  # the normal distribution's 97.5% point


def share_interval(hits: float, n: int) -> tuple[float, float]:
    """Wilson's score interval for a share (Wilson 1927): valid also near 0 and 1.

    >>> [round(edge, 3) for edge in share_interval(95, 100)]
    [0.888, 0.978]
    """
    if n == 0:
        return 0.0, 1.0
    share = hits / n
    middle = (share + _Z**2 / (2 * n)) / (1 + _Z**2 / n)
    half = _Z * math.sqrt(share * (1 - share) / n + _Z**2 / (4 * n**2)) / (1 + _Z**2 / n)
    return max(0.0, middle - half), min(1.0, middle + half)


def paired_drop_interval(lost: float, gained: float, n: int) -> tuple[float, float]:
    """Interval for the difference of two accuracies measured on the same photos, as a share.

    lost: photos the reference gets right and the model wrong; gained: the other way round. The drop is (lost - gained)
    / n. Agresti and Min (2005): Wald's interval after adding half a photo to each of the four cells.

    >>> [round(edge, 4) for edge in paired_drop_interval(0, 0, 300)]
    [-0.0065, 0.0065]
    """
    b, c, m = lost + 0.5, gained + 0.5, n + 2.0
    drop = (b - c) / m
    half = _Z * math.sqrt(max(0.0, (b + c) / m - drop**2) / m)
    return drop - half, drop + half


def difference_interval(hits_a: float, n_a: int, hits_b: float, n_b: int) -> tuple[float, float]:
    """Interval for share a minus share b of two independent sets of photos.

    Newcombe 1998, method 10: from the two Wilson intervals, so valid near 0 and 1 as they are.

    >>> [round(edge, 4) for edge in difference_interval(56, 70, 48, 80)]
    [0.0524, 0.3339]
    """
    a, b = hits_a / n_a, hits_b / n_b
    (low_a, high_a), (low_b, high_b) = share_interval(hits_a, n_a), share_interval(hits_b, n_b)
    low = a - b - math.hypot(a - low_a, high_b - b)
    high = a - b + math.hypot(high_a - a, b - low_b)
    return low, high


def mcnemar_p(lost: int, gained: int) -> float:
    """Two-sided p-value of the hypothesis that two models are right equally often, from photos that only one gets right.

    Under it each of those photos is the toss of a fair coin (McNemar 1947). This is the exact binomial, not its
    chi-squared approximation, because there are usually only a few such photos. A small p shows a difference; a
    large one does not show that there is none.

    >>> mcnemar_p(3, 1), mcnemar_p(0, 6), mcnemar_p(0, 0)
    (0.625, 0.03125, 1.0)
    """
    n = lost + gained
    tail, term = 0, 1
    for k in range(min(lost, gained) + 1):
        tail += term
        term = term * (n - k) // (k + 1)  # n over k + 1, from n over k
    return min(1.0, 2 * tail / (1 << n))


def photos_for_drop(lost: int, gained: int, n: int, limit: float) -> int | None:
    """How many test photos are needed until the drop's interval is on one side of `limit`, at the observed rates.

    None if a million would not be enough (the observed drop is at the limit, or very near it).
    """

    def decided(m: int) -> bool:
        low, high = paired_drop_interval(lost * m / n, gained * m / n, m)
        return high <= limit or low > limit

    return _smallest(n, decided)


def photos_for_share(hits: int, n: int, limit: float) -> int | None:
    """How many photos are needed until the share's interval is on one side of `limit`, at the observed rate.

    None if a million would not be enough.

    >>> photos_for_share(0, 100, 0.01)
    381
    """

    def decided(m: int) -> bool:
        low, high = share_interval(hits * m / n, m)
        return high <= limit or low > limit

    return _smallest(n, decided)


def _smallest(n: int, decided: Callable[[int], bool], most: int = 1_000_000) -> int | None:
    """The smallest count from n to `most` that is enough, by bisection: intervals shrink as the count grows."""
    if not decided(most):
        return None
    low, high = n, most
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if decided(middle) else (middle + 1, high)
    return low


def quantile(values: Sequence[float], share: float) -> float:
    """The smallest value with at least that share of the values at or below it.

    >>> quantile([4.0, 1.0, 3.0, 2.0], 0.5)
    2.0
    """
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def quantile_interval(values: Sequence[float], share: float) -> tuple[float, float]:
    """Interval for a quantile from order statistics (normal approximation of the binomial); no distribution is assumed."""
    ordered = sorted(values)
    low, high = quantile_ranks(len(ordered), share)
    return ordered[low - 1], ordered[high - 1]


def quantile_ranks(n: int, share: float) -> tuple[int, int]:
    """The ranks, counted from one, of the two of n sorted values that are the edges of a quantile's interval.

    >>> quantile_ranks(1000, 0.9), quantile_ranks(10, 0.9)
    ((881, 920), (7, 10))
    """
    half = _Z * math.sqrt(n * share * (1 - share))
    low, high = math.floor(n * share - half), math.ceil(n * share + half)
    return max(1, low), min(n, high + 1)


def median_interval(values: Sequence[float]) -> tuple[float, float] | None:
    """Interval for the median from order statistics, by the exact binomial; no distribution is assumed. None for fewer
    than six values: not even the smallest and the largest of five enclose the median with 95%.

    >>> median_interval([1.0, 2.0, 3.0, 4.0, 5.0, 6.0]), median_interval([1.0] * 5)
    ((1.0, 6.0), None)
    """
    ordered, n = sorted(values), len(values)
    # The k-th smallest and the k-th largest miss the median with twice P(Binomial(n, 1/2) < k). In integers,
    # because 2 ** n does not fit in a float from 1024 values on.
    k, term = 0, 1
    below, limit = 1, 2**n
    while 40 * below <= limit:
        k += 1
        term = term * (n - k + 1) // k
        below += term
    return (ordered[k - 1], ordered[n - k]) if k else None


def batched_median_interval(values: Sequence[float]) -> tuple[float, float] | None:
    """median_interval of values in the order in which they were measured, where neighbours are correlated: the interval of
    the medians of batches. A batch has (1 + r) / (1 - r) values for a correlation of r, but there are at least six batches.

    >>> batched_median_interval([1.0, 2.0] * 6), batched_median_interval([1.0] * 12 + [2.0] * 12)
    ((1.0, 2.0), (1.0, 2.0))
    """
    n = len(values)
    mean = statistics.fmean(values) if values else 0.0
    spread = sum((value - mean) ** 2 for value in values)
    alike = sum((a - mean) * (b - mean) for a, b in itertools.pairwise(values)) / spread if spread else 0.0
    alike = min(max(alike, 0.0), 0.95)
    size = max(1, min(math.ceil((1 + alike) / (1 - alike) - 0.25), n // 6))
    return median_interval([statistics.median(values[i : i + size]) for i in range(0, n - size + 1, size)])


def paired_ratio(first: Sequence[float], second: Sequence[float]) -> float:
    """The median of first / second over pairs. A disturbance that slowed both values of a pair cancels; in a ratio of two
    medians it would not, because the medians may come from different pairs.

    >>> paired_ratio([2.0, 40.0, 6.0], [1.0, 20.0, 3.0])
    2.0
    """
    return statistics.median(a / b for a, b in zip(first, second, strict=True))


def paired_ratio_interval(
    first: Sequence[float], second: Sequence[float], *, draws: int = 2000, seed: int = 0
) -> tuple[float, float]:
    """Interval for paired_ratio: bootstrap of the pairs (Efron 1979).

    >>> paired_ratio_interval([2.0, 4.0, 6.0] * 5, [1.0, 2.0, 3.0] * 5)
    (2.0, 2.0)
    """
    source = random.Random(seed)
    ratios = [a / b for a, b in zip(first, second, strict=True)]
    medians = sorted(statistics.median(source.choices(ratios, k=len(ratios))) for _ in range(draws))
    return medians[round(0.025 * (draws - 1))], medians[round(0.975 * (draws - 1))]
