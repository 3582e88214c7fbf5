"""BatchNorm statistics: faster for small data, or estimated again after weights were set."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from tf_keras import layers


def _norms(model: Any) -> list[Any]:
    return [layer for layer in model.layers if isinstance(layer, layers.BatchNormalization)]


def quicken_batch_norm(model: Any) -> None:
    """Momentum 0.9 instead of Keras' 0.99 or 0.999: the moving statistics then adapt within one small epoch."""
    for layer in _norms(model):
        layer.momentum = 0.9


def estimate_batch_norm(model: Any, inputs: Iterable[Any]) -> None:
    """Set every BatchNorm's moving mean and variance to the average over these batches of normalized images."""
    momenta = [layer.momentum for layer in _norms(model)]
    for i, images in enumerate(inputs):
        for layer in _norms(model):
            layer.momentum = i / (i + 1)
        model(images, training=True)
    for layer, momentum in zip(_norms(model), momenta, strict=True):
        layer.momentum = momentum
