"""The cost of nets by their published architecture: multiply-accumulates and bytes of every op. Standard library only.

The estimator needs it for the nets of published latencies, `--student auto` for nets that are not built yet; Keras
would take seconds for each and is not installed on a board. tests/backbones/test_arithmetic.py compares it with the folded
Keras graph.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

ELEMENT_BYTES = {"float32": 4, "float16": 2, "int8": 1}
# (expansion, channels at width 1, repeats, stride): Sandler et al. 2018, table 2.
_MOBILENETV2 = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))  # fmt: skip
# Depth -> layers of each dense block: Huang et al. 2017, table 1.
_DENSENET_LAYERS = {121: (6, 12, 24, 16), 169: (6, 12, 32, 32), 201: (6, 12, 48, 32)}
_GROWTH, _BOTTLENECK = 32, 4


@dataclass(frozen=True)
class NetOp:
    """One op on one photo. weights, read, written: counts of elements, not bytes. channels: outputs with a bias."""

    type: str
    macs: int
    weights: int
    read: int
    written: int
    channels: int = 0

    def bytes_moved(self, precision: str) -> int:
        """Weights and activations, each counted once, as inspect does."""
        return ELEMENT_BYTES[precision] * (self.weights + self.read + self.written)


def _divisible(channels: float) -> int:
    """Round to a multiple of 8, never below 90% (the authors' own rounding)."""
    rounded = max(8, int(channels + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * channels else rounded


def _conv(kind: str, side: int, stride: int, kernel: int, c_in: int, c_out: int) -> NetOp:
    out = math.ceil(side / stride)
    weights = kernel * kernel * (c_out if kind == "depthwise" else c_in * c_out)
    return NetOp(kind, out * out * weights, weights, side * side * c_in, out * out * c_out, c_out)


def _head(side: int, channels: int, classes: int) -> Iterator[NetOp]:
    yield NetOp("mean", 0, 0, side * side * channels, channels)
    yield NetOp("dense", channels * classes, channels * classes, channels, classes, classes)


def mobilenetv2(width: float, side: int, classes: int) -> Iterator[NetOp]:
    """MobileNetV2. width: the multiplier; side: of the input, in pixels."""
    channels = _divisible(32 * width)
    yield _conv("conv", side, 2, 3, 3, channels)
    side //= 2
    for expansion, base, repeats, first_stride in _MOBILENETV2:
        narrow = _divisible(int(base * width))
        for repeat in range(repeats):
            stride, wide = first_stride if repeat == 0 else 1, channels * expansion
            if expansion > 1:
                yield _conv("conv", side, 1, 1, channels, wide)
            yield _conv("depthwise", side, stride, 3, wide, wide)
            side //= stride
            yield _conv("conv", side, 1, 1, wide, narrow)
            if stride == 1 and channels == narrow:
                yield NetOp("add", 0, 0, 2 * side * side * narrow, side * side * narrow)
            channels = narrow
    last = _divisible(1280 * width) if width > 1 else 1280
    yield _conv("conv", side, 1, 1, channels, last)
    yield from _head(side, last, classes)


def densenet(depth: float, side: int, classes: int) -> Iterator[NetOp]:
    """DenseNet. depth: 121, 169 or 201; side: of the input, in pixels."""
    layers = _DENSENET_LAYERS[int(depth)]

    def elementwise(kind: str, read: int, written: int) -> NetOp:
        return NetOp(kind, 0, 0, side * side * read, side * side * written)

    channels = 64
    yield _conv("conv", side, 2, 7, 3, channels)
    side //= 4
    yield NetOp("pool", 0, 0, 4 * side * side * channels, side * side * channels)
    for block, repeats in enumerate(layers):
        for _ in range(repeats):
            # BatchNorm comes before each convolution here: it cannot be folded and is an op of its own.
            yield elementwise("norm", channels, channels)
            yield _conv("conv", side, 1, 1, channels, _BOTTLENECK * _GROWTH)
            yield _conv("conv", side, 1, 3, _BOTTLENECK * _GROWTH, _GROWTH)
            yield elementwise("concat", channels + _GROWTH, channels + _GROWTH)
            channels += _GROWTH
        yield elementwise("norm", channels, channels)
        if block < len(layers) - 1:
            yield _conv("conv", side, 1, 1, channels, channels // 2)
            channels //= 2
            side //= 2
            yield NetOp("pool", 0, 0, 4 * side * side * channels, side * side * channels)
    yield from _head(side, channels, classes)
