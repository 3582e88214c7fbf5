"""The model files: teacher and student in every format and precision, from one folded graph and one set of integers."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import onnx
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter

from edgetl.backbones.models import load_model
from edgetl.core.errors import TrainingError
from edgetl.core.store import Artifact, file_sha256
from edgetl.formats.write.onnx_float import write_onnx_float
from edgetl.formats.write.onnx_int8 import write_onnx_int8
from edgetl.formats.write.tflite_float import write_tflite_float
from edgetl.formats.write.tflite_int8 import write_tflite_int8
from edgetl.graph.fold import fold
from edgetl.quantization.integers import PROBABILITIES
from edgetl.quantization.net import load_quantized
from edgetl.stages.context import Context

# What the files' operators need: TFLite op versions, ONNX opset 17 with IR version 8 (21 and 10 for 16-bit activations).
SMALLEST_RUNTIMES = {"tflite": "TensorFlow Lite 2.5 or any LiteRT", "onnx": "ONNX Runtime 1.12"}
_SMALLEST_FOR_INT16 = {**SMALLEST_RUNTIMES, "onnx": "ONNX Runtime 1.18"}


def run(options: Mapping[str, Any], inputs: Mapping[str, Artifact], context: Context) -> None:
    """Writes the model files and models.json: what each is, its sizes and its input and output grids."""
    classes = json.loads((inputs["dataset"].path / "dataset.json").read_text())["classes"]
    student_spec, student = load_model(inputs["student"].path)
    teacher_spec, teacher = load_model(inputs["teacher"].path)
    student_graph, teacher_graph = fold(student), fold(teacher)
    net = load_quantized(inputs["quantized"].path) if "quantized" in inputs else None

    def description(spec: Any, role: str) -> str:
        return f"edgetl {role}: {spec.backbone} at {spec.input_size_px} px, {len(classes)} classes"

    labels = "\n".join(classes).encode()
    rows: list[dict[str, Any]] = []
    jobs: list[tuple[str, Any, Any, str]] = [
        ("student.float32.tflite", student_graph, student_spec, "student"),
        ("student.float16.tflite", student_graph, student_spec, "student"),
        ("student.dynamic.tflite", student_graph, student_spec, "student"),
        ("student.float32.onnx", student_graph, student_spec, "student"),
        ("teacher.float32.tflite", teacher_graph, teacher_spec, "teacher"),
    ]
    if net is not None:
        jobs += [
            (f"student.{net.precision}.{suffix}", net.graph, student_spec, "student") for suffix in ("tflite", "onnx")
        ]
    context.progress.begin(len(jobs), unit="files")
    for name, graph, spec, role in jobs:
        _, precision, suffix = name.split(".")
        file = context.out / name
        text = description(spec, role)
        props = {
            "labels": "\n".join(classes),
            "preprocessing": json.dumps({"mean": spec.normalization.mean, "scale": spec.normalization.scale}),
        }
        row: dict[str, Any] = {
            "file": name,
            "role": role,
            "format": suffix,
            "precision": precision,
            "macs": graph.macs(),
            "params": graph.parameters(),
        }
        row["input"], row["output"] = (
            {"name": "image", "dtype": "float32"},
            {"name": "probabilities", "dtype": "float32"},
        )
        if net is not None and precision == net.precision:
            grid = net.integers()[graph.input.name]
            if suffix == "tflite":
                data = write_tflite_int8(
                    graph,
                    net.integers(),
                    float_nodes=net.float_nodes,
                    description=text,
                    metadata={"labels.txt": labels},
                )
                file.write_bytes(data)
                kind = "int8" if net.activation_bits == 8 else "int16"
                scale, zero_point = PROBABILITIES[kind]
                row["input"] |= {"dtype": "int8", "scale": grid.scale, "zero_point": grid.zero_point}
                row["output"] |= {"dtype": kind, "scale": scale, "zero_point": zero_point}
            else:
                props |= {"input_scale": repr(grid.scale), "input_zero_point": str(grid.zero_point + 128)}
                proto = write_onnx_int8(
                    graph,
                    net.integers(),
                    float_nodes=net.float_nodes,
                    opset=options["opset"],
                    description=text,
                    metadata=props,
                )
                onnx.save(proto, file)
                row["input"] |= {"dtype": "uint8", "scale": grid.scale, "zero_point": grid.zero_point + 128}
        elif suffix == "tflite":
            file.write_bytes(
                write_tflite_float(graph, precision=precision, description=text, metadata={"labels.txt": labels})
            )
        else:
            onnx.save(write_onnx_float(graph, opset=options["opset"], description=text, metadata=props), file)
        runtimes = _SMALLEST_FOR_INT16 if precision == "int16x8" else SMALLEST_RUNTIMES
        _check(file, row)
        rows.append({**row, "bytes": file.stat().st_size, "sha256": file_sha256(file), "runtime": runtimes[suffix]})
        context.progress.advance(1, name)
        tf.keras.backend.clear_session()
    (context.out / "models.json").write_text(json.dumps(rows, indent=1))


def _check(file: Any, row: Mapping[str, Any]) -> None:
    """The format's own opinion of a file. ONNX files went through onnx.checker when they were written."""
    if row["format"] != "tflite":
        return
    try:
        interpreter = Interpreter(model_path=str(file))
        interpreter.allocate_tensors()
    except (ValueError, RuntimeError) as error:
        raise TrainingError(
            f"{file.name} was written, and LiteRT refuses it.", why=str(error), fix="this is a bug: please report it"
        ) from None
    image, probabilities = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    found = {
        "image": (image["name"], image["dtype"].__name__),
        "probabilities": (probabilities["name"], probabilities["dtype"].__name__),
    }
    wanted = {"image": ("image", row["input"]["dtype"]), "probabilities": ("probabilities", row["output"]["dtype"])}
    if found != wanted:
        raise TrainingError(
            f"{file.name} has other inputs or outputs than intended.",
            why=f"found {found}, wanted {wanted}",
            fix="this is a bug: please report it",
        )
