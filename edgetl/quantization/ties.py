"""Scales for which no sum and no mean falls half way between two steps, so that every runtime rounds them the same way.

Runtimes round a requantized value half up, half to even or half away from zero, and multiply by a scale of 20 to 31
bits. For convolutions that has almost no effect: accumulators are large and scales have no pattern. In an addition there
are only 256 x 256 cases, and those near a tie occur on every photo: on MobileNetV2 1.0 LiteRT and ONNX Runtime computed
the same int8 tensors bit by bit up to the second addition, differed there in 8 of 100,000 values, and at the logits in
44%.

    q_out = zero_out + (p * (q_a - zero_a) + r * (q_b - zero_b)) / d        scale_a / scale_out = p / d, scale_b / scale_out = r / d

With odd d the fraction is k / d: at least 1 / (2 d) away from one half, which is more than any runtime's error.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from edgetl.graph.graph import Graph, Node, same_scale_groups
from edgetl.quantization.ranges import Range

# 1 / (2 * 511) of a step is a thousand times the rounding of a sum of int8 values in float32, and four times that of a 20-bit
# multiplier times 255; scales move by 1 / p, at most 0.8% where one input has half of the output's range.
DENOMINATOR = 511


def without_ties(graph: Graph, ranges: Mapping[str, Range]) -> dict[str, Range]:
    """The same ranges, with those of additions and means stretched so that they have no ties.

    They are stretched by less than 1 / p, where p / DENOMINATOR is the larger input's scale over the output's: a few
    thousandths, except where an input with a scale from an earlier addition is tiny beside the output. Tensors that must share
    a scale are stretched together; the input's grid is fixed by the contract. An addition is left as it is if both inputs
    have scales from earlier additions, or if it adds a tensor to itself.
    """
    groups = same_scale_groups(graph)
    scale = {groups[name]: (high - low) / 255.0 for name, (low, high) in ranges.items()}
    began = dict(scale)
    settled = {groups[graph.input.name]}
    for node in graph.nodes:
        out = groups[node.name]
        if node.op == "add" and out not in settled:
            _settle_add([groups[source] for source in node.inputs], out, scale, settled)
        elif node.op in ("relu", "shift") and out not in settled and out != groups[node.inputs[0]]:
            # Both formats write a ReLU as an addition of zero, and a shift as an addition of its constants (scale_beside).
            source = groups[node.inputs[0]]
            scale[out] = _stretched(scale[out], scale[source])
            settled |= {source, out}
        elif node.op == "mean" and out not in settled:
            source = groups[node.inputs[0]]
            scale[out] = _mean_scale(scale[source], scale[out], _positions(graph, node))
            settled |= {source, out}
    factor = {group: scale[group] / began[group] for group in scale}
    return {name: (low * factor[groups[name]], high * factor[groups[name]]) for name, (low, high) in ranges.items()}


def _settle_add(inputs: list[str], out: str, scale: dict[str, float], settled: set[str]) -> None:
    first, second = sorted(inputs, key=lambda group: (group not in settled, -scale[group]))
    if second in settled or first == second or out in (first, second):
        return
    scale[out] = _stretched(scale[out], scale[first])
    scale[second] = scale_beside(scale[second], scale[out])
    settled |= {first, second, out}


def scale_beside(least: float, output: float) -> float:
    """The smallest scale not under `least` for an input of an addition with this output scale: r / d of the output's."""
    return output * max(1, math.ceil(least / output * DENOMINATOR - 1e-9)) / DENOMINATOR


def _stretched(least: float, source: float) -> float:
    """The smallest scale not under `least` that is source * d / p; `least` itself where a step of source is under 1 / d."""
    steps = math.floor(source / least * DENOMINATOR + 1e-9)
    return source * DENOMINATOR / steps if steps else least


def _positions(graph: Graph, node: Node) -> int:
    return int(np.prod(graph.node(node.inputs[0]).shape[1:3]))


def _mean_scale(source: float, least: float, positions: int) -> float:
    """The smallest scale not under `least` with source / (positions * scale) = p / d, d odd and at most 4 * DENOMINATOR."""
    ratio = source / (positions * least)
    best = min(
        (math.floor(ratio * d + 1e-9) / d for d in range(DENOMINATOR, 4 * DENOMINATOR, 2) if ratio * d >= 1.0),
        key=lambda found: ratio - found,
        default=ratio,
    )
    return source / (positions * best)
