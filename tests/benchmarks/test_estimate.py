"""Published figures left out one by one: intervals cover as often as promised, and a worse estimator would be noticed."""

from __future__ import annotations

import csv
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edgetl.core.stats import quantile
from edgetl.latency.published import published_latencies

FOLDER = Path(__file__).parents[2] / "benchmarks"
if not FOLDER.is_dir():
    pytest.skip("a source distribution carries no benchmarks", allow_module_level=True)

ROWS = published_latencies()
PROMISED = 0.8


@pytest.fixture(scope="module")
def benchmark() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(FOLDER))
        import estimate as program

        yield program


@pytest.fixture(scope="module")
def alone(benchmark: Any) -> list[Any]:
    return benchmark.leave_one_out(ROWS)


def share(tested: list[Any]) -> float:
    return sum(one.covered for one in tested) / len(tested)


def median_error(tested: list[Any]) -> float:
    return quantile([one.error_factor for one in tested if one.predicted], 0.5)


def test_the_interval_covers_the_left_out_figure_in_eighty_percent_of_cases(alone: list[Any]) -> None:
    assert len(alone) == len(ROWS) and all(one.predicted for one in alone)
    assert share(alone) >= PROMISED
    for level in {one.predicted.level for one in alone}:
        at_level = [one for one in alone if one.predicted.level == level]
        assert share(at_level) >= PROMISED, level
    processors = [one for one in alone if one.row.conditions.kind == "cpu"]
    assert share(processors) >= PROMISED and median_error(processors) < 1.25


@pytest.mark.parametrize("level", ["same chip", "same core", "same kind"])
def test_it_covers_as_many_if_a_whole_chip_or_core_is_left_out(benchmark: Any, level: str) -> None:
    tested = [one for one in benchmark.leave_blocks_out(ROWS, level) if one.predicted]
    assert len(tested) > 25 and share(tested) >= PROMISED


def test_intervals_of_half_the_width_would_not_cover_enough(alone: list[Any]) -> None:
    def halved(one: Any) -> Any:
        low, high = ((end * one.predicted.ms) ** 0.5 for end in (one.predicted.low_ms, one.predicted.high_ms))
        return replace(one, predicted=replace(one.predicted, low_ms=low, high_ms=high))

    assert share([halved(one) for one in alone]) < PROMISED


def test_with_shuffled_devices_errors_and_intervals_grow(benchmark: Any, alone: list[Any]) -> None:
    """The widths are measured, so they grow as well: errors and intervals both show it."""
    processors = [row for row in ROWS if row.conditions.kind == "cpu"]
    names = [row.conditions for row in processors]
    random.Random(1).shuffle(names)
    keys = ("chip", "board", "architecture", "core", "clock_ghz")
    mixed = [
        replace(row, conditions=replace(row.conditions, **{key: getattr(name, key) for key in keys}))
        for row, name in zip(processors, names, strict=True)
    ]
    unchanged = [one for one in alone if one.row.conditions.kind == "cpu"]
    worse = benchmark.leave_one_out(mixed)
    assert median_error(worse) > 2 * median_error(unchanged)
    wide, narrow = (quantile([one.predicted.factor() for one in tested], 0.5) for tested in (worse, unchanged))
    assert wide > 2 * narrow


def test_the_table_on_disk_is_that_of_the_present_rows_and_estimator(benchmark: Any, alone: list[Any]) -> None:
    with (FOLDER / "estimate.csv").open(encoding="utf-8", newline="") as stream:
        on_disk = list(csv.reader(stream))
    assert on_disk == [benchmark.HEADER, *([str(cell) for cell in benchmark.row_of(one)] for one in alone)]
