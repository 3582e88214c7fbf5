"""The integer ONNX file (QDQ), written from the same integers as the integer TFLite file.

Every tensor is followed by QuantizeLinear and DequantizeLinear with the TFLite file's scale and zero point; weights are
stored as int8 with one scale per output channel and biases as int32, so that ONNX Runtime has nothing left to quantize.
Activations are written as uint8 with zero points 128 higher: the same grid and the same real numbers. ONNX Runtime on x86
has fused kernels for uint8 activations with int8 weights, and rewrites int8 activations only where one op reads them:
with int8, 16 of 53 convolutions of MobileNetV2 stayed in float. With uint8 the input is also the photo's own bytes.

A fused ReLU needs no node if the tensor's range starts at 0 (and ends at or below 6): the grid saturates where the
ReLU would. A tensor that shares its grid with others that go below 0 (DenseNet's first convolution shares one, through the
pooling, with the concatenation after it) has a Clip on the integers.

With 16-bit activations (int16, symmetric: no range starts at 0), ReLUs are nodes and biases are float: ONNX has no int64
DequantizeLinear, and ONNX Runtime computes such a net in float between its grids.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from edgetl.formats.write.lowering import averaging, over_quarters
from edgetl.graph.graph import Graph, Node, same_padding
from edgetl.quantization.integers import Quantized


class _Writer:
    def __init__(self, graph: Graph, integers: Mapping[str, Quantized], float_nodes: Collection[str]) -> None:
        self.graph, self.integers, self.float_nodes = graph, dict(integers), float_nodes
        self.nodes: list[Any] = []
        self.initializers: list[Any] = []
        self.grids: dict[str, tuple[str, str]] = {}
        self.reals: dict[str, str] = {}  # outputs of the nodes that stay in float

    def constant(self, name: str, value: np.ndarray | np.generic) -> str:
        self.initializers.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def node(self, op: str, inputs: list[str], output: str, **attributes: Any) -> str:
        self.nodes.append(helper.make_node(op, inputs, [output], name=f"{output}/{op}", **attributes))
        return output

    def grid(self, name: str) -> tuple[str, str]:
        """Names of a tensor's scale and zero point."""
        if name not in self.grids:
            grid = self.integers[name]
            zero_point = np.uint8(grid.zero_point + 128) if grid.bits == 8 else np.int16(grid.zero_point)
            self.grids[name] = (
                self.constant(f"{name}/scale", np.float32(grid.scale)),
                self.constant(f"{name}/zero_point", zero_point),
            )
        return self.grids[name]

    def _quantize(self, real: str, node: Node) -> None:
        """The node's tensor on its grid, with its activation applied."""
        name, grid = node.name, self.integers[node.name]
        if grid.bits == 16:
            self.node("QuantizeLinear", [self._activated(node, real), *self.grid(name)], f"{name}/grid")
            return
        lowest, highest = _activation_limits(node, grid)
        if (lowest, highest) == (0, 255):
            self.node("QuantizeLinear", [real, *self.grid(name)], f"{name}/grid")
            return
        whole = self.node("QuantizeLinear", [real, *self.grid(name)], f"{name}/grid/whole")
        limits = [
            self.constant(f"{name}/{end}", np.uint8(limit)) for end, limit in (("lowest", lowest), ("highest", highest))
        ]
        self.node("Clip", [whole, *limits], f"{name}/grid")

    def dequantize(self, name: str) -> str:
        return self.node("DequantizeLinear", [f"{name}/grid", *self.grid(name)], f"{name}/real/{len(self.nodes)}")

    def source(self, node: Node, position: int = 0) -> str:
        """The real numbers that a node reads: dequantized, or directly from a float node if the reader is one too."""
        name = node.inputs[position]
        if node.name not in self.float_nodes:
            return self.dequantize(name)
        if name in self.reals:
            return self.reals[name]
        # A Clip that cuts off nothing: by default, ONNX Runtime quantizes float weights between DequantizeLinear and
        # QuantizeLinear, to 8 bits and per tensor. A dense layer left in float came out as a QLinearConv.
        limits = [self.constant(f"{node.name}/{end}", getattr(np.finfo(np.float32), end)) for end in ("min", "max")]
        return self.node("Clip", [self.dequantize(name), *limits], f"{node.name}/read")

    def result(self, node: Node, real: str) -> None:
        """Quantize a node's output on its grid, if anything reads it there."""
        if node.name in self.float_nodes:
            self.reals[node.name] = real = self._activated(node, real)
            readers = [other.name for other in self.graph.nodes if node.name in other.inputs]
            if readers and all(name in self.float_nodes for name in readers):
                return
            self.node("QuantizeLinear", [real, *self.grid(node.name)], f"{node.name}/grid")
            return
        self._quantize(real, node)

    def weights(self, node: Node, layout: tuple[int, ...], shape: tuple[int, ...] | None = None) -> list[str]:
        """Kernel [out, ...] and bias [out] of a node as real numbers. layout: axes of our kernel in ONNX's order."""
        own, before = self.integers[node.name], self.integers[node.inputs[0]]
        if node.name in self.float_nodes:
            assert node.kernel is not None and node.bias is not None
            kernel = np.ascontiguousarray(node.kernel.transpose(layout))
            kernel = kernel.reshape(shape) if shape else kernel
            parts = (("kernel", kernel), ("bias", node.bias))
            return [self.constant(f"{node.name}/{part}", value.astype(np.float32)) for part, value in parts]
        assert own.kernel is not None and own.kernel_scales is not None and own.bias is not None
        count = len(own.bias)
        scales = np.broadcast_to(own.kernel_scales, (count,)).astype(np.float32)
        kernel = np.ascontiguousarray(own.kernel.transpose(layout))
        kernel = kernel.reshape(shape) if shape else kernel
        real = self._dequantized(f"{node.name}/kernel", kernel, scales)
        bias_scales = (np.float64(before.scale) * scales.astype(np.float64)).astype(np.float32)
        if own.bits == 16:
            return [real, self.constant(f"{node.name}/bias", (own.bias * bias_scales).astype(np.float32))]
        return [real, self._dequantized(f"{node.name}/bias", own.bias, bias_scales)]

    def _dequantized(self, name: str, value: np.ndarray, scales: np.ndarray) -> str:
        inputs = [
            self.constant(name, value),
            self.constant(f"{name}_scale", scales),
            self.constant(f"{name}_zero_point", np.zeros(len(scales), value.dtype)),
        ]
        return self.node("DequantizeLinear", inputs, f"{name}/real", axis=0)

    def _activated(self, node: Node, real: str) -> str:
        """The node's ReLU on real numbers."""
        if node.activation == "none":
            return real
        if node.activation == "relu":
            return self.node("Relu", [real], f"{node.name}/activated")
        low, high = (self.constant(f"{node.name}/{end}", np.float32(end)) for end in (0, 6))
        return self.node("Clip", [real, low, high], f"{node.name}/activated")


def write_onnx_int8(
    graph: Graph,
    integers: Mapping[str, Quantized],
    *,
    float_nodes: Collection[str] = (),
    opset: int,
    description: str,
    metadata: Mapping[str, str],
) -> Any:
    """The model: input `image` uint8 [1, h, w, 3], the TFLite file's int8 plus 128; output `probabilities` float32.

    float_nodes: names of nodes with kernels that stay in float32. opset: raised to 21 for 16-bit activations.
    """
    graph, integers = over_quarters(graph, integers, float_nodes, from_size=3)
    graph = _with_paddings_fused(graph)
    writer = _Writer(graph, integers, float_nodes)
    source = graph.input
    if not any(node.op == "space_to_depth" for node in graph.nodes):
        writer.node("Transpose", ["image"], f"{source.name}/grid", perm=[0, 3, 1, 2])
    for node in graph.nodes[1:]:
        real = _OPERATORS[node.op](writer, node)
        if real is not None:  # otherwise it wrote the integers itself
            writer.result(node, real)
    logits = graph.output
    classes = logits.shape[-1]
    flat = writer.node(
        "Reshape",
        [
            writer.dequantize(logits.name),
            writer.constant("logits_shape", np.array([1, classes], np.int64)),
        ],
        "logits_flat",
    )
    writer.node("Softmax", [flat], "probabilities", axis=1)
    image = helper.make_tensor_value_info("image", TensorProto.UINT8, list(source.shape))
    probabilities = helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, [1, classes])
    body = helper.make_graph(writer.nodes, "classifier", [image], [probabilities], writer.initializers)
    wide = any(grid.bits == 16 for grid in integers.values())
    # IR version 8 came with opset 17: every runtime that knows the operators also knows the file format. int16 grids came
    # with opset 21 and IR version 10.
    model = helper.make_model(
        body,
        opset_imports=[helper.make_opsetid("", max(opset, 21) if wide else opset)],
        producer_name="edgetl",
        doc_string=description,
        ir_version=10 if wide else 8,
    )
    helper.set_model_props(model, dict(metadata))
    onnx.checker.check_model(model, full_check=True)
    return model


def _activation_limits(node: Node, grid: Quantized) -> tuple[int, int]:
    """The first and last of the uint8 steps that a node's activation can produce."""
    if node.activation == "none":
        return 0, 255
    zero_point = grid.zero_point + 128
    if node.activation == "relu":
        return zero_point, 255
    return zero_point, min(255, zero_point + int(np.floor(6.0 / grid.scale + 0.5)))


def _with_paddings_fused(graph: Graph) -> Graph:
    """Move each padding into the convolution, or after a ReLU the max pooling, that is its only reader: one op less to run.
    Its padding is then "explicit". A max pooling pads with the smallest number, which after a ReLU is 0."""
    fused: dict[str, Node] = {}
    nodes = []
    for node in graph.nodes:
        if node.op == "pad":
            readers = [other for other in graph.nodes if node.name in other.inputs]
            of_relu = graph.node(node.inputs[0]).activation != "none"
            takes = ("conv", "depthwise", "max_pool") if of_relu else ("conv", "depthwise")
            reader = readers[0] if len(readers) == 1 else None
            if reader is not None and reader.op in takes and reader.attributes["padding"] == "valid":
                fused[node.name] = node
                continue
        if node.inputs and node.inputs[0] in fused:
            pad = fused[node.inputs[0]]
            attributes = {**node.attributes, "explicit": pad.attributes["pads"]}
            node = replace(node, inputs=pad.inputs, attributes=attributes)
        nodes.append(node)
    return Graph(tuple(nodes))


def _pads(graph: Graph, node: Node, size: tuple[int, ...]) -> list[int]:
    """ONNX pads [top, left, bottom, right]."""
    if "explicit" in node.attributes:
        (top, bottom), (left, right) = node.attributes["explicit"]
        return [top, left, bottom, right]
    if node.attributes["padding"] == "valid":
        return [0, 0, 0, 0]
    shape = graph.node(node.inputs[0]).shape
    (top, bottom), (left, right) = (
        same_padding(shape[1 + axis], size[axis], node.attributes["strides"][axis]) for axis in (0, 1)
    )
    return [top, left, bottom, right]


def _conv(writer: _Writer, node: Node) -> str:
    assert node.kernel is not None
    # Keras [h, w, in, out] -> [out, in, h, w]; depthwise [h, w, channels, 1] -> [channels, 1, h, w].
    depthwise = node.op == "depthwise"
    size = node.kernel.shape[:2]
    inputs = [writer.source(node), *writer.weights(node, (2, 3, 0, 1) if depthwise else (3, 2, 0, 1))]
    return writer.node(
        "Conv",
        inputs,
        f"{node.name}/real",
        group=node.kernel.shape[2] if depthwise else 1,
        strides=node.attributes["strides"],
        pads=_pads(writer.graph, node, size),
        kernel_shape=list(size),
    )


def _dense(writer: _Writer, node: Node) -> str:
    # On the pooled [1, channels, 1, 1] tensor a dense layer is a 1 x 1 convolution.
    assert node.kernel is not None
    weights = writer.weights(node, (1, 0), (*node.kernel.shape[::-1], 1, 1))
    return writer.node("Conv", [writer.source(node), *weights], f"{node.name}/real", kernel_shape=[1, 1])


def _add(writer: _Writer, node: Node) -> str:
    return writer.node("Add", [writer.source(node, i) for i in range(2)], f"{node.name}/real")


def _relu(writer: _Writer, node: Node) -> str:
    # Relu between DequantizeLinear and QuantizeLinear stays in float; an addition of zero becomes a QLinearAdd.
    grid = (
        writer.constant(f"{node.name}/zero", np.uint8(128)),
        writer.constant(f"{node.name}/zero/scale", np.float32(writer.integers[node.inputs[0]].scale)),
        writer.constant(f"{node.name}/zero/zero_point", np.uint8(128)),
    )
    zero = writer.node("DequantizeLinear", list(grid), f"{node.name}/zero/real")
    return writer.node("Add", [writer.source(node), zero], f"{node.name}/real")


def _shift(writer: _Writer, node: Node) -> str:
    own, name = writer.integers[node.name], f"{node.name}/bias"
    assert own.bias is not None and own.bias_grid is not None
    scale, zero_point = own.bias_grid
    shape = (1, -1, *(1 for _ in node.shape[2:]))
    if own.bits == 16:
        real = (own.bias.reshape(shape) * np.float64(scale)).astype(np.float32)
        return writer.node("Add", [writer.source(node), writer.constant(name, real)], f"{node.name}/real")
    grid = (
        writer.constant(name, (own.bias.reshape(shape).astype(np.int16) + 128).astype(np.uint8)),
        writer.constant(f"{name}/scale", np.float32(scale)),
        writer.constant(f"{name}/zero_point", np.uint8(zero_point + 128)),
    )
    constants = writer.node("DequantizeLinear", list(grid), f"{name}/real")
    return writer.node("Add", [writer.source(node), constants], f"{node.name}/real")


def _concat(writer: _Writer, node: Node) -> str:
    sources = [writer.source(node, i) for i in range(len(node.inputs))]
    return writer.node("Concat", sources, f"{node.name}/real", axis=1)


def _pad(writer: _Writer, node: Node) -> str | None:
    (top, bottom), (left, right) = node.attributes["pads"]
    pads = writer.constant(f"{node.name}/pads", np.array([0, 0, top, left, 0, 0, bottom, right], np.int64))
    if writer.integers[node.name].bits == 16:
        return writer.node("Pad", [writer.source(node), pads], f"{node.name}/real")
    # On the integers, padded with the zero point: ONNX Runtime leaves a Pad of dequantized numbers in float.
    _, zero_point = writer.grid(node.name)
    writer.node("Pad", [f"{node.inputs[0]}/grid", pads, zero_point], f"{node.name}/grid")
    return None


def _pool(writer: _Writer, node: Node) -> str:
    size = node.attributes["size"]
    return writer.node(
        "MaxPool" if node.op == "max_pool" else "AveragePool",
        [writer.source(node)],
        f"{node.name}/real",
        kernel_shape=size,
        strides=node.attributes["strides"],
        pads=_pads(writer.graph, node, tuple(size)),
    )


def _space_to_depth(writer: _Writer, node: Node) -> None:
    """Space to depth in two steps, rows and then columns: a Transpose of five axes takes twice the time. On the image's
    bytes, and in place of the input's Transpose."""
    _, height, width, channels = node.shape
    pair = channels // 2
    shapes = {
        name: writer.constant(f"{node.name}/{name}", np.array(shape, np.int64))
        for name, shape in {
            "rows": [1, height, 2, width * pair],
            "pairs": [1, height, width, pair],
            "one": [1, 1],
        }.items()
    }
    rows = writer.node("Reshape", ["image", shapes["rows"]], f"{node.name}/apart")
    halves = [f"{node.name}/upper", f"{node.name}/lower"]
    writer.nodes.append(helper.make_node("Split", [rows, shapes["one"]], halves, axis=2, name=f"{node.name}/Split"))
    beside = [writer.node("Reshape", [half, shapes["pairs"]], f"{half}/pairs") for half in halves]
    joined = writer.node("Concat", beside, f"{node.name}/nhwc", axis=3)
    writer.node("Transpose", [joined], f"{node.name}/grid", perm=[0, 3, 1, 2])


def _average_pool(writer: _Writer, node: Node) -> str:
    """A depthwise convolution, as in the TFLite file."""
    own = writer.integers[node.name]
    if node.attributes["padding"] != "valid" or own.bits != 8:
        return _pool(writer, node)
    writer.integers[node.name] = replace(own, **averaging(node))
    kernel = np.zeros((*node.attributes["size"], node.shape[-1], 1), np.float32)  # its shape; only the integers matter
    return _conv(writer, replace(node, op="depthwise", kernel=kernel))


def _mean(writer: _Writer, node: Node) -> str:
    return writer.node("GlobalAveragePool", [writer.source(node)], f"{node.name}/real")


_OPERATORS: dict[str, Callable[..., str | None]] = {
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
