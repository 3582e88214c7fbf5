"""Predict a latency that nobody has measured from published latencies. Pure Python, standard library only.

The logarithm of a latency is modelled as a sum: the net's work, the clock and the threads (with slopes that are not known
exactly); effects of the architecture, the core, the chip, the board, the runtime and the precision (each unknown, with a
size given by `Scales`); and a remainder. That is a Gaussian process: a prediction uses every row as evidence, weighted by
how similar its conditions are (Rasmussen and Williams 2006, chapter 2).

Its standard deviations rank how certain predictions are, but are not used as they are. An interval is as many of them wide
as were needed to cover 90% of the published rows, each predicted without itself, among rows with equally near evidence
(conformal prediction with normalized scores, separately for each class of evidence: Vovk et al. 2005). Leaving rows out
needs no second fit: with P the inverse covariance, the residuals of rows S given all others are P_SS^-1 (P y)_S (Rasmussen
and Williams, section 5.4.2, for one row).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from operator import mul

from edgetl.latency.published import Conditions, Published

COVERAGE = 0.9
_NORMAL_90 = 1.6448536269514722  # 95% quantile of the normal distribution: 90% of it is within that many deviations
# With fewer chips, a 90% quantile cannot be determined.
_FEWEST_CHIPS = 10
# Nearest first. To test a level, a row is predicted from all rows except ...
LEVELS = ("same chip, same software", "same chip", "same core", "same kind")
_BLOCKS: dict[str, Callable[[Conditions], tuple[str, ...]]] = {
    "same chip, same software": lambda of: (),  # ... itself
    "same chip": lambda of: (of.chip, *of.software),  # ... those of its chip with its runtime and precision
    "same core": lambda of: (of.chip,),  # ... those of its chip
    "same kind": lambda of: (of.core or of.chip,),  # ... those of its core
}
# The nearest evidence that remains at each level, in words.
NEAREST = dict(
    zip(
        LEVELS,
        (
            "the same chip with the same runtime and precision",
            "the same chip with another runtime or precision",
            "another chip with the same core",
            "another core of the same kind",
        ),
        strict=True,
    )
)


@dataclass(frozen=True)
class Scales:
    """Standard deviations of the effects on the natural logarithm of a latency: 0.2 is about 20%.

    slope: of the exponent of the work, around 1; doubling: of the effect of doubling the threads, around -0.5 (a factor of
    0.61); clock: of the exponent of the clock, around -1. *_chip: how much chips differ in the effect. rest: the remainder.
    """

    architecture: float
    core: float
    chip: float
    board: float
    slope: float
    slope_chip: float
    family: float
    clock: float
    doubling: float
    doubling_chip: float
    runtime: float
    runtime_chip: float
    precision: float
    precision_chip: float
    rest: float


# Most likely values for the published rows (largest marginal likelihood with a wide prior), rounded to one digit. By kind:
# 235 rows for CPUs; 53 for GPUs (all but one with the same runtime, so the runtime's scales are the CPUs'); 19 for NPUs and
# microcontrollers. precision is the exception: only one CPU chip has rows in both float and int8, so its scales are wider
# than the most likely ones (0.25 and 0.18): a factor of 2 in either direction, at 90%.
SCALES: Mapping[str, Scales] = {
    "cpu": Scales(1.0, 0.9, 0.2, 0.2, 0.12, 0.13, 0.25, 0.2, 0.4, 0.2, 0.2, 0.2, 0.35, 0.25, 0.23),
    "gpu": Scales(0.0, 1.1, 1.1, 0.0, 0.2, 0.2, 0.25, 0.0, 0.0, 0.0, 0.2, 0.2, 0.35, 0.25, 0.25),
    "npu": Scales(1.4, 0.3, 0.3, 0.2, 0.2, 0.5, 0.3, 0.0, 0.0, 0.0, 0.3, 0.3, 0.3, 0.3, 0.5),
}
_LEVEL_UNKNOWN = 3.0  # of the overall mean: a factor of twenty in either direction, so that the rows determine it
_CLOCK_GHZ, _DOUBLING = 1.8, -0.5


def group_of(kind: str) -> str:
    """The group of kinds that are evidence for each other."""
    return "npu" if kind in ("npu", "mcu") else kind


def prior_mean(of: Conditions) -> float:
    """The expected logarithm, up to a constant, if the slopes were known exactly."""
    clock = -math.log(of.clock_ghz / _CLOCK_GHZ) if of.clock_ghz else 0.0
    return of.log_work + clock + _DOUBLING * math.log2(of.threads)


def covariance(a: Conditions, b: Conditions, scales: Scales) -> float:
    """Covariance of the logarithms of two latencies, without the remainder (`rest`)."""
    s, same_chip = scales, a.chip == b.chip
    total = _LEVEL_UNKNOWN**2
    # An unknown core counts as particular to the chip: as uncertain as a core with no published latency.
    if (a.architecture or a.chip) == (b.architecture or b.chip):
        total += s.architecture**2
    if (a.core or a.chip) == (b.core or b.chip):
        total += s.core**2
    if same_chip:
        total += s.chip**2
    if a.board == b.board:
        total += s.board**2
    total += a.log_work * b.log_work * (s.slope**2 + (s.slope_chip**2 if same_chip else 0.0))
    if a.family == b.family:
        total += s.family**2
    if a.clock_ghz and b.clock_ghz and s.clock:
        total += s.clock**2 * math.log(a.clock_ghz / _CLOCK_GHZ) * math.log(b.clock_ghz / _CLOCK_GHZ)
    # Each doubling adds an effect, which all rows with that many threads share.
    shared = math.log2(min(a.threads, b.threads))
    total += shared * (s.doubling**2 + (s.doubling_chip**2 if same_chip else 0.0))
    if a.runtime == b.runtime:
        total += s.runtime**2 + (s.runtime_chip**2 if same_chip else 0.0)
    if a.precision == b.precision != "float":
        total += s.precision**2 + (s.precision_chip**2 if same_chip else 0.0)
    return total


@dataclass(frozen=True)
class Prediction:
    """A latency as a mean of runs, with its 90% interval. level: of the evidence. deviations: half the width of the
    interval's logarithm, in standard deviations of the prediction."""

    ms: float
    low_ms: float
    high_ms: float
    level: str
    deviations: float

    def factor(self) -> float:
        """The factor from the prediction to either end of the interval."""
        return self.high_ms / self.ms


class Evidence:
    """Rows of one group of kinds (`group_of`), fitted once. With more than a few hundred rows it would need NumPy."""

    def __init__(self, rows: Sequence[Published], scales: Scales) -> None:
        self.rows, self.scales = tuple(rows), scales
        conditions = [row.conditions for row in self.rows]
        matrix = [[covariance(a, b, scales) for b in conditions[: i + 1]] for i, a in enumerate(conditions)]
        for i, line in enumerate(matrix):
            line[i] += scales.rest**2
        self._inverse = inverse_of_positive(matrix)
        self._observed = [math.log(row.mean_ms) - prior_mean(row.conditions) for row in self.rows]
        self._widths: dict[str, float] = {}
        self._tested: dict[str, tuple[int, int, int]] = {}
        self._weights = [math.fsum(map(mul, line, self._observed)) for line in self._inverse]

    def level(self, of: Conditions, without: Iterable[int] = ()) -> str:
        """The level of the nearest evidence, without the rows `without`."""
        left_out = set(without)
        others = [row.conditions for i, row in enumerate(self.rows) if i not in left_out]
        chip = [other for other in others if other.chip == of.chip and other.kind == of.kind]
        if any(other.software == of.software for other in chip):
            return LEVELS[0]
        if chip:
            return LEVELS[1]
        return LEVELS[2] if of.core and any(other.core == of.core for other in others) else LEVELS[3]

    def predict(self, of: Conditions) -> Prediction:
        """The latency under these conditions, predicted from all rows."""
        k = [covariance(of, row.conditions, self.scales) for row in self.rows]
        mean = prior_mean(of) + math.fsum(map(mul, k, self._weights))
        own = covariance(of, of, self.scales) + self.scales.rest**2
        variance = own - math.fsum(a * math.fsum(map(mul, line, k)) for a, line in zip(k, self._inverse, strict=True))
        level = self.level(of)
        if level not in self._widths:
            self._widths[level] = self.deviations(level)
        return _prediction(mean, math.sqrt(variance), level, self._widths[level])

    def predict_without(self, block: Sequence[int], level: str | None = None) -> list[Prediction]:
        """Each row of `block` predicted from all rows outside it; the widths of the intervals do not use the block either.
        level: of evidence; None for the level that the remaining rows give."""
        results = []
        found = self._residuals(block)
        widths: dict[str, float] = {}
        for i, (residual, deviation) in zip(block, found, strict=True):
            row = self.rows[i]
            near = level or self.level(row.conditions, block)
            if near not in widths:
                widths[near] = self.deviations(near, block)
            results.append(_prediction(math.log(row.mean_ms) - residual, deviation, near, widths[near]))
        return results

    def blocks(self, level: str) -> list[list[int]]:
        """The blocks of rows that are left out together to test a level: those that then have evidence of exactly that level."""
        groups: dict[tuple[object, ...], list[int]] = {}
        for i, row in enumerate(self.rows):
            name = (row.conditions.kind, *_BLOCKS[level](row.conditions)) if level != LEVELS[0] else (i,)
            groups.setdefault(name, []).append(i)
        return [
            kept
            for block in groups.values()
            if (kept := [i for i in block if self.level(self.rows[i].conditions, block) == level]) == block
        ]

    def deviations(self, level: str, without: Sequence[int] = ()) -> float:
        """How many standard deviations to either side cover 90% of the rows tested at that level.

        Each chip counts once, however many rows it has, because the errors of one chip's rows are correlated.
        """
        return _quantile_by_chip(self._scores(level, without))

    def tested(self, level: str) -> tuple[int, int, int]:
        """(number of rows tested at that level, number of their chips, number of rows within their intervals)."""
        if level not in self._tested:
            scores = self._scores(level)
            width = _quantile_by_chip(scores)
            within = sum(score <= width for score, _ in scores)
            self._tested[level] = (len(scores), len({chip for _, chip in scores}), within)
        return self._tested[level]

    def _scores(self, level: str, without: Sequence[int] = ()) -> list[tuple[float, str]]:
        """(error in standard deviations, chip) of each row tested at that level, except the rows `without`."""
        scores: list[tuple[float, str]] = []
        for block in self.blocks(level):
            tested = [i for i in block if i not in without]
            if tested:
                found = self._residuals([*tested, *without])[: len(tested)]
                scores += [
                    (abs(residual) / deviation, self.rows[i].conditions.chip)
                    for i, (residual, deviation) in zip(tested, found, strict=True)
                ]
        return scores

    def likeness(self, of: Conditions) -> list[tuple[float, Published]]:
        """Correlation of each row's latency with the predicted one, largest first, without the constant that all rows share."""
        own = covariance(of, of, self.scales) + self.scales.rest**2 - _LEVEL_UNKNOWN**2
        found = []
        for row in self.rows:
            other = covariance(row.conditions, row.conditions, self.scales) + self.scales.rest**2 - _LEVEL_UNKNOWN**2
            shared = covariance(of, row.conditions, self.scales) - _LEVEL_UNKNOWN**2
            found.append((shared / math.sqrt(own * other), row))
        return sorted(found, key=lambda pair: -pair[0])

    def _residuals(self, block: Sequence[int]) -> list[tuple[float, float]]:
        """(observed minus predicted, standard deviation) of each row of the block, predicted from all rows outside it."""
        inner = inverse_of_positive(
            [[self._inverse[i][j] for j in block[: position + 1]] for position, i in enumerate(block)]
        )
        weights = [self._weights[i] for i in block]
        return [(math.fsum(map(mul, line, weights)), math.sqrt(line[i])) for i, line in enumerate(inner)]


def _prediction(mean: float, deviation: float, level: str, deviations: float) -> Prediction:
    reach = deviations * deviation
    return Prediction(math.exp(mean), math.exp(mean - reach), math.exp(mean + reach), level, deviations)


def _quantile_by_chip(scores: Sequence[tuple[float, str]]) -> float:
    """The 90% quantile of (score, chip) where each chip's scores share one vote and one more vote is for the unknown chip."""
    counts: dict[str, int] = {}
    for _, chip in scores:
        counts[chip] = counts.get(chip, 0) + 1
    largest = max((score for score, _ in scores), default=_NORMAL_90)
    if len(counts) < _FEWEST_CHIPS:
        return max(largest, _NORMAL_90)
    needed, votes = COVERAGE * (len(counts) + 1), 0.0
    for score, chip in sorted(scores):
        votes += 1.0 / counts[chip]
        if votes >= needed - 1e-9:
            return score
    return largest


def inverse_of_positive(lower: Sequence[Sequence[float]]) -> list[list[float]]:
    """The inverse of a symmetric positive definite matrix, given by its lower triangle (Cholesky).

    >>> inverse_of_positive([[4.0], [0.0, 16.0]])
    [[0.25, 0.0], [0.0, 0.0625]]
    """
    n = len(lower)
    root: list[list[float]] = []
    for i in range(n):
        line: list[float] = []
        for j in range(i):
            line.append((lower[i][j] - sum(map(mul, line, root[j]))) / root[j][j])
        line.append(math.sqrt(lower[i][i] - sum(map(mul, line, line))))
        root.append(line)
    # Columns of the root's inverse, each from its diagonal down.
    columns: list[list[float]] = []
    for j in range(n):
        column = [1.0 / root[j][j]]
        for i in range(j + 1, n):
            column.append(-sum(map(mul, root[i][j:i], column)) / root[i][i])
        columns.append(column)
    inverse = [[0.0] * n for _ in range(n)]
    for i in range(n):
        for j in range(i + 1):
            inverse[i][j] = inverse[j][i] = sum(map(mul, columns[i], columns[j][i - j :]))
    return inverse
