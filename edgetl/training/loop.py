"""Epochs: warm-up and cosine, early stopping, best weights, and a checkpoint after each so that a killed run goes on.

The loop keeps all its state in one file: weights, optimizer, best weights, history. With the views a function of
(seed, epoch, photo), a run that was killed and resumed ends in the same weights as one that was not.
"""

from __future__ import annotations

import json
import math
import os
import time
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from tf_keras import optimizers

from edgetl.backbones.models import load_weights, save_weights
from edgetl.core.errors import TrainingError
from edgetl.core.progress import Progress
from edgetl.tasks.photos.batches import iterate
from edgetl.training.records import EpochRow, HistoryJson


@dataclass
class History:
    """What each epoch came to. `epochs` rows: epoch, train_loss, validate_loss, validate_top1, learning_rate, seconds."""

    epochs: list[EpochRow] = field(default_factory=list)
    best_epoch: int = -1
    stopped_early: bool = False

    def to_json(self) -> HistoryJson:
        """Plain data for the artifact and the report."""
        return {"epochs": self.epochs, "best_epoch": self.best_epoch, "stopped_early": self.stopped_early}


def learning_rate_at(step: int, *, peak: float, warmup_steps: int, steps: int) -> float:
    """Linear warm-up to `peak`, then a cosine to zero at `steps` (Loshchilov and Hutter 2017).

    >>> [round(learning_rate_at(step, peak=1.0, warmup_steps=2, steps=10), 3) for step in (0, 1, 2, 6)]
    [0.5, 1.0, 1.0, 0.5]
    """
    if step < warmup_steps:
        return peak * (step + 1) / warmup_steps
    return peak * 0.5 * (1.0 + math.cos(math.pi * (step - warmup_steps) / max(1, steps - warmup_steps)))


def make_evaluator(
    model: Any, batches: Callable[[], Any], normalize: Callable[[Any], Any]
) -> Callable[[], tuple[float, float]]:
    """A function that gives (mean cross-entropy in nats, top-1 share) of a model of logits over (pixels, labels) batches."""

    @tf.function(reduce_retracing=True)
    def score(pixels: Any, labels: Any) -> Any:
        logits = model(normalize(pixels), training=False)
        loss = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)
        hit = tf.equal(tf.argmax(logits, axis=-1, output_type=tf.int32), labels)
        return tf.reduce_sum(loss), tf.reduce_sum(tf.cast(hit, tf.float32)), tf.size(labels)

    def evaluate() -> tuple[float, float]:
        total, hits, count = 0.0, 0.0, 0
        for pixels, labels in iterate(batches()):
            loss, hit, n = score(pixels, labels)
            total, hits, count = total + float(loss), hits + float(hit), count + int(n)
        return total / count, hits / count

    return evaluate


def train(
    model: Any,
    *,
    loss: Callable[[Any, Any], Any],
    batches: Callable[[int], Any],
    steps_per_epoch: int,
    validate: Callable[[], tuple[float, float]],
    options: Any,
    scratch: Path,
    progress: Progress,
    after_step: Callable[[], None] | None = None,
) -> History:
    """Train, leave the best weights in the model, return what happened.

    loss: (pixels, labels) -> per-sample loss, float32 [batch]; it calls the model with training=True itself.
    batches: epoch -> tf.data of (pixels, labels). validate: -> (loss, top1). options: epochs, learning_rate,
    warmup_epochs, patience. Raises TrainingError when the loss is not finite.
    """
    optimizer = optimizers.Adam(options["learning_rate"])
    optimizer.build(model.trainable_variables)

    @tf.function
    def step(pixels: Any, labels: Any) -> Any:
        with tf.GradientTape() as tape:
            value = tf.reduce_mean(loss(pixels, labels))
        variables = model.trainable_variables
        optimizer.apply_gradients(zip(tape.gradient(value, variables), variables, strict=True))
        return value

    checkpoint = _Checkpoint(scratch, model, optimizer)
    history = checkpoint.load()
    steps = options["epochs"] * steps_per_epoch
    warmup = round(options["warmup_epochs"] * steps_per_epoch)
    first = len(history.epochs)
    if first:
        progress.note(f"resumed after epoch {first} of {options['epochs']}")
    progress.begin(options["epochs"] * steps_per_epoch, done=first * steps_per_epoch)
    for epoch in range(first, options["epochs"]):
        if history.stopped_early:
            break
        begun, losses = time.monotonic(), []
        for i, (pixels, labels) in enumerate(iterate(batches(epoch))):
            rate = learning_rate_at(
                epoch * steps_per_epoch + i, peak=options["learning_rate"], warmup_steps=warmup, steps=steps
            )
            optimizer.learning_rate.assign(rate)
            losses.append(float(step(pixels, labels)))
            if after_step is not None:
                after_step()
            if not math.isfinite(losses[-1]):
                raise TrainingError(
                    f"The loss is {losses[-1]} in epoch {epoch + 1}.",
                    why="training diverged",
                    fix="lower the stage's learning_rate in the recipe",
                )
            progress.advance(1, f"loss {np.mean(losses[-50:]):.3f}")
        validate_loss, top1 = validate()
        if not math.isfinite(validate_loss):
            raise TrainingError(
                f"The validation loss is {validate_loss} in epoch {epoch + 1}.",
                why="training diverged",
                fix="lower the stage's learning_rate in the recipe",
            )
        history.epochs.append(
            {
                "epoch": epoch + 1,
                "train_loss": float(np.mean(losses)),
                "validate_loss": validate_loss,
                "validate_top1": top1,
                "learning_rate": rate,
                "seconds": round(time.monotonic() - begun, 2),
            }
        )
        if validate_loss <= min(row["validate_loss"] for row in history.epochs):
            history.best_epoch = epoch + 1
            checkpoint.keep_best()
        history.stopped_early = epoch + 1 - history.best_epoch >= options["patience"]
        checkpoint.save(history)
        progress.note(
            f"epoch {epoch + 1}/{options['epochs']}: loss {np.mean(losses):.3f}, validation loss {validate_loss:.3f}, top-1 {top1:.3f}"
        )
    checkpoint.restore_best()
    return history


class _Checkpoint:
    """One npz: weights, optimizer variables and best weights, one after the other, beside the history."""

    def __init__(self, folder: Path, model: Any, optimizer: Any) -> None:
        self.path = folder / "epoch.npz"
        self.model, self.optimizer = model, optimizer
        self.best: list[np.ndarray] = model.get_weights()

    def keep_best(self) -> None:
        self.best = self.model.get_weights()

    def restore_best(self) -> None:
        self.model.set_weights(self.best)

    def save(self, history: History) -> None:
        state = np.frombuffer(json.dumps(history.to_json()).encode(), np.uint8)
        arrays = [
            state,
            *self.model.get_weights(),
            *(variable.numpy() for variable in self.optimizer.variables),
            *self.best,
        ]
        temporary = self.path.with_suffix(".part")
        save_weights(temporary, arrays)
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(self.path)

    def load(self) -> History:
        if not self.path.is_file():
            return History()
        try:
            state, *arrays = load_weights(self.path)
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
            self.path.unlink()  # torn by a power cut: begin anew rather than never again
            return History()
        n = len(self.best)
        slots = len(self.optimizer.variables)
        self.model.set_weights(arrays[:n])
        for variable, value in zip(self.optimizer.variables, arrays[n : n + slots], strict=True):
            variable.assign(value)
        self.best = arrays[n + slots :]
        return History(**json.loads(bytes(state)))
