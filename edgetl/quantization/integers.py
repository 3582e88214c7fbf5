"""The integers that ship: one set of int8 weights, int32 biases, scales and zero points for every file format.

LiteRT's 8-bit quantization specification: activations per tensor and asymmetric, weights symmetric in [-127, 127], per
output channel for convolutions, bias int32 at input scale times weight scale, softmax output at 1/256 and -128.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from edgetl.quantization.graph import Graph, Node
from edgetl.quantization.ranges import Range

PROBABILITY_SCALE, PROBABILITY_ZERO_POINT = 1.0 / 256.0, -128


def affine_int8(low: float, high: float) -> tuple[float, int]:
    """Scale and zero point that put [low, high] on int8, with 0.0 exact.

    real = (q - zero_point) * scale: LiteRT's 8-bit specification.

    >>> affine_int8(-128.0, 127.0)
    (1.0, 0)
    >>> affine_int8(0.0, 6.0)[1]
    -128
    """
    scale = (high - low) / 255.0
    zero_point = int(np.floor(-128.0 - low / scale + 0.5))
    return scale, min(max(zero_point, -128), 127)


@dataclass(frozen=True)
class Quantized:
    """A tensor's grid and, where its node has weights, their integers.

    scale, zero_point: of the output tensor. kernel: int8 in the graph's layout. kernel_scales: float32 [out], or [1]
    for a dense layer. bias: int32 [out] at input scale x kernel scale.
    """

    scale: float
    zero_point: int
    kernel: np.ndarray | None = None
    kernel_scales: np.ndarray | None = None
    bias: np.ndarray | None = None


def channel_axis(op: str) -> int | None:
    """Which kernel axis has one scale an index; None: one scale for all.

    A dense layer has one: per-channel FULLY_CONNECTED is younger than the runtimes on many devices.
    """
    return {"conv": 3, "depthwise": 2}.get(op)


def quantize_graph(graph: Graph, ranges: Mapping[str, Range]) -> dict[str, Quantized]:
    """Node name -> its integers."""
    result: dict[str, Quantized] = {}
    for node in graph.nodes:
        scale, zero_point = affine_int8(*ranges[node.name])
        if node.kernel is None:
            result[node.name] = Quantized(scale, zero_point)
        else:
            kernel, kernel_scales, bias = _weights(node, result[node.inputs[0]].scale)
            result[node.name] = Quantized(scale, zero_point, kernel, kernel_scales, bias)
    return result


def _weights(node: Node, input_scale: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    assert node.kernel is not None and node.bias is not None
    axis = channel_axis(node.op)
    others = tuple(i for i in range(node.kernel.ndim) if i != axis)
    largest = (
        np.abs(node.kernel).max(axis=others) if axis is not None else np.abs(node.kernel).max(keepdims=True).reshape(1)
    )
    # A dead channel has no scale of its own, and a tiny one would push the bias past int32: 2**30 leaves room to sum.
    bias = np.abs(node.bias) if axis is not None else np.abs(node.bias).max(keepdims=True)
    scales = np.maximum(largest / 127.0, np.maximum(bias / (input_scale * 2.0**30), 1e-12)).astype(np.float32)
    shape = [1] * node.kernel.ndim
    if axis is not None:
        shape[axis] = -1
    # Half rounds up, as TensorFlow's fake quantization does.
    kernel = np.clip(np.floor(node.kernel / scales.reshape(shape) + 0.5), -127, 127).astype(np.int8)
    steps = node.bias.astype(np.float64) / (np.float64(input_scale) * scales.astype(np.float64))
    return kernel, scales, np.clip(np.round(steps), -(2**31), 2**31 - 1).astype(np.int32)
