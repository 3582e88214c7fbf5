"""Scales without ties: every sum of an addition is far from one half of a step, in any runtime's arithmetic."""

from __future__ import annotations

import numpy as np
import pytest

from edgetl.graph.graph import Graph, Node
from edgetl.quantization.ties import DENOMINATOR, without_ties

X = Node("x", "input", shape=(1, 6, 6, 4))
CONV = {"strides": [1, 1], "padding": "same", "activation": "none"}


def conv(name: str, source: str) -> Node:
    return Node(name, "conv", (source,), CONV, (1, 6, 6, 4))


RESIDUAL = Graph(
    (
        X,
        conv("a", "x"),
        conv("b", "a"),
        Node("first", "add", ("a", "b"), {}, (1, 6, 6, 4)),
        conv("c", "first"),
        Node("second", "add", ("first", "c"), {}, (1, 6, 6, 4)),
        Node("pooled", "mean", ("second",), {}, (1, 4)),
    )
)
RANGES = {
    "x": (-1.0, 1.0),
    "a": (-3.1, 2.7),
    "b": (-1.23, 4.56),
    "first": (-3.3, 5.9),
    "c": (-0.77, 0.61),
    "second": (-3.5, 6.1),
    "pooled": (-0.4, 1.3),
}


def scale(ranges: dict[str, tuple[float, float]], name: str) -> float:
    return float(np.float32((ranges[name][1] - ranges[name][0]) / 255.0))


def distance_to_a_tie(ranges: dict[str, tuple[float, float]], a: str, b: str, out: str) -> float:
    """The smallest distance of the 256 x 256 sums to one half of an output step."""
    steps = np.arange(-255, 256, dtype=np.float64)
    sums = steps[:, None] * scale(ranges, a) / scale(ranges, out) + steps * scale(ranges, b) / scale(ranges, out)
    return float(np.abs(np.abs(sums - np.floor(sums)) - 0.5).min())


@pytest.mark.parametrize(("a", "b", "out"), [("a", "b", "first"), ("first", "c", "second")])
def test_no_sum_of_an_addition_is_near_a_tie(a: str, b: str, out: str) -> None:
    assert distance_to_a_tie(RANGES, a, b, out) < 1e-4, "measured ranges have near ties"
    # Half a step over the denominator, minus the rounding of the scales in float32.
    assert distance_to_a_tie(without_ties(RESIDUAL, RANGES), a, b, out) > 0.9 / (2 * DENOMINATOR)


def test_a_mean_has_no_ties_either() -> None:
    ranges = without_ties(RESIDUAL, RANGES)
    sums = np.arange(-255 * 36, 255 * 36 + 1) * (scale(ranges, "second") / scale(ranges, "pooled") / 36)
    assert np.abs(sums - np.floor(sums) - 0.5).min() > 0.9 / (8 * DENOMINATOR)


def test_ranges_only_grow_and_only_a_little() -> None:
    ranges = without_ties(RESIDUAL, RANGES)
    assert ranges["x"] == RANGES["x"], "the input's grid is the contract's"
    for name, (low, high) in RANGES.items():
        factor = (ranges[name][1] - ranges[name][0]) / (high - low)
        assert 1.0 - 1e-9 <= factor < 1.02, name
        assert ranges[name][0] / low == pytest.approx(factor), "the zero point stays"


def test_tensors_that_share_a_grid_are_stretched_together() -> None:
    joined = Graph(
        (
            X,
            conv("a", "x"),
            conv("b", "x"),
            Node("joined", "concat", ("a", "b"), {}, (1, 6, 6, 8)),
            conv("c", "joined"),
            Node("sum", "add", ("c", "a"), {}, (1, 6, 6, 4)),
        )
    )
    shared = (-2.0, 3.0)
    ranges = {"x": (-1.0, 1.0), "a": shared, "b": shared, "joined": shared, "c": (-1.1, 0.9), "sum": (-2.4, 3.3)}
    found = without_ties(joined, ranges)
    assert found["a"] == found["b"] == found["joined"]
    assert distance_to_a_tie(found, "c", "a", "sum") > 0.9 / (2 * DENOMINATOR)


def test_a_relu_of_its_own_has_no_ties() -> None:
    graph = Graph((X, conv("a", "x"), Node("relu", "relu", ("a",), {"activation": "relu"}, (1, 6, 6, 4))))
    ranges = without_ties(graph, {"x": (-1.0, 1.0), "a": (-3.0, 2.0), "relu": (0.0, 2.0)})
    values = np.arange(0, 256) * scale(ranges, "a") / scale(ranges, "relu")
    assert np.abs(values - np.floor(values) - 0.5).min() > 0.9 / (2 * DENOMINATOR)


@pytest.mark.parametrize("order", [("small", "large"), ("large", "small")])
def test_a_small_input_does_not_stretch_a_large_output(order: tuple[str, str]) -> None:
    graph = Graph((X, conv("small", "x"), conv("large", "x"), Node("sum", "add", order, {}, (1, 6, 6, 4))))
    ranges = {"x": (-1.0, 1.0), "small": (-0.1, 0.1), "large": (-30.0, 30.0), "sum": (-30.0, 30.0)}
    found = without_ties(graph, ranges)
    assert found["sum"][1] < 30.1
    assert found["large"] == ranges["large"]
    assert distance_to_a_tie(found, "small", "large", "sum") > 0.9 / (2 * DENOMINATOR)
