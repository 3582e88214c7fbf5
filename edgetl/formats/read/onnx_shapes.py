"""Shapes and types of every tensor of an ONNX model: stated in the file, inferred by onnx, or, after ONNX Runtime's own
integer ops, which onnx does not know, from their definitions (onnxruntime's docs/ContribOperators.md)."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, shape_inference

from edgetl.core.words import printable
from edgetl.formats.read.census import checked_shape

Shape = tuple[int, ...]
# Inference reads the values of small constants only (a Reshape's shape, a Pad's pads); the rest is weights.
_SMALL = 1024
# Each round reaches the next such op on a path. 200 is more than real nets need, and limits a hostile one.
_ROUNDS = 200


def tensor_types(model: Any) -> tuple[dict[str, tuple[Shape | None, int]], list[str]]:
    """(name -> shape and element type, notes). Shape None: not known. Free dimensions count as 1.

    Raises Malformed for a negative dimension.
    """
    notes: list[str] = []
    model = _skeleton(model)
    found: dict[str, tuple[Shape | None, int]] = {}
    symbols: set[str] = set()
    for _ in range(_ROUNDS):
        try:
            model = shape_inference.infer_shapes(model)
        except (shape_inference.InferenceError, RuntimeError, ValueError) as error:
            notes.append(f"shapes could not be inferred: {printable(str(error))}")
            found = _declared(model, symbols)
            break
        found = _declared(model, symbols)
        if not _add_own(model.graph, found):
            break
    if symbols:
        named = ", ".join(printable(name) for name in sorted(symbols)[:4])
        notes.append(f"free dimensions ({named}) count as 1")
    return found, notes


def _skeleton(model: Any) -> Any:
    """The model without its weights: large initializers become inputs of the same shape and type."""
    bare = onnx.ModelProto()
    bare.ir_version = model.ir_version
    bare.opset_import.extend(model.opset_import)
    bare.functions.extend(model.functions)
    graph = bare.graph
    graph.name = "skeleton"
    graph.node.extend(model.graph.node)
    graph.output.extend(model.graph.output)
    graph.value_info.extend(model.graph.value_info)
    named = set()
    for tensor in model.graph.initializer:
        if math.prod(tensor.dims) <= _SMALL:
            graph.initializer.append(tensor)
        else:
            named.add(tensor.name)
            graph.input.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
    graph.input.extend(value for value in model.graph.input if value.name not in named)
    return bare


def _declared(model: Any, symbols: set[str]) -> dict[str, tuple[Shape | None, int]]:
    found: dict[str, tuple[Shape | None, int]] = {}
    for value in [*model.graph.input, *model.graph.output, *model.graph.value_info]:
        tensor = value.type.tensor_type
        shape = None
        if tensor.HasField("shape"):
            symbols |= {dim.dim_param or "?" for dim in tensor.shape.dim if not dim.HasField("dim_value")}
            sizes = (dim.dim_value if dim.HasField("dim_value") else 1 for dim in tensor.shape.dim)
            shape = checked_shape(printable(value.name), sizes)
        found[value.name] = (shape, tensor.elem_type)
    for constant in model.graph.initializer:
        found[constant.name] = (tuple(constant.dims), constant.data_type)
    return found


def _add_own(graph: Any, found: dict[str, tuple[Shape | None, int]]) -> bool:
    """Add the outputs of ONNX Runtime's ops whose inputs are known. Returns whether there were any."""
    added = False
    for node in graph.node:
        if node.domain != "com.microsoft" or not node.output or found.get(node.output[0], (None, 0))[0] is not None:
            continue
        known = [found.get(name, (None, 0)) for name in node.input]
        made = _own(node, known)
        if made is None:
            continue
        kept = [value for value in graph.value_info if value.name != node.output[0]]
        del graph.value_info[:]
        graph.value_info.extend([*kept, helper.make_tensor_value_info(node.output[0], made[1], made[0])])
        found[node.output[0]] = made
        added = True
    return added


def _own(node: Any, known: list[tuple[Shape | None, int]]) -> tuple[Shape, int] | None:
    values = {attribute.name: attribute.i for attribute in node.attribute}
    shapes = [shape for shape, _ in known]
    if node.op_type in ("QLinearAdd", "QLinearMul") and len(known) > 3 and shapes[0] is not None and shapes[3] is not None:  # fmt: skip
        return tuple(np.broadcast_shapes(shapes[0], shapes[3])), known[0][1]
    if node.op_type in ("QLinearSigmoid", "QLinearLeakyRelu", "QLinearSoftmax") and known and shapes[0] is not None:
        return shapes[0], known[0][1]
    if node.op_type == "QLinearGlobalAveragePool" and known and shapes[0] is not None:
        axes = range(1, len(shapes[0]) - 1) if values.get("channels_last") else range(2, len(shapes[0]))
        return tuple(1 if axis in axes else size for axis, size in enumerate(shapes[0])), known[0][1]
    if node.op_type == "QLinearConcat":
        parts = [shape for shape in shapes[2::3] if shape is not None]
        axis = values.get("axis", 0)
        if not parts or len(parts) < len(shapes[2::3]) or not -len(parts[0]) <= axis < len(parts[0]):
            return None
        size = sum(part[axis] for part in parts)
        return tuple(size if at == axis % len(parts[0]) else one for at, one in enumerate(parts[0])), known[2][1]
    if node.op_type == "QGemm" and len(known) > 3 and shapes[0] is not None and shapes[3] is not None:
        rows, columns = shapes[0][values.get("transA", 0)], shapes[3][1 - values.get("transB", 0)]
        return (rows, columns), known[8][1] if len(known) > 8 else TensorProto.FLOAT
    return None
