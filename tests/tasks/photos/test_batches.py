"""tf.data batches: the same views for the same seed, in order for evaluation, and a message when a photo vanishes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from edgetl.core.errors import DataError
from edgetl.dataset.samples import Samples
from edgetl.stages.recipe import AugmentOptions
from edgetl.tasks.photos.batches import evaluation_batches, iterate, training_batches
from edgetl.tasks.photos.contract import View
from edgetl.tasks.photos.decode import load_rgb, square

VIEW = View(32, "stretch", 0.875)


@pytest.fixture
def samples(tmp_path: Path) -> Samples:
    random = np.random.default_rng(0)
    paths = []
    for i in range(10):
        paths.append(tmp_path / f"{i}.png")
        Image.fromarray(random.integers(0, 255, (40, 50, 3), np.uint8)).save(paths[-1])
    return Samples(tuple(paths), np.arange(10, dtype=np.int32) % 3, tuple(str(i) for i in range(10)))


def epoch(samples: Samples, number: int, **augment: Any) -> tuple[np.ndarray, np.ndarray]:
    options = AugmentOptions(**augment).model_dump()
    batches = training_batches(samples, VIEW, n_classes=3, batch_size=5, augment=options, seed=7, epoch=number)
    pixels, shares = zip(*((a.numpy(), b.numpy()) for a, b in iterate(batches)), strict=True)
    return np.concatenate(pixels), np.concatenate(shares)


def test_evaluation_sees_every_photo_in_order_by_the_contract(samples: Samples) -> None:
    found = list(iterate(evaluation_batches(samples, VIEW, batch_size=4)))
    np.testing.assert_array_equal(np.concatenate([labels for _, labels in found]), samples.labels)
    wanted = np.stack([square(load_rgb(path), 32, "stretch", 0.875) for path in samples.paths])
    np.testing.assert_array_equal(np.concatenate([pixels for pixels, _ in found]), wanted.astype(np.float32))


def test_an_epoch_seen_again_is_the_same_to_the_bit_and_another_epoch_is_not(samples: Samples) -> None:
    first, again, other = epoch(samples, 3), epoch(samples, 3), epoch(samples, 4)
    np.testing.assert_array_equal(first[0], again[0])
    np.testing.assert_array_equal(first[1], again[1])
    assert not np.array_equal(first[0], other[0])


@pytest.mark.parametrize("change", ["flip", "rotate_degrees", "colour", "crop_min_area", "mix"])
def test_each_change_changes_the_view_and_can_be_switched_off(samples: Samples, change: str) -> None:
    none: dict[str, Any] = {"flip": False, "rotate_degrees": 0.0, "colour": 0.0, "crop_min_area": 1.0, "mix": 0.0}
    some: dict[str, Any] = {"flip": True, "rotate_degrees": 20.0, "colour": 0.3, "crop_min_area": 0.3, "mix": 0.5}
    plain = epoch(samples, 0, **none)[0]
    varied = epoch(samples, 0, **{**none, change: some[change]})[0]
    assert np.abs(plain - varied).max() > 1.0
    assert varied.min() >= 0.0 and varied.max() <= 255.0


def test_mixed_labels_are_shares_that_sum_to_one(samples: Samples) -> None:
    shares = epoch(samples, 0, mix=0.5)[1]
    np.testing.assert_allclose(shares.sum(axis=1), 1.0, rtol=1e-6)
    assert ((shares > 0) & (shares < 1)).any()


def test_a_photo_that_vanished_is_bad_data_and_not_a_framework_error(samples: Samples) -> None:
    samples.paths[4].unlink()
    with pytest.raises(DataError, match="cannot be read any more"):
        list(iterate(evaluation_batches(samples, VIEW)))
