"""What can be fixed after training without more training: biases that rounding shifted, channels of very different size."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from edgetl.graph.graph import Graph, Node, NodeWeights
from edgetl.quantization.integers import Quantized, dequantized
from edgetl.quantization.ranges import OutputsOf


@dataclass(frozen=True)
class Channels:
    """Statistics of tensors per channel, over photos and positions, float64 [channels] by tensor name.

    means: of all tensors. above_0: of a shift's output, the share of values that its ReLU lets through.
    """

    means: Mapping[str, np.ndarray]
    above_0: Mapping[str, np.ndarray]


def measure_channels(graph: Graph, outputs_of: OutputsOf, batches: Callable[[], Iterable[Any]]) -> Channels:
    """One pass over normalized images."""
    sums: dict[str, np.ndarray] = {}
    above: dict[str, np.ndarray] = {}
    count = 0
    for images in batches():
        count += len(images)
        for node, tensor in zip(graph.nodes, [images, *outputs_of(images)], strict=True):
            values = np.asarray(tensor, np.float64)
            positions = tuple(range(1, values.ndim - 1))
            sums[node.name] = sums.get(node.name, 0.0) + values.mean(axis=positions).sum(axis=0)
            if node.op == "shift":
                above[node.name] = above.get(node.name, 0.0) + (values > 0).mean(axis=positions).sum(axis=0)
    return Channels(
        {name: total / count for name, total in sums.items()}, {name: total / count for name, total in above.items()}
    )


def correct_biases(graph: Graph, integers: Mapping[str, Quantized], channels: Channels) -> Graph:
    """Subtract from each bias what the rounding of the kernel, and of the constants of a shift before it, adds to its output
    on average.

    With W' the rounded kernel and x the input, E[W' x] - E[W x] = (W' - W) E[x] (Nagel et al. 2019, equation 17; E[x] is
    measured here, not derived from BatchNorm). Zeros of "same" padding are not in E[x]. A shift's constants have 8 bits
    where a bias has 32, and the rounding of a constant is the same at all positions that the ReLU lets through: no average
    over positions removes it. Five small dense nets with a channel of 8 standard deviations after the first ReLU had logits
    of 18.9 dB, 20.1 with the kernels' part subtracted, 26.5 with both; without such a channel 22.5, 25.5, 26.2.
    """
    rounded = dequantized(graph, integers)
    moved = _moved_means(graph, rounded, integers, channels)
    weights: NodeWeights = {}
    for node, other in zip(graph.nodes, rounded.nodes, strict=True):
        if node.kernel is None or node.bias is None or other.kernel is None:
            continue
        mean = channels.means[node.inputs[0]]
        rounded_mean = mean + moved.get(node.inputs[0], 0.0)
        added = _applied(node.op, other.kernel, rounded_mean) - _applied(node.op, node.kernel, mean)
        weights[node.name] = (node.kernel, (node.bias - added).astype(np.float32))
    return graph.with_weights(weights)


def _applied(op: str, kernel: np.ndarray, mean: np.ndarray) -> np.ndarray:
    """The mean of a kernel's output for an input with this mean, float64 [out]."""
    kernel = kernel.astype(np.float64)
    if op == "depthwise":
        return np.asarray(kernel.sum(axis=(0, 1))[:, 0] * mean)
    return np.asarray(mean @ kernel.reshape(-1, len(mean), kernel.shape[-1]).sum(axis=0))


def _moved_means(
    graph: Graph, rounded: Graph, integers: Mapping[str, Quantized], channels: Channels
) -> dict[str, np.ndarray]:
    """Tensor name -> what the rounding of a shift's constants adds to each channel's mean, float64 [channels]; for shifts and
    averages over them."""
    moved: dict[str, np.ndarray] = {}
    for node, other in zip(graph.nodes, rounded.nodes, strict=True):
        if node.op == "shift":
            grid = integers[node.name].bias_grid
            assert node.bias is not None and other.bias is not None and grid is not None
            error = other.bias.astype(np.float64) - node.bias
            # A constant more than a step away was clipped (integers._useful_constants): its channel is practically dead.
            moved[node.name] = np.where(np.abs(error) <= grid[0], error, 0.0) * channels.above_0[node.name]
        elif node.op in ("average_pool", "mean") and node.inputs[0] in moved:
            moved[node.name] = moved[node.inputs[0]]
    return moved


def equalize(graph: Graph, *, sweeps: int = 20) -> Graph:
    """Bring the channels between two convolutions to the same size (Nagel et al. 2019, section 4.1).

    Channel i of the first is divided by s_i = sqrt(r1_i * r2_i) / r2_i, of the second multiplied by it, with r1, r2 their
    largest weights: the net computes the same if the activation between them commutes with a factor. ReLU6 does not, so it
    becomes ReLU there: values are no longer clipped at 6, and whether that is better has to be measured.
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
