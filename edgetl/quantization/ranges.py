"""The range of each tensor's values on the calibration photos, and the part of it that an int8 grid should cover."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgetl.graph.graph import Graph, same_scale_groups

Range = tuple[float, float]
# Normalized images -> the tensors of all nodes except the input, in order.
OutputsOf = Callable[[Any], Iterable[Any]]
_BINS = 2048
# A tensor that is 0 on every photo has no grid of its own and gets [0, 1]: with steps far finer (256 times) than those of the
# sums in the convolution before it, neither XNNPACK nor LiteRT's own kernels open the file.
_DEAD, _ANY = 1e-5, 1.0


@dataclass(frozen=True)
class TensorStatistics:
    """The values of all tensors except the input: extremes, and a histogram between them. counts: [tensors, bins]."""

    names: tuple[str, ...]
    lows: np.ndarray
    highs: np.ndarray
    counts: np.ndarray

    def ranges(self, graph: Graph, *, estimator: str, input_range: Range) -> dict[str, Range]:
        """Tensor name -> (low, high), with 0 inside and never past what the activation can produce.

        estimator: "minmax" or one of HISTOGRAM_ESTIMATORS. Tensors that must share a scale get one range around all of
        their ranges; those that share the image's scale, which the contract fixes, get the image's range.
        """
        choose = (lambda counts, low, high: (low, high)) if estimator == "minmax" else HISTOGRAM_ESTIMATORS[estimator]
        ranges: dict[str, Range] = {graph.input.name: input_range}
        for i, name in enumerate(self.names):
            low, high = choose(self.counts[i], float(self.lows[i]), float(self.highs[i]))
            ranges[name] = (float(low), float(high))
        return _shared(graph, ranges)


def measure_tensors(graph: Graph, outputs_of: OutputsOf, batches: Callable[[], Iterable[Any]]) -> TensorStatistics:
    """Two passes over the photos with fixed memory: extremes, then histograms.

    batches: called twice, and must give the same normalized images.
    """
    names = tuple(node.name for node in graph.nodes[1:])
    lows, highs = np.zeros(len(names)), np.zeros(len(names))
    for images in batches():
        for i, tensor in enumerate(outputs_of(images)):
            lows[i], highs[i] = min(lows[i], float(np.min(tensor))), max(highs[i], float(np.max(tensor)))
    counts = np.zeros((len(names), _BINS))
    for images in batches():
        for i, tensor in enumerate(outputs_of(images)):
            counts[i] += np.histogram(tensor, _BINS, (lows[i], max(highs[i], lows[i] + 1e-6)))[0]
    return TensorStatistics(names, lows, highs, counts)


def estimate_ranges(
    graph: Graph, outputs_of: OutputsOf, batches: Callable[[], Iterable[Any]], *, estimator: str, input_range: Range
) -> dict[str, Range]:
    """measure_tensors, then ranges by one estimator."""
    return measure_tensors(graph, outputs_of, batches).ranges(graph, estimator=estimator, input_range=input_range)


def _shared(graph: Graph, ranges: dict[str, Range]) -> dict[str, Range]:
    groups = same_scale_groups(graph)
    joint: dict[str, Range] = {}
    for name, leader in groups.items():
        low, high = joint.get(leader, (0.0, 0.0))
        joint[leader] = (min(low, ranges[name][0]), max(high, ranges[name][1]))
    # The contract fixes the input's grid; tensors that share it (a padding) get the same.
    joint[groups[graph.input.name]] = ranges[graph.input.name]
    alive = {leader: (low, high if high - low > _DEAD else low + _ANY) for leader, (low, high) in joint.items()}
    return {name: alive[leader] for name, leader in groups.items()}


def least_error_range(counts: np.ndarray, low: float, high: float) -> Range:
    """The part of [low, high] where a grid of 256 steps has the least expected squared error.

    counts: histogram over [low, high], [bins]. Inside, the error of a value is uniform over a step: step**2 / 12; outside,
    it is the distance to the edge. Each end shrinks independently, down to 30%; 0 stays inside.
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


def percentile_range(counts: np.ndarray, low: float, high: float, *, share: float = 0.9999) -> Range:
    """The smallest [a, b] around 0 that excludes at most 1 - share of the values, half of them at each end."""
    total = counts.sum()
    if total == 0 or high - low <= 0:
        return low, high
    edges = np.linspace(low, high, len(counts) + 1)
    below = np.concatenate([[0.0], np.cumsum(counts)]) / total
    left_out = (1.0 - share) / 2.0
    first = int(np.searchsorted(below, left_out, side="right")) - 1
    last = int(np.searchsorted(below, 1.0 - left_out, side="left"))
    return min(float(edges[first]), 0.0), max(float(edges[min(last, len(counts))]), 0.0)


def least_divergence_range(counts: np.ndarray, low: float, high: float) -> Range:
    """The part of [low, high] where a grid of 256 steps keeps most of the distribution: least Kullback-Leibler divergence.

    As in Migacz, "8-bit Inference with TensorRT" (2017), for two-sided ranges: both ends shrink together. Clipped values are
    counted at the edges; the values of a step are spread evenly over its bins that were not empty. With few values (logits)
    most bins are empty and any cut looks harmless: such tensors keep their extremes.
    """
    total = counts.sum()
    if total < 100 * 256 or high - low <= 0:
        return low, high
    centres = (np.arange(len(counts)) + 0.5) / len(counts) * (high - low) + low
    best, chosen = np.inf, (low, high)
    for share in np.linspace(0.3, 1.0, 36):
        a, b = low * share, high * share
        inside = (centres >= a) & (centres <= b)
        if inside.sum() < 2:
            continue
        reference = counts[inside].astype(np.float64)
        original = reference.copy()
        reference[0] += counts[centres < a].sum()
        reference[-1] += counts[centres > b].sum()
        step_of = np.minimum(((centres[inside] - a) / (b - a) * 256).astype(int), 255)
        held = original > 0
        mass = np.bincount(step_of, original, 256)
        bins = np.bincount(step_of, held, 256)
        spread = np.where(held, mass[step_of] / np.maximum(bins[step_of], 1.0), 0.0)
        p, q = reference / reference.sum(), spread / max(spread.sum(), 1e-12)
        # A bin that only clipping filled is 0 in q: a small floor keeps its cost finite and large.
        where = p > 0
        divergence = float((p[where] * np.log(p[where] / np.maximum(q[where], 1e-9))).sum())
        if divergence < best:
            best, chosen = divergence, (float(a), float(b))
    return chosen


HISTOGRAM_ESTIMATORS: dict[str, Callable[[np.ndarray, float, float], Range]] = {
    "mse": least_error_range,
    "percentile": percentile_range,
    "entropy": least_divergence_range,
}
ESTIMATORS = ("minmax", *HISTOGRAM_ESTIMATORS)
