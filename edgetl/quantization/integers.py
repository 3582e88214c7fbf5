"""The integers that ship: one set of int8 weights, int32 biases, scales and zero points for every file format.

LiteRT's 8-bit quantization specification: activations per tensor and asymmetric, weights symmetric in [-127, 127], per
output channel for convolutions, bias int32 at input scale times weight scale, softmax output at 1/256 and -128.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from edgetl.graph.graph import Graph, Node, NodeWeights, same_scale_groups
from edgetl.quantization.ranges import Range
from edgetl.quantization.ties import scale_beside

# Scale and zero point of the probabilities, by the type of the activations.
PROBABILITIES = {"int8": (1.0 / 256.0, -128), "int16": (1.0 / 32768.0, 0)}


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


def symmetric_int16(low: float, high: float) -> tuple[float, int]:
    """Scale and zero point that put [low, high] on int16: symmetric, as LiteRT's 16x8 scheme requires.

    >>> symmetric_int16(-1.0, 32767.0)
    (1.0, 0)
    """
    return max(-low, high) / 32767.0, 0


@dataclass(frozen=True)
class Quantized:
    """A tensor's grid and, where its node has weights, their integers.

    scale, zero_point: of the output tensor. kernel: int8 in the graph's layout. kernel_scales: float32 [out], or [1] if all
    channels share one. bias: int32 (int64 with 16-bit activations) [out] at input scale x kernel scale; a shift's bias is
    int8 (int16) [channels] on a grid of its own, bias_grid: (scale, zero point). bits: of the output tensor.
    """

    scale: float
    zero_point: int
    kernel: np.ndarray | None = None
    kernel_scales: np.ndarray | None = None
    bias: np.ndarray | None = None
    bits: int = 8
    bias_grid: tuple[float, int] | None = None


def channel_axis(op: str, *, per_channel: bool = True) -> int | None:
    """The kernel axis with one scale per index; None: one scale for all.

    A dense layer has one scale: per-channel FULLY_CONNECTED is newer than the runtimes on many devices.
    """
    return {"conv": 3, "depthwise": 2}.get(op) if per_channel else None


def quantize_graph(
    graph: Graph, ranges: Mapping[str, Range], *, per_channel: bool = True, activation_bits: int = 8
) -> dict[str, Quantized]:
    """Node name -> its integers."""
    groups = same_scale_groups(graph)
    image_scale, image_zero_point = affine_int8(*ranges[graph.input.name])
    result: dict[str, Quantized] = {}
    for node in graph.nodes:
        if activation_bits == 8:
            scale, zero_point = affine_int8(*ranges[node.name])
        elif node.op == "input":
            # The image arrives as bytes, whatever type the rest of the net has.
            scale, zero_point = image_scale, image_zero_point
        elif groups[node.name] == groups[graph.input.name]:
            scale, zero_point = image_scale, 0  # its bytes, moved and padded
        else:
            scale, zero_point = symmetric_int16(*ranges[node.name])
        if node.op == "shift":
            before = node.inputs[0]
            # 16 bits are symmetric: they go as far up as down.
            highest = ranges[before][1] if activation_bits == 8 else 32767.0 * result[before].scale
            bias, grid = _constants(node, highest, scale, activation_bits)
            result[node.name] = Quantized(scale, zero_point, bias=bias, bits=activation_bits, bias_grid=grid)
        elif node.kernel is None:
            result[node.name] = Quantized(scale, zero_point, bits=8 if node.op == "input" else activation_bits)
        else:
            weights = _weights(node, result[node.inputs[0]].scale, per_channel, activation_bits)
            result[node.name] = Quantized(scale, zero_point, *weights, activation_bits)
    return result


def _weights(
    node: Node, input_scale: float, per_channel: bool, activation_bits: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    assert node.kernel is not None and node.bias is not None
    axis = channel_axis(node.op, per_channel=per_channel)
    others = tuple(i for i in range(node.kernel.ndim) if i != axis)
    largest = (
        np.abs(node.kernel).max(axis=others) if axis is not None else np.abs(node.kernel).max(keepdims=True).reshape(1)
    )
    # A dead channel has no scale of its own, and a tiny scale would push the bias past int32: 2**30 leaves room for sums. The
    # same for the int64 of 16-bit activations: LiteRT has no multiplier under 2**-31 (the output of a dead channel was 0, not
    # its bias), and ONNX Runtime itself puts float biases on int32.
    bias = np.abs(node.bias) if axis is not None else np.abs(node.bias).max(keepdims=True)
    scales = np.maximum(largest / 127.0, np.maximum(bias / (input_scale * 2.0**30), 1e-12)).astype(np.float32)
    # Half rounds up, as TensorFlow's fake quantization does.
    kernel = np.clip(np.floor(node.kernel / along(axis, scales, node.kernel.ndim) + 0.5), -127, 127).astype(np.int8)
    steps = node.bias.astype(np.float64) / (np.float64(input_scale) * scales.astype(np.float64))
    kind = np.int32 if activation_bits == 8 else np.int64
    return kernel, scales, np.clip(np.round(steps), -(2.0**31), 2.0**31 - 1).astype(kind)


def _constants(
    node: Node, input_high: float, output_scale: float, activation_bits: int
) -> tuple[np.ndarray, tuple[float, int]]:
    """A shift's bias and its grid, as fine as the constants allow and without ties beside the output's grid
    (quantization/ties.py)."""
    assert node.bias is not None
    bias = _useful_constants(node, input_high)
    low, high = min(0.0, float(bias.min())), max(0.0, float(bias.max()))
    if activation_bits != 8:
        scale = max(-low, high, 1e-12) / 32767.0
        return np.round(bias / scale).astype(np.int16), (scale, 0)
    scale = scale_beside((high - low) / 255.0, output_scale)
    zero_point = min(max(int(np.floor(-128.0 - low / scale + 0.5)), -128), 127)
    return np.clip(np.floor(bias / scale + 0.5) + zero_point, -128, 127).astype(np.int8), (scale, zero_point)


def _useful_constants(node: Node, input_high: float) -> np.ndarray:
    """A shift's bias, float64, clipped where it is so negative that the ReLU gives 0 for every input: one such constant would
    widen the grid of all others."""
    assert node.bias is not None
    bias = node.bias.astype(np.float64)
    return bias if node.activation == "none" else np.maximum(bias, -input_high)


def along(axis: int | None, scales: np.ndarray, dimensions: int) -> np.ndarray:
    """Scales in a shape that multiplies a kernel along `axis`; None: one scale for all."""
    shape = [1] * dimensions
    if axis is not None:
        shape[axis] = -1
    return scales.reshape(shape)


def dequantized(graph: Graph, integers: Mapping[str, Quantized]) -> Graph:
    """The float graph with the kernels and biases that the integers stand for."""
    weights: NodeWeights = {}
    for node in graph.nodes:
        own = integers[node.name]
        if own.kernel is not None and own.kernel_scales is not None and own.bias is not None:
            axis = channel_axis(node.op) if len(own.kernel_scales) > 1 else None
            kernel = own.kernel * along(axis, own.kernel_scales, own.kernel.ndim)
            bias = own.bias * (integers[node.inputs[0]].scale * own.kernel_scales.astype(np.float64))
            weights[node.name] = (kernel.astype(np.float32), bias.astype(np.float32))
        elif own.bias is not None and own.bias_grid is not None:
            scale, zero_point = own.bias_grid
            weights[node.name] = (None, ((own.bias.astype(np.float64) - zero_point) * scale).astype(np.float32))
    return graph.with_weights(weights)
