"""The published rows: every one usable, every one sourced, and the targets' references among them."""

from __future__ import annotations

import csv
import math

import pytest

from edgetl.latency.estimate import chip_of
from edgetl.latency.published import (
    kind_of_reference,
    precision_class,
    published_latencies,
    spread,
    thread_count,
    work_of,
)
from edgetl.targets.target import load_target, shipped_targets, targets_folder

ROWS = published_latencies()


def raw() -> list[dict[str, str]]:
    with (targets_folder() / "published_latencies.csv").open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def test_every_row_is_whole_and_says_where_it_was_published():
    assert len(ROWS) == len(raw()) > 300
    for row, text in zip(ROWS, raw(), strict=True):
        of = row.conditions
        assert None not in text.values() and None not in text, f"{of.board}: another number of columns"
        assert of.kind in ("cpu", "gpu", "npu", "mcu") and of.chip and of.architecture, of
        assert row.latency_ms > 0 and row.statistic in ("min", "mean", "as published") and len(row.source) > 8, of
        assert 1 <= of.threads <= int(text["cores"] or of.threads), of
        assert math.isfinite(of.log_work) and row.mean_ms >= row.latency_ms


def test_one_chip_is_one_architecture_core_and_number_of_cores():
    """Else a slip of the pen in one row would take its chip's others from it."""
    seen: dict[tuple[str, str], set[tuple[str, ...]]] = {}
    for row in raw():
        if row["processor"] == "cpu":
            seen.setdefault((row["chip"], "cpu"), set()).add((row["architecture"], row["core"], row["cores"]))
    assert {chip: found for chip, found in seen.items() if len(found) > 1} == {}


@pytest.mark.parametrize("name", sorted(shipped_targets()))
def test_every_reference_of_a_target_is_a_published_row_of_its_chip(name):
    target = load_target(name)
    for reference in target.references:
        found = [row for row in ROWS if row.matches(reference) and row.conditions.kind == kind_of_reference(reference)]
        assert any(row.conditions.chip == chip_of(target) for row in found), reference
    if not target.references:
        assert chip_of(target) == ""


def test_a_reference_with_another_figure_is_none_of_them():
    reference = load_target("raspberry-pi-4").references[0]
    assert any(row.matches(reference) for row in ROWS)
    changed = reference.model_copy(update={"latency_ms": reference.latency_ms + 1})
    assert not any(row.matches(changed) for row in ROWS)


def test_least_mean_and_largest_of_every_series_are_in_order():
    with (targets_folder() / "published_spreads.csv").open(encoding="utf-8", newline="") as stream:
        series = list(csv.DictReader(stream))
    for row in series:
        assert 0 < float(row["min_ms"]) <= float(row["mean_ms"]) <= float(row["max_ms"]), row
    assert len(series) == spread("npu").triples == spread("cpu").triples + spread("gpu").triples
    usual, largest = spread("cpu").p90_over_mean
    assert 1 <= usual < largest < spread("gpu").p90_over_mean[1]


def test_a_figure_that_is_a_least_is_brought_to_a_mean_and_a_mean_is_left():
    by_statistic = {row.statistic: row for row in ROWS if row.conditions.kind == "cpu"}
    least, mean = by_statistic["min"], by_statistic["mean"]
    assert (
        least.mean_ms == pytest.approx(least.latency_ms * spread("cpu").mean_over_min)
        and least.mean_ms > least.latency_ms
    )
    assert mean.mean_ms == mean.latency_ms


def test_what_the_figures_are_compared_by():
    assert work_of([(100, 10.0), (0, 10.0)], macs_per_byte=3.0) == 130.0
    assert [precision_class(text) for text in ("uint8", "int8", "fp32/fp16-auto")] == ["int8", "int8", "float"]
    assert thread_count("64", 8) == 8 and thread_count("", 4) == 1 and thread_count("12", 0) == 12
