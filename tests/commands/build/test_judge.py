"""The checks of a build: each passes, fails or is not proven, for each file that ships."""

from __future__ import annotations

import pytest

from edgetl.commands.build.judge import judge
from edgetl.targets.target import load_target
from edgetl.verdicts.check import exit_code
from tests.builds import INT8_ONNX, MODELS, latency, measured, one, pair, parity

PI = load_target("raspberry-pi-4")
HERE = load_target("this-machine")


# --- accuracy ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lost", "gained", "n", "expected"),
    [
        (5, 5, 5000, "pass"),
        (0, 40, 1000, "pass"),
        (200, 20, 2000, "fail"),
        (3, 1, 100, "inconclusive"),
        (0, 0, 30, "inconclusive"),
    ],
    ids=["none", "better than float", "nine in a hundred", "too few photos", "no difference at all on too few photos"],
)
def test_the_drop_is_judged_against_the_float_student_on_the_same_photos(lost, gained, n, expected):
    check = one(judge(PI, MODELS, measured(drop=pair(lost, gained, n))), "top1_drop_pp")
    assert check.status == expected
    assert check.measured == pytest.approx(100 * (lost - gained) / n)
    assert check.interval[0] < check.measured < check.interval[1]
    assert (check.subject, check.limit) == ("student.int8.tflite@litert-cpu", PI.budget.top1_drop_pp)
    assert f"only the float student is right on {lost}, only this file on {gained}, of {n} photos" in check.reason


def test_an_inconclusive_drop_says_how_many_photos_would_decide():
    check = one(judge(PI, MODELS, measured(drop=pair(3, 1, 100))), "top1_drop_pp")
    assert check.status == "inconclusive"
    assert "about " in check.reason and "test photos would decide it" in check.reason
    at_the_limit = one(judge(PI, MODELS, measured(drop=pair(3, 2, 100))), "top1_drop_pp")
    assert at_the_limit.status == "inconclusive" and "the drop is exactly the limit" in at_the_limit.reason


def test_each_shipped_file_is_judged_and_no_other():
    checks = judge(PI, MODELS, measured())
    assert {check.subject for check in checks if check.metric == "top1_drop_pp"} == {
        "student.int8.tflite@litert-cpu",
        "student.int8.onnx@ort-cpu",
    }
    assert {check.subject for check in checks if check.metric == "model_bytes"} == {
        "student.int8.tflite",
        "student.int8.onnx",
    }


def test_one_bad_file_of_two_is_a_failure():
    checks = judge(PI, MODELS, measured(drop=pair(200, 20, 2000)))
    assert one(checks, "top1_drop_pp", "onnx").status == "pass"
    assert exit_code(checks, strict=False) == 6


@pytest.mark.parametrize(
    "entry", [None, {}, {"against_float": {}, "latency": {}}], ids=["no entry", "an empty one", "no runtime in it"]
)
def test_a_file_that_no_runtime_here_opens_is_unmeasured_not_passed(entry):
    measurements = measured()
    del measurements["files"]["student.int8.onnx"]
    if entry is not None:
        measurements["files"]["student.int8.onnx"] = entry
    for target in (PI, HERE):
        checks = judge(target, MODELS, measurements)
        drop = one(checks, "top1_drop_pp", "student.int8.onnx")
        assert (drop.status, drop.measured, drop.interval) == ("unmeasured", None, None)
        assert drop.reason
        assert one(checks, "latency_p90_ms", "student.int8.onnx").status == "unmeasured"
        assert exit_code(checks, strict=True) == 8


def test_a_target_for_which_nothing_is_exported_is_unmeasured_not_passed():
    jetson = load_target("jetson-orin-nano").model_copy(update={"precision": "float16", "runtimes": ("ort-cuda",)})
    checks = judge(jetson, MODELS, measured())
    assert [check.status for check in checks] == ["unmeasured"]
    assert exit_code(checks, strict=True) == 8


# --- size ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "expected"),
    [(PI.budget.model_bytes, "pass"), (PI.budget.model_bytes + 1, "fail")],
    ids=["at the limit", "one byte over"],
)
def test_the_size_is_judged_to_the_byte(size, expected):
    models = [{**row, "bytes": size} if row["file"] == "student.int8.tflite" else row for row in MODELS]
    check = one(judge(PI, models, measured()), "model_bytes")
    assert (check.status, check.measured, check.interval) == (expected, size, None)


# --- latency -------------------------------------------------------------------------------------------------------


def test_the_latency_of_another_device_is_unmeasured_however_fast_this_one_is():
    check = one(judge(PI, MODELS, measured(late=latency(0.1, (0.1, 0.1), threads=PI.budget.threads))), "latency_p90_ms")
    assert (check.status, check.measured) == ("unmeasured", None)
    assert PI.device.description in check.reason


@pytest.mark.parametrize(
    ("interval", "expected"),
    [((10.0, 49.0), "pass"), ((40.0, 60.0), "inconclusive"), ((51.0, 60.0), "fail")],
    ids=["inside", "across", "past"],
)
def test_the_latency_of_this_machine_is_judged_on_the_interval_of_its_p90(interval, expected):
    check = one(judge(HERE, MODELS, measured(late=latency(45.0, interval))), "latency_p90_ms")
    assert (check.status, check.limit, check.measured, check.interval) == (expected, 50.0, 45.0, interval)
    assert check.subject == "student.int8.tflite@litert-cpu"


def test_a_latency_on_another_number_of_threads_than_the_budget_s_is_unmeasured():
    check = one(judge(HERE, MODELS, measured(late=latency(1.0, (0.9, 1.1), threads=4))), "latency_p90_ms")
    assert check.status == "unmeasured"
    assert "4 thread" in check.reason


def test_a_target_without_a_latency_budget_has_no_latency_check():
    target = HERE.model_copy(update={"budget": HERE.budget.model_copy(update={"latency_p90_ms": None})})
    assert not [check for check in judge(target, MODELS, measured()) if check.metric == "latency_p90_ms"]


def test_a_runtime_that_the_target_does_not_name_cannot_stand_in_for_one_that_it_does():
    """On the device itself, measured on ort-cpu only: the latency of its accelerator stays unmeasured."""
    target = HERE.model_copy(update={"runtimes": ("ort-tensorrt",)})
    late = [check for check in judge(target, MODELS, measured()) if check.metric == "latency_p90_ms"]
    assert [check.status for check in late] == ["unmeasured"]
    assert late[0].subject == "student.int8.onnx@ort-tensorrt"


# --- parity --------------------------------------------------------------------------------------------------------


def test_parity_of_files_that_do_not_ship_is_judged_as_well():
    """A broken float export means that the exporter is broken, whatever the target ships."""
    checks = judge(
        PI,
        MODELS,
        measured(parity=[parity("models/teacher.float32.tflite@litert-cpu", a="keras:teacher", max_abs=0.5)]),
    )
    assert exit_code(checks, strict=False) == 6


def test_parity_is_judged_by_the_precision_of_the_build_s_own_files():
    """The same difference: too much for a float32 file, rounding for an int8 file of another format."""
    checks = judge(PI, MODELS, measured(parity=[parity(INT8_ONNX, a="keras:quantized", max_abs=0.3)]))
    assert (checks[-1].metric, checks[-1].limit) == ("top1_disagreement", 0.02)
    files = [{**row, "precision": "float32"} for row in MODELS]
    checks = judge(PI, files, measured(parity=[parity(INT8_ONNX, a="keras:quantized", max_abs=0.3)]))
    assert (checks[-1].metric, checks[-1].status) == ("max_abs_probability", "fail")
