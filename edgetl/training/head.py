"""The first phase of fine-tuning: a linear head on frozen features."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from tf_keras import Model, optimizers

from edgetl.backbones.models import Classifier
from edgetl.core.progress import Progress
from edgetl.dataset.samples import Samples
from edgetl.tasks.photos.batches import evaluation_batches, iterate
from edgetl.tasks.photos.contract import View
from edgetl.training.losses import label_loss

_LEARNING_RATE, _BATCH = 2e-3, 128


@dataclass(frozen=True)
class HeadTraining:
    """epochs: over the cached features. smoothing: of the labels (losses.label_loss). seed: of the photos' order."""

    epochs: int
    smoothing: float
    seed: int


def train_head(
    classifier: Classifier,
    samples: Samples,
    view: View,
    how: HeadTraining,
    *,
    scratch: Path,
    progress: Progress,
) -> None:
    """Train the logits layer alone, on pooled features that are computed once and kept in a file, not in memory.

    A random head on a trained backbone sends it large, meaningless gradients; with the head trained first, fine-tuning
    starts from what the features already give (Kumar et al. 2022).
    """
    file = scratch / "features.npy"
    features = _cached_features(classifier, samples, view, file, progress)
    _train_on_features(classifier.model.get_layer("logits"), features, samples.labels, how)
    del features
    file.unlink()


def _cached_features(
    classifier: Classifier, samples: Samples, view: View, file: Path, progress: Progress
) -> np.ndarray:
    """Pooled features of the photos as the contract views them, float32 [n, channels], mapped from a file."""
    model = classifier.model
    features = Model(model.input, model.get_layer("pooled").input)
    pooled = tf.function(
        lambda pixels: tf.reduce_mean(features(classifier.normalize(pixels), training=False), axis=[1, 2])
    )
    width = int(model.get_layer("pooled").output.shape[-1])
    progress.begin(len(samples), unit="photos")
    cached = np.lib.format.open_memmap(file, mode="w+", dtype=np.float32, shape=(len(samples), width))
    # Space is reserved first: writing through a map into a file that the disk has no room for kills the process.
    with file.open("r+b") as stream:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(stream.fileno(), 0, stream.seek(0, os.SEEK_END))
    at = 0
    for pixels, _ in iterate(evaluation_batches(samples, view)):
        rows = pooled(pixels).numpy()
        cached[at : at + len(rows)] = rows
        at += len(rows)
        progress.advance(len(rows), "frozen features")
    return cached


def _train_on_features(head: Any, features: np.ndarray, labels: np.ndarray, how: HeadTraining) -> None:
    optimizer = optimizers.Adam(_LEARNING_RATE)
    optimizer.build(head.trainable_variables)

    def step(rows: Any, classes: Any) -> None:
        with tf.GradientTape() as tape:
            value = tf.reduce_mean(label_loss(tf.one_hot(classes, head.units), head(rows), smoothing=how.smoothing))
        optimizer.apply_gradients(
            zip(tape.gradient(value, head.trainable_variables), head.trainable_variables, strict=True)
        )

    compiled: Callable[[Any, Any], None] = tf.function(step, reduce_retracing=True)
    for epoch in range(how.epochs):
        order = np.random.default_rng([how.seed, 1, epoch]).permutation(len(labels))
        for begin in range(0, len(order), _BATCH):
            chosen = np.sort(order[begin : begin + _BATCH])
            compiled(tf.constant(features[chosen]), tf.constant(labels[chosen]))
