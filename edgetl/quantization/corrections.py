"""What can be mended after training without training: biases that rounding shifted, channels of very different size."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from edgetl.quantization.graph import Graph, Node
from edgetl.quantization.integers import Quantized, dequantized


def channel_means(graph: Graph, outputs_of: Any, batches: Callable[[], Iterable[Any]]) -> dict[str, np.ndarray]:
    """Tensor name -> mean of each channel over photos and positions, float64 [channels].

    outputs_of: normalized images -> the tensors of all nodes but the input, in order.
    """
    names = [node.name for node in graph.nodes]
    sums: dict[str, np.ndarray] = {}
    count = 0
    for images in batches():
        count += len(images)
        for name, tensor in zip(names, [images, *outputs_of(images)], strict=True):
            values = np.asarray(tensor, np.float64)
            sums[name] = sums.get(name, 0.0) + values.mean(axis=tuple(range(1, values.ndim - 1))).sum(axis=0)
    return {name: total / count for name, total in sums.items()}


def correct_biases(graph: Graph, integers: Mapping[str, Quantized], means: Mapping[str, np.ndarray]) -> Graph:
    """Take from each bias what rounding the kernel adds to its output on average.

    With W' the rounded kernel and x the input, E[W' x] - E[W x] = (W' - W) E[x] (Nagel et al. 2019, equation 17; E[x] is
    measured here, not derived from BatchNorm). Zeros of "same" padding are not in E[x].
    """
    rounded = dequantized(graph, integers)
    weights: dict[str, tuple[np.ndarray | None, np.ndarray]] = {}
    for node, other in zip(graph.nodes, rounded.nodes, strict=True):
        if node.kernel is None or node.bias is None or other.kernel is None:
            continue
        error = other.kernel.astype(np.float64) - node.kernel
        mean = means[node.inputs[0]]
        if node.op == "depthwise":
            shift = error.sum(axis=(0, 1))[:, 0] * mean
        else:
            shift = mean @ error.reshape(-1, len(mean), error.shape[-1]).sum(axis=0)
        weights[node.name] = (node.kernel, (node.bias - shift).astype(np.float32))
    return graph.with_weights(weights)


def equalize(graph: Graph, *, sweeps: int = 20) -> Graph:
    """Bring the channels between two convolutions to the same size (Nagel et al. 2019, section 4.1).

    Channel i of the first is divided by s_i = sqrt(r1_i * r2_i) / r2_i, of the second multiplied, with r1, r2 their
    largest weights: the net computes the same as long as the activation between them commutes with a factor. ReLU6 does
    not, so it becomes ReLU there: what had been cut off at 6 is not any more, which is for measuring to judge.
    """
    readers: dict[str, list[Node]] = {}
    for node in graph.nodes:
        for source in node.inputs:
            readers.setdefault(source, []).append(node)
    pairs = [
        (node.name, readers[node.name][0].name)
        for node in graph.nodes
        if node.op in ("conv", "depthwise")
        and len(readers.get(node.name, ())) == 1
        and readers[node.name][0].op in ("conv", "depthwise")
    ]
    nodes = {node.name: node for node in graph.nodes}
    for first, _ in pairs:
        if nodes[first].attributes["activation"] == "relu6":
            nodes[first] = replace(nodes[first], attributes={**nodes[first].attributes, "activation": "relu"})
    for _ in range(sweeps):
        largest_change = 0.0
        for first, second in pairs:
            nodes[first], nodes[second], change = _equalized(nodes[first], nodes[second])
            largest_change = max(largest_change, change)
        if largest_change < 1e-3:
            break
    return Graph(tuple(nodes[node.name] for node in graph.nodes))


def _equalized(first: Node, second: Node) -> tuple[Node, Node, float]:
    assert first.kernel is not None and first.bias is not None and second.kernel is not None
    out_axis = 2 if first.op == "depthwise" else 3
    size_out = np.abs(first.kernel).max(axis=tuple(i for i in range(4) if i != out_axis))
    size_in = np.abs(second.kernel).max(axis=(0, 1, 3))  # both layouts have the input channel third
    alive = (size_out > 1e-9) & (size_in > 1e-9)
    factor = np.where(alive, np.sqrt(np.where(alive, size_out, 1.0) / np.where(alive, size_in, 1.0)), 1.0)
    per_output = factor[:, None] if first.op == "depthwise" else factor
    kernel = (first.kernel / per_output).astype(np.float32)
    bias = (first.bias / factor).astype(np.float32)
    after = (second.kernel * factor[None, None, :, None]).astype(np.float32)
    return replace(first, kernel=kernel, bias=bias), replace(second, kernel=after), float(np.abs(factor - 1.0).max())
