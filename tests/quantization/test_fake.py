"""Trained ranges: where they start, what moves them, and what never changes."""

from __future__ import annotations

from typing import Any

import pytest
import tensorflow as tf
from tf_keras import optimizers

from edgetl.graph.graph import same_scale_groups
from edgetl.quantization.fake import FakeQuantized
from edgetl.quantization.net import QuantizedNet


def narrowed(net: Any) -> QuantizedNet:
    """Half of the calibrated ranges, so that values are clipped and the ends have a gradient."""
    groups = same_scale_groups(net.graph)
    fixed = groups[net.graph.input.name]
    halved = {
        name: (low, high) if groups[name] == fixed else (low / 2, high / 2) for name, (low, high) in net.ranges.items()
    }
    return QuantizedNet(net.graph, halved)


def trained(net: Any, steps: int = 3) -> tuple[QuantizedNet, FakeQuantized]:
    start = narrowed(net)
    fake = FakeQuantized(start, trained=True)
    wanted = fake.model(net.images, training=False) * 3.0
    optimizer = optimizers.Adam(2e-3)
    optimizer.build(fake.model.trainable_variables)
    for _ in range(steps):
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(tf.square(fake.model(net.images, training=True) - wanted))
        variables = fake.model.trainable_variables
        optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables, strict=True))
    return start, fake


def test_training_starts_from_the_calibrated_ranges(net: Any) -> None:
    start = narrowed(net)
    found = FakeQuantized(start, trained=True).ranges()
    for name, (low, high) in start.ranges.items():
        assert found[name] == pytest.approx((low, high), rel=1e-6), name


def test_ranges_move_with_the_weights_and_stay_valid_for_the_files(net: Any) -> None:
    start, fake = trained(net)
    after, groups = fake.ranges(), same_scale_groups(net.graph)
    moved = [name for name in after if after[name] != pytest.approx(start.ranges[name], rel=1e-5)]
    assert len(moved) > len(after) / 2
    assert after[net.graph.input.name] == start.ranges[net.graph.input.name], "the input's grid is the contract's"
    for name, (low, high) in after.items():
        assert low <= 0.0 <= high
        assert (low == 0.0) == (start.ranges[name][0] == 0.0), "what began at 0 stays there"
        assert after[groups[name]] == (low, high), "tensors that share a grid share the variables"
    for node in net.graph.nodes:
        alone = sum(group == groups[node.name] for group in groups.values()) == 1
        if node.activation == "relu6" and alone:
            assert after[node.name][1] <= 6.0


def test_fixed_ranges_have_no_variables(net: Any) -> None:
    fixed, free = (FakeQuantized(narrowed(net), trained=flag).model.trainable_variables for flag in (False, True))
    names = [variable.name for variable in free if variable.name.endswith(("/low_log:0", "/high_log:0"))]
    assert len(free) - len(fixed) == len(names) > 0
    assert len(names) % 2 == 0, "two ends a grid"
