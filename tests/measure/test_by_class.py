"""Precision, recall and F1 by hand; what is confused with what."""

from __future__ import annotations

import numpy as np
import pytest

from edgetl.measure.by_class import by_class, worst_confusions

COUNTS = [[8, 2, 0], [1, 9, 0], [0, 5, 0]]
CLASSES = ["a", "b", "c"]


def test_precision_recall_and_f1_by_hand():
    found = by_class(COUNTS, CLASSES)
    a, b, c = found["classes"]
    assert (a["precision"], a["recall"]) == (8 / 9, 8 / 10)
    assert (b["precision"], b["recall"]) == (9 / 16, 9 / 10)
    assert a["f1"] == pytest.approx(2 * (8 / 9) * 0.8 / (8 / 9 + 0.8))
    # Never named: no precision, and no class to leave out of the average.
    assert (c["precision"], c["recall"], c["f1"]) == (None, 0.0, 0.0)
    macro = found["macro"]
    assert macro["f1"] == pytest.approx((a["f1"] + b["f1"]) / 3)
    assert macro["precision"] == pytest.approx((8 / 9 + 9 / 16) / 3)
    assert macro["f1_interval"][0] < macro["f1"] < macro["f1_interval"][1]


def test_intervals_narrow_with_photos_and_are_those_of_shares():
    few, many = (by_class((np.array(COUNTS) * times).tolist(), CLASSES) for times in (1, 100))
    widths = [found["macro"]["f1_interval"][1] - found["macro"]["f1_interval"][0] for found in (few, many)]
    assert widths[1] < widths[0] / 5
    assert few["classes"][0]["recall_interval"] == pytest.approx([0.490, 0.943], abs=1e-3), "Wilson's of 8 of 10"


def test_the_bootstrap_of_f1_covers_the_truth():
    random = np.random.default_rng(2)
    cells = np.array([[0.35, 0.05], [0.15, 0.45]])
    truth = np.mean([2 * 0.35 / (0.4 + 0.5), 2 * 0.45 / (0.6 + 0.5)])
    covered = 0
    for _ in range(60):
        counts = random.multinomial(200, cells.ravel()).reshape(2, 2)
        low, high = by_class(counts.tolist(), ["a", "b"])["macro"]["f1_interval"]
        covered += low <= truth <= high
    # 95 % of 60 is 57; fewer than 52 come up once in 150 times.
    assert covered >= 52


def test_the_worst_confusions_come_first():
    assert worst_confusions(COUNTS, CLASSES, most=2) == [
        {"true": "c", "answered": "b", "count": 5, "of": 5},
        {"true": "a", "answered": "b", "count": 2, "of": 10},
    ]
    assert worst_confusions([[3, 0], [0, 4]], CLASSES, most=5) == []
