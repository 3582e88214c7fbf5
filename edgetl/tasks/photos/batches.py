"""tf.data over photo files: decoded when needed, never held. The order and every random view follow from the seed.

Training views, in this order: random crop (with zoom and aspect), flip, rotation, colour, mixing with another photo.
Their strengths are recipe.AugmentOptions. A view depends on (seed, epoch, photo) alone, so a resumed epoch sees what the first would have.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from edgetl.core import machine
from edgetl.dataset.samples import Samples
from edgetl.tasks.photos.contract import View
from edgetl.tasks.photos.decode import load_rgb, load_view, no_longer_readable, random_square


def evaluation_batches(samples: Samples, view: View, *, batch_size: int = 64) -> Any:
    """(pixels float32 [batch, size, size, 3] in 0..255, labels int32 [batch]) in the samples' order, as the contract has it."""

    def decode(i: np.ndarray) -> np.ndarray:
        return load_view(samples.paths[int(i)], view)

    return (
        _decoded(np.arange(len(samples)), samples.labels, decode, view.size_px)
        .batch(batch_size)
        .map(_to_float)
        .prefetch(2)
    )


def training_batches(
    samples: Samples, view: View, *, n_classes: int, batch_size: int, augment: Any, seed: int, epoch: int
) -> Any:
    """One epoch of augmented views in shuffled order: (pixels as above, class shares float32 [batch, classes]).

    A last partial batch is left out unless it is the only one.
    """
    order = np.random.default_rng([seed, epoch]).permutation(len(samples))

    def decode(i: np.ndarray) -> np.ndarray:
        random = np.random.default_rng([seed, epoch, int(i)])
        # Decoded at no less than twice the view: what a crop of a quarter of the area needs.
        image = load_rgb(samples.paths[int(i)], at_least_px=2 * view.size_px)
        return random_square(image, view.size_px, view.resize, augment["crop_min_area"], random)

    def vary(step: Any, batch: Any) -> Any:
        pixels, labels = batch
        draw = tf.stack([tf.constant(seed * 100_003 + epoch, tf.int64), step])
        return _mix(_vary(pixels, augment, draw), tf.one_hot(labels, n_classes), augment["mix"], draw)

    batched = _decoded(order, samples.labels[order], decode, view.size_px).batch(
        batch_size, drop_remainder=len(samples) >= batch_size
    )
    return batched.map(_to_float).enumerate().map(vary, num_parallel_calls=1).prefetch(2)


def _decoded(order: np.ndarray, labels: np.ndarray, decode: Any, size_px: int) -> Any:
    def read(i: Any, label: Any) -> Any:
        # Not stateful: the picture follows from the position alone, so calls may run side by side.
        pixels = tf.numpy_function(decode, [i], tf.uint8, stateful=False)
        return tf.ensure_shape(pixels, (size_px, size_px, 3)), label

    data = tf.data.Dataset.from_tensor_slices((order.astype(np.int64), labels))
    return data.map(read, num_parallel_calls=machine.cores(), deterministic=True)


def _to_float(pixels: Any, labels: Any) -> Any:
    return tf.cast(pixels, tf.float32), labels


def _vary(pixels: Any, augment: Any, seed: Any) -> Any:
    """Flip, rotate and recolour each photo of a batch: float32 [batch, size, size, 3] in 0..255, the same out."""
    count, size = tf.shape(pixels)[0], pixels.shape[1]
    draws = tf.random.stateless_uniform([5, count], seed=seed, minval=-1.0, maxval=1.0)
    mirror = tf.where(draws[0] < 0.0, -1.0, 1.0) if augment["flip"] else tf.ones([count])
    angle = draws[1] * (augment["rotate_degrees"] * np.pi / 180.0)
    middle = (size - 1) / 2.0
    # Output (x, y) reads input (a x + b y + c, d x + e y + f): a mirrored rotation about the middle.
    cos, sin = tf.cos(angle), tf.sin(angle)
    a, b, d, e = mirror * cos, -mirror * sin, sin, cos
    c = middle - a * middle - b * middle
    f = middle - d * middle - e * middle
    zero = tf.zeros_like(a)
    moved = tf.raw_ops.ImageProjectiveTransformV3(
        images=pixels,
        transforms=tf.stack([a, b, c, d, e, f, zero, zero], axis=1),
        output_shape=[size, size],
        fill_value=0.0,
        interpolation="BILINEAR",
        fill_mode="REFLECT",
    )
    brightness, contrast, saturation = (1.0 + augment["colour"] * draws[k][:, None, None, None] for k in (2, 3, 4))
    bright = moved * brightness
    grey = tf.reduce_sum(bright * tf.constant([0.299, 0.587, 0.114]), axis=-1, keepdims=True)
    saturated = grey + (bright - grey) * saturation
    mean = tf.reduce_mean(grey, axis=[1, 2], keepdims=True)
    return tf.clip_by_value(mean + (saturated - mean) * contrast, 0.0, 255.0)


def _mix(pixels: Any, shares: Any, strength: float, seed: Any) -> Any:
    """Mixup (Zhang et al. 2018): each photo with its opposite in the batch, the second's part uniform in [0, strength]."""
    if not strength:
        return pixels, shares
    part = tf.random.stateless_uniform([tf.shape(pixels)[0]], seed=seed + 1, maxval=strength)
    of_pixels = part[:, None, None, None]
    return pixels * (1.0 - of_pixels) + pixels[::-1] * of_pixels, shares * (1.0 - part[:, None]) + shares[::-1] * part[
        :, None
    ]


def iterate(batches: Any) -> Iterator[tuple[Any, Any]]:
    """The batches; a photo that vanished or changed since it was checked is a DataError, not TensorFlow's."""
    try:
        yield from batches
    except tf.errors.OpError as error:
        last = [line for line in str(error.message).splitlines() if line.strip() and not line.startswith("\t")]
        reason = next((line for line in last if "Error" in line), last[-1] if last else "unknown")
        raise no_longer_readable(reason) from error
