"""The head, trained alone on cached features."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgetl.training import head
from edgetl.training.head import HeadTraining, train_head
from tests.training.nets import VIEW, Recorder, classifier, coloured_photos, same, top1

# Adam at 2e-3 moves a weight by about that per step; all photos are one batch.
HOW = HeadTraining(epochs=400, smoothing=0.0, seed=5)


def trained(folder: Path, how: HeadTraining = HOW) -> list[np.ndarray]:
    net = classifier()
    train_head(net, coloured_photos(folder / "photos", 10), VIEW, how, scratch=folder, progress=Recorder())
    return list(net.model.get_layer("logits").get_weights())


def test_it_learns_colours_that_the_features_separate(tmp_path: Path) -> None:
    net, photos = classifier(), coloured_photos(tmp_path / "photos", 10)
    unseen = coloured_photos(tmp_path / "unseen", 10, seed=1)
    assert top1(net, unseen) < 0.7
    train_head(net, photos, VIEW, HOW, scratch=tmp_path, progress=Recorder())
    assert top1(net, unseen) > 0.95


def test_the_backbone_stays_as_it_was_and_the_cache_is_removed(tmp_path: Path) -> None:
    net, photos = classifier(), coloured_photos(tmp_path / "photos", 4)
    features, logits = (net.model.get_layer(name).get_weights() for name in ("features", "logits"))
    train_head(net, photos, VIEW, HeadTraining(3, 0.0, 5), scratch=tmp_path, progress=Recorder())
    assert same(net.model.get_layer("features").get_weights(), features)
    assert not same(net.model.get_layer("logits").get_weights(), logits)
    assert not (tmp_path / "features.npy").exists()


def test_the_cache_has_the_pooled_features_in_the_order_of_the_photos(tmp_path: Path) -> None:
    net, photos = classifier(), coloured_photos(tmp_path / "photos", 4)
    rows = head._cached_features(net, photos, VIEW, tmp_path / "features.npy", Recorder())
    assert rows.shape == (12, 8)
    computed = net.model.get_layer("logits")(rows).numpy()
    pixels = np.stack([np.asarray(Image.open(path), np.float32) for path in photos.paths])
    expected = net.logits(pixels, training=False).numpy()
    # float32 sums of 9 positions in two orders.
    np.testing.assert_allclose(computed, expected, rtol=1e-4, atol=1e-5)


def test_the_same_seed_gives_the_same_head_and_another_seed_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(head, "_BATCH", 8)  # so that the order matters
    short = HeadTraining(4, 0.0, 5)
    first, again = trained(tmp_path / "a", short), trained(tmp_path / "b", short)
    other = trained(tmp_path / "c", HeadTraining(4, 0.0, 6))
    assert same(first, again)
    assert not same(first, other)


def test_smoothed_labels_keep_the_head_less_certain(tmp_path: Path) -> None:
    sharp, smooth = trained(tmp_path / "a"), trained(tmp_path / "b", HeadTraining(HOW.epochs, 0.3, HOW.seed))
    assert np.abs(smooth[0]).max() < np.abs(sharp[0]).max()
