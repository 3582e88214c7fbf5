"""The int8 TFLite file, written from the graph's integers: no converter decides a scale behind our back.

Follows LiteRT's schema (tensorflow/compiler/mlir/lite/schema/schema.fbs) and its 8-bit quantization specification.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

from edgetl.quantization.graph import Graph, Node
from edgetl.quantization.integers import PROBABILITY_SCALE, PROBABILITY_ZERO_POINT, Quantized, channel_axis

_ACTIVATIONS = {
    "none": schema.ActivationFunctionType.NONE,
    "relu": schema.ActivationFunctionType.RELU,
    "relu6": schema.ActivationFunctionType.RELU6,
}
_PADDINGS = {"same": schema.Padding.SAME, "valid": schema.Padding.VALID}
_INT8, _INT32 = schema.TensorType.INT8, schema.TensorType.INT32
# Each op's version in which it takes int8 (tensorflow/compiler/mlir/lite/tools/versioning/op_version.cc).
_VERSIONS = {
    "CONV_2D": 3,
    "DEPTHWISE_CONV_2D": 3,
    "FULLY_CONNECTED": 4,
    "ADD": 2,
    "CONCATENATION": 2,
    "PAD": 2,
    "MAX_POOL_2D": 2,
    "AVERAGE_POOL_2D": 2,
    "MEAN": 2,
    "SOFTMAX": 2,
}


class _Writer:
    def __init__(self) -> None:
        self.tensors: list[Any] = []
        self.buffers: list[Any] = [schema.BufferT()]
        self.operators: list[Any] = []
        self.codes: list[str] = []

    def tensor(
        self,
        name: str,
        shape: tuple[int, ...],
        kind: int,
        scales: Any,
        zero_point: int = 0,
        axis: int = 0,
        data: np.ndarray | None = None,
    ) -> int:
        tensor = schema.TensorT()
        tensor.name, tensor.shape, tensor.type = name, list(shape), kind
        if scales is not None:
            quantization = schema.QuantizationParametersT()
            quantization.scale = np.atleast_1d(np.asarray(scales, np.float32))
            quantization.zeroPoint = np.full(len(quantization.scale), zero_point, np.int64)
            quantization.quantizedDimension = axis
            tensor.quantization = quantization
        tensor.buffer = 0
        if data is not None:
            buffer = schema.BufferT()
            buffer.data = np.frombuffer(np.ascontiguousarray(data).tobytes(), np.uint8)
            tensor.buffer = len(self.buffers)
            self.buffers.append(buffer)
        self.tensors.append(tensor)
        return len(self.tensors) - 1

    def operator(self, name: str, inputs: list[int], output: int, kind: int, options: Any) -> None:
        if name not in self.codes:
            self.codes.append(name)
        operator = schema.OperatorT()
        operator.opcodeIndex = self.codes.index(name)
        operator.inputs, operator.outputs = inputs, [output]
        operator.builtinOptionsType, operator.builtinOptions = kind, options
        self.operators.append(operator)


def write_tflite_int8(
    graph: Graph, integers: Mapping[str, Quantized], *, description: str, metadata: Mapping[str, bytes]
) -> bytes:
    """The file's bytes: input `image` int8 [1, h, w, 3], output `probabilities` int8 [1, classes] at 1/256 and -128.

    metadata: name -> bytes, kept in the model's metadata buffers.
    """
    writer = _Writer()
    indices: dict[str, int] = {}
    for node in graph.nodes:
        grid = integers[node.name]
        name = "image" if node.op == "input" else node.name
        indices[node.name] = writer.tensor(name, node.shape, _INT8, grid.scale, grid.zero_point)
        if node.op != "input":
            _OPERATORS[node.op](writer, node, integers, indices)
    logits = indices[graph.output.name]
    probabilities = writer.tensor("probabilities", graph.output.shape, _INT8, PROBABILITY_SCALE, PROBABILITY_ZERO_POINT)
    softmax = schema.SoftmaxOptionsT()
    softmax.beta = 1.0
    writer.operator("SOFTMAX", [logits], probabilities, schema.BuiltinOptions.SoftmaxOptions, softmax)
    return _pack(writer, indices[graph.input.name], probabilities, description, metadata)


def _pack(writer: _Writer, image: int, probabilities: int, description: str, metadata: Mapping[str, bytes]) -> bytes:
    subgraph = schema.SubGraphT()
    subgraph.name = "main"
    subgraph.tensors, subgraph.operators = writer.tensors, writer.operators
    subgraph.inputs, subgraph.outputs = [image], [probabilities]
    model = schema.ModelT()
    model.version = 3
    model.description = description
    model.subgraphs = [subgraph]
    model.operatorCodes = [_code(name) for name in writer.codes]
    signature = schema.SignatureDefT()
    signature.signatureKey, signature.subgraphIndex = "serving_default", 0
    signature.inputs, signature.outputs = [_map("image", image)], [_map("probabilities", probabilities)]
    model.signatureDefs = [signature]
    model.metadata = []
    for name, data in metadata.items():
        buffer, entry = schema.BufferT(), schema.MetadataT()
        buffer.data = np.frombuffer(data, np.uint8)
        entry.name, entry.buffer = name, len(writer.buffers)
        writer.buffers.append(buffer)
        model.metadata.append(entry)
    model.buffers = writer.buffers
    builder = flatbuffers.Builder(1 << 20)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())


def _code(name: str) -> Any:
    code = schema.OperatorCodeT()
    code.builtinCode = getattr(schema.BuiltinOperator, name)
    code.deprecatedBuiltinCode = min(code.builtinCode, 127)
    code.version = _VERSIONS[name]
    return code


def _map(name: str, index: int) -> Any:
    entry = schema.TensorMapT()
    entry.name, entry.tensorIndex = name, index
    return entry


def _constants(
    writer: _Writer, node: Node, integers: Mapping[str, Quantized], kernel: np.ndarray, axis: int
) -> list[int]:
    """The kernel and bias tensors of a node."""
    own, before = integers[node.name], integers[node.inputs[0]]
    assert own.kernel_scales is not None and own.bias is not None
    bias_scales = np.float64(before.scale) * own.kernel_scales.astype(np.float64)
    return [
        writer.tensor(f"{node.name}/kernel", kernel.shape, _INT8, own.kernel_scales, 0, axis, kernel),
        writer.tensor(f"{node.name}/bias", own.bias.shape, _INT32, bias_scales, 0, 0, own.bias),
    ]


def _conv(writer: _Writer, node: Node, integers: Mapping[str, Quantized], indices: dict[str, int]) -> None:
    kernel = integers[node.name].kernel
    assert kernel is not None and channel_axis(node.op) is not None
    depthwise = node.op == "depthwise"
    options = schema.DepthwiseConv2DOptionsT() if depthwise else schema.Conv2DOptionsT()
    options.padding = _PADDINGS[node.attributes["padding"]]
    options.strideH, options.strideW = node.attributes["strides"]
    options.dilationHFactor = options.dilationWFactor = 1
    options.fusedActivationFunction = _ACTIVATIONS[node.attributes["activation"]]
    if depthwise:
        options.depthMultiplier = 1
        # Keras [h, w, channels, 1] -> TFLite [1, h, w, channels], scales along the last axis.
        constants = _constants(writer, node, integers, kernel.transpose(3, 0, 1, 2), 3)
        writer.operator(
            "DEPTHWISE_CONV_2D",
            [indices[node.inputs[0]], *constants],
            indices[node.name],
            schema.BuiltinOptions.DepthwiseConv2DOptions,
            options,
        )
    else:
        # Keras [h, w, in, out] -> TFLite [out, h, w, in], scales along the first axis.
        constants = _constants(writer, node, integers, kernel.transpose(3, 0, 1, 2), 0)
        writer.operator(
            "CONV_2D",
            [indices[node.inputs[0]], *constants],
            indices[node.name],
            schema.BuiltinOptions.Conv2DOptions,
            options,
        )


def _dense(writer: _Writer, node: Node, integers: Mapping[str, Quantized], indices: dict[str, int]) -> None:
    kernel = integers[node.name].kernel
    assert kernel is not None
    options = schema.FullyConnectedOptionsT()
    options.fusedActivationFunction = _ACTIVATIONS[node.attributes["activation"]]
    constants = _constants(writer, node, integers, kernel.transpose(1, 0), 0)
    writer.operator(
        "FULLY_CONNECTED",
        [indices[node.inputs[0]], *constants],
        indices[node.name],
        schema.BuiltinOptions.FullyConnectedOptions,
        options,
    )


def _add(writer: _Writer, node: Node, integers: Mapping[str, Quantized], indices: dict[str, int]) -> None:
    options = schema.AddOptionsT()
    options.fusedActivationFunction = _ACTIVATIONS[node.activation]
    inputs = [indices[name] for name in node.inputs]
    writer.operator("ADD", inputs, indices[node.name], schema.BuiltinOptions.AddOptions, options)


def _relu(writer: _Writer, node: Node, integers: Mapping[str, Quantized], indices: dict[str, int]) -> None:
    """An addition of zero with the ReLU fused into it. XNNPACK takes no int8 RELU: six of them in a chain of 18 other
    ops made seven delegated parts of one and took 11.3 ms instead of 0.4; as additions they took 0.03 ms together."""
    options = schema.AddOptionsT()
    options.fusedActivationFunction = _ACTIVATIONS[node.activation]
    scale = integers[node.inputs[0]].scale
    zero = writer.tensor(f"{node.name}/zero", (1,), _INT8, scale, data=np.zeros(1, np.int8))
    inputs = [indices[node.inputs[0]], zero]
    writer.operator("ADD", inputs, indices[node.name], schema.BuiltinOptions.AddOptions, options)


def _concat(writer: _Writer, node: Node, integers: Mapping[str, Quantized], indices: dict[str, int]) -> None:
    options = schema.ConcatenationOptionsT()
    options.axis = 3
    writer.operator(
        "CONCATENATION",
        [indices[name] for name in node.inputs],
        indices[node.name],
        schema.BuiltinOptions.ConcatenationOptions,
        options,
    )


def _pad(writer: _Writer, node: Node, integers: Mapping[str, Quantized], indices: dict[str, int]) -> None:
    pads = np.array([[0, 0], *node.attributes["pads"], [0, 0]], np.int32)
    constant = writer.tensor(f"{node.name}/pads", pads.shape, _INT32, None, data=pads)
    writer.operator(
        "PAD",
        [indices[node.inputs[0]], constant],
        indices[node.name],
        schema.BuiltinOptions.PadOptions,
        schema.PadOptionsT(),
    )


def _pool(writer: _Writer, node: Node, integers: Mapping[str, Quantized], indices: dict[str, int]) -> None:
    options = schema.Pool2DOptionsT()
    options.padding = _PADDINGS[node.attributes["padding"]]
    options.filterHeight, options.filterWidth = node.attributes["size"]
    options.strideH, options.strideW = node.attributes["strides"]
    name = "MAX_POOL_2D" if node.op == "max_pool" else "AVERAGE_POOL_2D"
    writer.operator(name, [indices[node.inputs[0]]], indices[node.name], schema.BuiltinOptions.Pool2DOptions, options)


def _average_pool(writer: _Writer, node: Node, integers: Mapping[str, Quantized], indices: dict[str, int]) -> None:
    """A depthwise convolution whose weights are all 1 / window: XNNPACK takes no int8 AVERAGE_POOL_2D.

    DenseNet121 has three: at 224 px on one thread 14.1 ms with them, 12.3 without, each the best of 80 on a busy machine.
    Only without padding, for padding does not count in an average and the divisor changes at the border.
    """
    if node.attributes["padding"] != "valid":
        _pool(writer, node, integers, indices)
        return
    (height, width), channels = node.attributes["size"], node.shape[-1]
    step = 1.0 / (127.0 * height * width)
    kernel = np.full((height, width, channels, 1), 127, np.int8)
    own = Quantized(
        integers[node.name].scale,
        integers[node.name].zero_point,
        kernel,
        np.full(channels, step, np.float32),
        np.zeros(channels, np.int32),
    )
    convolution = replace(node, op="depthwise", attributes={**node.attributes, "activation": "none"})
    _conv(writer, convolution, {**integers, node.name: own}, indices)


def _mean(writer: _Writer, node: Node, integers: Mapping[str, Quantized], indices: dict[str, int]) -> None:
    axes = writer.tensor(f"{node.name}/axes", (2,), _INT32, None, data=np.array([1, 2], np.int32))
    options = schema.ReducerOptionsT()
    options.keepDims = False
    writer.operator(
        "MEAN", [indices[node.inputs[0]], axes], indices[node.name], schema.BuiltinOptions.ReducerOptions, options
    )


_OPERATORS = {
    "conv": _conv,
    "depthwise": _conv,
    "dense": _dense,
    "add": _add,
    "concat": _concat,
    "pad": _pad,
    "max_pool": _pool,
    "average_pool": _average_pool,
    "mean": _mean,
    "relu": _relu,
}
