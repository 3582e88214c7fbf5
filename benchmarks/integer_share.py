"""The part of a net that a runtime really computes in integers, in the graph after the runtime's own rewriting.

The file alone does not show it: ONNX Runtime runs a quantized graph's convolution in float if its pattern of
QuantizeLinear and DequantizeLinear does not match, and LiteRT's delegate leaves single ops to slower kernels.
"""

from __future__ import annotations

import json
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from ai_edge_litert import schema_py_generated as schema

from edgetl.runtimes.litert import open_session as open_litert

# ONNX Runtime's ops with multiply-accumulates: position of the weights among the inputs, and whether they are integers.
_ORT_OPS = {
    "Conv": (1, False),
    "FusedConv": (1, False),
    "Gemm": (1, False),
    "FusedGemm": (1, False),
    "MatMul": (1, False),
    "FusedMatMul": (1, False),
    "ConvInteger": (1, True),
    "MatMulInteger": (1, True),
    "DynamicQuantizeMatMul": (1, True),
    "MatMulIntegerToFloat": (1, True),
    "QLinearConv": (3, True),
    "QGemm": (3, True),
    "QLinearMatMul": (3, True),
}


@dataclass(frozen=True)
class IntegerShare:
    """share: integer multiply-accumulates over all those of convolutions and dense layers, 0 to 1. ops_left: the number of ops
    that slow an int8 net: on LiteRT left by the delegate to builtin kernels, on ONNX Runtime with a float output."""

    share: float
    ops_left: int


def integer_share(model: Path) -> IntegerShare:
    """The share of a .tflite file on LiteRT's CPU backend, or of an .onnx file on ONNX Runtime's."""
    return _of_litert(model) if model.suffix == ".tflite" else _of_ort(model)


def _of_litert(model: Path) -> IntegerShare:
    graph = schema.ModelT.InitFromPackedBuf(model.read_bytes())
    body = graph.subgraphs[0]
    names = {value: name for name, value in vars(schema.BuiltinOperator).items() if isinstance(value, int)}
    total = integers = 0
    for operator in body.operators:
        code = graph.operatorCodes[operator.opcodeIndex]
        name = names[max(code.builtinCode, code.deprecatedBuiltinCode)]
        if name not in ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"):
            continue
        image, kernel = (body.tensors[index] for index in operator.inputs[:2])
        out = np.prod(body.tensors[operator.outputs[0]].shape)
        # Convolutions and dense layers keep their outputs in the kernel's first axis, depthwise ones in the last.
        taps = np.prod(kernel.shape[1:-1] if name == "DEPTHWISE_CONV_2D" else kernel.shape[1:])
        total += int(out * taps)
        if image.type == kernel.type == schema.TensorType.INT8:
            integers += int(out * taps)
    session = open_litert(model, threads=1)
    try:
        left = session.placement().ops["LiteRT kernels"]
    finally:
        session.close()
    return IntegerShare(integers / max(1, total), left)


def _of_ort(model: Path) -> IntegerShare:
    levels = onnxruntime.GraphOptimizationLevel
    # In the rewritten graph float convolutions may have channels padded to the block of their layout, so the total is
    # counted in the graph as written.
    total = sum(op.macs for op in _ops_run(model, levels.ORT_DISABLE_ALL))
    run = _ops_run(model, levels.ORT_ENABLE_ALL)
    integers = sum(op.macs for op in run if op.is_integer)
    return IntegerShare(integers / max(1, total), sum(op.gives_float for op in run))


@dataclass(frozen=True)
class _Op:
    macs: int
    is_integer: bool
    gives_float: bool


def _ops_run(model: Path, level: Any) -> list[_Op]:
    """The ops that ONNX Runtime runs for one image, according to its own profile."""
    named = onnx.load(model)
    for i, node in enumerate(named.graph.node):
        node.name = (
            f"{i}/{node.name}"  # the profile names nodes; peers' files have nodes without a name, or two with the same
        )
    with tempfile.TemporaryDirectory() as folder:
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        options.intra_op_num_threads = 1
        options.graph_optimization_level = level
        options.optimized_model_filepath = str(Path(folder) / "optimized.onnx")
        options.enable_profiling, options.profile_file_prefix = True, str(Path(folder) / "profile")
        session = onnxruntime.InferenceSession(named.SerializeToString(), options, providers=["CPUExecutionProvider"])
        image = session.get_inputs()[0]
        kind = {"tensor(uint8)": np.uint8, "tensor(int8)": np.int8}.get(image.type, np.float32)
        session.run(None, {image.name: np.zeros(image.shape, kind)})
        events = json.loads(Path(session.end_profiling()).read_text())
        graph = onnx.load(options.optimized_model_filepath).graph
    shapes = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    nodes = {node.name: node for node in graph.node}
    ops = []
    for event in events:
        if event.get("cat") != "Node" or not event["name"].endswith("_kernel_time"):
            continue
        macs, is_integer = 0, False
        if event["args"]["op_name"] in _ORT_OPS:
            node = nodes[event["name"].removesuffix("_kernel_time")]
            macs, is_integer = _ort_macs(node, shapes, event["args"])
        ops.append(_Op(macs, is_integer, "float" in event["args"]["output_type_shape"][0]))
    return ops


def _ort_macs(node: Any, shapes: dict[str, tuple[int, ...]], run: dict[str, Any]) -> tuple[int, bool]:
    """Multiply-accumulates of one node as it ran, and whether it computes them in integers."""
    position, is_integer = _ORT_OPS[node.op_type]
    # Constant weights are in the file; others are dequantized in every run, and the profile has their shape.
    name = node.input[position]
    weights = shapes[name] if name in shapes else next(iter(run["input_type_shape"][position].values()))
    out = int(np.prod(next(iter(run["output_type_shape"][0].values()))))
    if "Conv" in node.op_type:
        return out * int(np.prod(weights[1:])), is_integer
    transposed = any(attribute.name == "transB" and attribute.i for attribute in node.attribute)
    return out * weights[1 if transposed else 0], is_integer
