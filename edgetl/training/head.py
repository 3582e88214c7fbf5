"""The first phase of fine-tuning: a linear head on frozen features."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from tf_keras import Model, optimizers

from edgetl.core.progress import Progress
from edgetl.dataset.samples import Samples
from edgetl.tasks.photos.batches import evaluation_batches, iterate
from edgetl.tasks.photos.contract import View
from edgetl.training.losses import label_loss


def train_head(
    model: Any,
    samples: Samples,
    view: View,
    normalize: Callable[[Any], Any],
    *,
    epochs: int,
    smoothing: float,
    seed: int,
    scratch: Path,
    progress: Progress,
) -> None:
    """Train the logits layer alone, on pooled features that are computed once and kept in a file, never in memory whole.

    A random head on a trained backbone sends it large, meaningless gradients; with the head in place first, fine-tuning
    starts from where the features already lead (Kumar et al. 2022).
    """
    features = Model(model.input, model.get_layer("pooled").input)
    pooled = tf.function(lambda pixels: tf.reduce_mean(features(normalize(pixels), training=False), axis=[1, 2]))
    width = int(model.get_layer("pooled").output.shape[-1])
    progress.begin(len(samples), unit="photos")
    cached = np.lib.format.open_memmap(
        scratch / "features.npy", mode="w+", dtype=np.float32, shape=(len(samples), width)
    )
    # Reserved at once: writing through a map into a file that the disk has no room for kills the process.
    with (scratch / "features.npy").open("r+b") as file:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file.fileno(), 0, file.seek(0, os.SEEK_END))
    at = 0
    for pixels, _ in iterate(evaluation_batches(samples, view)):
        rows = pooled(pixels).numpy()
        cached[at : at + len(rows)] = rows
        at += len(rows)
        progress.advance(len(rows), "frozen features")

    head = model.get_layer("logits")
    optimizer = optimizers.Adam(2e-3)
    optimizer.build(head.trainable_variables)

    @tf.function(reduce_retracing=True)
    def step(rows: Any, labels: Any) -> None:
        with tf.GradientTape() as tape:
            value = tf.reduce_mean(label_loss(tf.one_hot(labels, head.units), head(rows), smoothing=smoothing))
        optimizer.apply_gradients(
            zip(tape.gradient(value, head.trainable_variables), head.trainable_variables, strict=True)
        )

    for epoch in range(epochs):
        order = np.random.default_rng([seed, 1, epoch]).permutation(len(samples))
        for begin in range(0, len(order), 128):
            chosen = np.sort(order[begin : begin + 128])
            step(tf.constant(cached[chosen]), tf.constant(samples.labels[chosen]))
    del cached
    (scratch / "features.npy").unlink()
