"""How far two versions of one net may be apart."""

from __future__ import annotations

import pytest

from edgetl.verdicts.check import exit_code
from edgetl.verdicts.parity import parity_checks
from tests.builds import FLOAT16, FLOAT32, INT8, INT8_ONNX, MODELS, one, parity

PRECISION_OF = {row["file"]: row["precision"] for row in MODELS}


PARITY = {
    "float32 as Keras": (parity(FLOAT32), "pass"),
    "float32 another net": (parity(FLOAT32, max_abs=0.02), "fail"),
    "float32 not a number": (parity(FLOAT32, max_abs=float("nan")), "fail"),
    "float16 as Keras": (parity(FLOAT16, max_abs=0.02), "pass"),
    "float16 another net": (parity(FLOAT16, max_abs=0.4), "fail"),
    "int8 except for ties": (parity(INT8, agreement=0.9967, max_abs=0.3), "pass"),
    "int8 on too few photos to tell": (parity(INT8, agreement=29 / 30, n=30), "inconclusive"),
    "int8 another net": (parity(INT8, agreement=0.94, max_abs=0.1), "fail"),
    "two int8 formats that agree": (parity(INT8_ONNX, a=INT8, agreement=1.0, n=1000), "pass"),
    "two int8 formats on too few photos to tell": (parity(INT8_ONNX, a=INT8, agreement=1.0, n=300), "inconclusive"),
    "two int8 formats that differ": (parity(INT8_ONNX, a=INT8, agreement=0.9), "fail"),
}


@pytest.mark.parametrize("kind", PARITY)
def test_a_file_is_compared_with_the_limit_of_its_precision(kind):
    measurement, expected = PARITY[kind]
    checks = parity_checks(measurement, PRECISION_OF)
    check = checks[0]
    assert check.status == expected
    assert check.subject == f"{measurement['a'].removeprefix('models/')} = {measurement['b'].removeprefix('models/')}"
    assert exit_code(checks, strict=False) == (6 if expected == "fail" else 0)


# The int8 files of two formats hold one set of integers: only rounding may differ, and it is counted in output steps.
STEPS = {
    "rounding": ({"within_2_steps": 1.0, "max_steps": 1.5}, "pass", "pass"),
    "one photo in a thousand past two steps": ({"within_2_steps": 0.999, "max_steps": 8.0}, "pass", "pass"),
    "a photo too far": ({"within_2_steps": 0.999, "max_steps": 8.1}, "pass", "fail"),
    "many photos past two steps": ({"within_2_steps": 0.95, "max_steps": 6.0}, "fail", "pass"),
    "one photo in a hundred": ({"within_2_steps": 0.99, "max_steps": 6.0}, "inconclusive", "pass"),
    "not a number": ({"within_2_steps": 0.0, "max_steps": float("nan")}, "fail", "fail"),
}


@pytest.mark.parametrize("kind", STEPS)
def test_two_int8_formats_may_differ_by_the_steps_of_rounding(kind):
    steps, share, most = STEPS[kind]
    checks = parity_checks(parity(INT8_ONNX, a=INT8, n=1000, **steps), PRECISION_OF)
    found = {check.metric: check for check in checks}
    assert set(found) == {"top1_disagreement", "share_past_2_steps", "max_output_steps"}
    assert found["share_past_2_steps"].status == share
    assert found["share_past_2_steps"].measured == pytest.approx(1 - steps["within_2_steps"])
    assert (found["share_past_2_steps"].limit, found["max_output_steps"].limit) == (0.01, 8.0)
    assert (found["max_output_steps"].status, found["max_output_steps"].interval) == (most, None)
    assert {check.subject for check in found.values()} == {"student.int8.tflite@litert-cpu = student.int8.onnx@ort-cpu"}
    assert exit_code(checks, strict=False) == (6 if "fail" in (share, most) else 0)


def test_of_a_net_with_layers_in_float_only_the_labels_are_checked():
    files = [{**row, "precision": "int8-float32"} if row["precision"] == "int8" else row for row in MODELS]
    apart = parity(INT8_ONNX, a=INT8, n=1000, within_2_steps=0.9, max_steps=12.0)
    [check] = parity_checks(apart, {row["file"]: row["precision"] for row in files})
    assert (check.metric, check.limit) == ("top1_disagreement", 0.02)


def test_the_reason_counts_in_the_pair_s_own_steps():
    int16 = {row["file"]: row["precision"].replace("int8", "int16x8") for row in MODELS}
    apart = parity(INT8, a="keras:quantized", within_2_steps=0.9, max_steps=70.0, output_step=1 / 32768)
    [check] = parity_checks(apart, int16)
    assert "90.0% within 2 output steps of 1/32768, at most 70.0" in check.reason
    int8 = {**apart, "output_step": 1 / 256}
    assert "steps of 1/256, at most" in parity_checks(int8, PRECISION_OF)[0].reason


def test_an_inconclusive_share_of_steps_says_how_many_photos_would_decide():
    few = parity(INT8_ONNX, a=INT8, n=100, within_2_steps=1.0, max_steps=1.0)
    check = one(parity_checks(few, PRECISION_OF), "share_past_2_steps", "onnx")
    assert check.status == "inconclusive"
    assert "more than 2 output steps apart on 0 of 100 photos; about 381 test photos would decide it" in check.reason
    enough = {**few, "n": 381}
    assert one(parity_checks(enough, PRECISION_OF), "share_past_2_steps", "onnx").status == "pass"


@pytest.mark.parametrize(
    "pair",
    [
        parity(INT8, a="keras:quantized", within_2_steps=0.5, max_steps=20.0),
        parity("models/student.int8.tflite@another", a=INT8, within_2_steps=0.5, max_steps=20.0),
        parity(FLOAT32, within_2_steps=0.5, max_steps=20.0),
    ],
    ids=["with Keras", "one file on two runtimes", "float"],
)
def test_steps_are_checked_for_no_other_pair(pair):
    metrics = {check.metric for check in parity_checks(pair, PRECISION_OF)}
    assert metrics and not metrics & {"share_past_2_steps", "max_output_steps"}


def test_the_limit_between_files_is_a_quarter_of_that_against_keras():
    limits = [parity_checks(parity(INT8, a=a), PRECISION_OF)[0].limit for a in (INT8_ONNX, "keras:quantized")]
    assert limits == [0.005, 0.02]
