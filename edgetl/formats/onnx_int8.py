"""The int8 ONNX file (QDQ), written from the same integers as the int8 TFLite file.

Every tensor is followed by QuantizeLinear and DequantizeLinear with the TFLite file's scale and zero point; weights are
stored as int8 with a scale per output channel and biases as int32, so nothing is left for ONNX Runtime to quantize anew.
Activations are written as uint8, every zero point 128 higher: the same grid, the same real numbers. ONNX Runtime on x86
has fused kernels for uint8 activations with int8 weights, and rewrites int8 activations only where one op reads them:
int8 left 16 of 53 convolutions of MobileNetV2 in float. It also makes the input the photo's own bytes.

A fused ReLU needs no node where the tensor's range begins at 0 (and ends at or below 6): the grid saturates where the
ReLU would. A tensor that shares its grid with others that go below 0 (DenseNet's first convolution, through the pooling
with the concatenation behind it) has a Clip on the integers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from edgetl.quantization.fold import same_padding
from edgetl.quantization.graph import Graph, Node
from edgetl.quantization.integers import Quantized


class _Writer:
    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.initializers: list[Any] = []
        self.grids: dict[str, tuple[str, str]] = {}

    def constant(self, name: str, value: np.ndarray | np.generic) -> str:
        self.initializers.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def node(self, op: str, inputs: list[str], output: str, **attributes: Any) -> str:
        self.nodes.append(helper.make_node(op, inputs, [output], name=f"{output}/{op}", **attributes))
        return output

    def grid(self, name: str, grid: Quantized) -> tuple[str, str]:
        """Names of a tensor's scale and zero point."""
        if name not in self.grids:
            self.grids[name] = (
                self.constant(f"{name}/scale", np.float32(grid.scale)),
                self.constant(f"{name}/zero_point", np.uint8(grid.zero_point + 128)),
            )
        return self.grids[name]

    def quantize(self, real: str, node: Node, grid: Quantized) -> None:
        """The node's tensor on its grid, its activation applied."""
        name = node.name
        lowest, highest = _activation_limits(node, grid)
        if (lowest, highest) == (0, 255):
            self.node("QuantizeLinear", [real, *self.grid(name, grid)], f"{name}/grid")
            return
        whole = self.node("QuantizeLinear", [real, *self.grid(name, grid)], f"{name}/grid/whole")
        limits = [
            self.constant(f"{name}/{end}", np.uint8(limit)) for end, limit in (("lowest", lowest), ("highest", highest))
        ]
        self.node("Clip", [whole, *limits], f"{name}/grid")

    def dequantize(self, name: str, grid: Quantized) -> str:
        return self.node("DequantizeLinear", [f"{name}/grid", *self.grid(name, grid)], f"{name}/real/{len(self.nodes)}")

    def weights(self, node: Node, integers: Mapping[str, Quantized], kernel: np.ndarray) -> list[str]:
        """Dequantized kernel [out, ...] and bias [out] of a node."""
        own, before = integers[node.name], integers[node.inputs[0]]
        assert own.kernel_scales is not None and own.bias is not None
        count = len(own.bias)
        scales = np.broadcast_to(own.kernel_scales, (count,)).astype(np.float32)
        bias_scales = (np.float64(before.scale) * scales.astype(np.float64)).astype(np.float32)
        names = []
        for part, value, scale in (("kernel", kernel, scales), ("bias", own.bias, bias_scales)):
            inputs = [
                self.constant(f"{node.name}/{part}", value),
                self.constant(f"{node.name}/{part}_scale", scale),
                self.constant(f"{node.name}/{part}_zero_point", np.zeros(count, value.dtype)),
            ]
            names.append(self.node("DequantizeLinear", inputs, f"{node.name}/{part}/real", axis=0))
        return names


def write_onnx_int8(
    graph: Graph, integers: Mapping[str, Quantized], *, opset: int, description: str, metadata: Mapping[str, str]
) -> Any:
    """The model: input `image` uint8 [1, h, w, 3], the TFLite file's int8 plus 128; output `probabilities` float32."""
    writer = _Writer()
    source = graph.input
    writer.node("Transpose", ["image"], f"{source.name}/grid", perm=[0, 3, 1, 2])
    for node in graph.nodes[1:]:
        real = _OPERATORS[node.op](writer, node, integers, graph)
        if real is not None:  # else it wrote the integers itself
            writer.quantize(real, node, integers[node.name])
    logits = graph.output
    classes = logits.shape[-1]
    flat = writer.node(
        "Reshape",
        [
            writer.dequantize(logits.name, integers[logits.name]),
            writer.constant("logits_shape", np.array([1, classes], np.int64)),
        ],
        "logits_flat",
    )
    writer.node("Softmax", [flat], "probabilities", axis=1)
    image = helper.make_tensor_value_info("image", TensorProto.UINT8, list(source.shape))
    probabilities = helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, [1, classes])
    body = helper.make_graph(writer.nodes, "classifier", [image], [probabilities], writer.initializers)
    # IR version 8 came with opset 17: the oldest runtimes that know the operators also know the file.
    model = helper.make_model(
        body,
        opset_imports=[helper.make_opsetid("", opset)],
        producer_name="edgetl",
        doc_string=description,
        ir_version=8,
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


def _input(writer: _Writer, node: Node, integers: Mapping[str, Quantized], position: int = 0) -> str:
    return writer.dequantize(node.inputs[position], integers[node.inputs[position]])


def _pads(graph: Graph, node: Node, size: tuple[int, ...]) -> list[int]:
    """ONNX pads [top, left, bottom, right]."""
    if node.attributes["padding"] == "valid":
        return [0, 0, 0, 0]
    shape = graph.node(node.inputs[0]).shape
    (top, bottom), (left, right) = (
        same_padding(shape[1 + axis], size[axis], node.attributes["strides"][axis]) for axis in (0, 1)
    )
    return [top, left, bottom, right]


def _conv(writer: _Writer, node: Node, integers: Mapping[str, Quantized], graph: Graph) -> str:
    kernel = integers[node.name].kernel
    assert kernel is not None
    # Keras [h, w, in, out] -> [out, in, h, w]; depthwise [h, w, channels, 1] -> [channels, 1, h, w].
    moved = kernel.transpose(2, 3, 0, 1) if node.op == "depthwise" else kernel.transpose(3, 2, 0, 1)
    group = moved.shape[0] if node.op == "depthwise" else 1
    inputs = [_input(writer, node, integers), *writer.weights(node, integers, np.ascontiguousarray(moved))]
    return writer.node(
        "Conv",
        inputs,
        f"{node.name}/real",
        group=group,
        strides=node.attributes["strides"],
        pads=_pads(graph, node, kernel.shape[:2]),
        kernel_shape=list(kernel.shape[:2]),
    )


def _dense(writer: _Writer, node: Node, integers: Mapping[str, Quantized], graph: Graph) -> str:
    # On the pooled [1, channels, 1, 1] tensor a dense layer is a 1 x 1 convolution.
    kernel = integers[node.name].kernel
    assert kernel is not None
    moved = np.ascontiguousarray(kernel.transpose(1, 0)[:, :, None, None])
    return writer.node(
        "Conv",
        [_input(writer, node, integers), *writer.weights(node, integers, moved)],
        f"{node.name}/real",
        kernel_shape=[1, 1],
    )


def _add(writer: _Writer, node: Node, integers: Mapping[str, Quantized], graph: Graph) -> str:
    return writer.node("Add", [_input(writer, node, integers, i) for i in range(2)], f"{node.name}/real")


def _relu(writer: _Writer, node: Node, integers: Mapping[str, Quantized], graph: Graph) -> str:
    # Relu between DequantizeLinear and QuantizeLinear stays in float; an addition of zero becomes a QLinearAdd.
    grid = (
        writer.constant(f"{node.name}/zero", np.uint8(128)),
        writer.constant(f"{node.name}/zero/scale", np.float32(integers[node.inputs[0]].scale)),
        writer.constant(f"{node.name}/zero/zero_point", np.uint8(128)),
    )
    zero = writer.node("DequantizeLinear", list(grid), f"{node.name}/zero/real")
    return writer.node("Add", [_input(writer, node, integers), zero], f"{node.name}/real")


def _concat(writer: _Writer, node: Node, integers: Mapping[str, Quantized], graph: Graph) -> str:
    return writer.node(
        "Concat", [_input(writer, node, integers, i) for i in range(len(node.inputs))], f"{node.name}/real", axis=1
    )


def _pad(writer: _Writer, node: Node, integers: Mapping[str, Quantized], graph: Graph) -> None:
    # On the integers, with the step that is 0: ONNX Runtime leaves a Pad of dequantized numbers in float.
    (top, bottom), (left, right) = node.attributes["pads"]
    pads = writer.constant(f"{node.name}/pads", np.array([0, 0, top, left, 0, 0, bottom, right], np.int64))
    _, zero_point = writer.grid(node.name, integers[node.name])
    writer.node("Pad", [f"{node.inputs[0]}/grid", pads, zero_point], f"{node.name}/grid")


def _max_pool(writer: _Writer, node: Node, integers: Mapping[str, Quantized], graph: Graph) -> str:
    size = node.attributes["size"]
    return writer.node(
        "MaxPool",
        [_input(writer, node, integers)],
        f"{node.name}/real",
        kernel_shape=size,
        strides=node.attributes["strides"],
        pads=_pads(graph, node, tuple(size)),
    )


def _average_pool(writer: _Writer, node: Node, integers: Mapping[str, Quantized], graph: Graph) -> str:
    size = node.attributes["size"]
    return writer.node(
        "AveragePool",
        [_input(writer, node, integers)],
        f"{node.name}/real",
        kernel_shape=size,
        strides=node.attributes["strides"],
        pads=_pads(graph, node, tuple(size)),
    )


def _mean(writer: _Writer, node: Node, integers: Mapping[str, Quantized], graph: Graph) -> str:
    return writer.node("GlobalAveragePool", [_input(writer, node, integers)], f"{node.name}/real")


_OPERATORS: dict[str, Callable[..., str | None]] = {
    "conv": _conv,
    "depthwise": _conv,
    "dense": _dense,
    "add": _add,
    "concat": _concat,
    "pad": _pad,
    "max_pool": _max_pool,
    "average_pool": _average_pool,
    "mean": _mean,
    "relu": _relu,
}
