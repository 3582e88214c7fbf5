"""Bias correction and equalization, on nets small enough to compute by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from edgetl.graph.graph import Graph, Node
from edgetl.graph.rebuild import rebuild
from edgetl.quantization.corrections import correct_biases, equalize, measure_channels
from edgetl.quantization.fake import all_tensors
from edgetl.quantization.integers import dequantized, quantize_graph
from edgetl.quantization.ranges import estimate_ranges

RANDOM = np.random.default_rng(5)
IMAGES = RANDOM.uniform(0, 1, (16, 8, 8, 3)).astype(np.float32)
POOL = {"size": [2, 2], "strides": [2, 2], "padding": "valid"}


def net(activation: str = "relu") -> Graph:
    """Convolution, depthwise convolution, pointwise convolution, mean, dense; "valid", so there is no padding."""

    def kernel(*shape: int) -> np.ndarray:
        return RANDOM.normal(0.05, 0.3, shape).astype(np.float32)

    def attributes(activation: str) -> dict[str, object]:
        return {"strides": [1, 1], "padding": "valid", "activation": activation}

    wild = kernel(3, 3, 8, 1) * np.geomspace(0.02, 20, 8, dtype=np.float32)[None, None, :, None]
    return Graph(
        (
            Node("x", "input", shape=(1, 8, 8, 3)),
            Node("first", "conv", ("x",), attributes(activation), (1, 8, 8, 8), kernel(1, 1, 3, 8), kernel(8)),
            Node("depth", "depthwise", ("first",), attributes("none"), (1, 6, 6, 8), wild, kernel(8)),
            Node("last", "conv", ("depth",), attributes("none"), (1, 6, 6, 4), kernel(1, 1, 8, 4), kernel(4)),
            Node("pooled", "mean", ("last",), {}, (1, 4)),
            Node("logits", "dense", ("pooled",), {"activation": "none"}, (1, 3), kernel(4, 3), kernel(3)),
        )
    )


def outputs(graph: Graph) -> object:
    tensors = all_tensors(graph)
    return lambda images: [np.asarray(tensor) for tensor in tensors(images)]


def mean_error(graph: Graph, other: Graph) -> dict[str, float]:
    """The largest error of a channel's mean, relative to the size of the tensor."""
    wanted, found = (measure_channels(made, outputs(made), lambda: [IMAGES]).means for made in (graph, other))
    return {name: float(np.abs(wanted[name] - found[name]).max() / np.abs(wanted[name]).max()) for name in wanted}


def test_corrected_biases_restore_the_mean_of_each_channel() -> None:
    graph = net()
    ranges = estimate_ranges(graph, outputs(graph), lambda: [IMAGES], estimator="minmax", input_range=(0.0, 1.0))
    integers = quantize_graph(graph, ranges, per_channel=False)
    channels = measure_channels(graph, outputs(graph), lambda: [IMAGES])
    plain = dequantized(graph, integers)
    corrected = correct_biases(graph, integers, channels)
    kept = dequantized(corrected, quantize_graph(corrected, ranges, per_channel=False))
    before, after = mean_error(graph, plain), mean_error(graph, kept)
    assert before["depth"] > 0.002, "one scale for channels a thousand times apart: rounding shifts them"
    assert after["depth"] < 0.3 * before["depth"]


def test_the_rounding_of_a_shifts_constants_is_subtracted_from_the_next_bias() -> None:
    """One constant far below the others makes their grid coarse; the same after averages."""
    first, _, last, pooled, logits = net().nodes[1:]
    assert last.kernel is not None and first.bias is not None
    low = RANDOM.uniform(-0.4, 0.1, 8).astype(np.float32)
    low[0] = -40.0
    high = first.bias.copy()
    high[0] = 41.0
    even = (last.kernel * np.array([0.01, 1, 1, 1, 1, 1, 1, 1])[:, None]).astype(np.float32)
    graph = Graph(
        (
            Node("x", "input", shape=(1, 8, 8, 3)),
            replace(first, bias=high),
            Node("shift", "shift", ("first",), {"activation": "relu"}, (1, 8, 8, 8), None, low),
            Node("average", "average_pool", ("shift",), POOL, (1, 4, 4, 8)),
            replace(last, inputs=("average",), shape=(1, 4, 4, 4), kernel=even),
            pooled,
            logits,
        )
    )
    ranges = estimate_ranges(graph, outputs(graph), lambda: [IMAGES], estimator="minmax", input_range=(0.0, 1.0))
    integers = quantize_graph(graph, ranges)
    corrected = correct_biases(graph, integers, measure_channels(graph, outputs(graph), lambda: [IMAGES]))
    kept = dequantized(corrected, quantize_graph(corrected, ranges))
    before, after = mean_error(graph, dequantized(graph, integers)), mean_error(graph, kept)
    assert before["last"] > 0.01
    assert after["last"] < 0.2 * before["last"]


@pytest.mark.parametrize("activation", ["relu", "none"])
def test_equalization_changes_the_weights_and_not_the_net(activation: str) -> None:
    graph = net(activation)
    equal = equalize(graph)
    np.testing.assert_allclose(rebuild(equal)(IMAGES), rebuild(graph)(IMAGES), rtol=2e-4, atol=2e-4)

    def spread(made: Graph) -> float:
        kernel = made.node("depth").kernel
        assert kernel is not None
        largest = np.abs(kernel).max(axis=(0, 1, 3))
        return float(largest.max() / largest.min())

    assert spread(graph) > 500
    assert spread(equal) < 60


def test_equalization_turns_relu6_into_relu_and_does_not_change_branches() -> None:
    graph = net("relu6")
    assert equalize(graph).node("first").activation == "relu"
    read_twice = Graph((*graph.nodes[:3], replace(graph.node("last"), inputs=("first",)), *graph.nodes[4:]))
    kernel = read_twice.node("first").kernel
    np.testing.assert_array_equal(equalize(read_twice).node("first").kernel, kernel)
