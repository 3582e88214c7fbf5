"""What finetune, distill and quantize share: a classifier fitted to photos."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from edgetl.backbones.models import ModelSpec, load_weights
from edgetl.dataset.samples import SplitDataset
from edgetl.training.fit import FitOptions, Fitting, guided_loss, save_fitted
from edgetl.training.loop import History
from edgetl.training.losses import label_loss
from tests.training.nets import VIEW, Recorder, classifier, coloured_photos, same, top1

AUGMENT = {"flip": True, "crop_min_area": 0.8, "rotate_degrees": 5.0, "colour": 0.0, "mix": 0.0}
OPTIONS = FitOptions(6, 8, 0.05, 1.0, 6, AUGMENT)


def fitting_in(folder: Path, seed: int = 3) -> Fitting:
    photos = {name: coloured_photos(folder / name, count, i) for i, (name, count) in enumerate(
        (("train", 10), ("validate", 6), ("test", 6))
    )}  # fmt: skip
    return Fitting(SplitDataset(("a", "b", "c"), **photos), VIEW, seed, folder, Recorder())


def labels_of(net: Any) -> Any:
    return lambda pixels, labels: label_loss(labels, net.logits(pixels, training=True))


def test_a_net_learns_its_photos_and_keeps_the_best_epoch(tmp_path: Path) -> None:
    fitting, net = fitting_in(tmp_path), classifier()
    history = fitting.fit(net, labels_of(net), OPTIONS)
    assert top1(net, fitting.data.test) > 0.9
    losses = [row["validate_loss"] for row in history.epochs]
    assert history.best_epoch == 1 + losses.index(min(losses))
    loss, _ = fitting.evaluator(net)()
    assert loss == pytest.approx(min(losses))


@pytest.mark.parametrize(("seed", "equal"), [(3, True), (4, False)])
def test_weights_follow_from_the_seed(seed: int, equal: bool, tmp_path: Path) -> None:
    first, second = classifier(), classifier()
    one_epoch = FitOptions(1, 8, 0.05, 1.0, 6, AUGMENT)
    for net, folder, own in ((first, tmp_path / "a", 3), (second, tmp_path / "b", seed)):
        fitting_in(folder, own).fit(net, labels_of(net), one_epoch)
    assert same(first.model.get_weights(), second.model.get_weights()) is equal


def test_an_epoch_has_whole_batches_only(tmp_path: Path) -> None:
    """30 photos in batches of 8 are 3 steps; the schedule counts the same."""
    fitting, net = fitting_in(tmp_path), classifier()
    fitting.fit(net, labels_of(net), FitOptions(2, 8, 0.05, 1.0, 6, AUGMENT))
    assert fitting.progress.began == [(6, 0)]  # type: ignore[attr-defined]


def test_a_batch_larger_than_the_data_is_one_step(tmp_path: Path) -> None:
    fitting, net = fitting_in(tmp_path), classifier()
    history = fitting.fit(net, labels_of(net), FitOptions(1, 1000, 0.05, 1.0, 6, AUGMENT))
    assert fitting.progress.began == [(1, 0)]  # type: ignore[attr-defined]
    assert len(history.epochs) == 1


def test_the_head_is_not_trained_again_once_epochs_were_run(tmp_path: Path) -> None:
    fitting, net = fitting_in(tmp_path), classifier()
    before = net.model.get_weights()
    fitting.fit_head(net, epochs=2, smoothing=0.0)
    headed = net.model.get_weights()
    assert not same(headed, before)
    fitting.fit(net, labels_of(net), FitOptions(1, 8, 0.05, 1.0, 6, AUGMENT))
    fitted = net.model.get_weights()
    fitting.fit_head(net, epochs=2, smoothing=0.0)
    assert same(net.model.get_weights(), fitted)


@pytest.mark.parametrize(("label_weight", "follows"), [(0.0, "teacher"), (1.0, "labels")])
def test_the_guided_loss_is_least_for_what_it_follows(label_weight: float, follows: str) -> None:
    """The teacher says one class, the labels another; which of the two a student says is what counts."""
    pixels = np.full((2, 32, 32, 3), 200.0, np.float32)
    teacher = classifier(1)
    said = int(np.argmax(teacher.logits(pixels, training=False)[0]))
    other = (said + 1) % 3
    labels = tf.one_hot([other, other], 3)

    def loss_of_a_student_that_says(label: int) -> float:
        student = classifier(2)
        bias = np.float32([5.0 if i == label else -5.0 for i in range(3)])
        head = student.model.get_layer("logits")
        head.set_weights([np.zeros_like(head.get_weights()[0]), bias])
        loss = guided_loss(teacher, student, temperature=1.0, label_weight=label_weight)
        return float(tf.reduce_mean(loss(pixels, labels)))

    by_teacher, by_label = loss_of_a_student_that_says(said), loss_of_a_student_that_says(other)
    assert (by_teacher < by_label) if follows == "teacher" else (by_label < by_teacher)


def test_no_gradient_reaches_the_teacher() -> None:
    pixels = np.full((2, 32, 32, 3), 200.0, np.float32)
    teacher, student = classifier(1), classifier(2)
    loss = guided_loss(teacher, student, temperature=2.0, label_weight=0.3)
    with tf.GradientTape() as tape:
        value = tf.reduce_mean(loss(pixels, tf.one_hot([0, 1], 3)))
    variables = [teacher.model.trainable_variables, student.model.trainable_variables]
    of_teacher, of_student = tape.gradient(value, variables)
    assert all(gradient is None for gradient in of_teacher)
    assert all(gradient is not None for gradient in of_student)


def test_options_are_read_by_name_and_the_rest_is_left() -> None:
    given: Mapping[str, Any] = {
        "temperature": 4.0, "epochs": 2, "batch_size": 8, "learning_rate": 0.1, "warmup_epochs": 0.5, "patience": 3,
        "augment": AUGMENT,
    }  # fmt: skip
    assert FitOptions.of(given) == FitOptions(2, 8, 0.1, 0.5, 3, AUGMENT)


def test_what_is_saved_is_read_again(tmp_path: Path) -> None:
    net = classifier()
    save_fitted(tmp_path, ModelSpec("vgg16", 32, 3), net, History([], 1, True))
    assert same(load_weights(tmp_path / "weights.npz"), net.model.get_weights())
    history = json.loads((tmp_path / "history.json").read_text())
    assert history == {"epochs": [], "best_epoch": 1, "stopped_early": True}
