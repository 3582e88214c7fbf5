"""A made-up build of six files, as the stages record it: what judge, make_report and the page read."""

from __future__ import annotations

from edgetl.verdicts.check import Check

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


FLOAT32, FLOAT16, INT8 = (
    f"models/student.{precision}.tflite@litert-cpu" for precision in ("float32", "float16", "int8")
)
INT8_ONNX = "models/student.int8.onnx@ort-cpu"


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


def parity(b, *, a="keras:student", max_abs=1e-6, agreement=1.0, n=300, **more):
    """A row of measurements' "parity"."""
    return {"a": a, "b": b, "n": n, "top1_agreement": agreement, "max_abs": max_abs, "lost": 0, "gained": 0, **more}


def one(checks, metric, part="student.int8.tflite") -> Check:
    """The only check of a metric with `part` in its subject."""
    found = [check for check in checks if check.metric == metric and part in check.subject]
    assert len(found) == 1, checks
    return found[0]
