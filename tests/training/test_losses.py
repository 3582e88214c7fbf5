"""Losses and the learning rate, compared with their formulas."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from edgetl.training.loop import learning_rate_at
from edgetl.training.losses import distil_and_label_loss, distillation_loss, label_loss

TEACHER = tf.constant([[2.0, 0.5, -1.0], [0.1, 0.2, 3.0]])
STUDENT = tf.constant([[0.3, 0.4, 0.5], [1.0, -1.0, 0.0]])
LABELS = tf.one_hot([0, 2], 3)


def test_distillation_loss_is_least_when_the_student_agrees_with_the_teacher() -> None:
    same = distillation_loss(TEACHER, TEACHER, temperature=4.0).numpy()
    other = distillation_loss(TEACHER, STUDENT, temperature=4.0).numpy()
    assert (same < other).all()


def test_the_square_of_the_temperature_keeps_the_gradients_size() -> None:
    """At high temperatures the gradient is (student - teacher) / classes for logits of mean zero, whatever T is."""
    sizes = []
    for temperature in (20.0, 80.0):
        with tf.GradientTape() as tape:
            tape.watch(STUDENT)
            value = tf.reduce_sum(distillation_loss(TEACHER, STUDENT, temperature=temperature))
        sizes.append(float(tf.norm(tape.gradient(value, STUDENT))))
    assert sizes[0] == pytest.approx(sizes[1], rel=0.05)


def test_no_gradient_reaches_the_teacher() -> None:
    with tf.GradientTape() as tape:
        tape.watch(TEACHER)
        value = tf.reduce_sum(distillation_loss(TEACHER, STUDENT, temperature=2.0))
    assert tape.gradient(value, TEACHER) is None


def test_label_loss_is_cross_entropy_and_smoothing_spreads_it() -> None:
    expected = -np.log(tf.nn.softmax(STUDENT).numpy()[[0, 1], [0, 2]])
    np.testing.assert_allclose(label_loss(LABELS, STUDENT), expected, rtol=1e-6)
    assert not np.allclose(label_loss(LABELS, STUDENT, smoothing=0.1), expected)


@pytest.mark.parametrize("weight", [0.0, 0.3, 1.0])
def test_both_losses_are_mixed_by_the_label_weight(weight: float) -> None:
    mixed = distil_and_label_loss(TEACHER, STUDENT, LABELS, temperature=4.0, label_weight=weight)
    expected = (1 - weight) * distillation_loss(TEACHER, STUDENT, temperature=4.0) + weight * label_loss(
        LABELS, STUDENT
    )
    np.testing.assert_allclose(mixed, expected, rtol=1e-6)


def test_the_rate_warms_up_peaks_once_and_ends_at_zero() -> None:
    rates = [learning_rate_at(step, peak=0.1, warmup_steps=10, steps=100) for step in range(101)]
    assert max(rates) == 0.1 == rates[9] == rates[10]
    assert rates[:10] == sorted(rates[:10])
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[100] == pytest.approx(0.0)
