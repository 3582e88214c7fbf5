"""The ops of ONNX Runtime's graph after all optimizations, counted.

A QDQ file states which ops may run on integers; only the optimized graph shows which ones do.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import onnx
import onnxruntime as ort
from onnxruntime.capi.onnxruntime_pybind11_state import (
    EPFail,
    Fail,
    InvalidArgument,
    InvalidGraph,
    InvalidProtobuf,
    NoSuchFile,
    NotImplemented,
    RuntimeException,
)

from edgetl.core.words import printable
from edgetl.formats.read.census import Op
from edgetl.runtimes.records import OptimizedGraph

# What ONNX Runtime raises for a model that it refuses: its exceptions have no common base class.
REFUSALS = (
    EPFail, Fail, InvalidArgument, InvalidGraph, InvalidProtobuf, NoSuchFile, NotImplemented, RuntimeException,
    RuntimeError, ValueError,
)  # fmt: skip
# Integer op -> the index of the input that is its kernel.
_INTEGER_KERNELS = {
    "QLinearConv": 3,
    "QLinearMatMul": 3,
    "QGemm": 3,
    "ConvInteger": 1,
    "MatMulInteger": 1,
    "MatMulIntegerToFloat": 1,
    "DynamicQuantizeMatMul": 1,
}


def optimized_graph(data: bytes, ops: Sequence[Op]) -> OptimizedGraph:
    """Op census after optimization on the CPU, and `fused_share`: MACs in integer ops over all MACs of the file.

    data: the model, with all its tensors inside. ops: its census. An integer op is matched to the file's op by the name of
    its kernel, which fusions keep, or otherwise by the name of its node; `unmatched` counts the others, and if there are
    any, fused_share is a lower bound. fused_share is None for a file without MACs. For a file that ONNX Runtime refuses, the
    result has `refused`, its error message, instead of counts.
    """
    name = f"ONNX Runtime {ort.__version__}, CPU, all optimizations"
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    with tempfile.TemporaryDirectory() as folder:
        options.optimized_model_filepath = str(Path(folder) / "optimized.onnx")
        try:
            ort.InferenceSession(data, options, providers=["CPUExecutionProvider"])
            graph = onnx.load(options.optimized_model_filepath).graph
        except REFUSALS as error:
            return {"name": name, "refused": printable(str(error)[-300:], 300)}
    counts = Counter(node.op_type for node in graph.node)
    share, unmatched = _fused_share(graph, ops)
    return {
        "name": name,
        "ops": dict(counts.most_common()),
        "integer_ops": sum(counts[kind] for kind in _INTEGER_KERNELS),
        "qlinear_conv": counts["QLinearConv"],
        "float_conv": counts["Conv"] + counts["FusedConv"] + counts["NhwcFusedConv"],
        "batch_normalization": counts["BatchNormalization"],
        "quantize_linear": counts["QuantizeLinear"],
        "dequantize_linear": counts["DequantizeLinear"],
        "transpose": counts["Transpose"],
        "fused_share": share,
        "unmatched": unmatched,
    }


def _fused_share(graph: Any, ops: Sequence[Op]) -> tuple[float | None, int]:
    heavy = [op for op in ops if op.macs]
    total = sum(op.macs or 0 for op in heavy)
    by_kernel: dict[str, list[Op]] = {}
    for op in heavy:
        if op.kernel is not None:
            by_kernel.setdefault(op.kernel.tensor, []).append(op)
    by_name = {op.name: op for op in heavy}
    fused = unmatched = 0
    for node in graph.node:
        where = _INTEGER_KERNELS.get(node.op_type)
        if where is None or len(node.input) <= where:
            continue
        found = by_kernel.get(printable(node.input[where]))
        if found:
            fused += found.pop().macs or 0
            continue
        name = printable(node.name)
        # Fusions append to a node's name ("_token_0", "_quant"); the longest known prefix is the original name.
        match = max((known for known in by_name if name.startswith(known)), key=len, default=None)
        if match is None:
            unmatched += 1
        else:
            fused += by_name.pop(match).macs or 0
    return (fused / total if total else None), unmatched
