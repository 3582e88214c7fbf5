"""What range of values each tensor takes on the calibration photos, and which of it an int8 grid should cover."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from edgetl.quantization.graph import Graph, same_scale_groups

Range = tuple[float, float]
_BINS = 2048


def estimate_ranges(
    graph: Graph, outputs_of: Any, batches: Callable[[], Iterable[Any]], *, estimator: str, input_range: Range
) -> dict[str, Range]:
    """Tensor name -> (low, high), with 0 inside and never past what the activation can produce.

    outputs_of: normalized images -> the tensors of all nodes but the input, in order. batches: called twice, gives the
    same normalized images. Tensors that must share a scale get one range around all of theirs. Two passes over the
    photos with fixed memory: extremes, then histograms.
    """
    names = [node.name for node in graph.nodes[1:]]
    lows, highs = np.zeros(len(names)), np.zeros(len(names))
    for images in batches():
        for i, tensor in enumerate(outputs_of(images)):
            lows[i], highs[i] = min(lows[i], float(np.min(tensor))), max(highs[i], float(np.max(tensor)))
    ranges: dict[str, Range] = {graph.input.name: input_range}
    if estimator == "minmax":
        chosen = [(float(low), float(high)) for low, high in zip(lows, highs, strict=True)]
    else:
        counts = np.zeros((len(names), _BINS))
        for images in batches():
            for i, tensor in enumerate(outputs_of(images)):
                counts[i] += np.histogram(tensor, _BINS, (lows[i], max(highs[i], lows[i] + 1e-6)))[0]
        chosen = [least_error_range(counts[i], lows[i], highs[i]) for i in range(len(names))]
    for name, (low, high) in zip(names, chosen, strict=True):
        ranges[name] = (float(low), max(float(high), float(low) + 1e-5))
    return _shared(graph, ranges)


def _shared(graph: Graph, ranges: dict[str, Range]) -> dict[str, Range]:
    groups = same_scale_groups(graph)
    joint: dict[str, Range] = {}
    for name, leader in groups.items():
        low, high = joint.get(leader, (0.0, 0.0))
        joint[leader] = (min(low, ranges[name][0]), max(high, ranges[name][1]))
    # The input's grid is fixed by the contract; what shares it (a padding) takes it over.
    joint[groups[graph.input.name]] = ranges[graph.input.name]
    return {name: joint[leader] for name, leader in groups.items()}


def least_error_range(counts: np.ndarray, low: float, high: float) -> Range:
    """The part of [low, high] whose 256-step grid has the least expected squared error.

    counts: histogram over [low, high], [bins]. Inside, a value's error is uniform over a step: step**2 / 12; outside,
    it is the distance to the edge. Both ends shrink on their own, down to 30%; 0 stays inside.
    """
    total = counts.sum()
    if total == 0 or high - low <= 0:
        return low, high
    edges = np.linspace(low, high, len(counts) + 1)
    centres = (edges[1:] + edges[:-1]) / 2
    shares = np.linspace(0.3, 1.0, 36)
    lows = np.unique(low * shares)
    highs = np.unique(high * shares)
    below = np.array([(counts * np.square(np.minimum(centres - cut, 0.0))).sum() for cut in lows])
    above = np.array([(counts * np.square(np.maximum(centres - cut, 0.0))).sum() for cut in highs])
    step = (highs[None, :] - lows[:, None]) / 255.0
    error = below[:, None] + above[None, :] + total * step**2 / 12.0
    i, j = np.unravel_index(np.argmin(error), error.shape)
    return float(lows[i]), float(highs[j])
