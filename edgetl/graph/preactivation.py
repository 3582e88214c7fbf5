"""BatchNorm before a convolution (DenseNet's pre-activation), spread over the convolutions before and after it.

All BatchNorms that read one channel see the same mean and variance and differ only in what they learned. So what they
have in common, a factor a and a constant d for every channel, moves into the convolution that makes the channel, where
weights have one scale per channel and nothing is lost:

    x' = a x + d        relu(s x + t) = r relu(x' + b)        r = s / a > 0,    b = t / r - d <= 0

r goes into the convolution after, because a factor commutes with ReLU. What remains is an addition of b with a ReLU, which
runs faster than the 1 x 1 depthwise convolution that a BatchNorm is otherwise (DenseNet121 at 224 px in LiteRT: 59 of them
took 1.42 ms of 8.5, the additions 0.98). With d as large as b allows, no reader sees values below 0: the convolution before
applies the ReLU too, and the channels that share one grid, now of one size, use all of its steps. A disadvantage is that the
constants have 8 bits where a bias has 32; corrections.correct_biases removes what their rounding adds. The sum is about
even: logits of a DenseNet121 trained on chest X-rays, with biases corrected, had 42.5 dB before and 44.2 after with ranges
by mse, 39.7 and 42.6 by percentile, 39.9 and 34.9 by minmax; small random nets the same within half a decibel.

Where r is not positive, or so uneven that the kernel after would lose many steps, the BatchNorm stays a depthwise
convolution.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np

from edgetl.graph.graph import Graph, Node

# Ops that pass their channels on unchanged. A padding adds zeros beside them: no constant may be added before it.
_PASSES = ("concat", "max_pool", "pad")
# Ops that are linear in each channel and have no weights.
_AVERAGES = ("average_pool", "mean")
# A channel's factor is the median of its readers', but never less than this part of the largest: a channel that most
# readers ignore must not become noise for the one that does not.
_SMALLEST_PART = 1.0 / 8.0
# A reader with a smaller factor than this, relative to the others', would need a constant many times larger than the channel.
_SMALLEST_FACTOR = 1.0 / 8.0
# How many times more noise the rounding of the kernel after may make with factors in it. The ReLU before and the even
# channels make up for it: with gammas drawn from exp(N(0, 0.5)), where kernels measured between 1.5 and 4, the logits of a
# random DenseNet121 had 0.9 to 1.5 dB less noise with all norms spread than with none (two seeds, minmax and mse).
_COARSER = 4.0


@dataclass(frozen=True)
class Spread:
    """The graph, and what changed in it.

    additions: the norms that became additions -> the nodes that took their factors. changed: names of tensors with other
    values than before.
    """

    graph: Graph
    additions: Mapping[str, tuple[str, ...]]
    changed: frozenset[str]


def spread_norms(graph: Graph) -> Spread:
    """Move norms into the convolutions around them wherever that is exact and the kernels after can take their factors."""
    return _Spreading(graph).spread()


class _Spreading:
    """scales, shifts: a and d of the channels of each convolution that only norms read, by its name."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.nodes = {node.name: node for node in graph.nodes}
        self.readers: dict[str, list[Node]] = {node.name: [] for node in graph.nodes}
        for node in graph.nodes:
            for name in node.inputs:
                self.readers[name].append(node)
        self.norms = [node for node in graph.nodes if _is_norm(node)]
        self.parts = {norm.name: list(self._makers(norm.inputs[0])) for norm in self.norms}
        self.scales: dict[str, np.ndarray] = {}
        self.shifts: dict[str, np.ndarray] = {}
        # Convolutions of which no reader sees values below 0.
        self.cut_at_0: set[str] = set()

    def spread(self) -> Spread:
        producers = {node.name: found for node in self.graph.nodes if (found := self._norms_that_alone_read(node))}
        self._set_scales(producers)
        factors = {norm.name: _norm_scale(norm) / self._of_channels(self.scales, norm, 1.0) for norm in self.norms}
        takers = {norm.name: self._takers(norm, factors[norm.name]) for norm in self.norms}
        additions = {name: taking for name, taking in takers.items() if taking}
        self._set_shifts(producers, additions, factors)
        made = dict(self.nodes)
        changed: set[str] = set()
        for name in producers:
            activation = "relu" if name in self.cut_at_0 else made[name].activation
            made[name] = _produced(made[name], self.scales[name], self.shifts[name], activation)
            changed |= {name, *self._passed_on(name)}
        for norm in self.norms:
            factor, shift = factors[norm.name], self._of_channels(self.shifts, norm, 0.0)
            assert norm.bias is not None
            if norm.name not in additions:
                kernel, bias = factor.astype(np.float32)[None, None, :, None], norm.bias - factor * shift
                made[norm.name] = replace(norm, kernel=kernel, bias=bias.astype(np.float32))
                continue
            made[norm.name] = replace(
                norm,
                op="shift",
                attributes={"activation": norm.activation},
                kernel=None,
                bias=(norm.bias / factor - shift).astype(np.float32),
            )
            changed |= {norm.name, *self._averages_of(norm.name)}
            for taker in additions[norm.name]:
                kernel = made[taker].kernel
                assert kernel is not None
                made[taker] = replace(made[taker], kernel=(kernel * _along_input(factor, kernel)).astype(np.float32))
        nodes = tuple(made[node.name] for node in self.graph.nodes)
        return Spread(Graph(nodes), additions, frozenset(changed))

    # ---- who reads whom ----

    def _makers(self, name: str) -> Iterator[Node]:
        """The nodes that make a tensor's channels, in order; a node twice where a concatenation has it twice."""
        node = self.nodes[name]
        if node.op in _PASSES:
            for source in node.inputs:
                yield from self._makers(source)
        else:
            yield node

    def _passed_on(self, name: str) -> Iterator[str]:
        """Tensors that have this one's channels unchanged."""
        for reader in self.readers[name]:
            if reader.op in _PASSES:
                yield reader.name
                yield from self._passed_on(reader.name)

    def _averages_of(self, name: str) -> Iterator[str]:
        for reader in self.readers[name]:
            if reader.op in _AVERAGES:
                yield reader.name
                yield from self._averages_of(reader.name)

    def _ends(self, name: str, through: tuple[str, ...]) -> list[Node] | None:
        """The nodes that read a tensor, directly or through nodes of the ops `through`; None where it is the net's output."""
        ends: list[Node] = []
        if not self.readers[name]:
            return None
        for reader in self.readers[name]:
            if reader.op not in through:
                ends.append(reader)
                continue
            behind = self._ends(reader.name, through)
            if behind is None:
                return None
            ends += behind
        return ends

    def _norms_that_alone_read(self, node: Node) -> frozenset[str] | None:
        """Names of the norms that read a convolution, if only norms do."""
        if node.op not in ("conv", "depthwise") or _is_norm(node) or node.activation == "relu6":
            return None
        ends = self._ends(node.name, _PASSES)
        return frozenset(end.name for end in ends) if ends is not None and all(_is_norm(end) for end in ends) else None

    def _takers(self, norm: Node, factor: np.ndarray) -> tuple[str, ...]:
        """Names of the nodes whose kernels can take a norm's factors; none where the norm has to stay what it is."""
        ends = self._ends(norm.name, _AVERAGES)
        if norm.activation != "relu" or ends is None or not bool(np.all(factor >= _SMALLEST_FACTOR)):
            return ()
        takes = all(end.op in ("conv", "dense") and _coarser(end, factor) <= _COARSER for end in ends)
        return tuple(end.name for end in ends) if takes else ()

    # ---- where factors and constants go ----

    def _of_channels(self, values: dict[str, np.ndarray], norm: Node, default: float) -> np.ndarray:
        """`values` of the channels that a norm reads, float64 [channels]."""
        parts = self.parts[norm.name]
        return np.concatenate([values.get(maker.name, np.full(maker.shape[-1], default)) for maker in parts])

    def _set_scales(self, producers: dict[str, frozenset[str]]) -> None:
        sizes = self._by_channel(producers, {norm.name: np.abs(_norm_scale(norm)) for norm in self.norms})
        for name, rows in sizes.items():
            largest = rows.max(axis=0)
            scale = np.maximum(np.median(rows, axis=0), _SMALLEST_PART * largest)
            self.scales[name] = np.where(largest > 1e-9, scale, 1.0)

    def _set_shifts(
        self,
        producers: dict[str, frozenset[str]],
        additions: dict[str, tuple[str, ...]],
        factors: dict[str, np.ndarray],
    ) -> None:
        constants = {norm.name: norm.bias / factors[norm.name] for norm in self.norms if norm.name in additions}
        for name, rows in self._by_channel(producers, constants).items():
            # Before a padding 0 must stay 0, and a ReLU does not let a constant through.
            padded = any(self.nodes[passed].op == "pad" for passed in self._passed_on(name))
            if self.nodes[name].activation == "none" and not padded and len(rows):
                self.shifts[name] = rows.max(axis=0)
                if producers[name] <= additions.keys():
                    self.cut_at_0.add(name)
        for name in producers:
            self.shifts.setdefault(name, np.zeros(self.nodes[name].shape[-1]))

    def _by_channel(self, producers: dict[str, frozenset[str]], values: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Producer -> [readings, channels], one row for each time that a norm reads its channels. values: norm -> one number
        per channel that it reads."""
        rows: dict[str, list[np.ndarray]] = {name: [] for name in producers}
        for norm, numbers in values.items():
            widths = [maker.shape[-1] for maker in self.parts[norm]]
            for maker, part in zip(self.parts[norm], np.split(numbers, np.cumsum(widths)[:-1]), strict=True):
                if maker.name in rows:
                    rows[maker.name].append(part)
        return {name: np.array(found).reshape(-1, self.nodes[name].shape[-1]) for name, found in rows.items()}


def with_convolved_shifts(graph: Graph) -> Graph:
    """Every shift as a 1 x 1 depthwise convolution with a kernel of ones, into which ONNX Runtime fuses the ReLU: in float32
    DenseNet121 at 224 px took 28.2 ms with these and 31.2 with additions, on one thread."""
    return Graph(tuple(_convolved(node) if node.op == "shift" else node for node in graph.nodes))


def _convolved(shift: Node) -> Node:
    attributes = {"strides": [1, 1], "padding": "valid", "activation": shift.activation}
    return replace(shift, op="depthwise", attributes=attributes, kernel=np.ones((1, 1, shift.shape[-1], 1), np.float32))


def _norm_scale(norm: Node) -> np.ndarray:
    """float64 [channels]."""
    assert norm.kernel is not None
    return norm.kernel[0, 0, :, 0].astype(np.float64)


def _is_norm(node: Node) -> bool:
    if node.op != "depthwise" or node.kernel is None or node.kernel.shape[:2] != (1, 1):
        return False
    return list(node.attributes["strides"]) == [1, 1]


def _produced(node: Node, scale: np.ndarray, shift: np.ndarray, activation: str) -> Node:
    assert node.kernel is not None and node.bias is not None
    per_output = scale[:, None] if node.op == "depthwise" else scale
    return replace(
        node,
        attributes={**node.attributes, "activation": activation},
        kernel=(node.kernel * per_output).astype(np.float32),
        bias=(node.bias * scale + shift).astype(np.float32),
    )


def _along_input(factor: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """Shaped to multiply the input channels of a kernel [h, w, in, out] or [in, out]."""
    return factor.reshape((1,) * (kernel.ndim - 2) + (-1, 1))


def _coarser(taker: Node, factor: np.ndarray) -> float:
    """How many times more noise a kernel's rounding makes with the factors in it than with the same factors in its input, on
    average over its output channels.

    Rounding to steps of max|w| / 127 makes noise in proportion to the steps and to the size of the input: with the factors
    in the kernel these are max|w r| and 1, without them max|w| and the root mean square of r.
    """
    assert taker.kernel is not None
    kernel = np.abs(taker.kernel.astype(np.float64))
    others = tuple(range(kernel.ndim - 1))
    steps = np.maximum(kernel.max(axis=others), 1e-12)
    with_factors = (kernel * _along_input(factor, kernel)).max(axis=others)
    return float(np.mean(with_factors / steps) / np.sqrt(np.mean(factor**2)))
