"""The accuracy of `edgetl estimate`: every published latency left out once and estimated from the others.

    python benchmarks/estimate.py [--csv FILE]

Writes one row per published figure: as published and as a mean of runs (which is compared), the estimate, its 90%
interval, how near the nearest other evidence was, and whether the interval covers the figure. Neither the estimate nor
the interval's width uses the row. Then the same with more rows left out together: all rows of a chip with one runtime and
precision, all of a chip, all of a core, as in an estimate for a device without rows. Takes half a minute at most.
"""

from __future__ import annotations

import argparse
import csv
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tables import print_table

from edgetl.core.stats import quantile
from edgetl.latency.estimate import nothing_follows
from edgetl.latency.model import LEVELS, SCALES, Evidence, Prediction, Scales, group_of
from edgetl.latency.published import Published, published_latencies

HEADER = [
    "device",
    "chip",
    "processor",
    "model",
    "precision",
    "input_size_px",
    "runtime",
    "threads",
    "published_ms",
    "statistic",
    "mean_ms",
    "estimate_ms",
    "low_ms",
    "high_ms",
    "evidence",
    "covered",
]


@dataclass(frozen=True)
class Tested:
    """One published row and its estimate from the others; None if they are too few."""

    row: Published
    predicted: Prediction | None

    @property
    def covered(self) -> bool:
        return self.predicted is not None and self.predicted.low_ms <= self.row.mean_ms <= self.predicted.high_ms

    @property
    def error_factor(self) -> float:
        """How many times too large or too small the estimate is."""
        assert self.predicted is not None
        return math.exp(abs(math.log(self.predicted.ms / self.row.mean_ms)))


def evidence_by_group(rows: Sequence[Published], scales: dict[str, Scales] | None = None) -> list[Evidence]:
    """The rows of each group that are evidence for each other."""
    groups = dict.fromkeys(group_of(row.conditions.kind) for row in rows)
    return [
        Evidence([row for row in rows if group_of(row.conditions.kind) == group], (scales or SCALES)[group])
        for group in groups
    ]


def leave_one_out(rows: Sequence[Published], scales: dict[str, Scales] | None = None) -> list[Tested]:
    """Each row, estimated from all others."""
    return [
        tested
        for evidence in evidence_by_group(rows, scales)
        for i in range(len(evidence.rows))
        for tested in _tested(evidence, [i])
    ]


def leave_blocks_out(rows: Sequence[Published], level: str) -> list[Tested]:
    """Each row that still has evidence of a level when all nearer rows are left out with it."""
    return [
        tested
        for evidence in evidence_by_group(rows)
        for block in evidence.blocks(level)
        for tested in _tested(evidence, block)
    ]


def _tested(evidence: Evidence, block: Sequence[int]) -> Iterator[Tested]:
    for i, predicted in zip(block, evidence.predict_without(block), strict=True):
        no_estimate = nothing_follows(evidence, evidence.rows[i].conditions, predicted.level, block)
        yield Tested(evidence.rows[i], None if no_estimate else predicted)


def summary(name: str, tested: Sequence[Tested]) -> list[str]:
    """Cells: name, rows, chips, share covered, error factors, the interval's ends as a factor, rows without an estimate."""
    estimated = [one for one in tested if one.predicted is not None]
    without = str(len(tested) - len(estimated))
    if not estimated:
        return [name, "0", "0", "-", "-", "-", "-", without]
    errors = [one.error_factor for one in estimated]
    return [
        name,
        str(len(estimated)),
        str(len({one.row.conditions.chip for one in estimated})),
        f"{100 * sum(one.covered for one in estimated) / len(estimated):.1f} %",
        f"{quantile(errors, 0.5):.2f}",
        f"{quantile(errors, 0.9):.2f}",
        f"{quantile([one.predicted.factor() for one in estimated if one.predicted], 0.5):.2f}",
        without,
    ]


def row_of(tested: Tested) -> list[object]:
    row, predicted = tested.row, tested.predicted
    of = row.conditions
    figures = ["", "", "", ""] if predicted is None else [*(f"{ms:.4g}" for ms in (predicted.ms, predicted.low_ms, predicted.high_ms)), predicted.level]  # fmt: skip
    return [
        of.board,
        of.chip,
        of.kind,
        row.model,
        row.precision,
        row.input_size_px,
        of.runtime,
        of.threads,
        row.latency_ms,
        row.statistic,
        f"{row.mean_ms:.4g}",
        *figures,
        "" if predicted is None else "yes" if tested.covered else "no",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--csv", type=Path, default=Path(__file__).with_suffix(".csv"))
    arguments = parser.parse_args()
    rows = published_latencies()
    alone = leave_one_out(rows)
    with arguments.csv.open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream, lineterminator="\n").writerows([HEADER, *map(row_of, alone)])
    table = [summary("one row", alone)]
    table += [
        summary(f"one row, evidence: {level}", [one for one in alone if one.predicted and one.predicted.level == level])
        for level in LEVELS
    ]
    table += [
        summary(f"one row, {kind}", [one for one in alone if one.row.conditions.kind == kind])
        for kind in ("cpu", "gpu", "npu", "mcu")
    ]
    left_out = ("a chip's rows of one runtime and precision", "all rows of a chip", "all rows of a core")
    table += [
        summary(f"{name}: {level}", leave_blocks_out(rows, level))
        for name, level in zip(left_out, LEVELS[1:], strict=True)
    ]
    print_table(
        ["left out", "rows", "chips", "covered", "error x, median", "x, 90 %", "interval x", "no estimate"], table
    )


if __name__ == "__main__":
    main()
