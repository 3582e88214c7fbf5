"""What nets cost, by their published architecture alone: multiply-accumulates and bytes of every op. Standard library only.

The estimator needs it for the nets of published latencies, `--student auto` for nets that were not built yet; Keras
would take seconds for each and is not there on a board. tests/test_net_arithmetic.py holds it to the folded Keras graph.
"""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass

ELEMENT_BYTES = {"float32": 4, "float16": 2, "int8": 1}
# (expansion, channels at width 1, repeats, stride): Sandler et al. 2018, table 2.
_MOBILENETV2 = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))  # fmt: skip
_DENSENET_LAYERS = {"densenet121": (6, 12, 24, 16), "densenet169": (6, 12, 32, 32), "densenet201": (6, 12, 48, 32)}
_GROWTH, _BOTTLENECK = 32, 4


@dataclass(frozen=True)
class NetOp:
    """One op on one photo. weights, read, written: elements, not bytes. channels: outputs that have a bias."""

    type: str
    macs: int
    weights: int
    read: int
    written: int
    channels: int = 0

    def bytes_moved(self, precision: str) -> int:
        """Weights and activations, each once, as inspect counts them."""
        return ELEMENT_BYTES[precision] * (self.weights + self.read + self.written)


@functools.lru_cache(maxsize=256)
def net_ops(backbone: str, input_size_px: int, classes: int = 1000) -> tuple[NetOp, ...]:
    """The ops of a backbone with a dense layer on its mean, BatchNorm folded where a convolution is before it.

    input_size_px: one side, a multiple of 32. Raises ValueError for a family whose arithmetic is not here (vgg16,
    xception).

    >>> round(sum(op.macs for op in net_ops("mobilenetv2-1.0", 224)) / 1e6)
    301
    """
    if backbone.startswith("mobilenetv2-"):
        return tuple(_mobilenetv2(float(backbone.split("-")[1]), input_size_px, classes))
    if backbone in _DENSENET_LAYERS:
        return tuple(_densenet(_DENSENET_LAYERS[backbone], input_size_px, classes))
    raise ValueError(f"the arithmetic of {backbone} is not known here")


def backbone_of(published: str) -> str:
    """The backbone that a published name means.

    The "densenet" of TensorFlow's hosted models and of Coral's table is not said to be of a depth; it is counted as
    DenseNet-121, the smallest.

    >>> backbone_of("mobilenet_v2_0.35"), backbone_of("densenet")
    ('mobilenetv2-0.35', 'densenet121')
    """
    found = re.fullmatch(r"mobilenet_v2_(\d(\.\d+)?)", published)
    if found:
        return f"mobilenetv2-{float(found[1])}"
    if published in ("densenet", *_DENSENET_LAYERS):
        return "densenet121" if published == "densenet" else published
    raise ValueError(f"{published} is no net whose arithmetic is known here")


def _divisible(channels: float) -> int:
    """To a multiple of 8, never below 90% (the authors' own rounding)."""
    rounded = max(8, int(channels + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * channels else rounded


def _conv(kind: str, side: int, stride: int, kernel: int, c_in: int, c_out: int) -> NetOp:
    out = math.ceil(side / stride)
    weights = kernel * kernel * (c_out if kind == "depthwise" else c_in * c_out)
    return NetOp(kind, out * out * weights, weights, side * side * c_in, out * out * c_out, c_out)


def _head(side: int, channels: int, classes: int) -> Iterator[NetOp]:
    yield NetOp("mean", 0, 0, side * side * channels, channels)
    yield NetOp("dense", channels * classes, channels * classes, channels, classes, classes)


def _mobilenetv2(width: float, side: int, classes: int) -> Iterator[NetOp]:
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


def _densenet(layers: tuple[int, ...], side: int, classes: int) -> Iterator[NetOp]:
    def elementwise(kind: str, read: int, written: int) -> NetOp:
        return NetOp(kind, 0, 0, side * side * read, side * side * written)

    channels = 64
    yield _conv("conv", side, 2, 7, 3, channels)
    side //= 4
    yield NetOp("pool", 0, 0, 4 * side * side * channels, side * side * channels)
    for block, repeats in enumerate(layers):
        for _ in range(repeats):
            # BatchNorm stands before each convolution here: it cannot be folded and is an op of its own.
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
