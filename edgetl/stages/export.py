"""The model files: teacher and student in every format and precision, from one folded graph and one set of integers.

A kind of file is one row of FILES and one function that writes it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import onnx
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter

from edgetl.backbones.models import ModelSpec, load_model
from edgetl.core.errors import TrainingError
from edgetl.core.store import Artifact, file_sha256
from edgetl.formats.write.onnx_float import write_onnx_float
from edgetl.formats.write.onnx_int8 import write_onnx_int8
from edgetl.formats.write.tflite_float import write_tflite_float
from edgetl.formats.write.tflite_int8 import write_tflite_int8
from edgetl.graph.fold import fold
from edgetl.graph.graph import Graph
from edgetl.quantization.integers import PROBABILITIES, Quantized
from edgetl.quantization.net import QuantizedNet, load_quantized
from edgetl.stages.context import Context
from edgetl.stages.records import ModelFile, Role, TensorGrid

# The smallest versions that have the files' operators: TFLite op versions; ONNX opset 17 with IR version 8 (21 and 10 for
# 16-bit activations).
_SMALLEST_RUNTIMES = {"tflite": "TensorFlow Lite 2.5 or any LiteRT", "onnx": "ONNX Runtime 1.12"}
_SMALLEST_FOR_INT16 = {**_SMALLEST_RUNTIMES, "onnx": "ONNX Runtime 1.18"}


@dataclass(frozen=True)
class Source:
    """What a file is written from. quantized: the grids, for the rows of FILES that have no precision of their own."""

    spec: ModelSpec
    role: Role
    classes: Sequence[str]
    graph: Graph
    precision: str
    opset: int
    quantized: QuantizedNet | None = None

    @property
    def description(self) -> str:
        """For people who open the file."""
        spec = self.spec
        return f"edgetl {self.role}: {spec.backbone} at {spec.input_size_px} px, {len(self.classes)} classes"

    @property
    def labels(self) -> dict[str, bytes]:
        """A TFLite file's metadata."""
        return {"labels.txt": "\n".join(self.classes).encode()}

    @property
    def properties(self) -> dict[str, str]:
        """An ONNX file's metadata."""
        normalization = self.spec.normalization
        return {
            "labels": "\n".join(self.classes),
            "preprocessing": json.dumps({"mean": normalization.mean, "scale": normalization.scale}),
        }

    @property
    def net(self) -> QuantizedNet:
        """quantized, where there is one."""
        assert self.quantized is not None
        return self.quantized

    @cached_property
    def integers(self) -> dict[str, Quantized]:
        """Of the quantized net, by node name."""
        return self.net.integers()

    @property
    def input_grid(self) -> tuple[float, int]:
        """Scale and zero point of the image as int8."""
        grid = self.integers[self.graph.input.name]
        return grid.scale, grid.zero_point


@dataclass(frozen=True)
class FileKind:
    """precision: None: the quantized net's own. write: makes the file. input, output: as models.json describes them."""

    role: Role
    precision: str | None
    format: str
    write: Callable[[Source, Path], None]
    input: Callable[[Source], TensorGrid]
    output: Callable[[Source], TensorGrid]


def run(options: Mapping[str, Any], inputs: Mapping[str, Artifact], context: Context) -> None:
    """Writes the model files and models.json: each with its sizes and its input and output grids."""
    classes = json.loads((inputs["dataset"].path / "dataset.json").read_text())["classes"]
    models = {role: load_model(inputs[role].path) for role in ("student", "teacher")}
    graphs = {role: fold(model) for role, (_, model) in models.items()}
    net = load_quantized(inputs["quantized"].path) if "quantized" in inputs else None
    kinds = [kind for kind in FILES if kind.precision is not None or net is not None]
    context.progress.begin(len(kinds), unit="files")
    rows: list[ModelFile] = []
    for kind in kinds:
        graph, precision, quantized = graphs[kind.role], kind.precision, None
        if precision is None:
            assert net is not None
            graph, precision, quantized = net.graph, net.precision, net
        spec, _ = models[kind.role]
        source = Source(spec, kind.role, classes, graph, precision, options["opset"], quantized)
        row = _export(kind, source, context.out)
        rows.append(row)
        context.progress.advance(1, row["file"])
        tf.keras.backend.clear_session()
    (context.out / "models.json").write_text(json.dumps(rows, indent=1))


def _export(kind: FileKind, source: Source, folder: Path) -> ModelFile:
    """Write one file and check it. Raises TrainingError if it is not as intended."""
    file = folder / f"{kind.role}.{source.precision}.{kind.format}"
    kind.write(source, file)
    runtimes = _SMALLEST_FOR_INT16 if source.precision == "int16x8" else _SMALLEST_RUNTIMES
    row: ModelFile = {
        "file": file.name,
        "role": kind.role,
        "format": kind.format,
        "precision": source.precision,
        "macs": source.graph.macs(),
        "params": source.graph.parameters(),
        "input": kind.input(source),
        "output": kind.output(source),
        "bytes": file.stat().st_size,
        "sha256": file_sha256(file),
        "runtime": runtimes[kind.format],
    }
    if kind.format == "tflite":
        _check_tflite(file, row)
    return row


# ---- float ----


def _float_image(source: Source) -> TensorGrid:
    return {"name": "image", "dtype": "float32"}


def _float_probabilities(source: Source) -> TensorGrid:
    return {"name": "probabilities", "dtype": "float32"}


def _write_tflite_float(source: Source, file: Path) -> None:
    data = write_tflite_float(
        source.graph, precision=source.precision, description=source.description, metadata=source.labels
    )
    file.write_bytes(data)


def _write_onnx_float(source: Source, file: Path) -> None:
    model = write_onnx_float(
        source.graph, opset=source.opset, description=source.description, metadata=source.properties
    )
    onnx.save(model, file)


# ---- integers ----


def _int8_image(source: Source) -> TensorGrid:
    scale, zero_point = source.input_grid
    return {"name": "image", "dtype": "int8", "scale": scale, "zero_point": zero_point}


def _uint8_image(source: Source) -> TensorGrid:
    scale, zero_point = source.input_grid
    return {"name": "image", "dtype": "uint8", "scale": scale, "zero_point": zero_point + 128}


def _integer_probabilities(source: Source) -> TensorGrid:
    dtype = "int8" if source.net.activation_bits == 8 else "int16"
    scale, zero_point = PROBABILITIES[dtype]
    return {"name": "probabilities", "dtype": dtype, "scale": scale, "zero_point": zero_point}


def _write_tflite_int8(source: Source, file: Path) -> None:
    data = write_tflite_int8(
        source.graph,
        source.integers,
        float_nodes=source.net.float_nodes,
        description=source.description,
        metadata=source.labels,
    )
    file.write_bytes(data)


def _write_onnx_int8(source: Source, file: Path) -> None:
    scale, zero_point = source.input_grid
    grid = {"input_scale": repr(scale), "input_zero_point": str(zero_point + 128)}
    model = write_onnx_int8(
        source.graph,
        source.integers,
        float_nodes=source.net.float_nodes,
        opset=source.opset,
        description=source.description,
        metadata={**source.properties, **grid},
    )
    onnx.save(model, file)


# In the order of models.json. Every ONNX file goes through onnx.checker when it is written.
FILES = (
    FileKind("student", "float32", "tflite", _write_tflite_float, _float_image, _float_probabilities),
    FileKind("student", "float16", "tflite", _write_tflite_float, _float_image, _float_probabilities),
    FileKind("student", "dynamic", "tflite", _write_tflite_float, _float_image, _float_probabilities),
    FileKind("student", "float32", "onnx", _write_onnx_float, _float_image, _float_probabilities),
    FileKind("teacher", "float32", "tflite", _write_tflite_float, _float_image, _float_probabilities),
    FileKind("student", None, "tflite", _write_tflite_int8, _int8_image, _integer_probabilities),
    FileKind("student", None, "onnx", _write_onnx_int8, _uint8_image, _float_probabilities),
)


def _check_tflite(file: Path, row: ModelFile) -> None:
    """Raises TrainingError if LiteRT does not open the file, or finds other inputs and outputs in it than the row has."""
    try:
        interpreter = Interpreter(model_path=str(file))
        interpreter.allocate_tensors()
    except (ValueError, RuntimeError) as error:
        raise TrainingError(
            f"LiteRT refuses {file.name}, which was just written.",
            why=str(error),
            fix="this is a bug: please report it",
        ) from None
    details = (interpreter.get_input_details()[0], interpreter.get_output_details()[0])
    found = [(detail["name"], detail["dtype"].__name__) for detail in details]
    expected = [(tensor["name"], tensor["dtype"]) for tensor in (row["input"], row["output"])]
    if found != expected:
        raise TrainingError(
            f"{file.name} has other inputs or outputs than intended.",
            why=f"the file has {found}, expected {expected}",
            fix="this is a bug: please report it",
        )
