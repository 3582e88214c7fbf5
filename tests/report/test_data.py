"""Verdicts: what passes, what fails, what is not proven; and the exit code that scripts read."""

from __future__ import annotations

import itertools
import json

import pytest

from edgetl.commands.build.judge import judge
from edgetl.report.data import make_report
from edgetl.targets.target import load_target
from edgetl.verdicts.check import Check, exit_code, verdict

PI = load_target("raspberry-pi-4")
HERE = load_target("this-machine")

MODELS = [
    {
        "role": "teacher",
        "precision": "float32",
        "format": "tflite",
        "file": "teacher.float32.tflite",
        "bytes": 9_000_000,
    },
    {
        "role": "student",
        "precision": "float32",
        "format": "tflite",
        "file": "student.float32.tflite",
        "bytes": 2_400_000,
    },
    {
        "role": "student",
        "precision": "float16",
        "format": "tflite",
        "file": "student.float16.tflite",
        "bytes": 1_200_000,
    },
    {"role": "student", "precision": "int8", "format": "tflite", "file": "student.int8.tflite", "bytes": 700_000},
    {"role": "student", "precision": "float32", "format": "onnx", "file": "student.float32.onnx", "bytes": 2_400_000},
    {"role": "student", "precision": "int8", "format": "onnx", "file": "student.int8.onnx", "bytes": 710_000},
]
RUNTIME = {"tflite": "litert-cpu", "onnx": "ort-cpu"}


def pair(lost=1, gained=1, n=5000):
    return {"n": n, "top1_agreement": 1 - (lost + gained) / n, "max_abs": 0.01, "lost": lost, "gained": gained}


def latency(p90=5.0, interval=(4.9, 5.2), threads=1):
    return {
        "p50_ms": 4.0,
        "p90_ms": p90,
        "p99_ms": 9.0,
        "p90_interval_ms": list(interval),
        "runs": 200,
        "threads": threads,
    }


def measured(*, drop=None, late=None, parity=()):
    """Measurements of every file on its own runtime; `drop` and `late` replace those of the int8 TFLite file."""
    files = {}
    for row in MODELS:
        runtime = RUNTIME[row["format"]]
        files[row["file"]] = {"against_float": {runtime: pair()}, "latency": {runtime: latency()}}
    if drop is not None:
        files["student.int8.tflite"]["against_float"] = {"litert-cpu": drop}
    if late is not None:
        files["student.int8.tflite"]["latency"] = {"litert-cpu": late}
    return {"files": files, "parity": list(parity), "runtimes": {"litert-cpu": "ready", "ort-cpu": "ready"}}


def one(checks, metric, part="student.int8.tflite") -> Check:
    found = [check for check in checks if check.metric == metric and part in check.subject]
    assert len(found) == 1, checks
    return found[0]


# --- a verdict -----------------------------------------------------------------------------------------------------


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


def test_what_is_inconclusive_says_how_many_photos_it_would_take():
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
    ids=["at the limit", "a byte over"],
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


def test_a_latency_on_other_threads_than_the_budgets_is_not_a_latency_of_the_budget():
    check = one(judge(HERE, MODELS, measured(late=latency(1.0, (0.9, 1.1), threads=4))), "latency_p90_ms")
    assert check.status == "unmeasured"
    assert "4 thread" in check.reason


def test_a_target_without_a_latency_budget_has_no_latency_check():
    target = HERE.model_copy(update={"budget": HERE.budget.model_copy(update={"latency_p90_ms": None})})
    assert not [check for check in judge(target, MODELS, measured()) if check.metric == "latency_p90_ms"]


# --- parity --------------------------------------------------------------------------------------------------------


def parity(b, *, a="keras:student", max_abs=1e-6, agreement=1.0, n=300, **more):
    return {"a": a, "b": b, "n": n, "top1_agreement": agreement, "max_abs": max_abs, "lost": 0, "gained": 0, **more}


FLOAT32, FLOAT16, INT8 = (
    f"models/student.{precision}.tflite@litert-cpu" for precision in ("float32", "float16", "int8")
)
INT8_ONNX = "models/student.int8.onnx@ort-cpu"
PARITY = {
    "float32 as Keras": (parity(FLOAT32), "pass"),
    "float32 another net": (parity(FLOAT32, max_abs=0.02), "fail"),
    "float32 not a number": (parity(FLOAT32, max_abs=float("nan")), "fail"),
    "float16 as Keras": (parity(FLOAT16, max_abs=0.02), "pass"),
    "float16 another net": (parity(FLOAT16, max_abs=0.4), "fail"),
    "int8 but for ties": (parity(INT8, agreement=0.9967, max_abs=0.3), "pass"),
    "int8 on too few photos to tell": (parity(INT8, agreement=29 / 30, n=30), "inconclusive"),
    "int8 another net": (parity(INT8, agreement=0.94, max_abs=0.1), "fail"),
    "two int8 formats that agree": (parity(INT8_ONNX, a=INT8, agreement=1.0, n=1000), "pass"),
    "two int8 formats on too few photos to tell": (parity(INT8_ONNX, a=INT8, agreement=1.0, n=300), "inconclusive"),
    "two int8 formats that differ": (parity(INT8_ONNX, a=INT8, agreement=0.9), "fail"),
}


@pytest.mark.parametrize("kind", PARITY)
def test_parity_with_what_was_trained(kind):
    measurement, expected = PARITY[kind]
    checks = judge(PI, MODELS, measured(parity=[measurement]))
    check = checks[-1]
    assert check.status == expected
    assert check.subject == f"{measurement['a'].removeprefix('models/')} = {measurement['b'].removeprefix('models/')}"
    assert exit_code(checks, strict=False) == (6 if expected == "fail" else 0)


# The int8 files of two formats hold one set of integers: what may differ is rounding, and it is counted in output steps.
STEPS = {
    "rounding": ({"within_2_steps": 1.0, "max_steps": 1.5}, "pass", "pass"),
    "one photo in a thousand past two steps": ({"within_2_steps": 0.999, "max_steps": 8.0}, "pass", "pass"),
    "a photo too far": ({"within_2_steps": 0.999, "max_steps": 8.1}, "pass", "fail"),
    "many photos past two steps": ({"within_2_steps": 0.95, "max_steps": 6.0}, "fail", "pass"),
    "one photo in a hundred": ({"within_2_steps": 0.99, "max_steps": 6.0}, "inconclusive", "pass"),
    "not a number": ({"within_2_steps": 0.0, "max_steps": float("nan")}, "fail", "fail"),
}


@pytest.mark.parametrize("kind", STEPS)
def test_two_int8_formats_are_held_to_the_steps_of_rounding(kind):
    steps, share, most = STEPS[kind]
    checks = judge(PI, MODELS, measured(parity=[parity(INT8_ONNX, a=INT8, n=1000, **steps)]))
    found = {check.metric: check for check in checks[-3:]}
    assert set(found) == {"top1_disagreement", "share_past_2_steps", "max_output_steps"}
    assert found["share_past_2_steps"].status == share
    assert found["share_past_2_steps"].measured == pytest.approx(1 - steps["within_2_steps"])
    assert (found["share_past_2_steps"].limit, found["max_output_steps"].limit) == (0.01, 8.0)
    assert (found["max_output_steps"].status, found["max_output_steps"].interval) == (most, None)
    assert {check.subject for check in found.values()} == {"student.int8.tflite@litert-cpu = student.int8.onnx@ort-cpu"}
    assert exit_code(checks, strict=False) == (6 if "fail" in (share, most) else 0)


def test_a_net_with_layers_in_float_is_held_to_its_labels_only():
    files = [{**row, "precision": "int8-float32"} if row["precision"] == "int8" else row for row in MODELS]
    apart = parity(INT8_ONNX, a=INT8, n=1000, within_2_steps=0.9, max_steps=12.0)
    checks = judge(PI, files, measured(parity=[apart]))
    assert checks[-1].metric == "top1_disagreement" and checks[-1].limit == 0.02
    assert {check.metric for check in checks} & {"share_past_2_steps", "max_output_steps"} == set()


def test_the_reason_counts_in_the_steps_that_the_pair_has():
    files = [{**row, "precision": "int16x8"} if row["precision"] == "int8" else row for row in MODELS]
    apart = parity(INT8, a="keras:quantized", within_2_steps=0.9, max_steps=70.0, output_step=1 / 32768)
    check = judge(PI, files, measured(parity=[apart]))[-1]
    assert "90.0% within 2 output steps of 1/32768, at most 70.0" in check.reason
    int8 = {**apart, "output_step": 1 / 256}
    assert "steps of 1/256, at most" in judge(PI, MODELS, measured(parity=[int8]))[-1].reason


def test_an_inconclusive_share_of_steps_says_how_many_photos_it_would_take():
    few = parity(INT8_ONNX, a=INT8, n=100, within_2_steps=1.0, max_steps=1.0)
    check = one(judge(PI, MODELS, measured(parity=[few])), "share_past_2_steps", "onnx")
    assert check.status == "inconclusive"
    assert "more than 2 output steps apart on 0 of 100 photos; about 381 test photos would decide it" in check.reason
    enough = {**few, "n": 381}
    assert one(judge(PI, MODELS, measured(parity=[enough])), "share_past_2_steps", "onnx").status == "pass"


@pytest.mark.parametrize(
    "pair",
    [
        parity(INT8, a="keras:quantized", within_2_steps=0.5, max_steps=20.0),
        parity("models/student.int8.tflite@another", a=INT8, within_2_steps=0.5, max_steps=20.0),
        parity(FLOAT32, within_2_steps=0.5, max_steps=20.0),
    ],
    ids=["with Keras", "one file on two runtimes", "float"],
)
def test_no_other_pair_is_held_to_the_steps_of_rounding(pair):
    metrics = {check.metric for check in judge(PI, MODELS, measured(parity=[pair]))}
    assert not metrics & {"share_past_2_steps", "max_output_steps"}


def test_files_are_held_to_a_quarter_of_what_keras_is():
    limits = [judge(PI, MODELS, measured(parity=[parity(INT8, a=a)]))[-1].limit for a in (INT8_ONNX, "keras:quantized")]
    assert limits == [0.005, 0.02]


def test_parity_of_files_that_do_not_ship_is_judged_too():
    """A broken float export says that the exporter is broken, whatever the target ships."""
    checks = judge(
        PI,
        MODELS,
        measured(parity=[parity("models/teacher.float32.tflite@litert-cpu", a="keras:teacher", max_abs=0.5)]),
    )
    assert exit_code(checks, strict=False) == 6


# --- exit codes ----------------------------------------------------------------------------------------------------


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


# --- the report ----------------------------------------------------------------------------------------------------


def test_a_report_is_plain_data_with_what_the_design_lists():
    measurements = {**measured(parity=[parity(INT8)]), "keras": {}, "machine": {}, "runtimes": {}}
    split = ["train"] * 8 + ["validate"] * 1 + ["test"] * 2
    dataset = {
        "classes": ["cats", "dogs"],
        "photos": [{"sha256": str(i), "label": i % 2, "split": name} for i, name in enumerate(split)],
        "fingerprint": "sha256:f",
        "duplicates": 1,
        "left_out": [],
    }
    report = make_report(
        PI,
        checks=judge(PI, MODELS, measurements),
        recipe={},
        dataset=dataset,
        n_calibrate=4,
        stages=[],
        models=MODELS,
        measurements=measurements,
        histories={},
        sources={},
    )
    assert json.loads(json.dumps(report)) == json.loads(json.dumps(report, allow_nan=False))
    assert report["schema_version"] == 1
    counts = {key: report["dataset"][key] for key in ("n_train", "n_validate", "n_test", "n_calibrate")}
    assert counts == {"n_train": 8, "n_validate": 1, "n_test": 2, "n_calibrate": 4}
    assert {row["file"]: row["ships"] for row in report["models"]} == {
        f"models/{row['file']}": row["precision"] == "int8" for row in MODELS
    }
    assert [
        Check(**{**check, "interval": check["interval"] and tuple(check["interval"])}) for check in report["checks"]
    ] == judge(PI, MODELS, measurements)


def reported(**more):
    measurements = {**measured(parity=[parity(INT8)]), "keras": {}, "machine": {}}
    parts = {"recipe": {}, "n_calibrate": 4, "stages": [], "models": MODELS, "histories": {}, "sources": {}}
    dataset = {"classes": ["cats", "dogs"], "photos": [], "fingerprint": "sha256:f", "duplicates": 1, "left_out": []}
    checks = judge(PI, MODELS, measurements)
    return make_report(PI, checks=checks, **{**parts, "dataset": dataset, "measurements": measurements, **more})


QUANTIZE = {
    "epochs": [{"epoch": 1}],
    "best_epoch": -1,
    "stopped_early": False,
    "before_training": {"validate_loss": 0.4, "validate_top1": 0.8},
    "fold_error": 1e-7,
    "n_calibrate": 64,
    "estimator": "mse",
    "scheme": "auto",
    "attempts": [{"name": "ptq", "chosen": True}],
    "sensitivity": [{"node": "Conv1", "op": "conv", "snr_db": 31.2}],
    "signal": [{"node": "Conv1", "op": "conv", "snr_db": 38.0, "inputs_snr_db": 45.0}],
    "preflight": [{"layer": "conv2_block1_0_bn", "kind": "BatchNorm alone", "rewrite": "1 x 1 depthwise convolution"}],
}


def test_what_the_quantize_stage_recorded_is_told_apart_from_its_training():
    report = reported(
        histories={
            "finetune": {"epochs": [{"epoch": 1}], "best_epoch": 1, "stopped_early": False},
            "quantize": QUANTIZE,
        }
    )
    assert set(report["training"]["quantize"]) == {"epochs", "best_epoch", "stopped_early", "before_training"}
    assert report["training"]["finetune"] == {"epochs": [{"epoch": 1}], "best_epoch": 1, "stopped_early": False}
    assert set(report["quantization"]) == set(QUANTIZE) - set(report["training"]["quantize"])
    assert report["quantization"]["attempts"] == QUANTIZE["attempts"]


def test_a_quantize_stage_that_never_trained_has_no_curves():
    untrained = {key: value for key, value in QUANTIZE.items() if key in ("scheme", "attempts")}
    report = reported(histories={"quantize": untrained})
    assert report["training"] == {}
    assert report["quantization"] == untrained


def test_an_older_record_leaves_the_new_parts_empty():
    report = reported()
    assert (report["quantization"], report["flips"]["photos"], report["parity_matrix"]["pairs"]) == ({}, [], [])


def test_flips_and_the_matrix_reach_the_report():
    matrix = {"names": ["keras:student", INT8], "pairs": [{"a": "keras:student", "b": INT8, "flipped": ["0f"]}]}
    measurements = {**measured(), "keras": {}, "machine": {}, "parity_matrix": matrix}
    flips = {"n": 1, "photos": [{"thumbnail": "00.jpg"}]}
    report = reported(measurements=measurements, flips=flips)
    assert (report["parity_matrix"], report["flips"]) == (matrix, flips)


def test_a_runtime_that_the_target_does_not_name_cannot_pass_for_one_that_it_does():
    """On the device itself, measured on ort-cpu only: the latency of its accelerator stays unmeasured."""
    target = HERE.model_copy(update={"runtimes": ("ort-tensorrt",)})
    late = [check for check in judge(target, MODELS, measured()) if check.metric == "latency_p90_ms"]
    assert [check.status for check in late] == ["unmeasured"]
    assert late[0].subject == "student.int8.onnx@ort-tensorrt"
