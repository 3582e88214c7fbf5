"""models.json against the files themselves, for a net of two layers."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from ai_edge_litert.interpreter import Interpreter
from tf_keras import Model, layers

from edgetl.backbones import vgg16
from edgetl.backbones.models import ModelSpec, build_classifier, load_model, save_model, set_seeds
from edgetl.core.errors import TrainingError
from edgetl.core.store import Artifact, file_sha256
from edgetl.graph.fold import fold
from edgetl.quantization.net import QuantizedNet, save_quantized
from edgetl.stages import export
from edgetl.stages.context import Context

CLASSES = ["cat", "dog", "elk"]
RANGES = {"image": (-1.0, 1.0), "first": (0.0, 2.0), "pooled": (0.0, 2.0), "logits": (-2.0, 2.0)}
FLOAT_FILES = [
    "student.float32.tflite",
    "student.float16.tflite",
    "student.dynamic.tflite",
    "student.float32.onnx",
    "teacher.float32.tflite",
]
Rows = dict[str, dict[str, Any]]


class Recorder:
    def __init__(self) -> None:
        self.total, self.files = 0, []

    def begin(self, total: int, *, done: int = 0, unit: str = "steps") -> None:
        self.total = total

    def advance(self, count: int, detail: str = "") -> None:
        self.files.append(detail)

    def note(self, text: str) -> None: ...


def tiny(backbone: str, input_size_px: int) -> Any:
    image = layers.Input((input_size_px, input_size_px, 3), name="image")
    return Model(image, layers.Conv2D(4, 3, strides=4, activation="relu", name="first")(image))


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., tuple[Path, Rows]]:
    """run(**changes): the folder and the rows, by file, of an export; changes: of the quantized net; None: no such net."""
    base = tmp_path_factory.mktemp("export")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(vgg16, "build", tiny)
        for role, seed in (("student", 1), ("teacher", 2)):
            set_seeds(seed)
            spec = ModelSpec("vgg16", 32, len(CLASSES))
            (base / role).mkdir()
            save_model(base / role, spec, build_classifier(spec))
        graph = fold(load_model(base / "student")[1])
    (base / "dataset").mkdir()
    (base / "dataset" / "dataset.json").write_text(json.dumps({"classes": CLASSES}))
    done: dict[str, tuple[Path, Rows]] = {}

    def run(changes: dict[str, Any] | None = None) -> tuple[Path, Rows]:
        key = repr(changes)
        if key not in done:
            out = base / f"out-{len(done)}"
            out.mkdir()
            folders = {name: base / name for name in ("dataset", "student", "teacher")}
            if changes is not None:
                folders["quantized"] = base / f"quantized-{len(done)}"
                folders["quantized"].mkdir()
                net = dataclasses.replace(QuantizedNet(graph, RANGES), **changes)
                save_quantized(folders["quantized"], net)
            inputs = {name: Artifact("", folder, "", "") for name, folder in folders.items()}
            progress = Recorder()
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(vgg16, "build", tiny)
                export.run({"opset": 17}, inputs, Context(out, base, progress, {}, base))
            rows = json.loads((out / "models.json").read_text())
            assert progress.total == len(progress.files) == len(rows)
            done[key] = out, {row["file"]: row for row in rows}
        return done[key]

    return run


QUANTIZED = pytest.mark.parametrize(
    ("changes", "precision"),
    [({}, "int8"), ({"activation_bits": 16}, "int16x8"), ({"float_nodes": ("first",)}, "int8-float32")],
    ids=["int8", "int16x8", "mixed"],
)


def test_without_a_quantized_net_there_are_the_float_files(exported: Any) -> None:
    folder, rows = exported(None)
    assert list(rows) == FLOAT_FILES
    assert {path.name for path in folder.iterdir()} == {*FLOAT_FILES, "models.json"}


@QUANTIZED
def test_each_precision_is_in_both_formats(exported: Any, changes: dict[str, Any], precision: str) -> None:
    _, rows = exported(changes)
    assert list(rows) == [*FLOAT_FILES, f"student.{precision}.tflite", f"student.{precision}.onnx"]
    for name, row in rows.items():
        assert name == f"{row['role']}.{row['precision']}.{row['format']}"


@QUANTIZED
def test_sizes_and_digests_are_those_of_the_files(exported: Any, changes: dict[str, Any], precision: str) -> None:
    folder, rows = exported(changes)
    for name, row in rows.items():
        assert (row["bytes"], row["sha256"]) == ((folder / name).stat().st_size, file_sha256(folder / name))
        # 3 x 3 x 3 x 4 weights at 8 x 8 positions ("valid" of 32 by 4: 8), and the dense layer.
        assert row["macs"] == 8 * 8 * 108 + 4 * 3
        assert row["params"] == 108 + 4 + 12 + 3


@QUANTIZED
def test_the_grids_are_those_in_the_tflite_files(exported: Any, changes: dict[str, Any], precision: str) -> None:
    folder, rows = exported(changes)
    for name, row in rows.items():
        if row["format"] != "tflite":
            continue
        interpreter = Interpreter(model_path=str(folder / name))
        details = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
        for tensor, detail in zip((row["input"], row["output"]), details, strict=True):
            assert (tensor["name"], tensor["dtype"]) == (detail["name"], detail["dtype"].__name__)
            scale, zero_point = detail["quantization"]
            assert tensor.get("scale", 0.0) == pytest.approx(scale, rel=1e-6)  # a file has float32
            assert tensor.get("zero_point", 0) == zero_point


@QUANTIZED
def test_the_grids_are_those_in_the_onnx_files(exported: Any, changes: dict[str, Any], precision: str) -> None:
    folder, rows = exported(changes)
    kinds = {onnx.TensorProto.FLOAT: "float32", onnx.TensorProto.UINT8: "uint8"}
    for name, row in rows.items():
        if row["format"] != "onnx":
            continue
        model = onnx.load(folder / name)
        image, probabilities = model.graph.input[0], model.graph.output[0]
        for tensor, found in ((row["input"], image), (row["output"], probabilities)):
            assert (tensor["name"], tensor["dtype"]) == (found.name, kinds[found.type.tensor_type.elem_type])
        properties = {entry.key: entry.value for entry in model.metadata_props}
        assert properties["labels"] == "\n".join(CLASSES)
        assert json.loads(properties["preprocessing"])["scale"] == list(vgg16.NORMALIZATION.scale)
        if row["input"]["dtype"] == "uint8":
            assert float(properties["input_scale"]) == row["input"]["scale"]
            assert int(properties["input_zero_point"]) == row["input"]["zero_point"]
            twin = rows[f"student.{precision}.tflite"]["input"]
            assert row["input"]["zero_point"] == twin["zero_point"] + 128, "the same pixels as bytes without a sign"


def test_sixteen_bits_ask_for_a_younger_onnx_runtime(exported: Any) -> None:
    eight, sixteen = exported({})[1], exported({"activation_bits": 16})[1]
    assert eight["student.int8.onnx"]["runtime"] == eight["student.float32.onnx"]["runtime"] == "ONNX Runtime 1.12"
    assert sixteen["student.int16x8.onnx"]["runtime"] == "ONNX Runtime 1.18"
    assert sixteen["student.float32.onnx"]["runtime"] == "ONNX Runtime 1.12"


def test_a_tflite_file_computes_what_its_row_says(exported: Any) -> None:
    """Through the grids of models.json alone, as an app does it."""
    folder, rows = exported({})
    image = np.random.default_rng(0).uniform(-1, 1, (1, 32, 32, 3)).astype(np.float32)
    found = {}
    for name in ("student.float32.tflite", "student.int8.tflite", "teacher.float32.tflite"):
        row = rows[name]
        interpreter = Interpreter(model_path=str(folder / name))
        interpreter.allocate_tensors()
        given = image
        if "scale" in row["input"]:
            given = np.clip(np.round(image / row["input"]["scale"]) + row["input"]["zero_point"], -128, 127)
        index = interpreter.get_input_details()[0]["index"]
        interpreter.set_tensor(index, given.astype(row["input"]["dtype"]))
        interpreter.invoke()
        out = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])[0].astype(np.float64)
        found[name] = (out - row["output"].get("zero_point", 0)) * row["output"].get("scale", 1.0)
    expected = found["student.float32.tflite"]
    # The logits' grid has steps of 4 / 255, the probabilities' of 1 / 256.
    np.testing.assert_allclose(found["student.int8.tflite"], expected, atol=0.02)
    assert np.abs(found["teacher.float32.tflite"] - expected).max() > 0.02, "the teacher is another net"


def row_of(folder: Path, name: str, **changes: Any) -> Any:
    row = next(row for row in json.loads((folder / "models.json").read_text()) if row["file"] == name)
    return {**row, **changes}


def test_a_file_that_litert_refuses_is_a_training_error(exported: Any, tmp_path: Path) -> None:
    folder, _ = exported({})
    file = tmp_path / "student.int8.tflite"
    file.write_bytes(b"no model" * 100)
    with pytest.raises(TrainingError, match=r"LiteRT refuses student\.int8\.tflite") as caught:
        export._check_tflite(file, row_of(folder, file.name))
    assert "report" in caught.value.fix


def test_a_writer_that_leaves_nothing_readable_ends_the_stage(
    exported: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export, "write_tflite_float", lambda *_, **__: b"no model" * 100)
    with pytest.raises(TrainingError, match="LiteRT refuses"):
        exported({"float_nodes": ("logits",)})


@pytest.mark.parametrize("part", ["input", "output"])
@pytest.mark.parametrize("change", [{"dtype": "float32"}, {"name": "other"}], ids=["type", "name"])
def test_a_file_that_is_not_as_its_row_says_is_a_training_error(exported: Any, part: str, change: Any) -> None:
    folder, rows = exported({})
    name = "student.int8.tflite"
    export._check_tflite(folder / name, row_of(folder, name))
    planted = {**rows[name][part], **change}
    with pytest.raises(TrainingError, match="other inputs or outputs than intended"):
        export._check_tflite(folder / name, row_of(folder, name, **{part: planted}))
