"""Forms that run faster compute the same integers."""

from __future__ import annotations

import numpy as np
import pytest

from edgetl.formats.write.lowering import over_quarters
from edgetl.graph.graph import Graph, Node
from edgetl.graph.rebuild import rebuild
from edgetl.quantization.integers import quantize_graph

RANDOM = np.random.default_rng(2)


def beginning(size: int, kernel: int, *, padding: str, pads: list[list[int]] | None = None, stride: int = 2) -> Graph:
    """Image, perhaps an explicit padding, a convolution, mean and dense."""
    rows = [Node("x", "input", shape=(1, size, size, 3))]
    inner = size
    if pads is not None:
        inner = size + sum(pads[0])
        rows.append(Node("pad", "pad", ("x",), {"pads": pads}, (1, inner, inner, 3)))
    out = -(-inner // stride) if padding == "same" else (inner - kernel) // stride + 1
    attributes = {"strides": [stride, stride], "padding": padding, "activation": "none"}
    weights = RANDOM.integers(-127, 128, (kernel, kernel, 3, 5)).astype(np.float32)
    weights[0, 0, 0] = 127  # the largest of each channel, so that its scale is 1
    rows += [
        Node("conv", "conv", (rows[-1].name,), attributes, (1, out, out, 5), weights, np.zeros(5, np.float32)),
        Node("pooled", "mean", ("conv",), {}, (1, 5)),
        Node(
            "logits",
            "dense",
            ("pooled",),
            {"activation": "none"},
            (1, 2),
            np.ones((5, 2), np.float32),
            np.zeros(2, np.float32),
        ),
    ]
    return Graph(tuple(rows))


def quarters_of(image: np.ndarray) -> np.ndarray:
    """Space to depth by 2, as TensorFlow's op has it."""
    n, h, w, c = image.shape
    return image.reshape(n, h // 2, 2, w // 2, 2, c).transpose(0, 1, 3, 2, 4, 5).reshape(n, h // 2, w // 2, 4 * c)


@pytest.mark.parametrize(
    ("size", "kernel", "padding", "pads"),
    [
        (16, 3, "same", None),
        (16, 7, "valid", [[3, 3], [3, 3]]),
        (18, 7, "same", None),
        (16, 3, "valid", None),
        (16, 5, "valid", [[1, 2], [1, 2]]),
        (12, 4, "same", None),
    ],
)
def test_the_convolution_over_quarters_is_the_same_sum(size: int, kernel: int, padding: str, pads: object) -> None:
    graph = beginning(size, kernel, padding=padding, pads=pads)  # type: ignore[arg-type]
    ranges = {"x": (-1.0, 1.0), "pad": (-1.0, 1.0), "conv": (-9.0, 9.0), "pooled": (-1.0, 1.0), "logits": (-1.0, 1.0)}
    integers = quantize_graph(graph, ranges)
    moved, grids = over_quarters(graph, integers, (), from_size=3)
    assert [node.op for node in moved.nodes[:4]] == ["input", "space_to_depth", "pad", "conv"]
    image = RANDOM.integers(-128, 128, (2, size, size, 3)).astype(np.float32)
    before = rebuild(Graph(tuple(node for node in graph.nodes if node.name in ("x", "pad", "conv"))))(image)
    # From the quarters on: what the writers make of space_to_depth is theirs to test.
    begin = Node("q", "input", shape=moved.nodes[1].shape)
    pad, conv = moved.nodes[2], moved.nodes[3]
    rest = Graph(
        (
            begin,
            Node("p", "pad", ("q",), pad.attributes, pad.shape),
            Node("conv", "conv", ("p",), conv.attributes, conv.shape, conv.kernel, conv.bias),
        )
    )
    after = rebuild(rest)(quarters_of(image))
    np.testing.assert_array_equal(np.asarray(after), np.asarray(before))
    assert grids["conv"].kernel is not None and grids["conv"].kernel.dtype == np.int8


@pytest.mark.parametrize("case", ["stride 1", "odd image", "small kernel", "in float"])
def test_other_beginnings_are_left_as_they_are(case: str) -> None:
    graph = beginning(15 if case == "odd image" else 16, 3, padding="same", stride=1 if case == "stride 1" else 2)
    ranges = {"x": (-1.0, 1.0), "conv": (-9.0, 9.0), "pooled": (-1.0, 1.0), "logits": (-1.0, 1.0)}
    size = 5 if case == "small kernel" else 3
    moved, _ = over_quarters(
        graph, quantize_graph(graph, ranges), ("conv",) if case == "in float" else (), from_size=size
    )
    assert moved is graph
