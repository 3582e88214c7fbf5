"""Graph -> Keras model: to run it in float, to wrap it for training, to convert it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf
from tf_keras import Model, activations, layers

from edgetl.graph.graph import Graph, Node

_FUSED = {"none": None, "relu": "relu", "relu6": tf.nn.relu6}


def rebuild(graph: Graph, wrap: Callable[[Node, Any], Any] = lambda node, layer: layer) -> Any:
    """A Keras model of the graph: normalized image -> logits. wrap: may put a layer into another one (fake quantization)."""
    tensors: dict[str, Any] = {}
    for node in graph.nodes:
        if node.op == "input":
            tensors[node.name] = image = layers.Input(node.shape[1:], name=node.name)
            outer = wrap(node, None)
            tensors[node.name] = outer(image) if outer is not None else image
            continue
        layer = _layer(node)
        inputs = [tensors[source] for source in node.inputs]
        outer = wrap(node, layer)
        tensors[node.name] = outer(inputs[0] if len(inputs) == 1 else inputs)
        if node.bias is not None:
            kernel, bias = kernel_and_bias(outer)
            bias.assign(node.bias)
            if node.kernel is not None:
                kernel.assign(node.kernel)
    return Model(image, tensors[graph.output.name])


def kernel_and_bias(layer: Any) -> tuple[Any, Any]:
    """The two variables of a convolution or dense layer, also inside TFMOT's wrapper (which hides them); for a shift None and
    its bias."""
    by_name = {variable.name.split(":")[0].rsplit("/", 1)[-1]: variable for variable in layer.trainable_weights}
    return by_name.get("kernel", by_name.get("depthwise_kernel")), by_name["bias"]


def _layer(node: Node) -> Any:
    if node.op in ("conv", "depthwise", "dense"):
        assert node.kernel is not None
        activation = _FUSED[node.attributes["activation"]]
        if node.op == "dense":
            return layers.Dense(node.kernel.shape[1], activation=activation, name=node.name)
        shape = {
            "kernel_size": node.kernel.shape[:2],
            "strides": node.attributes["strides"],
            "padding": node.attributes["padding"],
            "activation": activation,
            "name": node.name,
        }
        return (
            layers.DepthwiseConv2D(**shape) if node.op == "depthwise" else layers.Conv2D(node.kernel.shape[3], **shape)
        )
    if node.op in ("max_pool", "average_pool"):
        kind = layers.MaxPooling2D if node.op == "max_pool" else layers.AveragePooling2D
        return kind(node.attributes["size"], node.attributes["strides"], node.attributes["padding"], name=node.name)
    if node.op == "relu" or (node.op == "add" and node.activation != "none"):
        limit = 6.0 if node.activation == "relu6" else None
        return layers.ReLU(limit, name=node.name) if node.op == "relu" else _AddWithReLU(limit, name=node.name)
    if node.op == "shift":
        return _Shift(node.activation, name=node.name)
    if node.op == "pad":
        return layers.ZeroPadding2D(node.attributes["pads"], name=node.name)
    return {"add": layers.Add, "concat": layers.Concatenate, "mean": layers.GlobalAveragePooling2D}[node.op](
        name=node.name
    )


class _Shift(layers.Layer):  # type: ignore[misc]  # tf_keras has no types
    """Adds a constant to each channel, then applies the activation."""

    def __init__(self, activation: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.activation = activation

    def build(self, input_shape: Any) -> None:
        """One variable: bias [channels]."""
        self.bias = self.add_weight(name="bias", shape=(input_shape[-1],), initializer="zeros")
        super().build(input_shape)

    def call(self, inputs: Any) -> Any:
        return activations.get(_FUSED[self.activation])(inputs + self.bias)

    def get_config(self) -> dict[str, Any]:
        """For Keras."""
        return {**super().get_config(), "activation": self.activation}


class _AddWithReLU(layers.Add):  # type: ignore[misc]
    """An addition and its ReLU in one layer, so that fake quantization puts one grid after both."""

    def __init__(self, limit: float | None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.limit = limit

    def call(self, inputs: Any) -> Any:
        total = super().call(inputs)
        return tf.nn.relu(total) if self.limit is None else tf.nn.relu6(total)

    def get_config(self) -> dict[str, Any]:
        """For Keras."""
        return {**super().get_config(), "limit": self.limit}
