"""What a model file without a bundle states about its input, its output and its classes.

LiteRT or ONNX Runtime opens the file in this process, so this is for files that the user trusts enough to run.
`edgetl inspect` is for the others.
"""

from __future__ import annotations

import contextlib
import io
import json
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgetl.core.errors import DataError, MissingError
from edgetl.core.words import printable
from edgetl.formats.files import check_path
from edgetl.formats.read.records import InputGrid
from edgetl.tasks.photos.contract import Normalization

_LARGEST_LABELS_BYTES = 1 << 20
_DTYPES = {"tensor(float)": "float32", "tensor(uint8)": "uint8"}


@dataclass(frozen=True)
class Signature:
    """size_px: of the square input. planes: NCHW, otherwise NHWC. grid: {dtype, and for integers scale and zero_point};
    scale is 0.0 if the file has none. outputs: numbers per photo. labels, normalization: None if the file has none."""

    size_px: int
    planes: bool
    grid: InputGrid
    outputs: int
    labels: tuple[str, ...] | None
    normalization: Normalization | None


def read_signature(path: Path) -> Signature:
    """Raises DataError for a file that is not a classifier of square photos, MissingError without its format's runtime."""
    name = printable(str(path), 4096)
    check_path(path, name)
    try:
        return _of_tflite(path, name) if path.suffix == ".tflite" else _of_onnx(path, name)
    except ModuleNotFoundError as error:
        if error.name not in ("ai_edge_litert", "onnxruntime"):
            raise
        package = error.name.replace("_", "-")
        raise MissingError(
            f"{name} cannot be opened.", why=f"{package} is not installed", fix=f"pip install {package}"
        ) from None


def _of_tflite(path: Path, name: str) -> Signature:
    from ai_edge_litert.interpreter import Interpreter

    try:
        interpreter = Interpreter(model_path=str(path), num_threads=1)
        image, answer = interpreter.get_input_details(), interpreter.get_output_details()
    except (ValueError, RuntimeError) as error:
        raise _refused(name, "LiteRT", error) from None
    _single(name, len(image), len(answer))
    scale, zero_point = image[0]["quantization"]
    grid: InputGrid = {"dtype": np.dtype(image[0]["dtype"]).name, "scale": float(scale), "zero_point": int(zero_point)}
    size, planes = _square(name, [int(side) for side in image[0]["shape"]])
    return Signature(size, planes, _grid(name, grid), int(answer[0]["shape"][-1]), _tflite_labels(path), None)


def _of_onnx(path: Path, name: str) -> Signature:
    import onnxruntime as ort
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    # ONNX Runtime's exceptions have no common base class.
    refusals = (
        state.Fail,
        state.InvalidArgument,
        state.InvalidGraph,
        state.InvalidProtobuf,
        state.NotImplemented,
        state.RuntimeException,
    )
    options = ort.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads = 3, 1
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    try:
        session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except refusals as error:
        raise _refused(name, "ONNX Runtime", error) from None
    image, answer = session.get_inputs(), session.get_outputs()
    _single(name, len(image), len(answer))
    said = session.get_modelmeta().custom_metadata_map
    grid: InputGrid = {
        "dtype": _DTYPES.get(image[0].type, image[0].type),
        "scale": float(said.get("input_scale", 0.0)),
        "zero_point": int(said.get("input_zero_point", 0)),
    }
    outputs = answer[0].shape[-1] if answer[0].shape else None
    if not isinstance(outputs, int):
        raise DataError(f"{name} does not state its number of outputs.", fix="export it with a fixed output shape")
    size, planes = _square(name, image[0].shape)
    labels = tuple(said["labels"].split("\n")) if said.get("labels") else None
    return Signature(size, planes, _grid(name, grid), outputs, labels, _normalization(said.get("preprocessing")))


def _refused(name: str, runtime: str, error: Exception) -> DataError:
    return DataError(
        f"{name} is refused by {runtime}.", why=printable(str(error).strip(), 300), fix="export it or copy it again"
    )


def _single(name: str, inputs: int, outputs: int) -> None:
    if (inputs, outputs) != (1, 1):
        raise DataError(
            f"{name} is not an image classifier.",
            why=f"it has {inputs} inputs and {outputs} outputs; one photo as input and one row of outputs are needed",
            fix="export it with one of each",
        )


def _square(name: str, shape: Any) -> tuple[int, bool]:
    """(pixels per side, whether channels come first). A batch of any size is run with one photo at a time."""
    sides = list(shape)[1:] if len(shape) == 4 else []
    for planes in (False, True):
        channels, size = (sides[:1], sides[1:]) if planes else (sides[2:], sides[:2])
        if channels == [3] and size[0] == size[1] and isinstance(size[0], int) and size[0] > 0:
            return size[0], planes
    raise DataError(
        f"{name} does not take square RGB photos.",
        why=f"its input's shape is {list(shape)}; [1, side, side, 3] and [1, 3, side, side] are known",
        fix="export it with a fixed input of that shape",
    )


def _grid(name: str, grid: InputGrid) -> InputGrid:
    if grid["dtype"] == "float32":
        return {"dtype": "float32"}
    if grid["dtype"] not in ("int8", "uint8"):
        raise DataError(
            f"{name} takes {grid['dtype']}.",
            why="float32, int8 and uint8 inputs are run",
            fix="export it with one of these",
        )
    return grid


def _normalization(text: str | None) -> Normalization | None:
    """The normalization that our exporter writes into ONNX files: {"mean": [3], "scale": [3]} in pixel units; None for anything else."""
    with contextlib.suppress(ValueError, KeyError, TypeError):
        found = Normalization.from_json(json.loads(text or ""))
        if len(found.mean) == len(found.scale) == 3 and np.isfinite([*found.mean, *found.scale]).all():
            return found if 0 not in found.scale else None
    return None


def _tflite_labels(path: Path) -> tuple[str, ...] | None:
    """From the metadata buffer `labels.txt`, which our exporter writes; otherwise from the only file of labels in the ZIP
    that TFLite Metadata tools append."""
    from ai_edge_litert import schema_py_generated as schema

    data = path.read_bytes()
    model = schema.Model.GetRootAs(data, 0)
    for i in range(model.MetadataLength()):
        entry = model.Metadata(i)
        if entry.Name() == b"labels.txt" and entry.Buffer() < model.BuffersLength():
            content = model.Buffers(entry.Buffer()).DataAsNumpy()
            if isinstance(content, np.ndarray):
                return _lines(content.tobytes())
    if zipfile.is_zipfile(io.BytesIO(data)):
        damage = (zipfile.BadZipFile, OSError, RuntimeError, NotImplementedError, EOFError)
        with contextlib.suppress(*damage), zipfile.ZipFile(io.BytesIO(data)) as archive:
            named = [entry for entry in archive.infolist() if "label" in entry.filename.lower()]
            if len(named) == 1 and named[0].file_size <= _LARGEST_LABELS_BYTES:
                return _lines(archive.read(named[0]))
    return None


def _lines(data: bytes) -> tuple[str, ...]:
    return tuple(data.decode("utf-8", "replace").removesuffix("\n").splitlines())
