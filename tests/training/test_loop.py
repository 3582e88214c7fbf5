"""The epochs: schedule, best weights, early stopping, and what a killed run leaves."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from tf_keras import Model, layers

from edgetl.backbones.models import set_seeds
from edgetl.core.errors import EXIT_TRAINING, TrainingError
from edgetl.training.loop import History, Schedule, has_checkpoint, make_evaluator, train
from tests.training.nets import Recorder, same

STEPS = 3
SCHEDULE = Schedule(epochs=4, steps_per_epoch=STEPS, learning_rate=0.05, warmup_epochs=1.0, patience=10)


def dense(seed: int = 1) -> Any:
    set_seeds(seed)
    image = layers.Input((4,))
    return Model(image, layers.Dense(2, name="logits")(image))


def batches(epoch: int) -> Any:
    """Random points, their class by the sign of the first number; a function of the epoch alone."""
    random = np.random.default_rng(epoch)
    for _ in range(STEPS):
        pixels = random.normal(size=(8, 4)).astype(np.float32)
        yield tf.constant(pixels), tf.one_hot((pixels[:, 0] > 0).astype(np.int32), 2)


def loss_of(model: Any) -> Callable[[Any, Any], Any]:
    return lambda pixels, shares: tf.nn.softmax_cross_entropy_with_logits(shares, model(pixels, training=True))


def validate_with(losses: Sequence[float]) -> Callable[[], tuple[float, float]]:
    """Gives these validation losses in turn."""
    given = iter(losses)
    return lambda: (next(given), 0.5)


def run(model: Any, folder: Path, losses: Sequence[float], schedule: Schedule = SCHEDULE, **changes: Any) -> History:
    arguments: dict[str, Any] = {
        "loss": loss_of(model),
        "batches": batches,
        "schedule": schedule,
        "validate": validate_with(losses),
        "scratch": folder,
        "progress": Recorder(),
    }
    return train(model, **{**arguments, **changes})


class Killed(Exception):
    pass


def killed_in(epoch: int) -> Callable[[int], Any]:
    """Batches of a run that ends in the middle of this epoch."""

    def given(number: int) -> Any:
        for i, batch in enumerate(batches(number)):
            if number == epoch and i == 1:
                raise Killed
            yield batch

    return given


def test_training_lowers_the_loss_and_records_every_epoch(tmp_path: Path) -> None:
    history = run(dense(), tmp_path, [0.4, 0.3, 0.2, 0.1])
    losses = [row["train_loss"] for row in history.epochs]
    assert losses[-1] < 0.8 * losses[0]
    assert [row["epoch"] for row in history.epochs] == [1, 2, 3, 4]
    assert [row["validate_loss"] for row in history.epochs] == [0.4, 0.3, 0.2, 0.1]
    last = SCHEDULE.learning_rate_at(4 * STEPS - 1)
    assert history.epochs[-1]["learning_rate"] == last and 0 < last < 0.01


def test_the_schedule_counts_steps_over_all_epochs() -> None:
    rates = [SCHEDULE.learning_rate_at(step) for step in range(SCHEDULE.steps)]
    assert SCHEDULE.steps == 12
    assert rates[:STEPS] == pytest.approx([0.05 / 3, 0.1 / 3, 0.05]), "one epoch of warm-up"
    assert rates[STEPS] == 0.05 and sorted(rates[STEPS:], reverse=True) == rates[STEPS:]


def test_the_weights_of_the_best_epoch_are_kept(tmp_path: Path) -> None:
    model, at_epoch = dense(), []
    losses = iter([0.4, 0.2, 0.3, 0.3])

    def validate() -> tuple[float, float]:
        at_epoch.append(model.get_weights())
        return next(losses), 0.5

    history = run(model, tmp_path, [], validate=validate)
    assert history.best_epoch == 2 and not history.stopped_early
    assert same(model.get_weights(), at_epoch[1])
    assert not same(model.get_weights(), at_epoch[3])


def test_of_equal_losses_the_last_is_best(tmp_path: Path) -> None:
    assert run(dense(), tmp_path, [0.3, 0.2, 0.2, 0.4]).best_epoch == 3


def test_training_stops_after_epochs_without_a_better_loss(tmp_path: Path) -> None:
    impatient = Schedule(10, STEPS, 0.05, 1.0, patience=2)
    history = run(dense(), tmp_path, [0.3, 0.2, 0.4, 0.3, 0.1], impatient)
    assert history.stopped_early and history.best_epoch == 2 and len(history.epochs) == 4


def test_a_run_that_stopped_early_does_not_go_on_when_resumed(tmp_path: Path) -> None:
    impatient = Schedule(10, STEPS, 0.05, 1.0, patience=2)
    model, again = dense(), dense(seed=2)
    first = run(model, tmp_path, [0.3, 0.2, 0.4, 0.3], impatient)
    resumed = run(again, tmp_path, [], impatient)  # it would ask for a validation loss
    assert resumed == first and same(again.get_weights(), model.get_weights())


@pytest.mark.parametrize("epoch", [1, 2, 3])
def test_killed_in_an_epoch_and_resumed_it_ends_with_the_same_weights(epoch: int, tmp_path: Path) -> None:
    losses = [0.4, 0.2, 0.3, 0.1]
    whole, killed, resumed = dense(), dense(), dense(seed=2)
    for name in ("whole", "killed"):
        (tmp_path / name).mkdir()
    expected = run(whole, tmp_path / "whole", losses)
    assert not has_checkpoint(tmp_path / "killed")
    with pytest.raises(Killed):
        run(killed, tmp_path / "killed", losses, batches=killed_in(epoch))
    assert has_checkpoint(tmp_path / "killed")
    progress = Recorder()
    history = run(resumed, tmp_path / "killed", losses[epoch:], progress=progress)
    assert progress.notes[0] == f"resumed after epoch {epoch} of 4"
    assert progress.began == [(4 * STEPS, epoch * STEPS)]
    assert same(resumed.get_weights(), whole.get_weights())
    assert history.best_epoch == expected.best_epoch
    without_time = [[{**row, "seconds": 0} for row in found.epochs] for found in (history, expected)]
    assert without_time[0] == without_time[1]


def test_a_resumed_run_remembers_best_weights_of_before(tmp_path: Path) -> None:
    losses = [0.1, 0.2, 0.3, 0.4]
    whole, killed, resumed = dense(), dense(), dense(seed=2)
    (tmp_path / "whole").mkdir()
    (tmp_path / "killed").mkdir()
    run(whole, tmp_path / "whole", losses)
    with pytest.raises(Killed):
        run(killed, tmp_path / "killed", losses, batches=killed_in(2))
    history = run(resumed, tmp_path / "killed", losses[2:])
    assert history.best_epoch == 1
    assert same(resumed.get_weights(), whole.get_weights())


def test_a_checkpoint_that_was_cut_short_is_dropped(tmp_path: Path) -> None:
    run(dense(), tmp_path, [0.4, 0.3, 0.2, 0.1])
    file = tmp_path / "epoch.npz"
    file.write_bytes(file.read_bytes()[:200])
    progress = Recorder()
    history = run(dense(), tmp_path, [0.4, 0.3, 0.2, 0.1], progress=progress)
    assert len(history.epochs) == 4
    assert not any("resumed" in note for note in progress.notes)


@pytest.mark.parametrize(
    ("which", "message"),
    [("training", "The loss is nan in epoch 1"), ("validation", "The validation loss is nan in epoch 2")],
)
def test_a_loss_that_is_not_finite_is_a_training_error(which: str, message: str, tmp_path: Path) -> None:
    model = dense()
    plain = loss_of(model)
    diverged = (lambda pixels, shares: plain(pixels, shares) * math.nan) if which == "training" else plain
    with pytest.raises(TrainingError, match=message) as caught:
        run(model, tmp_path, [0.4, math.nan], loss=diverged)
    assert caught.value.exit_code == EXIT_TRAINING and "learning_rate" in caught.value.fix


def test_the_evaluator_weighs_batches_by_their_size() -> None:
    """A loss of 0 on one photo and log(2) on three are 3/4 log(2), not half of it."""
    certain, even = np.float32([[50.0, 0.0]]), np.zeros((3, 2), np.float32)
    given = [
        (tf.constant(certain), tf.constant([0], tf.int32)),
        (tf.constant(even), tf.constant([0, 1, 1], tf.int32)),
    ]
    image = layers.Input((2,))
    evaluate = make_evaluator(Model(image, image), lambda: given, lambda pixels: pixels)
    loss, top1 = evaluate()
    assert loss == pytest.approx(0.75 * math.log(2)) and top1 == 0.5


def test_a_history_survives_json() -> None:
    row: Any = {"epoch": 1, "train_loss": 0.5, "validate_loss": 0.4}
    history = History([row], 1, True)
    assert History.from_json(history.to_json()) == history
