"""edgetl/README.md says how to add a target, a runtime, a backbone and a stage. Here its own examples are added, and run."""

from __future__ import annotations

import ast
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

_BLOCK = re.compile(r"^```\w+ (file|entry)=(\S+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
Edgetl = Callable[..., subprocess.CompletedProcess[str]]


def add_entry(catalogue: Path, name: str, entry: str) -> None:
    """Put an entry behind the last one of the dict literal called `name`."""
    text = catalogue.read_text(encoding="utf-8")
    (table,) = [
        node.value
        for node in ast.parse(text).body
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.target.id == name
    ]
    assert isinstance(table, ast.Dict) and table.end_lineno is not None
    lines = text.splitlines(keepends=True)
    lines.insert(table.end_lineno - 1, entry)
    catalogue.write_text("".join(lines), encoding="utf-8")


@pytest.fixture(scope="module")
def extended(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the checkout with everything added that the README's blocks say."""
    copy = tmp_path_factory.mktemp("extended")
    for folder in ("edgetl", "targets", "calibration"):
        shutil.copytree(repository / folder, copy / folder, ignore=shutil.ignore_patterns("__pycache__"))
    blocks = _BLOCK.findall((repository / "edgetl" / "README.md").read_text(encoding="utf-8"))
    kinds = [f"{kind} {place.rpartition('/')[0]}" for kind, place, _ in blocks]
    for room in ("targets", "edgetl/runtimes", "edgetl/backbones", "edgetl/stages"):
        assert kinds.count(f"file {room}") == 1, "one file each"
    for kind, place, text in blocks:
        if kind == "file":
            assert not (copy / place).exists()
            (copy / place).write_text(text, encoding="utf-8")
        else:
            file, _, name = place.partition(":")
            assert text.count("\n") == 1, "an entry is one line here"
            add_entry(copy / file, name, text)
    return copy


@pytest.fixture(scope="module")
def edgetl(extended: Path, tmp_path_factory: pytest.TempPathFactory) -> Edgetl:
    cache = tmp_path_factory.mktemp("cache")

    def run(*arguments: object) -> subprocess.CompletedProcess[str]:
        env = {**os.environ, "PYTHONPATH": str(extended), "EDGETL_CACHE": str(cache), "COLUMNS": "80", "NO_COLOR": "1"}
        command = [sys.executable, "-m", "edgetl", *map(str, arguments)]
        return subprocess.run(command, cwd=cache, env=env, capture_output=True, text=True, timeout=300, check=False)

    return run


@pytest.fixture(scope="module")
def float_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An ONNX file that takes a float image: a matrix and a softmax."""
    path = tmp_path_factory.mktemp("model") / "linear.onnx"
    weights = np.random.default_rng(0).normal(0, 0.1, (192, 3)).astype(np.float32)
    graph = helper.make_graph(
        [
            helper.make_node("Flatten", ["image"], ["flat"]),
            helper.make_node("MatMul", ["flat", "weights"], ["logits"]),
            helper.make_node("Softmax", ["logits"], ["probabilities"]),
        ],
        "linear",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 8, 8, 3])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, [1, 3])],
        [numpy_helper.from_array(weights, "weights")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three classes of 20 photos, each of a colour with noise: anything that trains tells them apart."""
    folder = tmp_path_factory.mktemp("photos")
    random = np.random.default_rng(0)
    for channel, label in enumerate(("blue", "green", "red")):
        (folder / label).mkdir()
        for i in range(20):
            pixels = random.integers(0, 90, (40, 40, 3), dtype=np.uint8)
            pixels[..., 2 - channel] += 120
            Image.fromarray(pixels).save(folder / label / f"{i}.png")
    return folder


def test_the_target_is_listed_checked_and_may_name_the_runtime(edgetl: Edgetl, extended: Path) -> None:
    listed = json.loads(edgetl("targets", "list", "--json").stdout)
    assert "fake-board" in [target["name"] for target in listed["targets"]]
    checked = edgetl("targets", "check", extended / "targets" / "fake-board.toml")
    assert checked.returncode == 0, checked.stderr


def test_the_runtime_is_known_to_doctor_and_measured_by_bench(
    edgetl: Edgetl, float_model: Path, extended: Path
) -> None:
    found = json.loads(edgetl("doctor", "--json").stdout)["runtimes"]["onnx-reference"]
    assert found["available"] and found["device"] == "numpy" and found["version"] == onnx.__version__
    done = edgetl("bench", float_model, "-b", "onnx-reference", "-b", "ort-cpu", "--seconds", "0.3", "--json")
    assert done.returncode == 0, done.stderr
    rows = {row["backend"]: row for row in json.loads(done.stdout)["rows"]}
    assert rows["onnx-reference"]["status"] == "ok" and rows["onnx-reference"]["p50_ms"] > 0
    assert set(rows["onnx-reference"]["placement"]["ops"]) == {"numpy"}
    estimated = edgetl("estimate", float_model, "--target", "fake-board", "--json")
    assert estimated.returncode in (0, 7, 8), estimated.stderr


def test_the_runtime_answers_as_the_others_do(edgetl: Edgetl, float_model: Path, photos: Path) -> None:
    done = edgetl("verify", float_model, "--data", photos, "--backend", "onnx-reference", "--json")
    assert done.returncode in (0, 6), done.stderr
    assert "onnx-reference" in done.stdout
    checks = json.loads(done.stdout)["checks"]
    # Its weights are random, so it is wrong; on every backend alike.
    (pair,) = [check for check in checks if check["subject"] == "linear.onnx@ort-cpu = linear.onnx@onnx-reference"]
    assert pair["metric"] == "top1_disagreement" and pair["measured"] == 0.0


def test_the_backbone_the_stage_and_the_target_are_built(edgetl: Edgetl, photos: Path, tmp_path: Path) -> None:
    done = edgetl(
        "build", photos, "--target", "fake-board", "--teacher", "tinynet", "--student", "tinynet", "--weights", "none",
        "--input-size", "32", "--effort", "quick", "--quantize", "ptq", "--out", tmp_path / "out", "--json",
    )  # fmt: skip
    assert done.returncode in (0, 6), done.stderr
    report = json.loads(done.stdout)["results"][0]["report"]
    assert [stage["name"] for stage in report["stages"]][-1] == "sizes"
    assert report["recipe"]["student"]["backbone"] == "tinynet"
    assert "list sizes" in done.stderr
    shipped = [model["file"] for model in report["models"] if model["ships"]]
    assert shipped == ["models/student.int8.tflite", "models/student.int8.onnx"]
    unmeasured = [check for check in report["checks"] if check["subject"] == "student.int8.onnx@onnx-reference"]
    assert [check["status"] for check in unmeasured] == ["unmeasured"], "build uses the default backends only"
    again = edgetl("plan", photos, "--target", "fake-board", "--teacher", "tinynet", "--student", "tinynet",
                   "--weights", "none", "--input-size", "32", "--effort", "quick", "--quantize", "ptq", "--json")  # fmt: skip
    assert all(step["cached"] for step in json.loads(again.stdout)["plans"][0]["steps"])
