"""Keras model -> Graph with BatchNorm folded and ReLU fused.

    kernel' = kernel * gamma / sqrt(variance + epsilon)    bias' = beta - mean * gamma / sqrt(variance + epsilon)

(Jacob et al. 2018, section 3.2.) A BatchNorm that does not follow a convolution (DenseNet's pre-activation) becomes a 1 x 1
depthwise convolution, which both runtimes run in int8, or an addition (graph/preactivation.py). A ReLU after a tensor with
other readers (Xception's residuals) stays a node of its own. An average pooling after a 1 x 1 convolution (DenseNet's
transitions) is moved before it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from tf_keras import Model, layers

from edgetl.core.errors import TrainingError
from edgetl.graph.admission import REMOVED, activation_of, refuse_unquantizable
from edgetl.graph.graph import Graph, Node, same_padding
from edgetl.graph.preactivation import spread_norms
from edgetl.graph.rebuild import rebuild

_FUSES_RELU = ("conv", "depthwise", "dense", "add")


@dataclass(frozen=True)
class Rewrite:
    """What folding does to one Keras layer. kind: its class; rewrite: in words, with the layer it goes into."""

    layer: str
    kind: str
    rewrite: str


@dataclass
class Folding:
    """A graph and how it was made. members: node name -> the Keras layers that it computes, in order; only of nodes whose
    tensor equals the output of the last of these layers."""

    graph: Graph
    rewrites: list[Rewrite] = field(default_factory=list)
    members: dict[str, list[str]] = field(default_factory=dict)


def fold(model: Any) -> Graph:
    """The deployable graph of a flat functional classifier. Raises TrainingError for layers without an int8 form."""
    return folding(model).graph


def folding(model: Any) -> Folding:
    """`fold`, with what it did to which layer. Raises TrainingError as `fold` does."""
    refuse_unquantizable(model)
    layered = _Layers(model.layers)
    for layer in model.layers:
        layered.add(layer)
    rewrites = layered.rewrites
    graph, paddings = _with_padding_fused(Graph(tuple(layered.nodes.values())))
    rewrites += [Rewrite(pad, "ZeroPadding2D", f"fused into convolution {reader}") for pad, reader in paddings.items()]
    graph, pooled = _with_pooling_first(graph)
    rewrites += [Rewrite(pool, "AveragePooling2D", f"moved before convolution {conv}") for pool, conv in pooled.items()]
    spread = spread_norms(graph)
    rewrites = _with_additions(rewrites, spread.additions)
    members: dict[str, list[str]] = {}
    for name, maker in layered.made_by.items():
        members.setdefault(pooled.get(maker, maker), []).append(name)
    for norm, takers in spread.additions.items():
        for taker in takers:
            members[taker] = members[norm] + members[taker]
    alike = {name: layers_of for name, layers_of in members.items() if name not in spread.changed}
    return Folding(spread.graph, rewrites, alike)


def preflight(model: Any) -> list[Rewrite]:
    """The rewrites that folding does to a model, one row per layer; layers that are not named stay what they are. Trains
    nothing.

    A model just built will do: weights decide only whether a BatchNorm before a convolution becomes an addition or, where
    training leaves it a factor that cannot move (graph/preactivation.py), stays a depthwise convolution. Raises
    TrainingError naming all layers that have no int8 form.
    """
    return folding(model).rewrites


@dataclass(frozen=True)
class _Reading:
    """What a layer reads. before: the node of its first input; alone: no other layer reads that. shape: of its output."""

    sources: tuple[str, ...]
    before: Node | None
    alone: bool
    shape: tuple[int, ...]


class _Layers:
    """Keras layers, taken one by one in order, as nodes. made_by: layer -> the node whose tensor is its output."""

    def __init__(self, all_layers: Sequence[Any]) -> None:
        self.nodes: dict[str, Node] = {}
        self.made_by: dict[str, str] = {}
        self.rewrites: list[Rewrite] = []
        self._consumers: dict[str, int] = {}
        # A layer that is removed reads nothing; its readers read what is before it.
        self._origin: dict[str, str] = {}
        for layer in all_layers:
            parents = [self._origin[parent] for parent in _parents(layer)]
            self._origin[layer.name] = parents[0] if _is_removed(layer) else layer.name
            for parent in () if _is_removed(layer) else parents:
                self._consumers[parent] = self._consumers.get(parent, 0) + 1

    def add(self, layer: Any) -> None:
        reading = self._reading(layer)
        if isinstance(layer, layers.BatchNormalization):
            self._add_norm(layer, reading)
        elif _is_removed(layer):
            self._merge(layer, reading.sources[0], "removed: it changes nothing when the net is used")
        elif isinstance(layer, layers.ReLU | layers.Activation):
            self._add_activation(layer, reading)
        elif isinstance(layer, layers.SeparableConv2D):
            first, second = _separable(layer, reading.sources, reading.shape)
            self.nodes[first.name] = first
            how = f"becomes depthwise convolution {first.name} and 1 x 1 convolution {second.name}"
            self._add_node(layer, second, how)
        else:
            self._add_node(layer, _node(layer, reading.sources, reading.shape))

    def _reading(self, layer: Any) -> _Reading:
        parents = [self._origin[parent] for parent in _parents(layer)]
        sources = tuple(self.made_by[parent] for parent in parents)
        before = self.nodes[sources[0]] if sources else None
        # A tensor that other layers read as well must stay what it is.
        alone = before is not None and self._consumers.get(parents[0]) == 1
        return _Reading(sources, before, alone, (1, *(int(size) for size in layer.output.shape[1:])))

    def _add_node(self, layer: Any, node: Node, rewrite: str = "") -> None:
        self.nodes[node.name] = node
        self.made_by[layer.name] = node.name
        self._note(layer, rewrite)

    def _merge(self, layer: Any, node_name: str, rewrite: str) -> None:
        """The layer gets no node of its own: its output is this node's."""
        self.made_by[layer.name] = node_name
        self._note(layer, rewrite)

    def _note(self, layer: Any, rewrite: str) -> None:
        if rewrite:
            self.rewrites.append(Rewrite(layer.name, type(layer).__name__, rewrite))

    def _add_norm(self, layer: Any, reading: _Reading) -> None:
        before = reading.before
        assert before is not None
        scale, shift = _norm(layer)
        if reading.alone and before.op in ("conv", "depthwise") and before.activation == "none":
            self.nodes[before.name] = _scaled(before, scale, shift)
            self._merge(layer, before.name, f"folded into convolution {before.name}")
            return
        attributes = {"strides": [1, 1], "padding": "valid", "activation": "none"}
        kernel = scale[None, None, :, None]
        node = Node(layer.name, "depthwise", reading.sources, attributes, reading.shape, kernel, shift)
        self._add_node(layer, node, "becomes a 1 x 1 depthwise convolution")

    def _add_activation(self, layer: Any, reading: _Reading) -> None:
        before, activation = reading.before, activation_of(layer)
        assert before is not None
        if reading.alone and before.op in _FUSES_RELU and before.activation == "none":
            attributes = {**before.attributes, "activation": activation}
            self.nodes[before.name] = replace(before, attributes=attributes)
            self._merge(layer, before.name, f"fused into {before.name}")
            return
        why = "cannot hold it" if reading.alone else "has other readers"
        node = Node(layer.name, "relu", reading.sources, {"activation": activation}, reading.shape)
        self._add_node(layer, node, f"stands alone: {before.op} {before.name} {why}")


def _with_additions(rewrites: list[Rewrite], additions: Mapping[str, tuple[str, ...]]) -> list[Rewrite]:
    """The rewrites, with new words for each norm that became an addition; a net's own 1 x 1 depthwise convolution had no
    row."""
    words = {
        name: f"becomes an addition; its factors go into {' and '.join(after)} and into what is before it"
        for name, after in additions.items()
    }
    without = words.keys() - {row.layer for row in rewrites}
    changed = [replace(row, rewrite=words[row.layer]) if row.layer in words else row for row in rewrites]
    return changed + [Rewrite(name, "DepthwiseConv2D", words[name]) for name in words if name in without]


def _parents(layer: Any) -> list[str]:
    return (
        []
        if isinstance(layer, layers.InputLayer)
        else [parent.layer.name for parent in layer.inbound_nodes[0].parent_nodes]
    )


def _is_removed(layer: Any) -> bool:
    linear = isinstance(layer, layers.Activation) and activation_of(layer) == "none"
    return linear or isinstance(layer, REMOVED)


def _norm(layer: Any) -> tuple[np.ndarray, np.ndarray]:
    mean, variance = (part.numpy().astype(np.float64) for part in (layer.moving_mean, layer.moving_variance))
    scale = (layer.gamma.numpy().astype(np.float64) if layer.scale else 1.0) / np.sqrt(variance + layer.epsilon)
    shift = (layer.beta.numpy().astype(np.float64) if layer.center else 0.0) - mean * scale
    return scale.astype(np.float32), shift.astype(np.float32)


def _scaled(node: Node, scale: np.ndarray, shift: np.ndarray) -> Node:
    assert node.kernel is not None and node.bias is not None
    per_output = scale[:, None] if node.op == "depthwise" else scale
    return replace(node, kernel=node.kernel * per_output, bias=node.bias * scale + shift)


def _node(layer: Any, sources: tuple[str, ...], shape: tuple[int, ...]) -> Node:
    name = layer.name
    if isinstance(layer, layers.InputLayer):
        return Node(name, "input", (), {}, shape)
    if isinstance(layer, layers.Conv2D | layers.DepthwiseConv2D):
        kernel = layer.get_weights()[0]
        depthwise = isinstance(layer, layers.DepthwiseConv2D)
        bias = layer.get_weights()[1] if layer.use_bias else np.zeros(kernel.shape[2 if depthwise else 3], np.float32)
        attributes = {
            "strides": list(layer.strides),
            "padding": layer.padding,
            "activation": activation_of(layer),
        }
        return Node(name, "depthwise" if depthwise else "conv", sources, attributes, shape, kernel, bias)
    if isinstance(layer, layers.Dense):
        kernel = layer.get_weights()[0]
        bias = layer.get_weights()[1] if layer.use_bias else np.zeros(kernel.shape[1], np.float32)
        return Node(name, "dense", sources, {"activation": activation_of(layer)}, shape, kernel, bias)
    if isinstance(layer, layers.ZeroPadding2D):
        return Node(name, "pad", sources, {"pads": [list(side) for side in layer.padding]}, shape)
    if isinstance(layer, layers.MaxPooling2D | layers.AveragePooling2D):
        attributes = {"size": list(layer.pool_size), "strides": list(layer.strides), "padding": layer.padding}
        return Node(
            name, "max_pool" if isinstance(layer, layers.MaxPooling2D) else "average_pool", sources, attributes, shape
        )
    if isinstance(layer, layers.GlobalAveragePooling2D):
        return Node(name, "mean", sources, {}, shape)
    if isinstance(layer, layers.Add):
        return Node(name, "add", sources, {}, shape)
    if isinstance(layer, layers.Concatenate):
        return Node(name, "concat", sources, {}, shape)
    raise AssertionError(f"{type(layer).__name__} is admitted but has no node")


def _separable(layer: Any, sources: tuple[str, ...], shape: tuple[int, ...]) -> tuple[Node, Node]:
    """The depthwise convolution, kernel [h, w, channels, 1] as in DepthwiseConv2D, and the 1 x 1 convolution after it."""
    depthwise, pointwise, *bias = layer.get_weights()
    channels, filters = pointwise.shape[2:]
    first = Node(
        f"{layer.name}_depthwise",
        "depthwise",
        sources,
        {"strides": list(layer.strides), "padding": layer.padding, "activation": "none"},
        (*shape[:3], channels),
        depthwise,
        np.zeros(channels, np.float32),
    )
    attributes = {"strides": [1, 1], "padding": "valid", "activation": activation_of(layer)}
    second = Node(
        layer.name,
        "conv",
        (first.name,),
        attributes,
        shape,
        pointwise,
        bias[0] if bias else np.zeros(filters, np.float32),
    )
    return first, second


def _with_padding_fused(graph: Graph) -> tuple[Graph, dict[str, str]]:
    """Drop each explicit padding that equals "same" of the only convolution after it: one op less to run.

    Returns the graph and, for each padding that was dropped, the convolution it went into.
    """
    readers: dict[str, list[Node]] = {}
    for node in graph.nodes:
        for name in node.inputs:
            readers.setdefault(name, []).append(node)
    went_into: dict[str, str] = {}
    changed: dict[str, Node] = {}
    for node in graph.nodes:
        if node.op != "pad" or len(readers[node.name]) != 1:
            continue
        reader = readers[node.name][0]
        if reader.op not in ("conv", "depthwise") or reader.attributes["padding"] != "valid" or reader.kernel is None:
            continue
        source = graph.node(node.inputs[0])
        same = [
            list(same_padding(source.shape[1 + axis], reader.kernel.shape[axis], reader.attributes["strides"][axis]))
            for axis in (0, 1)
        ]
        if same == node.attributes["pads"]:
            went_into[node.name] = reader.name
            changed[reader.name] = replace(
                reader, inputs=(source.name,), attributes={**reader.attributes, "padding": "same"}
            )
    kept = (changed.get(node.name, node) for node in graph.nodes if node.name not in went_into)
    return Graph(tuple(kept)), went_into


def _with_pooling_first(graph: Graph) -> tuple[Graph, dict[str, str]]:
    """Average before a 1 x 1 convolution instead of after it: the same sums in another order, with a quarter of the
    multiplications for 2 x 2 (DenseNet121 at 224 px on one thread: float32 28.5 to 26.5 ms in LiteRT, int8 9.3 to 8.8).

    Returns the graph and, for each pooling that moved, the convolution that it now comes before; that convolution's tensor
    is what the pooling's was. Only without padding, which does not count in an average, and only where the pooling directly
    follows the convolution and is its only reader.
    """
    moved: dict[str, str] = {}
    for node in graph.nodes:
        if node.op != "average_pool" or node.attributes["padding"] != "valid":
            continue
        conv = graph.node(node.inputs[0])
        alone = sum(conv.name in other.inputs for other in graph.nodes) == 1
        if conv.op != "conv" or conv.kernel is None or conv.activation != "none" or not alone:
            continue
        if conv.kernel.shape[:2] == (1, 1) and list(conv.attributes["strides"]) == [1, 1]:
            moved[node.name] = conv.name
    pools = {conv: graph.node(pool) for pool, conv in moved.items()}
    nodes: list[Node] = []
    for node in graph.nodes:
        node = replace(node, inputs=tuple(moved.get(name, name) for name in node.inputs))
        if node.name in pools:
            assert node.kernel is not None
            pool = pools[node.name]
            nodes.append(replace(pool, inputs=node.inputs, shape=(*pool.shape[:3], node.kernel.shape[2])))
            nodes.append(replace(node, inputs=(pool.name,), shape=pool.shape))
        elif node.name not in moved:
            nodes.append(node)
    return Graph(tuple(nodes)), moved


def check_folded(model: Any, graph: Graph, images: Any) -> float:
    """Largest difference in logits between a model and its folded graph, relative to the largest logit.

    Raises TrainingError above 1e-3, naming the first layers that differ: a correct fold of MobileNetV2 0.35 measured
    1e-6, one wrong gamma in a test fails.
    """
    rebuilt = rebuild(graph)
    error = _departure(model(images, training=False), rebuilt(images, training=False))
    if not error <= 1e-3:
        raise TrainingError(
            "Folding BatchNorm changed the network.",
            why=f"logits differ by {error:.2g} of the largest; {_first_departure(model, rebuilt, graph, images[:4])}",
            fix="this is a bug: please report it",
        )
    return error


def _departure(expected: Any, got: Any) -> float:
    """The largest difference, relative to the largest expected value."""
    expected, got = np.asarray(expected), np.asarray(got)
    return float(np.abs(expected - got).max() / max(1e-9, np.abs(expected).max()))


def _first_departure(model: Any, rebuilt: Any, graph: Graph, images: Any) -> str:
    """The first node with another tensor than the Keras layers that went into it, in words."""
    members = folding(model).members
    pairs = [(node.name, members[node.name]) for node in graph.nodes[1:] if node.name in members]
    expected = Model(model.input, [model.get_layer(merged[-1]).output for _, merged in pairs])(images, training=False)
    got = Model(rebuilt.input, [rebuilt.get_layer(name).output for name, _ in pairs])(images, training=False)
    for (name, merged), theirs, ours in zip(pairs, expected, got, strict=True):
        error = _departure(theirs, ours)
        if not error <= 1e-3:
            return f"the first to differ, by {error:.2g} of its largest value, is {name}, made from {', '.join(merged)}"
    return "every layer agrees on 4 images"
