"""MobileNetV2: channels selected from a wider net, and torchvision's weights from the package index in Keras' graph."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tf_keras import Model, layers

from edgetl.backbones import load_family
from edgetl.backbones.mobilenetv2 import select_channels
from edgetl.backbones.models import (
    ModelSpec,
    build_classifier,
    freeze_batch_norm,
    load_first_weights,
    load_model,
    save_model,
    set_seeds,
)
from edgetl.backbones.weights import set_backbone_weights
from edgetl.stages import weights as weights_stage
from edgetl.stages.context import Context
from edgetl.tasks.photos.decode import load_rgb, square
from edgetl.training.norm import estimate_batch_norm


class Silent:
    def begin(self, total: int, *, done: int = 0, unit: str = "steps") -> None:
        pass

    def advance(self, count: int, detail: str = "") -> None:
        pass

    def note(self, text: str) -> None:
        pass


def classifier(backbone: str) -> Any:
    set_seeds(1)
    return build_classifier(ModelSpec(backbone, 64, 3))


def test_selecting_from_a_net_of_the_same_width_copies_it() -> None:
    wide = classifier("mobilenetv2-0.35")
    set_seeds(2)
    narrow = build_classifier(ModelSpec("mobilenetv2-0.35", 64, 3))
    images = np.random.default_rng(0).uniform(-1, 1, (2, 64, 64, 3)).astype(np.float32)
    assert np.abs(wide(images).numpy() - narrow(images).numpy()).max() > 0
    select_channels(wide, narrow)
    np.testing.assert_array_equal(wide(images).numpy(), narrow(images).numpy())


@pytest.mark.parametrize("width", [0.1, 0.2, 0.5, 0.75])
def test_selected_kernels_are_kernels_of_the_wide_net(width: float) -> None:
    wide, narrow = classifier("mobilenetv2-1.0"), classifier(f"mobilenetv2-{width}")
    select_channels(wide, narrow)
    kept = narrow.get_layer("block_3_depthwise").get_weights()[0][..., 0].reshape(9, -1).T
    whole = wide.get_layer("block_3_depthwise").get_weights()[0][..., 0].reshape(9, -1).T
    assert all((row == whole).all(axis=1).any() for row in kept)


def test_a_wider_net_cannot_be_selected_from_a_narrow_one() -> None:
    with pytest.raises(ValueError, match="cannot be selected"):
        select_channels(classifier("mobilenetv2-0.35"), classifier("mobilenetv2-0.5"))


def test_estimated_batch_norm_normalizes_the_images_it_was_estimated_on() -> None:
    model = classifier("mobilenetv2-0.35")
    images = np.random.default_rng(0).uniform(-1, 1, (16, 64, 64, 3)).astype(np.float32)
    estimate_batch_norm(model, [images])
    out = Model(model.input, model.get_layer("bn_Conv1").output)(images, training=False).numpy()
    np.testing.assert_allclose(out.mean(axis=(0, 1, 2)), 0.0, atol=1e-3)


def test_a_classifier_is_the_same_when_loaded_again(tmp_path: Path) -> None:
    spec = ModelSpec("mobilenetv2-0.35", 64, 3)
    model = classifier("mobilenetv2-0.35")
    save_model(tmp_path, spec, model)
    again_spec, again = load_model(tmp_path)
    images = np.zeros((1, 64, 64, 3), np.float32)
    assert again_spec == spec
    np.testing.assert_array_equal(model(images).numpy(), again(images).numpy())


def test_frozen_batch_norm_does_not_move_in_training() -> None:
    model = classifier("mobilenetv2-0.35")
    freeze_batch_norm(model)
    before = model.get_layer("bn_Conv1").get_weights()[2].copy()
    model(np.ones((4, 64, 64, 3), np.float32), training=True)
    np.testing.assert_array_equal(before, model.get_layer("bn_Conv1").get_weights()[2])


def test_torchvisions_weights_from_the_package_index_fit_keras_graph(tmp_path: Path) -> None:
    """How much each channel varies on real photos must be near what its BatchNorm remembers from ImageNet: a kernel
    transposed the wrong way, a channel order or a scale that is off, and the variances no longer correlate. (Means do
    not serve: these photos are darker than ImageNet, and Keras' own weights fail as well.)"""
    from edgetl.dataset.catalogue import fetch_dataset, find_known

    for name in ("out", "scratch"):
        (tmp_path / name).mkdir()
    options = {"backbone": "mobilenetv2-1.0", "input_size_px": 96, "weights": "imagenet", "needed": True, "seed": 0}
    weights_stage.run(options, {}, Context(tmp_path / "out", tmp_path / "scratch", Silent(), {}, tmp_path))
    weights, source = load_first_weights(tmp_path / "out")
    assert weights is not None
    assert source["weights"] == "imagenet"
    spec = ModelSpec("mobilenetv2-1.0", 96, 3)
    model = build_classifier(spec)
    set_backbone_weights(model, weights, "mobilenetv2-1.0")
    folder = fetch_dataset(find_known("traffic-lights"), tmp_path / "downloads", lambda text: None)
    photos = sorted(folder.glob("*/*"))[::60]
    images = spec.normalization.apply(
        np.stack([square(load_rgb(photo), 96, "stretch") for photo in photos]).astype(np.float32)
    )
    norms = [layer for layer in model.layers if isinstance(layer, layers.BatchNormalization)][:12]
    seen = Model(model.input, [layer.input for layer in norms])(images, training=False)
    right, wrong = [], []
    for layer, tensor in zip(norms, seen, strict=True):
        remembered = np.log(layer.get_weights()[3] + 1e-6)
        varied = np.log(tensor.numpy().var(axis=(0, 1, 2)) + 1e-6)
        right.append(np.corrcoef(varied, remembered)[0, 1])
        wrong.append(np.corrcoef(varied[::-1], remembered)[0, 1])
        assert right[-1] > 0.5, (layer.name, right[-1])
    # Measured: 0.54 to 0.99, mean 0.79. A shuffled layer of 16 channels can reach 0.5 by chance, twelve layers cannot.
    assert np.mean(right) > 0.7
    assert np.mean(wrong) < 0.3


def test_densenet_normalizes_by_imagenets_statistics() -> None:
    normalization = load_family("densenet121").NORMALIZATION
    np.testing.assert_allclose(normalization.apply(np.array([[123.675, 116.28, 103.53]], np.float32)), 0.0, atol=1e-6)
