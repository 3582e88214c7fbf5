"""Losses on logits, per sample, in nats."""

from __future__ import annotations

from typing import Any

import tensorflow as tf


def label_loss(shares: Any, logits: Any, *, smoothing: float = 0.0) -> Any:
    """Cross-entropy with the labels.

    shares: of the classes in each photo, float32 [batch, classes], rows sum to 1. logits: float32 [batch, classes].
    smoothing: the part of the target that is spread over all classes (Szegedy et al. 2016, section 7). Returns float32 [batch].
    """
    target = shares * (1.0 - smoothing) + smoothing / logits.shape[-1]
    return tf.nn.softmax_cross_entropy_with_logits(target, logits)


def distillation_loss(teacher: Any, student: Any, *, temperature: float) -> Any:
    """Cross-entropy between softened class distributions, times temperature squared.

    teacher, student: logits, float32 [batch, classes], before softmax. temperature: > 0.
    Returns float32 [batch]. The square keeps its gradient as large as the label loss's (Hinton et al. 2015, section 2).
    """
    soft = tf.stop_gradient(tf.nn.softmax(teacher / temperature))
    return tf.nn.softmax_cross_entropy_with_logits(soft, student / temperature) * temperature**2


def distil_and_label_loss(teacher: Any, student: Any, shares: Any, *, temperature: float, label_weight: float) -> Any:
    """(1 - label_weight) * distillation_loss + label_weight * label_loss: float32 [batch]."""
    return (1.0 - label_weight) * distillation_loss(
        teacher, student, temperature=temperature
    ) + label_weight * label_loss(shares, student)
