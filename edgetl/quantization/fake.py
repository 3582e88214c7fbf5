"""Fake quantization with TensorFlow Model Optimization's wrappers and our own quantizers.

TFMOT's defaults start every activation range at [-6, 6] and let it drift, and quantize depthwise kernels per tensor. Here
ranges begin at those of the calibration photos and are trained with the weights or stay fixed; convolution kernels have one
scale per channel unless the device takes only one. The model computes what quantization/integers.py ships, except that
trained ranges are stretched a little afterwards (quantization/ties.py).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow_model_optimization.python.core.quantization.keras import quantize_layer, quantize_wrapper
from tensorflow_model_optimization.quantization.keras import QuantizeConfig, quantizers
from tf_keras import Model

from edgetl.graph.graph import SAME_SCALE_OPS, Graph, Node, NodeWeights, same_scale_groups
from edgetl.graph.rebuild import kernel_and_bias, rebuild
from edgetl.quantization.integers import channel_axis
from edgetl.quantization.net import QuantizedNet
from edgetl.quantization.ranges import Range
from edgetl.quantization.ties import DENOMINATOR


class FixedRange(quantizers.Quantizer):  # type: ignore[misc]  # TFMOT has no types
    """A grid over a fixed range; the gradient passes inside the range and stops outside.

    bits: 8, or 16 for a symmetric grid (LiteRT's 16x8 scheme).
    """

    def __init__(self, low: float, high: float, bits: int = 8) -> None:
        self.low, self.high, self.bits = low, high, bits

    def ends(self) -> tuple[float, float]:
        """(low, high)."""
        return self.low, self.high

    def build(self, tensor_shape: Any, name: str, layer: Any) -> dict[str, Any]:
        """No variables: the range is fixed."""
        return {}

    def __call__(self, inputs: Any, training: Any, weights: Any, **kwargs: Any) -> Any:
        if self.bits == 8:
            return tf.quantization.fake_quant_with_min_max_args(inputs, self.low, self.high, num_bits=8)
        edge = max(-self.low, self.high)
        return tf.quantization.fake_quant_with_min_max_args(inputs, -edge, edge, num_bits=self.bits, narrow_range=True)

    def get_config(self) -> dict[str, float]:
        """For Keras."""
        return {"low": self.low, "high": self.high, "bits": self.bits}


class TrainedRange(quantizers.Quantizer):  # type: ignore[misc]
    """An 8-bit grid with trained ends: each a factor times its start (Choi et al. 2018, Jain et al. 2020).

    end = start * exp(RATE * a), with a trained from 0: an end never changes its sign, an end that starts at 0 (a ReLU's)
    stays there, and `cap` is the most that the activation can produce. The gradient of an end is that of the values it
    clips. Tensors that must share a grid share the variables: `shared` has those that some layer has made already.
    """

    bits = 8
    # Adam moves `a` by about the learning rate, 2e-5, per step; RATE makes that a five-thousandth of the range. 50 was no
    # better (recipe.QuantizeOptions).
    RATE = 10.0

    def __init__(self, name: str, start: Range, cap: float | None, shared: dict[str, dict[str, Any]]) -> None:
        self.name, self.start, self.cap, self.shared = name, start, cap, shared

    def build(self, tensor_shape: Any, name: str, layer: Any) -> dict[str, Any]:
        """The two variables, made by the first layer of the group."""
        if self.name not in self.shared:
            self.shared[self.name] = {
                end: layer.add_weight(name=f"{end}_log", shape=(), initializer="zeros", trainable=True)
                for end in ("low", "high")
            }
        return self.shared[self.name]

    def ends(self) -> tuple[Any, Any]:
        """The current (low, high), scalars."""
        variables = self.shared[self.name]
        low, high = (
            start * tf.exp(self.RATE * variables[end]) for end, start in zip(("low", "high"), self.start, strict=True)
        )
        return low, high if self.cap is None else tf.minimum(high, self.cap)

    def __call__(self, inputs: Any, training: Any, weights: Any, **kwargs: Any) -> Any:
        low, high = self.ends()
        return tf.quantization.fake_quant_with_min_max_vars(inputs, low, high, num_bits=8)

    def get_config(self) -> dict[str, Any]:
        """For Keras; the variables belong to the layers."""
        return {"name": self.name, "start": self.start, "cap": self.cap}


class SymmetricWeights(quantizers.Quantizer):  # type: ignore[misc]
    """Weights on [-127, 127] times a scale that follows the largest weight: one scale per index of `axis`, or one for all."""

    def __init__(self, axis: int | None) -> None:
        self.axis = axis

    def build(self, tensor_shape: Any, name: str, layer: Any) -> dict[str, Any]:
        """No variables: the scale follows from the weights."""
        return {}

    def __call__(self, inputs: Any, training: Any, weights: Any, **kwargs: Any) -> Any:
        others = [i for i in range(len(inputs.shape)) if i != self.axis]
        largest = tf.stop_gradient(tf.maximum(tf.reduce_max(tf.abs(inputs), axis=others), 1e-9))
        if self.axis is None:
            return tf.quantization.fake_quant_with_min_max_vars(
                inputs, -largest, largest, num_bits=8, narrow_range=True
            )
        # The op needs channels last; a depthwise kernel has them third.
        order = [*others, self.axis]
        moved = tf.transpose(inputs, order)
        quantized = tf.quantization.fake_quant_with_min_max_vars_per_channel(
            moved, -largest, largest, num_bits=8, narrow_range=True
        )
        return tf.transpose(quantized, np.argsort(order))

    def get_config(self) -> dict[str, Any]:
        """For Keras."""
        return {"axis": self.axis}


class BiasSteps(quantizers.Quantizer):  # type: ignore[misc]
    """A bias on the int32 grid it ships on, input scale times weight scale; only the bias gets a gradient.

    Where folding BatchNorm left large weights the grid is coarse: on MobileNetV2's first depthwise layer a float bias was a
    tenth of an output step away from what the file computes.
    """

    def __init__(self, kernel: Any, axis: int | None, input_range: Callable[[], tuple[Any, Any]]) -> None:
        self.kernel, self.axis, self.input_range = kernel, axis, input_range

    def build(self, tensor_shape: Any, name: str, layer: Any) -> dict[str, Any]:
        """No variables: the grid follows from the kernel and the input's range."""
        return {}

    def __call__(self, inputs: Any, training: Any, weights: Any, **kwargs: Any) -> Any:
        others = [i for i in range(len(self.kernel.shape)) if i != self.axis]
        largest = tf.reduce_max(tf.abs(self.kernel), axis=others)
        low, high = self.input_range()
        step = tf.stop_gradient(tf.maximum(largest / 127.0, 1e-9) * (high - low) / 255.0)
        return inputs + tf.stop_gradient(tf.round(inputs / step) * step - inputs)

    def get_config(self) -> dict[str, Any]:
        """For Keras; the kernel is the layer's own."""
        return {"axis": self.axis}


class ConstantSteps(quantizers.Quantizer):  # type: ignore[misc]
    """A shift's constants on the 8 bits they ship with (integers._constants); all of them get a gradient."""

    def __init__(
        self, node: Node, input_range: Callable[[], tuple[Any, Any]], output_range: Callable[[], tuple[Any, Any]]
    ) -> None:
        self.node, self.input_range, self.output_range = node, input_range, output_range

    def build(self, tensor_shape: Any, name: str, layer: Any) -> dict[str, Any]:
        """No variables: the grid follows from the constants and the ranges of the input and the output."""
        return {}

    def __call__(self, inputs: Any, training: Any, weights: Any, **kwargs: Any) -> Any:
        useful = inputs if self.node.activation == "none" else tf.maximum(inputs, -self.input_range()[1])
        low, high = tf.minimum(tf.reduce_min(useful), 0.0), tf.maximum(tf.reduce_max(useful), 0.0)
        first, last = self.output_range()
        finest = (last - first) / 255.0 / DENOMINATOR
        step = finest * tf.maximum(tf.math.ceil((high - low) / 255.0 / finest), 1.0)
        zero = tf.floor(-128.0 - low / step + 0.5)
        on_grid = (tf.clip_by_value(tf.floor(useful / step + 0.5) + zero, -128.0, 127.0) - zero) * step
        # Not inputs + (on_grid - inputs): for a constant far past the grid, float32 would round on_grid away.
        return tf.stop_gradient(on_grid) + (inputs - tf.stop_gradient(inputs))

    def get_config(self) -> dict[str, Any]:
        """For Keras; the constants are the layer's own."""
        return {"node": self.node.name}


Grid = FixedRange | TrainedRange


class _NodeConfig(QuantizeConfig):  # type: ignore[misc]
    """For TFMOT's wrapper: what to quantize of one node, its weights, and its output unless that shares a grid."""

    def __init__(
        self, node: Node, output: Grid, input_range: Callable[[], tuple[Any, Any]], per_channel: bool, in_float: bool
    ) -> None:
        self.node, self.output, self.input_range = node, output, input_range
        self.per_channel, self.in_float = per_channel, in_float

    def _kernel(self) -> str:
        return "depthwise_kernel" if self.node.op == "depthwise" else "kernel"

    def get_weights_and_quantizers(self, layer: Any) -> list[Any]:
        if self.node.op == "shift" and self.output.bits == 8:
            return [(layer.bias, ConstantSteps(self.node, self.input_range, self.output.ends))]
        if self.node.kernel is None or self.in_float:
            return []
        kernel = getattr(layer, self._kernel())
        axis = channel_axis(self.node.op, per_channel=self.per_channel)
        weights = [(kernel, SymmetricWeights(axis))]
        # Under 16-bit activations biases are int64, finer than float32.
        return [*weights, (layer.bias, BiasSteps(kernel, axis, self.input_range))] if self.output.bits == 8 else weights

    def set_quantize_weights(self, layer: Any, quantize_weights: Any) -> None:
        if self.node.op == "shift" and quantize_weights:
            layer.bias = quantize_weights[0]
        elif quantize_weights:
            setattr(layer, self._kernel(), quantize_weights[0])
            if len(quantize_weights) > 1:
                layer.bias = quantize_weights[1]

    def get_activations_and_quantizers(self, layer: Any) -> list[Any]:
        return []

    def set_quantize_activations(self, layer: Any, quantize_activations: Any) -> None:
        return None

    def get_output_quantizers(self, layer: Any) -> list[Any]:
        return [] if self.node.op in SAME_SCALE_OPS and self.node.op != "average_pool" else [self.output]

    def get_config(self) -> dict[str, Any]:
        return {"node": self.node.name, "output": self.output.get_config(), "per_channel": self.per_channel}


class FakeQuantized:
    """A trainable Keras model of logits that computes what the net's files will, and its grids.

    trained: the ranges are variables (8 bits only), except the input's, which the contract fixes.
    """

    def __init__(self, net: QuantizedNet, *, trained: bool = False) -> None:
        graph = net.graph
        groups = same_scale_groups(graph)
        caps = _caps(graph, groups)
        shared: dict[str, dict[str, Any]] = {}

        def grid(name: str) -> Grid:
            if trained and groups[name] != groups[graph.input.name]:
                return TrainedRange(groups[name], net.ranges[name], caps.get(groups[name]), shared)
            return FixedRange(*net.ranges[name], 8 if name == graph.input.name else net.activation_bits)

        self._grids = {node.name: grid(node.name) for node in graph.nodes}

        def wrap(node: Node, layer: Any) -> Any:
            own = self._grids[node.name]
            if node.op == "input":
                return quantize_layer.QuantizeLayer(own, name=f"grid_{node.name}")
            input_range = self._grids[node.inputs[0]].ends
            config = _NodeConfig(node, own, input_range, net.per_channel, node.name in net.float_nodes)
            return quantize_wrapper.QuantizeWrapperV2(layer, config)

        self.model = rebuild(graph, wrap)

    def ranges(self) -> dict[str, Range]:
        """Tensor name -> the current (low, high)."""
        ends = {name: grid.ends() for name, grid in self._grids.items()}
        return {name: (float(low), float(high)) for name, (low, high) in ends.items()}


def _caps(graph: Graph, groups: Mapping[str, str]) -> dict[str, float]:
    """Group -> 6 where each of its tensors is the output of a ReLU6."""
    makers = [node for node in graph.nodes if node.op not in SAME_SCALE_OPS]
    beyond = {groups[node.name] for node in makers if node.attributes.get("activation") != "relu6"}
    return {groups[node.name]: 6.0 for node in makers if groups[node.name] not in beyond}


def trained_weights(graph: Graph, model: Any) -> NodeWeights:
    """Node name -> (kernel, bias) as float32, from the Keras model that FakeQuantized made from this graph."""
    weights: NodeWeights = {}
    for node in graph.nodes:
        if node.bias is not None:
            kernel, bias = kernel_and_bias(model.get_layer(f"quant_{node.name}"))
            weights[node.name] = (None if kernel is None else kernel.numpy(), bias.numpy())
    return weights


def all_tensors(graph: Graph) -> Any:
    """Keras model: normalized image -> the float tensors of all nodes except the input, in order."""
    model = rebuild(graph)
    return Model(model.input, [model.get_layer(node.name).output for node in graph.nodes[1:]])
