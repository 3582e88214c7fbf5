"""Small models that run, and models that bring a runtime down: by real means, on the runtimes as they are installed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import flatbuffers
import numpy as np
import onnx
from ai_edge_litert import schema_py_generated as schema
from onnx import TensorProto, helper, numpy_helper

from edgetl.formats.write.onnx_int8 import write_onnx_int8
from edgetl.formats.write.tflite_int8 import write_tflite_int8
from edgetl.graph.graph import Graph, Node
from edgetl.quantization.integers import quantize_graph

_SIZE, _CHANNELS, _CLASSES = 16, 32, 4


def chain(convolutions: int) -> Graph:
    """3 x 3 convolutions one after the other: time grows with their number."""
    source = np.random.default_rng(0)
    nodes, before, depth = [Node("image", "input", shape=(1, _SIZE, _SIZE, 3))], "image", 3
    for i in range(convolutions):
        kernel = source.normal(0, 0.1, (3, 3, depth, _CHANNELS)).astype(np.float32)
        attributes = {"strides": [1, 1], "padding": "same", "activation": "relu"}
        bias = np.zeros(_CHANNELS, np.float32)
        nodes.append(Node(f"c{i}", "conv", (before,), attributes, (1, _SIZE, _SIZE, _CHANNELS), kernel, bias))
        before, depth = f"c{i}", _CHANNELS
    nodes.append(Node("pooled", "mean", (before,), {}, (1, _CHANNELS)))
    head = source.normal(0, 1, (_CHANNELS, _CLASSES)).astype(np.float32)
    zeros = np.zeros(_CLASSES, np.float32)
    nodes.append(Node("logits", "dense", ("pooled",), {"activation": "none"}, (1, _CLASSES), head, zeros))
    return Graph(tuple(nodes))


def write(folder: Path, name: str, convolutions: int) -> None:
    graph = chain(convolutions)
    ranges = {node.name: (0.0, 1.0) for node in graph.nodes} | {"image": (-1.0, 1.0), "logits": (-3.0, 3.0)}
    integers = quantize_graph(graph, ranges)
    grid = integers["image"]
    meta = {"input_scale": repr(grid.scale), "input_zero_point": str(grid.zero_point + 128)}
    (folder / f"{name}.tflite").write_bytes(write_tflite_int8(graph, integers, description="", metadata={}))
    onnx.save(write_onnx_int8(graph, integers, opset=17, description="", metadata=meta), folder / f"{name}.onnx")


def _onnx(path: Path, nodes: list[Any], constants: dict[str, Any]) -> None:
    graph = helper.make_graph(
        [helper.make_node("Flatten", ["image"], ["flat"]), *nodes],
        "g",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 8, 8, 3])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, [1, 192])],
        [numpy_helper.from_array(np.array(value), name) for name, value in constants.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)


def _hang(path: Path) -> None:
    """A loop of 2 ** 62 turns."""
    values = [
        helper.make_tensor_value_info(name, kind, shape)
        for name, kind, shape in (
            ("i", TensorProto.INT64, []),
            ("go_in", TensorProto.BOOL, []),
            ("v", TensorProto.FLOAT, [1, 192]),
            ("go_out", TensorProto.BOOL, []),
            ("w", TensorProto.FLOAT, [1, 192]),
        )
    ]
    nodes = [helper.make_node("Identity", ["go_in"], ["go_out"]), helper.make_node("Identity", ["v"], ["w"])]
    body = helper.make_graph(nodes, "body", values[:3], values[3:])
    loop = helper.make_node("Loop", ["turns", "go", "flat"], ["probabilities"], body=body)
    _onnx(path, [loop], {"turns": np.int64(2**62), "go": np.bool_(True)})


def _memory(path: Path) -> None:
    """A tensor of 1.5 GB, twice."""
    nodes = [
        helper.make_node("Tile", ["flat", "times"], ["huge"]),
        helper.make_node("Neg", ["huge"], ["too"]),
        helper.make_node("ReduceMean", ["too"], ["one"], keepdims=1, axes=[0, 1]),
        helper.make_node("Add", ["flat", "one"], ["probabilities"]),
    ]
    _onnx(path, nodes, {"times": np.array([2_000_000, 1], np.int64)})


def _crash(path: Path) -> None:
    """A WHILE whose body is the graph it stands in: LiteRT prepares it until its stack ends."""

    def tensor(name: str, shape: list[int], kind: int = 0, buffer: int = 0) -> Any:
        made = schema.TensorT()
        made.name, made.shape, made.type, made.buffer = name, shape, kind, buffer
        return made

    constant = schema.BufferT()
    constant.data = np.array([1], np.uint8)
    options = schema.WhileOptionsT()
    options.condSubgraphIndex, options.bodySubgraphIndex = 1, 0
    loop = schema.OperatorT()
    loop.opcodeIndex, loop.inputs, loop.outputs = 0, [0], [1]
    loop.builtinOptionsType, loop.builtinOptions = schema.BuiltinOptions.WhileOptions, options
    main, condition = schema.SubGraphT(), schema.SubGraphT()
    main.tensors, main.operators = [tensor("image", [1, 8, 8, 3]), tensor("probabilities", [1, 8, 8, 3])], [loop]
    condition.tensors, condition.operators = [tensor("x", [1, 8, 8, 3]), tensor("go", [1], 6, 1)], []
    for graph in (main, condition):
        graph.inputs, graph.outputs = [0], [1]
    code = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.WHILE
    code.version = 1
    model = schema.ModelT()
    model.version, model.operatorCodes, model.subgraphs = 3, [code], [main, condition]
    model.buffers = [schema.BufferT(), constant]
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    path.write_bytes(bytes(builder.Output()))


def write_models(folder: Path) -> Path:
    """small and larger (half as much again to compute), .tflite and .onnx; crash.tflite, hang.onnx, memory.onnx."""
    write(folder, "small", 8)
    write(folder, "larger", 12)
    _crash(folder / "crash.tflite")
    _hang(folder / "hang.onnx")
    _memory(folder / "memory.onnx")
    return folder
