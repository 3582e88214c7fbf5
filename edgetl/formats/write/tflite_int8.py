"""The integer TFLite file, written from the graph's integers: no converter chooses a scale.

It follows LiteRT's schema (tensorflow/compiler/mlir/lite/schema/schema.fbs) and its quantization specification: int8, or
int16 activations with int8 weights; single layers may stay in float32 between DEQUANTIZE and QUANTIZE.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

from edgetl.formats.write.lowering import averaging, over_quarters
from edgetl.graph.graph import Graph, Node
from edgetl.quantization.integers import PROBABILITIES, Quantized

_ACTIVATIONS = {
    "none": schema.ActivationFunctionType.NONE,
    "relu": schema.ActivationFunctionType.RELU,
    "relu6": schema.ActivationFunctionType.RELU6,
}
_PADDINGS = {"same": schema.Padding.SAME, "valid": schema.Padding.VALID}
_KINDS = {
    "int8": schema.TensorType.INT8,
    "int16": schema.TensorType.INT16,
    "int32": schema.TensorType.INT32,
    "int64": schema.TensorType.INT64,
    "float32": schema.TensorType.FLOAT32,
}
# The version of each op that accepts int8, int16 and float32
# (tensorflow/compiler/mlir/lite/tools/versioning/op_version.cc).
_VERSIONS = {
    "CONV_2D": {"int8": 3, "int16": 4, "float32": 1},
    "DEPTHWISE_CONV_2D": {"int8": 3, "int16": 5, "float32": 1},
    "FULLY_CONNECTED": {"int8": 4, "int16": 7, "float32": 1},
    "ADD": {"int8": 2, "int16": 3},
    "CONCATENATION": {"int8": 2, "int16": 3},
    "SPACE_TO_DEPTH": {"int8": 2},
    "PAD": {"int8": 2, "int16": 3},
    "MAX_POOL_2D": {"int8": 2, "int16": 3},
    "AVERAGE_POOL_2D": {"int8": 2, "int16": 3},
    "MEAN": {"int8": 2, "int16": 3},
    "SOFTMAX": {"int8": 2, "int16": 3},
    "QUANTIZE": {"int8": 2, "int16": 2},
    "DEQUANTIZE": {"int8": 2, "int16": 3},
}


class _Writer:
    def __init__(self, graph: Graph, integers: Mapping[str, Quantized], float_nodes: Collection[str]) -> None:
        self.graph, self.integers, self.float_nodes = graph, dict(integers), float_nodes
        self.tensors: list[Any] = []
        self.buffers: list[Any] = [schema.BufferT()]
        self.operators: list[Any] = []
        self.codes: list[tuple[str, str]] = []
        bits = {node.name: integers[node.name].bits for node in graph.nodes[1:]}
        self.activations = "int16" if 16 in bits.values() else "int8"
        self._grids: dict[str, int] = {}
        self._reals: dict[str, int] = {}

    def tensor(
        self,
        name: str,
        shape: tuple[int, ...],
        kind: str,
        scales: Any,
        zero_point: int = 0,
        axis: int = 0,
        data: np.ndarray | None = None,
    ) -> int:
        tensor = schema.TensorT()
        tensor.name, tensor.shape, tensor.type = name, list(shape), _KINDS[kind]
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

    def operator(self, name: str, inputs: list[int], output: int, kind: int, options: Any, takes: str = "") -> None:
        """takes: the type that determines the op's version; by default that of the net's activations."""
        code = (name, takes or self.activations)
        if code not in self.codes:
            self.codes.append(code)
        operator = schema.OperatorT()
        operator.opcodeIndex = self.codes.index(code)
        operator.inputs, operator.outputs = inputs, [output]
        operator.builtinOptionsType, operator.builtinOptions = kind, options
        self.operators.append(operator)

    def image(self) -> int:
        """The input tensor: int8, whatever type the activations have."""
        source = self.graph.input
        grid = self.integers[source.name]
        image = self.tensor("image", source.shape, "int8", grid.scale, grid.zero_point)
        self._grids[source.name] = image
        if self.activations == "int16":
            wide = self.tensor(f"{source.name}/int16", source.shape, "int16", grid.scale, 0)
            self.quantize(image, wide)
            self._grids[source.name] = wide
        return image

    def quantize(self, source: int, output: int) -> None:
        self.operator("QUANTIZE", [source], output, schema.BuiltinOptions.QuantizeOptions, schema.QuantizeOptionsT())

    def source(self, node: Node, position: int = 0) -> int:
        """The tensor that a node reads: integers, or real numbers for a node that stays in float."""
        name = node.inputs[position]
        if node.name not in self.float_nodes:
            if name not in self._grids:
                self._grids[name] = self._grid(self.graph.node(name))
                self.quantize(self._reals[name], self._grids[name])
            return self._grids[name]
        if name not in self._reals:
            self._reals[name] = self.tensor(f"{name}/real", self.graph.node(name).shape, "float32", None)
            options = schema.DequantizeOptionsT()
            kind = schema.BuiltinOptions.DequantizeOptions
            self.operator("DEQUANTIZE", [self._grids[name]], self._reals[name], kind, options)
        return self._reals[name]

    def result(self, node: Node) -> int:
        """The tensor that a node writes."""
        if node.name in self.float_nodes:
            self._reals[node.name] = self.tensor(f"{node.name}/real", node.shape, "float32", None)
            return self._reals[node.name]
        self._grids[node.name] = self._grid(node)
        return self._grids[node.name]

    def _grid(self, node: Node) -> int:
        grid = self.integers[node.name]
        return self.tensor(node.name, node.shape, self.activations, grid.scale, grid.zero_point)

    def logits(self) -> int:
        """The last node's tensor, on its grid."""
        reader = Node("", "dense", (self.graph.output.name,))
        return self.source(reader)

    def weighted(self, name: str, node: Node, layout: tuple[int, ...], axis: int, kind: int, options: Any) -> None:
        """An operator with a kernel and a bias. layout: axes of our kernel in TFLite's order; axis: of its scales."""
        inputs = [self.source(node)]
        own = self.integers[node.name]
        if node.name in self.float_nodes:
            assert node.kernel is not None and node.bias is not None
            kernel = node.kernel.transpose(layout).astype(np.float32)
            inputs.append(self.tensor(f"{node.name}/kernel", kernel.shape, "float32", None, data=kernel))
            bias = node.bias.astype(np.float32)
            inputs.append(self.tensor(f"{node.name}/bias", bias.shape, "float32", None, data=bias))
            self.operator(name, inputs, self.result(node), kind, options, "float32")
            return
        assert own.kernel is not None and own.kernel_scales is not None and own.bias is not None
        kernel = own.kernel.transpose(layout)
        bias_scales = np.float64(self.integers[node.inputs[0]].scale) * own.kernel_scales.astype(np.float64)
        axis = axis if len(own.kernel_scales) > 1 else 0
        inputs.append(self.tensor(f"{node.name}/kernel", kernel.shape, "int8", own.kernel_scales, 0, axis, kernel))
        inputs.append(self.tensor(f"{node.name}/bias", own.bias.shape, own.bias.dtype.name, bias_scales, data=own.bias))
        self.operator(name, inputs, self.result(node), kind, options)


def write_tflite_int8(
    graph: Graph,
    integers: Mapping[str, Quantized],
    *,
    float_nodes: Collection[str] = (),
    description: str,
    metadata: Mapping[str, bytes],
) -> bytes:
    """The file's bytes: input `image` int8 [1, h, w, 3]; output `probabilities` [1, classes], int8 at 1/256 and -128, or
    int16 at 1/32768 if activations have 16 bits.

    float_nodes: names of nodes with kernels that stay in float32. metadata: name -> bytes, kept in the model's metadata
    buffers.
    """
    graph, integers = over_quarters(graph, integers, float_nodes, from_size=5)
    writer = _Writer(graph, integers, float_nodes)
    image = writer.image()
    for node in graph.nodes[1:]:
        _OPERATORS[node.op](writer, node)
    scale, zero_point = PROBABILITIES[writer.activations]
    logits = writer.logits()
    probabilities = writer.tensor("probabilities", graph.output.shape, writer.activations, scale, zero_point)
    softmax = schema.SoftmaxOptionsT()
    softmax.beta = 1.0
    writer.operator("SOFTMAX", [logits], probabilities, schema.BuiltinOptions.SoftmaxOptions, softmax)
    return _pack(writer, image, probabilities, description, metadata)


def _pack(writer: _Writer, image: int, probabilities: int, description: str, metadata: Mapping[str, bytes]) -> bytes:
    subgraph = schema.SubGraphT()
    subgraph.name = "main"
    subgraph.tensors, subgraph.operators = writer.tensors, writer.operators
    subgraph.inputs, subgraph.outputs = [image], [probabilities]
    model = schema.ModelT()
    model.version = 3
    model.description = description
    model.subgraphs = [subgraph]
    model.operatorCodes = [_code(*code) for code in writer.codes]
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


def _code(name: str, takes: str) -> Any:
    code = schema.OperatorCodeT()
    code.builtinCode = getattr(schema.BuiltinOperator, name)
    code.deprecatedBuiltinCode = min(code.builtinCode, 127)
    code.version = _VERSIONS[name][takes]
    return code


def _map(name: str, index: int) -> Any:
    entry = schema.TensorMapT()
    entry.name, entry.tensorIndex = name, index
    return entry


def _conv(writer: _Writer, node: Node) -> None:
    depthwise = node.op == "depthwise"
    options = schema.DepthwiseConv2DOptionsT() if depthwise else schema.Conv2DOptionsT()
    options.padding = _PADDINGS[node.attributes["padding"]]
    options.strideH, options.strideW = node.attributes["strides"]
    options.dilationHFactor = options.dilationWFactor = 1
    options.fusedActivationFunction = _ACTIVATIONS[node.attributes["activation"]]
    if depthwise:
        options.depthMultiplier = 1
        # Keras [h, w, channels, 1] -> TFLite [1, h, w, channels], scales along the last axis.
        kind = schema.BuiltinOptions.DepthwiseConv2DOptions
        writer.weighted("DEPTHWISE_CONV_2D", node, (3, 0, 1, 2), 3, kind, options)
    else:
        # Keras [h, w, in, out] -> TFLite [out, h, w, in], scales along the first axis.
        writer.weighted("CONV_2D", node, (3, 0, 1, 2), 0, schema.BuiltinOptions.Conv2DOptions, options)


def _dense(writer: _Writer, node: Node) -> None:
    options = schema.FullyConnectedOptionsT()
    options.fusedActivationFunction = _ACTIVATIONS[node.attributes["activation"]]
    writer.weighted("FULLY_CONNECTED", node, (1, 0), 0, schema.BuiltinOptions.FullyConnectedOptions, options)


def _add(writer: _Writer, node: Node) -> None:
    _sum(writer, node, [writer.source(node, i) for i in range(2)])


def _relu(writer: _Writer, node: Node) -> None:
    """An addition of zero with the ReLU fused into it. XNNPACK does not run int8 RELU: six of them in a chain of 18
    other ops split one delegated part into seven and took 11.3 ms instead of 0.4; as additions they took 0.03 ms together."""
    scale = writer.integers[node.inputs[0]].scale
    nothing = np.zeros(1, writer.activations)
    zero = writer.tensor(f"{node.name}/zero", (1,), writer.activations, scale, data=nothing)
    _sum(writer, node, [writer.source(node), zero])


def _shift(writer: _Writer, node: Node) -> None:
    """An addition of constants, which have four dimensions: with one, XNNPACK took 2% longer for DenseNet121."""
    own = writer.integers[node.name]
    assert own.bias is not None and own.bias_grid is not None
    shape = (1,) * (len(node.shape) - 1) + own.bias.shape
    constants = writer.tensor(f"{node.name}/bias", shape, writer.activations, *own.bias_grid, data=own.bias)
    _sum(writer, node, [writer.source(node), constants])


def _sum(writer: _Writer, node: Node, inputs: list[int]) -> None:
    options = schema.AddOptionsT()
    options.fusedActivationFunction = _ACTIVATIONS[node.activation]
    options.potScaleInt16 = False
    writer.operator("ADD", inputs, writer.result(node), schema.BuiltinOptions.AddOptions, options)


def _concat(writer: _Writer, node: Node) -> None:
    options = schema.ConcatenationOptionsT()
    options.axis = 3
    inputs = [writer.source(node, i) for i in range(len(node.inputs))]
    kind = schema.BuiltinOptions.ConcatenationOptions
    writer.operator("CONCATENATION", inputs, writer.result(node), kind, options)


def _pad(writer: _Writer, node: Node) -> None:
    pads = np.array([[0, 0], *node.attributes["pads"], [0, 0]], np.int32)
    constant = writer.tensor(f"{node.name}/pads", pads.shape, "int32", None, data=pads)
    inputs = [writer.source(node), constant]
    writer.operator("PAD", inputs, writer.result(node), schema.BuiltinOptions.PadOptions, schema.PadOptionsT())


def _space_to_depth(writer: _Writer, node: Node) -> None:
    options = schema.SpaceToDepthOptionsT()
    options.blockSize = 2
    kind = schema.BuiltinOptions.SpaceToDepthOptions
    writer.operator("SPACE_TO_DEPTH", [writer.source(node)], writer.result(node), kind, options)


def _pool(writer: _Writer, node: Node) -> None:
    options = schema.Pool2DOptionsT()
    options.padding = _PADDINGS[node.attributes["padding"]]
    options.filterHeight, options.filterWidth = node.attributes["size"]
    options.strideH, options.strideW = node.attributes["strides"]
    name = "MAX_POOL_2D" if node.op == "max_pool" else "AVERAGE_POOL_2D"
    writer.operator(name, [writer.source(node)], writer.result(node), schema.BuiltinOptions.Pool2DOptions, options)


def _average_pool(writer: _Writer, node: Node) -> None:
    """A depthwise convolution, because XNNPACK does not run int8 AVERAGE_POOL_2D. DenseNet121 has three of them: at 224 px on
    one thread it takes 14.1 ms with them and 12.3 without, each the best of 80 runs on a busy machine."""
    if node.attributes["padding"] != "valid" or writer.activations != "int8":
        _pool(writer, node)
        return
    writer.integers[node.name] = replace(writer.integers[node.name], **averaging(node))
    _conv(writer, replace(node, op="depthwise", attributes={**node.attributes, "activation": "none"}))


def _mean(writer: _Writer, node: Node) -> None:
    axes = writer.tensor(f"{node.name}/axes", (2,), "int32", None, data=np.array([1, 2], np.int32))
    options = schema.ReducerOptionsT()
    options.keepDims = False
    inputs = [writer.source(node), axes]
    writer.operator("MEAN", inputs, writer.result(node), schema.BuiltinOptions.ReducerOptions, options)


_OPERATORS = {
    "conv": _conv,
    "depthwise": _conv,
    "dense": _dense,
    "add": _add,
    "concat": _concat,
    "pad": _pad,
    "max_pool": _pool,
    "average_pool": _average_pool,
    "space_to_depth": _space_to_depth,
    "mean": _mean,
    "relu": _relu,
    "shift": _shift,
}
