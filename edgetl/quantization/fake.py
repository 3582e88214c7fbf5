"""Fake quantization with TensorFlow Model Optimization's wrappers, our quantizers and no surprises.

TFMOT's defaults start every activation range at [-6, 6] and let it creep, and quantize depthwise kernels per tensor.
Here ranges are those of the calibration photos, fixed; every convolution kernel has a scale a channel; what the trained
model computes is what quantization/integers.py ships.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow_model_optimization.python.core.quantization.keras import quantize_layer, quantize_wrapper
from tensorflow_model_optimization.quantization.keras import QuantizeConfig, quantizers
from tf_keras import Model

from edgetl.quantization.fold import kernel_and_bias, rebuild
from edgetl.quantization.graph import SAME_SCALE_OPS, Graph, Node
from edgetl.quantization.integers import affine_int8, channel_axis
from edgetl.quantization.ranges import Range


class FixedRange(quantizers.Quantizer):
    """An 8-bit grid over a fixed range; the gradient passes inside of it and stops outside."""

    def __init__(self, low: float, high: float) -> None:
        self.low, self.high = low, high

    def build(self, tensor_shape: Any, name: str, layer: Any) -> dict[str, Any]:
        """No variables: the range does not move."""
        return {}

    def __call__(self, inputs: Any, training: Any, weights: Any, **kwargs: Any) -> Any:
        return tf.quantization.fake_quant_with_min_max_args(inputs, self.low, self.high, num_bits=8)

    def get_config(self) -> dict[str, float]:
        """For Keras."""
        return {"low": self.low, "high": self.high}


class SymmetricWeights(quantizers.Quantizer):
    """Weights on [-127, 127] times a scale that follows the largest weight: per index of `axis`, or one for all."""

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
        # The op wants channels last; a depthwise kernel has them third.
        order = [*others, self.axis]
        moved = tf.transpose(inputs, order)
        quantized = tf.quantization.fake_quant_with_min_max_vars_per_channel(
            moved, -largest, largest, num_bits=8, narrow_range=True
        )
        return tf.transpose(quantized, np.argsort(order))

    def get_config(self) -> dict[str, Any]:
        """For Keras."""
        return {"axis": self.axis}


class BiasSteps(quantizers.Quantizer):
    """A bias on the int32 grid it ships on, input scale times weight scale; the gradient passes.

    Where folding BatchNorm left large weights the grid is coarse: on MobileNetV2's first depthwise layer a bias left in
    float was a tenth of an output step off from what the file computes.
    """

    def __init__(self, kernel: Any, axis: int | None, input_scale: float) -> None:
        self.kernel, self.axis, self.input_scale = kernel, axis, input_scale

    def build(self, tensor_shape: Any, name: str, layer: Any) -> dict[str, Any]:
        """No variables: the grid follows from the kernel."""
        return {}

    def __call__(self, inputs: Any, training: Any, weights: Any, **kwargs: Any) -> Any:
        others = [i for i in range(len(self.kernel.shape)) if i != self.axis]
        largest = tf.reduce_max(tf.abs(self.kernel), axis=others)
        step = tf.stop_gradient(tf.maximum(largest / 127.0, 1e-9) * self.input_scale)
        return inputs + tf.stop_gradient(tf.round(inputs / step) * step - inputs)

    def get_config(self) -> dict[str, Any]:
        """For Keras; the kernel is the layer's own."""
        return {"axis": self.axis, "input_scale": self.input_scale}


class _NodeConfig(QuantizeConfig):
    """Tells TFMOT's wrapper what to quantize of one node: its weights, and its output unless that shares a grid."""

    def __init__(self, op: str, low: float, high: float, input_scale: float) -> None:
        self.op, self.low, self.high, self.input_scale = op, low, high, input_scale

    def _kernel(self) -> str:
        return "depthwise_kernel" if self.op == "depthwise" else "kernel"

    def get_weights_and_quantizers(self, layer: Any) -> list[Any]:
        if self.op not in ("conv", "depthwise", "dense"):
            return []
        kernel, axis = getattr(layer, self._kernel()), channel_axis(self.op)
        return [(kernel, SymmetricWeights(axis)), (layer.bias, BiasSteps(kernel, axis, self.input_scale))]

    def set_quantize_weights(self, layer: Any, quantize_weights: Any) -> None:
        if quantize_weights:
            kernel, bias = quantize_weights
            setattr(layer, self._kernel(), kernel)
            layer.bias = bias

    def get_activations_and_quantizers(self, layer: Any) -> list[Any]:
        return []

    def set_quantize_activations(self, layer: Any, quantize_activations: Any) -> None:
        return None

    def get_output_quantizers(self, layer: Any) -> list[Any]:
        return [] if self.op in SAME_SCALE_OPS and self.op != "average_pool" else [FixedRange(self.low, self.high)]

    def get_config(self) -> dict[str, Any]:
        return {"op": self.op, "low": self.low, "high": self.high, "input_scale": self.input_scale}


def fake_quantized(graph: Graph, ranges: Mapping[str, Range]) -> Any:
    """A trainable Keras model that computes what the int8 file will: normalized image -> logits."""

    def wrap(node: Node, layer: Any) -> Any:
        low, high = ranges[node.name]
        if node.op == "input":
            return quantize_layer.QuantizeLayer(FixedRange(low, high), name=f"grid_{node.name}")
        input_scale = affine_int8(*ranges[node.inputs[0]])[0]
        return quantize_wrapper.QuantizeWrapperV2(layer, _NodeConfig(node.op, low, high, input_scale))

    return rebuild(graph, wrap)


def trained_weights(graph: Graph, model: Any) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Node name -> (kernel, bias) as float32, from a model that fake_quantized made of this graph."""
    weights = {}
    for node in graph.nodes:
        if node.kernel is not None:
            kernel, bias = kernel_and_bias(model.get_layer(f"quant_{node.name}"))
            weights[node.name] = (kernel.numpy(), bias.numpy())
    return weights


def all_tensors(graph: Graph) -> Any:
    """Keras model: normalized image -> the float tensors of all nodes but the input, in order."""
    model = rebuild(graph)
    return Model(model.input, [model.get_layer(node.name).output for node in graph.nodes[1:]])
