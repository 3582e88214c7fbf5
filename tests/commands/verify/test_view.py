"""What `edgetl verify` shows fits 80 columns, however many classes there are and whatever they are called."""

from __future__ import annotations

import io
from dataclasses import asdict
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from edgetl.commands.verify.view import print_verification
from edgetl.measure.accuracy import accuracy, confusion
from edgetl.measure.by_class import by_class
from edgetl.measure.calibration import calibration
from edgetl.measure.parity import parity
from edgetl.verdicts.check import Check


def found(names: list[str], file: str) -> dict[str, Any]:
    """A verification of one file alone, on 20 photos a class, each fourth of which is taken for the next class."""
    labels = np.arange(20 * len(names)) % len(names)
    answers = np.where(np.arange(len(labels)) % 4 == 3, (labels + 1) % len(names), labels)
    shares = np.where(np.eye(len(names))[answers] > 0, 0.9, 0.1 / (len(names) - 1))
    counts = confusion(shares, labels)
    row = {
        "accuracy": accuracy(shares, labels),
        "confusion": counts,
        "by_class": by_class(counts, names),
        "calibration": calibration(shares, labels),
        "against_float": None,
    }
    return {
        "notes": [f"{file}: classes: a guess."],
        "bundle": None,
        "files": [{"name": file, "ships": False, "precision": ""}],
        "reference": None,
        "data": {"trained_on": False, "left_out": [], "split": "all", "n": len(labels)},
        "versions": {f"{file}@litert-cpu": row},
        "parity_matrix": {"pairs": []},
        "checks": [],
        "diagnoses": [],
    }


def shown(data: dict[str, Any]) -> str:
    console = Console(file=io.StringIO(), width=80, highlight=False)
    print_verification(console, data)
    return console.file.getvalue()  # type: ignore[attr-defined]


@pytest.mark.parametrize("count", [2, 7, 12, 13, 200])
def test_any_number_of_classes_fits(count):
    names = [f"a class with a long name, number {i}" for i in range(count)]
    file = "a_model_file_with_a_name_longer_than_any_column.onnx"
    checks = [
        check(metric, metric, f"{file}@ort-cpu = {file}@ort-xnnpack") for metric in ("fail", "inconclusive", "pass")
    ]
    text = shown(found(names, file) | {"checks": checks})
    assert max(len(line) for line in text.splitlines()) <= 80
    assert "…" not in text
    assert ("Worst confusions" in text) == (count > 12)
    if count == 200:
        assert "the worst 12 of 200" in text


def test_counts_stand_where_they_belong():
    text = shown(found(["cat", "dog"], "net.onnx"))
    lines = [line.split() for line in text.splitlines()]
    # 40 photos, each fourth wrong: the 4th, 8th and so on are dogs taken for cats.
    assert ["1", "cat", "20", "."] in lines
    assert ["2", "dog", "10", "10"] in lines


def test_integer_files_are_compared_in_the_steps_that_they_have():
    names = [f"models/student.int16x8.{suffix}" for suffix in ("tflite", "onnx")]
    data = found(["a", "b"], names[0])
    data["files"] = [{"name": name, "ships": True, "precision": "int16x8"} for name in names]
    a, b = np.array([[0.7, 0.3]], np.float32), np.array([[0.7 + 5 / 32768, 0.3 - 5 / 32768]], np.float32)
    pair = parity(a, b, np.array([0]), step=1 / 32768)
    data["parity_matrix"] = {"pairs": [{"a": f"{names[0]}@litert-cpu", "b": f"{names[1]}@ort-cpu", **pair}]}
    assert "5.0 of 1/32768" in shown(data)


MISTAKE = {
    "file": "net.onnx",
    "backend": "ort-cpu",
    "of": "accuracy",
    "n": 40,
    "outcome": "named",
    "names": ["BGR"],
    "right": {"share": 0.5, "interval": (0.4, 0.6)},
    "best": {"share": 0.9, "interval": (0.8, 1.0)},
    "expected": None,
    "golden_made_with": None,
    "contract": "RGB",
    "wanted": ["BGR"],
    "singles_tried": 16,
    "pairs_tried": 0,
    "same_here": [],
}


def check(metric: str, status: str, subject: str = "net.onnx@ort-cpu") -> dict[str, Any]:
    measured = None if status == "unmeasured" else 12.5
    return asdict(Check(metric, subject, 8.0, measured, None, status, f"why {metric} is {status}"))


def test_what_failed_and_why_come_before_all_tables_and_what_passed_is_counted():
    data = found(["cat", "dog"], "net.onnx") | {"diagnoses": [MISTAKE]}
    data["checks"] = [
        *(check("golden", "pass", f"{i}.onnx@ort-cpu") for i in range(30)),
        check("model_bytes", "pass"),
        check("top1_disagreement", "inconclusive"),
        check("golden", "unmeasured"),
        check("top1_drop_pp", "fail"),
    ]
    text = " ".join(shown(data).split())
    in_order = (
        "net.onnx: classes: a guess.",
        "1 of 34 checks failed",
        "fail top1_drop_pp net.onnx@ort-cpu: 12.50, limit 8.00; why top1_drop_pp is fail",
        "Why: net.onnx@ort-cpu With BGR, it is right on 90.0 %",
        "fix: prepare photos as the file expects them",
        "file runtime top-1",
        "Confusion: net.onnx",
        "inconclusive top1_disagreement net.onnx@ort-cpu: ",
        "unmeasured golden net.onnx@ort-cpu: why golden is unmeasured",
        "31 of 34 checks passed (30 golden, 1 model_bytes), 1 inconclusive, 1 unmeasured, 1 failed, listed at the top;",
    )
    places = [text.find(part) for part in in_order]
    assert -1 not in places and places == sorted(places), dict(zip(in_order, places, strict=True))
    assert text.count("top1_drop_pp net.onnx") == 1, "a check that failed is told once"
    assert "7.onnx@ort-cpu" not in text, "what passed has no line of its own"


def test_where_all_is_well_no_word_of_failing_is_said():
    data = found(["cat", "dog"], "net.onnx") | {"checks": [check("golden", "pass")]}
    text = shown(data)
    assert "fail" not in text and "inconclusive" not in text
    assert text.splitlines()[-1] == "1 of 1 checks passed (1 golden); --json has every check with its figures."


def test_names_do_not_speak_to_the_terminal():
    text = shown(found(["[red]cat[/red]", "[/]dog"], "[bold]net.onnx"))
    for name in ("[red]cat[/red]", "[/]dog", "[bold]net.onnx"):
        assert name in text
    data = found(["cat", "dog"], "net.onnx") | {"checks": [check("golden", "fail", "[red]a[/red]@ort-cpu")]}
    assert "fail golden [red]a[/red]@ort-cpu" in shown(data)
