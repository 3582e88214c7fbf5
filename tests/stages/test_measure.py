"""The verify stage: which pairs are compared, in which steps, and that every file is timed in every round."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from edgetl.dataset.samples import Samples
from edgetl.stages import measure
from edgetl.stages.measure import _Measured, _Opened

N, CLASSES = 6, 3
FILES = {
    "student.float32.tflite": ("litert-cpu",),
    "student.dynamic.tflite": ("litert-cpu",),
    "student.int8.tflite": ("litert-cpu",),
    "student.int8.onnx": ("ort-cpu", "ort-cuda"),
    "student.float32.onnx": (),  # no runtime here opens it
    "teacher.float32.tflite": ("litert-cpu",),
}
STEPS = {"student.int8.tflite@litert-cpu": 1 / 256, "student.int8.onnx@ort-cpu": 1 / 128}


class FakeSession:
    """A session that counts its runs."""

    def __init__(self, name: str) -> None:
        self.output_step = STEPS.get(name, 0.0)
        self.invoked = 0

    def invoke(self) -> None:
        self.invoked += 1

    def placement(self) -> Any:
        return SimpleNamespace(ops={"XNNPACK": 7})


@pytest.fixture
def opened() -> _Opened:
    rows: Any = [
        dict(zip(("file", "role", "precision", "format"), (name, *name.split(".")), strict=True)) for name in FILES
    ]
    names = [f"{file}@{runtime}" for file, runtimes in FILES.items() for runtime in runtimes]
    sessions: Any = {name: FakeSession(name) for name in names}
    references = dict.fromkeys(("teacher", "student", "quantized"))
    return _Opened(rows, sessions, {"ort-cpu": "not installed"}, references, {})


@pytest.fixture
def measured(opened: _Opened) -> _Measured:
    """Every version gives the right answers, with probabilities that differ by its place in the list."""
    labels = np.arange(N, dtype=np.int32) % CLASSES
    names = [*(f"keras:{role}" for role in opened.references), *opened.sessions]
    probabilities = {}
    for i, name in enumerate(names):
        right = np.float32(0.9 - 0.01 * i)
        found = np.full((N, CLASSES), (1 - right) / (CLASSES - 1), np.float32)
        found[np.arange(N), labels] = right
        probabilities[name] = found
    test = Samples(tuple(Path(f"{i}.jpg") for i in range(N)), labels, tuple(f"{i:064}" for i in range(N)))
    return _Measured(probabilities, {name: [1.0, 2.0, 3.0] * 20 for name in opened.sessions}, test, threads=2)


@pytest.fixture
def written(opened: _Opened, measured: _Measured, tmp_path: Path) -> dict[str, Any]:
    students = measure._student_versions(opened, measured.probabilities)
    measure._write_measurements(opened, measured, students, tmp_path)
    with np.load(tmp_path / "predictions.npz") as saved:
        assert set(saved) == {"labels", *measured.probabilities}
    data: dict[str, Any] = json.loads((tmp_path / "measurements.json").read_text())
    return data


def test_each_file_is_compared_with_the_keras_model_it_was_exported_from(written: dict[str, Any]) -> None:
    pairs = [(pair["a"], pair["b"]) for pair in written["parity"] if pair["a"].startswith("keras:")]
    assert pairs == [
        ("keras:student", "models/student.float32.tflite@litert-cpu"),
        ("keras:quantized", "models/student.int8.tflite@litert-cpu"),
        ("keras:quantized", "models/student.int8.onnx@ort-cpu"),
        ("keras:quantized", "models/student.int8.onnx@ort-cuda"),
        ("keras:teacher", "models/teacher.float32.tflite@litert-cpu"),
    ]


def test_integer_files_are_compared_with_each_other_in_the_coarser_step(written: dict[str, Any]) -> None:
    pairs = {(pair["a"], pair["b"]): pair for pair in written["parity"] if not pair["a"].startswith("keras:")}
    tflite, ort, cuda = (f"models/student.int8.{end}" for end in ("tflite@litert-cpu", "onnx@ort-cpu", "onnx@ort-cuda"))
    assert set(pairs) == {(tflite, ort), (tflite, cuda), (ort, cuda)}
    assert pairs[tflite, ort]["output_step"] == 1 / 128 and pairs[tflite, cuda]["output_step"] == 1 / 256
    assert not any("flipped" in pair for pair in pairs.values())


def test_the_matrix_has_every_version_of_the_student_and_none_of_the_teacher(written: dict[str, Any]) -> None:
    names = written["parity_matrix"]["names"]
    assert names[:2] == ["keras:student", "keras:quantized"]
    assert len(names) == 7 and not any("teacher" in name for name in names)
    assert len(written["parity_matrix"]["pairs"]) == 7 * 6 // 2


def test_a_file_is_compared_with_the_float_model_of_its_role_on_every_runtime(
    written: dict[str, Any], measured: _Measured
) -> None:
    entry = written["files"]["student.int8.onnx"]
    for part in ("accuracy", "latency", "confusion", "placement", "against_float"):
        assert set(entry[part]) == {"ort-cpu", "ort-cuda"}
    apart = np.abs(
        measured.probabilities["keras:student"] - measured.probabilities["student.int8.onnx@ort-cpu"].astype(float)
    )
    assert entry["against_float"]["ort-cpu"]["max_abs"] == pytest.approx(apart.max())
    assert entry["latency"]["ort-cpu"]["threads"] == 2 and entry["placement"]["ort-cpu"] == {"XNNPACK": 7}
    assert entry["confusion"]["ort-cpu"] == [[2, 0, 0], [0, 2, 0], [0, 0, 2]]


def test_a_file_that_no_runtime_opens_has_an_empty_entry(written: dict[str, Any]) -> None:
    assert all(part == {} for part in written["files"]["student.float32.onnx"].values())


def test_a_runtime_that_is_missing_is_recorded_with_its_reason(written: dict[str, Any]) -> None:
    assert written["runtimes"]["ort-cpu"] == "not installed" and written["runtimes"]["litert-cpu"] == "ready"


def test_every_file_is_timed_in_each_of_ten_rounds(opened: _Opened) -> None:
    counted: list[int] = []
    progress: Any = SimpleNamespace(begin=lambda *_, **__: None, advance=counted.append)
    times_ms = measure._time(opened, warmup_runs=5, runs=35, progress=progress)
    # The first round warms up as the recipe says, the other nine with two runs each.
    assert {name: len(found) for name, found in times_ms.items()} == dict.fromkeys(opened.sessions, 30)
    assert {session.invoked for session in opened.sessions.values()} == {5 + 9 * 2 + 30}  # type: ignore[attr-defined]
    assert sum(counted) == 10 * len(opened.sessions)
