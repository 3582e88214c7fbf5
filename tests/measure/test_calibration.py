"""The expected calibration error of nets whose calibration is known."""

from __future__ import annotations

import numpy as np
import pytest

from edgetl.measure.calibration import BINS, calibration, equal_count_bins


def claims(n: int, over: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """(probabilities [n, 3], labels [n]) of a net that is right `over` less often than it claims."""
    random = np.random.default_rng(seed)
    confidence = np.clip(1 - random.beta(1, 8, n), 0.4, 1)
    rest = (1 - confidence) / 2
    labels = np.where(random.random(n) < confidence - over, 0, 1)
    return np.stack([confidence, rest, rest], axis=1), labels


def test_the_figure_by_hand():
    # One bin: 20 photos are too few for two of ten... but for two.
    probabilities = np.array([[0.9, 0.1]] * 10 + [[0.6, 0.4]] * 10)
    labels = np.array([0] * 7 + [1] * 3 + [0] * 6 + [1] * 4)
    found = calibration(probabilities, labels)
    assert [(row["n"], row["accuracy"]) for row in found["bins"]] == [(10, 0.6), (10, 0.7)]
    assert found["ece"] == pytest.approx(0.5 * abs(0.6 - 0.6) + 0.5 * abs(0.9 - 0.7))


def test_an_overconfident_net_is_seen_and_a_calibrated_one_is_not_accused():
    honest, boasting = calibration(*claims(1000, 0.0, 2)), calibration(*claims(1000, 0.15, 2))
    assert honest["interval"][0] == 0.0
    assert boasting["interval"][0] > 0.1
    assert boasting["ece"] == pytest.approx(0.15, abs=0.03)
    assert len(boasting["bins"]) == BINS


@pytest.mark.parametrize("n", [60, 300])
def test_few_photos_make_a_calibrated_net_look_worse_by_no_more_than_the_bound(n):
    found = [calibration(*claims(n, 0.0, seed)) for seed in range(20)]
    mean = np.mean([one["ece"] for one in found])
    assert 0.02 < mean < np.mean([one["bias_at_most"] for one in found])
    assert sum(one["interval"][0] == 0.0 for one in found) >= 17, "97.5 % of 20; fewer come up once in 600 times"


def test_equal_confidences_share_a_bin_so_that_the_order_of_photos_decides_nothing():
    values = np.array([255 / 256] * 90 + [0.5] * 10)
    bins = equal_count_bins(values, 15)
    assert len(set(bins[:90].tolist())) == 1
    assert set(bins.tolist()) == {0, 1}
