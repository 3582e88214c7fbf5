"""Signal-to-noise ratios per tensor: where a quantized net first differs from the float net, and which layers are most
sensitive."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from edgetl.graph.graph import SAME_SCALE_OPS, Graph
from edgetl.graph.rebuild import rebuild
from edgetl.quantization.integers import dequantized
from edgetl.quantization.net import QuantizedNet
from edgetl.quantization.records import SignalRow

# An 8-bit grid over a normal distribution gives about 40 dB; after fifty layers a good int8 net still has 15 to 25. A tensor
# under DEGRADED_DB with inputs that are LOSS_DB better is where the signal was lost.
DEGRADED_DB, LOSS_DB = 12.0, 6.0
_CEILING_DB = 120.0


@dataclass(frozen=True)
class Signal:
    """One tensor: its signal-to-noise ratio in dB, and the worst one of its node's inputs."""

    node: str
    op: str
    snr_db: float
    inputs_snr_db: float

    def to_json(self) -> SignalRow:
        """Its row in history.json and the report; exact inputs have no ratio."""
        exact = self.inputs_snr_db >= _CEILING_DB
        return SignalRow(
            node=self.node, op=self.op, snr_db=self.snr_db, inputs_snr_db=None if exact else self.inputs_snr_db
        )


def signal_to_noise_db(reference: np.ndarray, other: np.ndarray) -> float:
    """10 log10 of the reference's power over that of the difference; at most 120.

    >>> round(signal_to_noise_db(np.array([3.0, 4.0]), np.array([3.0, 4.5])), 2)
    20.0
    """
    expected = np.asarray(reference, np.float64)
    return _decibels(float(np.square(expected).sum()), float(np.square(expected - other).sum()))


def _decibels(power: float, noise: float) -> float:
    """120 for a dead tensor that stays dead: nothing was lost."""
    if noise <= power * 10 ** (-_CEILING_DB / 10):
        return _CEILING_DB
    return 10.0 * float(np.log10(max(power, 1e-30) / noise))


def compare_tensors(
    graph: Graph, pairs: Iterable[tuple[Mapping[str, np.ndarray], Mapping[str, np.ndarray]]]
) -> list[Signal]:
    """Every tensor of the graph, in order. pairs: for some photos, (float tensors, quantized tensors as real numbers), each by
    node name; a tensor missing in the second is skipped."""
    powers: dict[str, float] = {}
    noises: dict[str, float] = {}
    for reference, other in pairs:
        for name, values in other.items():
            expected = np.asarray(reference[name], np.float64)
            powers[name] = powers.get(name, 0.0) + float(np.square(expected).sum())
            difference = expected - np.asarray(values, np.float64).reshape(expected.shape)
            noises[name] = noises.get(name, 0.0) + float(np.square(difference).sum())
    snr = {name: _decibels(powers[name], noises[name]) for name in powers}
    rows = []
    for node in graph.nodes:
        if node.name in snr:
            before = min((snr[source] for source in node.inputs if source in snr), default=_CEILING_DB)
            rows.append(Signal(node.name, node.op, round(snr[node.name], 2), round(before, 2)))
    return rows


def first_degraded(signals: Sequence[Signal]) -> Signal | None:
    """The first bad tensor with good inputs; if there is none, the bad tensor that lost most.

    None when no tensor is under DEGRADED_DB. A small shift of a whole channel can stay above that in its own layer and show
    only after the mean over all positions: biases of MobileNetV2's block_3_expand clipped to 8 bits (the largest was 1404)
    cost 5 dB there, and the logits were named.
    """
    bad = [row for row in signals if row.snr_db < DEGRADED_DB]
    if not bad:
        return None
    sudden = [row for row in bad if row.inputs_snr_db - row.snr_db >= LOSS_DB]
    return sudden[0] if sudden else max(bad, key=lambda row: row.inputs_snr_db - row.snr_db)


def sensitivities(
    net: QuantizedNet, reference: Graph, images: Any, *, on_node: Callable[[], object] = lambda: None
) -> list[Signal]:
    """The logits' signal-to-noise ratio when only one node is on its grids (weights and output), for each node in order.

    reference: the float graph that the net's stands for (the net's biases may have been corrected). images: normalized,
    float32 [n, h, w, 3]. Everything that does not depend on the node is computed once.
    """
    graph, integers = net.graph, net.integers()
    exact, rounded = rebuild(reference), rebuild(dequantized(graph, integers))
    tensors: dict[str, Any] = {graph.input.name: tf.constant(images)}

    def compute(model: Any, name: str, sources: Sequence[Any]) -> Any:
        return model.get_layer(name)(sources[0] if len(sources) == 1 else list(sources))

    for node in graph.nodes[1:]:
        tensors[node.name] = compute(exact, node.name, [tensors[source] for source in node.inputs])
    logits = tensors[graph.output.name].numpy()
    rows = []
    for position, node in enumerate(graph.nodes):
        on_node()
        if node.op in SAME_SCALE_OPS or node.op == "input":
            continue
        changed = {node.name: _on_grid(compute(rounded, node.name, [tensors[s] for s in node.inputs]), net, node.name)}
        for later in graph.nodes[position + 1 :]:
            if any(source in changed for source in later.inputs):
                sources = [changed.get(source, tensors[source]) for source in later.inputs]
                changed[later.name] = compute(exact, later.name, sources)
        snr = signal_to_noise_db(logits, changed[graph.output.name].numpy())
        rows.append(Signal(node.name, node.op, round(snr, 2), _CEILING_DB))
    return rows


def _on_grid(tensor: Any, net: QuantizedNet, name: str) -> Any:
    low, high = net.ranges[name]
    return tf.quantization.fake_quant_with_min_max_args(tensor, low, high, num_bits=net.activation_bits)
