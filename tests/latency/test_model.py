"""What rows say of a row that is not there: the shortcuts are exact, and nothing of the missing row leaks in."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from edgetl.latency.model import LEVELS, SCALES, Evidence, covariance, inverse_of_positive, prior_mean
from edgetl.latency.published import published_latencies

CPU = [row for row in published_latencies() if row.conditions.kind == "cpu"]
# A few chips whole, so that every level has something to say.
CHIPS = ("bcm2711", "bcm2712", "bcm2837", "rk3399", "rk3588", "snapdragon-821", "stm32mp157f", "tegra234", "kirin-970")
SOME = [row for row in CPU if row.conditions.chip in CHIPS]
EVIDENCE = Evidence(SOME, SCALES["cpu"])


def test_the_inverse_is_one():
    lower = [[4.0], [1.0, 3.0], [0.5, -1.0, 2.0]]
    whole = [[lower[max(i, j)][min(i, j)] for j in range(3)] for i in range(3)]
    inverse = inverse_of_positive(lower)
    product = [[sum(whole[i][k] * inverse[k][j] for k in range(3)) for j in range(3)] for i in range(3)]
    assert all(product[i][j] == pytest.approx(float(i == j), abs=1e-12) for i in range(3) for j in range(3))


@pytest.mark.parametrize("left_out", [[3], [0, 1], list(range(5, 14))], ids=["one", "two", "nine"])
def test_leaving_rows_out_of_a_fit_is_fitting_without_them(left_out):
    rest = Evidence([row for i, row in enumerate(SOME) if i not in left_out], SCALES["cpu"])
    for i, shortcut in zip(left_out, EVIDENCE.predict_without(left_out), strict=True):
        direct = rest.predict(SOME[i].conditions)
        assert (shortcut.level, shortcut.ms) == (direct.level, pytest.approx(direct.ms, rel=1e-6))
        # The chips' shares of the quantile are over the same scores.
        assert shortcut.factor() == pytest.approx(direct.factor(), rel=1e-6)


def test_a_row_s_own_figure_changes_neither_its_estimate_nor_its_interval():
    told = EVIDENCE.predict_without([4])[0]
    lied = [*SOME[:4], replace(SOME[4], mean_ms=1000 * SOME[4].mean_ms), *SOME[5:]]
    again = Evidence(lied, SCALES["cpu"]).predict_without([4])[0]
    assert (again.low_ms, again.ms, again.high_ms) == pytest.approx((told.low_ms, told.ms, told.high_ms))


def test_nearer_evidence_is_said_to_be_nearer_and_has_the_narrower_interval():
    pi4 = next(row.conditions for row in SOME if row.conditions.chip == "bcm2711" and row.conditions.threads == 1)
    asked = [
        replace(pi4, threads=2),
        replace(pi4, threads=2, runtime="ort-cpu"),
        replace(pi4, threads=2, runtime="ort-cpu", chip="another", board="another"),
        replace(pi4, threads=2, runtime="ort-cpu", chip="another", board="another", core="cortex-x9"),
    ]
    said = [EVIDENCE.predict(one) for one in asked]
    assert tuple(one.level for one in said) == LEVELS
    sd = [math.log(one.factor()) / one.deviations for one in said]
    assert sd == sorted(sd), "what is less known is less sure"
    # Of what nobody has measured, more is left open.
    int8_one = EVIDENCE.predict(replace(pi4, threads=2, precision="int8"))
    assert math.log(int8_one.factor()) / int8_one.deviations > 1.3 * sd[0]


def test_how_many_of_the_tested_rows_lie_within_their_intervals_is_counted():
    """Of enough chips that one which is off is left outside; planted: a row a thousand times too slow."""
    every = Evidence(CPU, SCALES["cpu"])
    rows, chips, within = every.tested(LEVELS[0])
    assert rows == sum(len(block) for block in every.blocks(LEVELS[0])) and chips > 20
    assert 0.85 * rows < within < rows
    [one, *_] = next(block for block in every.blocks(LEVELS[0]))
    lied = [replace(row, mean_ms=1000 * row.mean_ms) if i == one else row for i, row in enumerate(CPU)]
    odd = Evidence(lied, SCALES["cpu"])
    width = odd.deviations(LEVELS[0])
    [(score, chip)] = [pair for pair in odd._scores(LEVELS[0]) if pair[0] > 10]
    assert chip == CPU[one].conditions.chip and score > width
    assert odd.tested(LEVELS[0])[:2] == (rows, chips) and odd.tested(LEVELS[0])[2] < rows


def test_more_work_and_fewer_threads_take_longer():
    of = SOME[0].conditions
    ms = [EVIDENCE.predict(replace(of, log_work=work)).ms for work in (-2.0, -1.0, 0.0, 1.0)]
    assert ms == sorted(ms)
    assert EVIDENCE.predict(replace(of, threads=1)).ms > EVIDENCE.predict(replace(of, threads=4)).ms


def test_the_covariance_is_symmetric_and_its_own_is_the_largest():
    a, b = SOME[0].conditions, SOME[-1].conditions
    assert covariance(a, b, SCALES["cpu"]) == covariance(b, a, SCALES["cpu"]) < covariance(a, a, SCALES["cpu"])
    assert prior_mean(replace(a, clock_ghz=2.4)) < prior_mean(replace(a, clock_ghz=1.2))
    # Two devices of which neither the core nor the architecture is known are not taken to be alike.
    unknown = [replace(a, core="", architecture="", chip=chip, board=chip) for chip in ("one", "other")]
    known = [replace(a, chip=chip, board=chip) for chip in ("one", "other")]
    assert covariance(*unknown, SCALES["cpu"]) < covariance(*known, SCALES["cpu"])
    assert covariance(unknown[0], unknown[0], SCALES["cpu"]) == covariance(known[0], known[0], SCALES["cpu"])
