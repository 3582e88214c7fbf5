"""A verdict is drawn on the whole interval; the exit code that scripts read is the worst one."""

from __future__ import annotations

import itertools
import json
import math

import pytest

from edgetl.verdicts.check import Check, drop_check, exact_check, exit_code, share_check, verdict


@pytest.mark.parametrize(
    ("interval", "expected"),
    [
        ((-0.5, 0.9), "pass"),
        ((-0.5, 1.0), "pass"),
        ((0.5, 1.0001), "inconclusive"),
        ((1.0, 1.5), "inconclusive"),
        ((1.0001, 1.5), "fail"),
        ((float("nan"), float("nan")), "inconclusive"),
        ((0.0, float("inf")), "inconclusive"),
    ],
    ids=str,
)
def test_a_verdict_is_drawn_on_the_whole_interval(interval, expected):
    assert verdict(1.0, interval) == expected


def test_a_drop_is_in_points_with_the_interval_around_it():
    check = drop_check("f", 1.0, {"lost": 40, "gained": 10, "n": 1000}, reference="the other file")
    assert (check.metric, check.measured, check.status) == ("top1_drop_pp", pytest.approx(3.0), "fail")
    assert check.interval[0] < 3.0 < check.interval[1]
    assert check.reason == "only the other file is right on 40, only this file on 10, of 1000 photos"


def test_an_inconclusive_share_says_how_many_photos_would_decide():
    check = share_check("top1_disagreement", "f", 0.02, 1, 100, "one of them")
    assert check.status == "inconclusive"
    assert check.reason.startswith("one of them; about ") and check.reason.endswith(" test photos would decide it")
    at_the_limit = share_check("top1_disagreement", "f", 0.02, 2, 100, "two")
    assert at_the_limit.reason == "two; the share is exactly the limit"
    decided = share_check("top1_disagreement", "f", 0.02, 0, 1000, "none")
    assert (decided.status, decided.reason) == ("pass", "none")


@pytest.mark.parametrize(
    ("measured", "expected"),
    [(1.0, "pass"), (1.0001, "fail"), (math.nan, "fail"), (math.inf, "fail")],
    ids=["at the limit", "past it", "not a number", "infinite"],
)
def test_an_exact_figure_passes_up_to_its_limit_and_nan_never(measured, expected):
    assert exact_check("golden", "f", 1.0, measured, "").status == expected


def test_a_check_survives_json():
    check = Check("model_bytes", "f", 4.0, 5.0, (4.5, 5.5), "fail", "too large", estimated=True)
    row = json.loads(json.dumps(check.to_json()))
    assert Check(**{**row, "interval": tuple(row["interval"])}) == check


def checks_of(*pairs):
    return [Check(metric, "x", 1.0, None, None, status) for metric, status in pairs]


@pytest.mark.parametrize(
    ("checks", "relaxed", "strict"),
    [
        ([], 0, 0),
        ([("top1_drop_pp", "pass"), ("model_bytes", "pass")], 0, 0),
        ([("top1_drop_pp", "fail")], 6, 6),
        ([("max_abs_probability", "fail")], 6, 6),
        ([("top1_disagreement", "fail")], 6, 6),
        ([("max_output_steps", "fail")], 6, 6),
        ([("latency_p90_ms", "fail")], 7, 7),
        ([("model_bytes", "fail")], 7, 7),
        ([("model_bytes", "fail"), ("top1_drop_pp", "fail")], 6, 6),
        ([("top1_drop_pp", "inconclusive")], 0, 8),
        ([("latency_p90_ms", "unmeasured")], 0, 8),
        ([("latency_p90_ms", "unmeasured"), ("model_bytes", "fail")], 7, 7),
    ],
    ids=[
        "no checks",
        "all pass",
        "accuracy",
        "float parity",
        "int8 parity",
        "int8 rounding",
        "latency",
        "size",
        "accuracy before size",
        "inconclusive",
        "unmeasured",
        "a failure before what is not proven",
    ],
)
def test_the_exit_code_is_the_worst_verdicts(checks, relaxed, strict):
    for order in itertools.permutations(checks):
        assert exit_code(checks_of(*order), strict=False) == relaxed
        assert exit_code(checks_of(*order), strict=True) == strict
