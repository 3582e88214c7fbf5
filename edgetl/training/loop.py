"""Epochs: warm-up and cosine, early stopping, best weights, and a checkpoint after each epoch so that a killed run resumes.

The loop keeps all its state in one file: weights, optimizer, best weights, history. The views follow from (seed, epoch,
photo) alone, so a run that was killed and resumed ends with the same weights as one that was not.
"""

from __future__ import annotations

import json
import math
import os
import time
import zipfile
from collections.abc import Callable, Iterable
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

# (pixels, labels) -> the loss of each sample, [batch]. It calls the model with training=True.
Loss = Callable[[Any, Any], Any]
# () -> (mean cross-entropy in nats, top-1 as a share) on the validation photos.
Evaluator = Callable[[], tuple[float, float]]
_CHECKPOINT = "epoch.npz"


@dataclass
class History:
    """The epochs that were run. best_epoch: counted from 1; -1 before the first."""

    epochs: list[EpochRow] = field(default_factory=list)
    best_epoch: int = -1
    stopped_early: bool = False

    def to_json(self) -> HistoryJson:
        """Plain data for the artifact and the report."""
        return {"epochs": self.epochs, "best_epoch": self.best_epoch, "stopped_early": self.stopped_early}

    @staticmethod
    def from_json(data: HistoryJson) -> History:
        """The inverse of to_json."""
        return History(data["epochs"], data["best_epoch"], data["stopped_early"])


@dataclass(frozen=True)
class Schedule:
    """How long and how fast to train. learning_rate: the highest. patience: epochs without a lower validation loss after
    which training stops."""

    epochs: int
    steps_per_epoch: int
    learning_rate: float
    warmup_epochs: float
    patience: int

    @property
    def steps(self) -> int:
        """Of all epochs together."""
        return self.epochs * self.steps_per_epoch

    def learning_rate_at(self, step: int) -> float:
        """Of one step, counted from 0 over all epochs."""
        warmup_steps = round(self.warmup_epochs * self.steps_per_epoch)
        return learning_rate_at(step, peak=self.learning_rate, warmup_steps=warmup_steps, steps=self.steps)


def learning_rate_at(step: int, *, peak: float, warmup_steps: int, steps: int) -> float:
    """Linear warm-up to `peak`, then a cosine to zero at `steps` (Loshchilov and Hutter 2017).

    >>> [round(learning_rate_at(step, peak=1.0, warmup_steps=2, steps=10), 3) for step in (0, 1, 2, 6)]
    [0.5, 1.0, 1.0, 0.5]
    """
    if step < warmup_steps:
        return peak * (step + 1) / warmup_steps
    return peak * 0.5 * (1.0 + math.cos(math.pi * (step - warmup_steps) / max(1, steps - warmup_steps)))


def make_evaluator(model: Any, batches: Callable[[], Any], normalize: Callable[[Any], Any]) -> Evaluator:
    """A function that measures (mean cross-entropy in nats, top-1 share) of a model of logits on (pixels, labels) batches."""

    def score(pixels: Any, labels: Any) -> Any:
        logits = model(normalize(pixels), training=False)
        loss = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)
        hit = tf.equal(tf.argmax(logits, axis=-1, output_type=tf.int32), labels)
        return tf.reduce_sum(loss), tf.reduce_sum(tf.cast(hit, tf.float32)), tf.size(labels)

    compiled = tf.function(score, reduce_retracing=True)

    def evaluate() -> tuple[float, float]:
        total, hits, count = 0.0, 0.0, 0
        for pixels, labels in iterate(batches()):
            loss, hit, n = compiled(pixels, labels)
            total, hits, count = total + float(loss), hits + float(hit), count + int(n)
        return total / count, hits / count

    return evaluate


def has_checkpoint(scratch: Path) -> bool:
    """Whether a run that was killed left its state in this folder."""
    return (scratch / _CHECKPOINT).exists()


def train(
    model: Any,
    *,
    loss: Loss,
    batches: Callable[[int], Iterable[Any]],
    schedule: Schedule,
    validate: Evaluator,
    scratch: Path,
    progress: Progress,
) -> History:
    """Train, leave the weights of the best epoch in the model, return what happened.

    batches: epoch, counted from 0 -> tf.data of (pixels, labels). scratch: the folder of the checkpoint; training resumes
    from one that is there. Raises TrainingError when a loss is not finite.
    """
    optimizer = optimizers.Adam(schedule.learning_rate)
    optimizer.build(model.trainable_variables)
    step = _training_step(model, loss, optimizer)
    checkpoint = _Checkpoint(scratch, model, optimizer)
    history = checkpoint.load()
    first = len(history.epochs)
    if first:
        progress.note(f"resumed after epoch {first} of {schedule.epochs}")
    progress.begin(schedule.steps, done=first * schedule.steps_per_epoch)
    for epoch in range(first, schedule.epochs):
        if history.stopped_early:
            break
        begun, losses, rate = time.monotonic(), [], 0.0
        for i, (pixels, labels) in enumerate(iterate(batches(epoch))):
            rate = schedule.learning_rate_at(epoch * schedule.steps_per_epoch + i)
            optimizer.learning_rate.assign(rate)
            losses.append(float(step(pixels, labels)))
            _require_finite("loss", losses[-1], epoch)
            progress.advance(1, f"loss {np.mean(losses[-50:]):.3f}")
        validate_loss, top1 = validate()
        _require_finite("validation loss", validate_loss, epoch)
        row = EpochRow(
            epoch=epoch + 1,
            train_loss=float(np.mean(losses)),
            validate_loss=validate_loss,
            validate_top1=top1,
            learning_rate=rate,
            seconds=round(time.monotonic() - begun, 2),
        )
        history.epochs.append(row)
        if validate_loss <= min(row["validate_loss"] for row in history.epochs):
            history.best_epoch = epoch + 1
            checkpoint.keep_best()
        history.stopped_early = epoch + 1 - history.best_epoch >= schedule.patience
        checkpoint.save(history)
        progress.note(
            f"epoch {epoch + 1}/{schedule.epochs}: loss {row['train_loss']:.3f}, "
            f"validation loss {validate_loss:.3f}, top-1 {top1:.3f}"
        )
    checkpoint.restore_best()
    return history


def _training_step(model: Any, loss: Loss, optimizer: Any) -> Callable[[Any, Any], Any]:
    """(pixels, labels) -> the mean loss, after one update of the weights."""

    def step(pixels: Any, labels: Any) -> Any:
        with tf.GradientTape() as tape:
            value = tf.reduce_mean(loss(pixels, labels))
        variables = model.trainable_variables
        optimizer.apply_gradients(zip(tape.gradient(value, variables), variables, strict=True))
        return value

    compiled: Callable[[Any, Any], Any] = tf.function(step)
    return compiled


def _require_finite(name: str, value: float, epoch: int) -> None:
    if not math.isfinite(value):
        raise TrainingError(
            f"The {name} is {value} in epoch {epoch + 1}.",
            why="training diverged",
            fix="lower the stage's learning_rate in the recipe",
        )


class _Checkpoint:
    """One npz: the history, then weights, optimizer variables and best weights, one after the other."""

    def __init__(self, folder: Path, model: Any, optimizer: Any) -> None:
        self.path = folder / _CHECKPOINT
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
            self.path.unlink()  # cut short by a power failure: start again rather than fail every time
            return History()
        n = len(self.best)
        slots = len(self.optimizer.variables)
        self.model.set_weights(arrays[:n])
        for variable, value in zip(self.optimizer.variables, arrays[n : n + slots], strict=True):
            variable.assign(value)
        self.best = arrays[n + slots :]
        return History.from_json(json.loads(bytes(state)))
