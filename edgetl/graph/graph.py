"""Graph: a folded network as plain data, between Keras and the file formats. NumPy only.

Every node makes one tensor, which has its name. BatchNorm is folded away and ReLU is part of the node before it (except where
that node's tensor has other readers), so that one node is what one int8 kernel computes. Tensors are NHWC; kernels have
Keras' layout.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

Op = Literal[
    "input",
    "conv",
    "depthwise",
    "dense",
    "add",
    "concat",
    "pad",
    "max_pool",
    "average_pool",
    "mean",
    "relu",
    "shift",
    "space_to_depth",  # made only by file writers
]
# Node name -> (kernel, bias).
NodeWeights = dict[str, tuple[np.ndarray | None, np.ndarray]]
# TFLite's 8-bit quantization specification: the output has the scale and zero point of the input.
SAME_SCALE_OPS = ("concat", "pad", "max_pool", "average_pool")


@dataclass(frozen=True)
class Node:
    """One operation. attributes by op:

    input: shape. conv, depthwise: strides (h, w), padding "same" or "valid", activation "none", "relu" or "relu6".
    dense, add, relu, shift: activation (an add has it only where a ReLU is fused into it). pad: pads ((top, bottom),
    (left, right)). max_pool, average_pool: size, strides, padding.
    kernel: conv [h, w, in, out]; depthwise [h, w, channels, 1]; dense [in, out]. bias: [out]; a shift, which adds a
    constant to each channel, has only a bias. shape: of the output tensor for batch 1.
    """

    name: str
    op: Op
    inputs: tuple[str, ...] = ()
    attributes: Mapping[str, Any] = field(default_factory=dict)
    shape: tuple[int, ...] = ()
    kernel: np.ndarray | None = None
    bias: np.ndarray | None = None

    @property
    def activation(self) -> str:
        """ "none", "relu" or "relu6"."""
        return str(self.attributes.get("activation", "none"))


@dataclass(frozen=True)
class Graph:
    """Nodes in topological order; the first is the input, the last one's tensor is the logits."""

    nodes: tuple[Node, ...]

    @property
    def input(self) -> Node:
        """The image."""
        return self.nodes[0]

    @property
    def output(self) -> Node:
        """The logits."""
        return self.nodes[-1]

    def node(self, name: str) -> Node:
        """By name."""
        return next(node for node in self.nodes if node.name == name)

    def with_weights(self, weights: NodeWeights) -> Graph:
        """The same graph with other kernels and biases."""
        return Graph(
            tuple(
                replace(node, kernel=weights[node.name][0], bias=weights[node.name][1])
                if node.name in weights
                else node
                for node in self.nodes
            )
        )

    def parameters(self) -> int:
        """Numbers in kernels and biases."""
        return sum(array.size for node in self.nodes for array in (node.kernel, node.bias) if array is not None)

    def macs(self) -> int:
        """Multiply-accumulates for one image, of convolutions and dense layers."""
        total = 0
        for node in self.nodes:
            if node.kernel is None:
                continue
            positions = int(np.prod(node.shape[1:-1])) if node.op != "dense" else 1
            total += positions * int(node.kernel.size)
        return total


def same_scale_groups(graph: Graph) -> dict[str, str]:
    """Tensor name -> the name of the tensor that represents all those with the same scale and zero point."""
    leader = {node.name: node.name for node in graph.nodes}

    def find(name: str) -> str:
        while leader[name] != name:
            name = leader[name]
        return name

    for node in graph.nodes:
        if node.op in SAME_SCALE_OPS:
            for source in node.inputs:
                leader[find(source)] = find(node.name)
    return {name: find(name) for name in leader}


def same_padding(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """The padding of "same" before and after along one axis of this size (TensorFlow's rule).

    >>> same_padding(160, 3, 2), same_padding(5, 3, 2)
    ((0, 1), (1, 1))
    """
    total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2


def save_graph(folder: Path, graph: Graph) -> None:
    """Write graph.json and graph.npz."""
    rows = [
        {"name": node.name, "op": node.op, "inputs": node.inputs, "attributes": node.attributes, "shape": node.shape}
        for node in graph.nodes
    ]
    (folder / "graph.json").write_text(json.dumps(rows, indent=1))
    arrays = {
        f"{node.name}/{part}": array
        for node in graph.nodes
        for part, array in (("kernel", node.kernel), ("bias", node.bias))
        if array is not None
    }
    np.savez(folder / "graph.npz", **arrays)  # type: ignore[arg-type]


def load_graph(folder: Path) -> Graph:
    """The inverse of save_graph."""
    rows = json.loads((folder / "graph.json").read_text())
    with np.load(folder / "graph.npz", allow_pickle=False) as data:
        arrays = {name: data[name] for name in data.files}
    return Graph(
        tuple(
            Node(
                row["name"],
                row["op"],
                tuple(row["inputs"]),
                row["attributes"],
                tuple(row["shape"]),
                arrays.get(f"{row['name']}/kernel"),
                arrays.get(f"{row['name']}/bias"),
            )
            for row in rows
        )
    )
