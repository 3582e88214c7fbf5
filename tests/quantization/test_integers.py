"""The integers that ship, compared with LiteRT's 8-bit specification."""

from __future__ import annotations

import numpy as np
import pytest

from edgetl.graph.graph import Graph, Node
from edgetl.quantization.integers import (
    PROBABILITIES,
    affine_int8,
    channel_axis,
    quantize_graph,
)

RANGES = [
    (-128.0, 127.0),
    (0.0, 6.0),
    (-1.0, 1.0),
    (-3.7, 0.0),
    (0.0, 1e-5),
    (-1e-5, 1e4),
    (-0.003, 6.0),
    (-128 / 127.5, 127 / 127.5),
]


@pytest.mark.parametrize(("low", "high"), RANGES, ids=str)
def test_a_grid_covers_its_range_with_zero_exact(low, high):
    scale, zero_point = affine_int8(low, high)
    assert isinstance(zero_point, int) and -128 <= zero_point <= 127
    edges = [(q - zero_point) * scale for q in (-128, 127)]
    # The zero point is rounded: the grid is up to half a step beside its range.
    assert edges == pytest.approx([low, high], abs=0.5000001 * scale)
    assert (zero_point - zero_point) * scale == 0.0 and edges[0] <= 0.0 <= edges[1]


def test_the_inputs_grid_is_the_pixel_minus_128():
    scale, zero_point = affine_int8(-128 / 127.5, 127 / 127.5)
    assert zero_point == 0 and scale == pytest.approx(1 / 127.5, rel=1e-12)


def test_probabilities_have_the_specified_grid():
    assert PROBABILITIES == {"int8": (1 / 256, -128), "int16": (1 / 32768, 0)}


# --- weights -----------------------------------------------------------------------------------------------------------

RANDOM = np.random.default_rng(0)
SPREAD = np.array([0.01, 0.1, 1.0, 10.0], np.float32)
KERNELS = {
    "conv": RANDOM.normal(size=(3, 3, 5, 4)).astype(np.float32) * SPREAD,
    "depthwise": RANDOM.normal(size=(3, 3, 4, 1)).astype(np.float32) * SPREAD[:, None],
    "dense": RANDOM.normal(size=(7, 4)).astype(np.float32) * SPREAD,
}
INPUT = (-1.0, 1.55)


def integers(op, kernel, bias=None):
    bias = np.zeros(4, np.float32) if bias is None else bias
    graph = Graph((Node("image", "input"), Node("layer", op, ("image",), kernel=kernel, bias=bias)))
    return quantize_graph(graph, {"image": INPUT, "layer": (0.0, 6.0)})["layer"]


def shaped(scales, op):
    """Scales in the shape of the kernel."""
    return {"conv": scales, "depthwise": scales[:, None] if len(scales) > 1 else scales, "dense": scales}[op]


@pytest.mark.parametrize("op", KERNELS)
def test_weights_are_symmetric_and_within_half_a_step(op):
    found = integers(op, KERNELS[op])
    assert found.kernel.dtype == np.int8 and found.kernel_scales.dtype == np.float32 and found.bias.dtype == np.int32
    assert found.kernel.shape == KERNELS[op].shape
    assert found.kernel.min() >= -127, "-128 is not in the specification of weights"
    steps = shaped(found.kernel_scales, op)
    assert (np.abs(found.kernel * steps - KERNELS[op]) <= 0.5001 * steps).all()


@pytest.mark.parametrize("op", ["conv", "depthwise"])
def test_convolutions_have_one_scale_per_channel_and_each_uses_its_whole_grid(op):
    found = integers(op, KERNELS[op])
    axis = channel_axis(op)
    assert found.kernel_scales.shape == (4,)
    others = tuple(i for i in range(4) if i != axis)
    assert (np.abs(found.kernel.astype(int)).max(axis=others) == 127).all()


def test_a_dense_layer_has_one_scale():
    found = integers("dense", KERNELS["dense"])
    assert found.kernel_scales.shape == (1,)
    assert np.abs(found.kernel.astype(int)).max() == 127


@pytest.mark.parametrize("op", KERNELS)
def test_a_bias_is_at_input_scale_times_weight_scale(op):
    bias = np.array([0.3, -0.2, 5.0, -7.0], np.float32)
    found = integers(op, KERNELS[op], bias)
    step = np.float64(affine_int8(*INPUT)[0]) * found.kernel_scales
    assert (np.abs(found.bias * step - bias) <= 0.5001 * step).all()


def test_half_a_step_rounds_up_on_both_sides():
    kernel = np.zeros((1, 1, 5, 4), np.float32)
    kernel[0, 0, :, :] = np.array([127.0, 0.5, -0.5, 1.5, -1.5], np.float32)[:, None]
    found = integers("conv", kernel)
    assert found.kernel[0, 0, :, 0].tolist() == [127, 1, 0, 2, -1]


@pytest.mark.parametrize("op", KERNELS)
def test_a_dead_layer_is_all_zeros_and_keeps_its_bias(op):
    bias = np.array([0.0, 1e-6, 1.0, -100.0], np.float32)
    found = integers(op, KERNELS[op] * 0, bias)
    assert not found.kernel.any() and (found.kernel_scales > 0).all()
    step = np.float64(affine_int8(*INPUT)[0]) * found.kernel_scales
    assert np.allclose(found.bias * step, bias, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("op", KERNELS)
def test_a_bias_far_past_its_weights_widens_their_scale_instead_of_overflowing(op):
    bias = np.array([300.0, -300.0, 0.0, 1.0], np.float32)
    found = integers(op, KERNELS[op] * 1e-9, bias)
    step = np.float64(affine_int8(*INPUT)[0]) * found.kernel_scales
    assert np.abs(found.bias.astype(np.int64)).max() <= 2**30 * 1.001, "room is left for the sum of the products"
    assert np.allclose(found.bias * step, bias, rtol=1e-6, atol=1e-6)


def test_a_layer_in_integers_computes_what_it_computes_in_real_numbers():
    """int32 accumulation of (input - zero point) * weight + bias, times both scales: the sum in the specification."""
    bias = np.array([0.01, -0.1, 1.0, -3.0], np.float32)
    kernel = KERNELS["conv"][:1, :1]
    found = integers("conv", kernel, bias)
    scale, zero_point = affine_int8(*INPUT)
    image = RANDOM.uniform(*INPUT, size=(50, 5))
    q = np.clip(np.round(image / scale) + zero_point, -128, 127).astype(np.int64)
    sums = (q - zero_point) @ found.kernel[0, 0].astype(np.int64) + found.bias
    real = image @ kernel[0, 0].astype(np.float64) + bias
    steps = found.kernel_scales.astype(np.float64)
    # Half a step of each input through its weight, half a step of each weight through its input, half a step of bias.
    bound = (
        0.5 * scale * np.abs(kernel[0, 0]).sum(axis=0)
        + 0.5 * steps * (np.abs(image).max() + scale) * 5
        + 0.5 * scale * steps
    )
    assert (np.abs(sums * scale * steps - real) <= bound * 1.001).all()


def test_nodes_without_weights_have_only_a_grid():
    graph = Graph((Node("image", "input"), Node("pooled", "mean", ("image",))))
    found = quantize_graph(graph, {"image": INPUT, "pooled": (0.0, 6.0)})
    assert (found["pooled"].scale, found["pooled"].zero_point) == affine_int8(0.0, 6.0)
    assert found["pooled"].kernel is None and found["pooled"].bias is None
