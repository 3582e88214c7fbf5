"""report.json: what a build recorded, put together."""

from __future__ import annotations

import json

from edgetl.report.data import BuildRecords, make_report
from edgetl.report.records import Report, ReportModel
from edgetl.targets.target import load_target
from edgetl.verdicts.check import Check
from tests.builds import INT8, MODELS, measured, parity

PI = load_target("raspberry-pi-4")
CHECKS = [
    Check("top1_drop_pp", "student.int8.tflite@litert-cpu", 1.0, 0.4, (-0.2, 0.9), "pass", "ten photos"),
    Check("latency_p90_ms", "student.int8.tflite", 50.0, None, None, "unmeasured", "another machine"),
]


def reported(*, splits=(), checks=(), **change):
    """The report of the made-up build; `change` replaces fields of its records."""
    photos = [{"sha256": str(i), "label": i % 2, "split": split} for i, split in enumerate(splits)]
    dataset = {
        "classes": ["cats", "dogs"],
        "photos": photos,
        "fingerprint": "sha256:f",
        "duplicates": 1,
        "left_out": [],
    }
    parts = {
        "recipe": {},
        "dataset": dataset,
        "stages": [],
        "models": MODELS,
        "measurements": {**measured(parity=[parity(INT8)]), "keras": {}, "machine": {}},
        "histories": {},
        "weights": {},
    }
    return make_report(PI, BuildRecords(**{**parts, **change}), checks)


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


def test_the_record_of_quantizing_is_kept_apart_from_that_of_training():
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


def test_a_report_is_json_with_the_counts_the_files_and_the_checks():
    splits = ["train"] * 8 + ["validate"] * 1 + ["test"] * 2
    report = reported(splits=splits, checks=CHECKS, histories={"quantize": {"n_calibrate": 4}})
    assert json.loads(json.dumps(report)) == json.loads(json.dumps(report, allow_nan=False))
    assert report["schema_version"] == 1
    counts = {key: report["dataset"][key] for key in ("n_train", "n_validate", "n_test", "n_calibrate")}
    assert counts == {"n_train": 8, "n_validate": 1, "n_test": 2, "n_calibrate": 4}
    assert {row["file"]: row["ships"] for row in report["models"]} == {
        f"models/{row['file']}": row["precision"] == "int8" for row in MODELS
    }
    assert [Check(**check) for check in report["checks"]] == CHECKS


def test_every_key_of_the_type_is_written_and_no_other():
    assert reported().keys() == Report.__annotations__.keys()
    assert reported()["models"][0].keys() <= ReportModel.__annotations__.keys()


def test_a_file_that_was_not_measured_has_empty_figures():
    measurements = {**measured(), "files": {}, "keras": {}, "machine": {}}
    row = reported(measurements=measurements)["models"][0]
    assert [row[key] for key in ("accuracy", "latency", "confusion", "placement", "against_float")] == [{}] * 5


def test_an_estimate_that_could_not_be_made_says_why():
    report = reported(estimates={"student.int8.tflite": "nothing is published"}, estimates_accepted=True)
    assert report["estimates"] == {"models/student.int8.tflite": {"why_not": "nothing is published"}}
    assert report["estimates_accepted"] is True
