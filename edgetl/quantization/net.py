"""QuantizedNet: the result of the quantize stage, from which every integer file is written."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from edgetl.graph.graph import Graph, load_graph, save_graph
from edgetl.quantization.integers import Quantized, quantize_graph
from edgetl.quantization.ranges import Range

_FILE = "quantized.json"


@dataclass(frozen=True)
class QuantizedNet:
    """A folded graph and its grids.

    ranges: tensor name -> (low, high). per_channel: convolution kernels have one scale per output channel, otherwise one in
    all. activation_bits: 8, or 16 (weights stay int8). float_nodes: names of nodes that stay in float32.
    """

    graph: Graph
    ranges: Mapping[str, Range]
    per_channel: bool = True
    activation_bits: int = 8
    float_nodes: tuple[str, ...] = ()

    def integers(self) -> dict[str, Quantized]:
        """Node name -> its integers."""
        return quantize_graph(
            self.graph, self.ranges, per_channel=self.per_channel, activation_bits=self.activation_bits
        )

    @property
    def precision(self) -> str:
        """The precision in the names of this net's files: int8, int16x8 (16-bit activations, 8-bit weights) or int8-float32
        (mixed)."""
        if self.float_nodes:
            return "int8-float32"
        return "int8" if self.activation_bits == 8 else "int16x8"


def save_quantized(folder: Path, net: QuantizedNet) -> None:
    """Write graph.json, graph.npz and quantized.json."""
    save_graph(folder, net.graph)
    rest = {
        "ranges": dict(net.ranges),
        "per_channel": net.per_channel,
        "activation_bits": net.activation_bits,
        "float_nodes": list(net.float_nodes),
    }
    (folder / _FILE).write_text(json.dumps(rest, indent=1))


def holds_quantized_net(folder: Path) -> bool:
    """Whether this folder was written by save_quantized."""
    return (folder / _FILE).is_file()


def load_quantized(folder: Path) -> QuantizedNet:
    """The inverse of save_quantized."""
    rest = json.loads((folder / _FILE).read_text())
    ranges = {name: (float(low), float(high)) for name, (low, high) in rest["ranges"].items()}
    return QuantizedNet(
        load_graph(folder), ranges, rest["per_channel"], rest["activation_bits"], tuple(rest["float_nodes"])
    )
