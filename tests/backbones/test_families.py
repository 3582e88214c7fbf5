"""What every family of backbones must offer, and how VGG16 and Xception convert Keras' weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from tf_keras import Model, applications
from tf_keras.src.applications import vgg16, xception

from edgetl.backbones import load_family
from edgetl.backbones.catalogue import weight_files
from edgetl.backbones.local_weights import look
from edgetl.backbones.models import ModelSpec, build_classifier, set_seeds
from edgetl.backbones.weights import WeightsRequest, obtain, set_backbone_weights
from edgetl.graph.fold import preflight

BACKBONES = ["mobilenetv2-0.35", "densenet121", "vgg16", "xception"]


def begins_within(backbone: str, model: Any) -> bool:
    """Whether fine-tuning keeps a part of a net and trains a part of it."""
    names = [layer.name for layer in model.layers]
    return 0 < names.index(load_family(backbone).first_tuned_layer(backbone)) < len(names) - 1


@pytest.mark.parametrize("backbone", BACKBONES)
def test_keras_weight_files_have_the_names_that_the_plan_looks_for(
    backbone: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    (tmp_path / "models").mkdir()
    assert load_family(backbone).WEIGHTS_URL.startswith("https://storage.googleapis.com/tensorflow/keras-applications/")
    assert load_family(backbone).WEIGHTS_URL.endswith("/")
    for size_px, name in weight_files(backbone).items():
        (tmp_path / "models" / name).write_text("weights")
        assert look(backbone, "imagenet", size_px)[1] == tmp_path / "models" / name


def test_weight_files_have_keras_own_names() -> None:
    for backbone, url in (("vgg16", vgg16.WEIGHTS_PATH_NO_TOP), ("xception", xception.TF_WEIGHTS_PATH_NO_TOP)):
        (name,) = weight_files(backbone).values()
        assert load_family(backbone).WEIGHTS_URL + name == url


@pytest.mark.parametrize("backbone", BACKBONES)
def test_int8_input_is_the_pixel_itself_except_for_densenet(backbone: str) -> None:
    """One int8 tensor has one zero point and one scale: they fit the pixels where all colours have the same mean and scale."""
    normalization = load_family(backbone).NORMALIZATION
    exact = set(normalization.mean) == {128.0} and len(set(normalization.scale)) == 1
    assert exact == (backbone != "densenet121")


# --- VGG16 -------------------------------------------------------------------------------------------------------------


def test_vgg16_computes_the_same_on_photos_as_keras_on_preprocessed_photos() -> None:
    set_seeds(1)
    theirs = applications.VGG16(input_shape=(32, 32, 3), include_top=False, weights=None)
    weights = {layer.name: layer.get_weights() for layer in theirs.layers if layer.get_weights()}
    weights["block1_conv1"][1][:] = np.linspace(-1, 1, 64)
    theirs.get_layer("block1_conv1").set_weights(weights["block1_conv1"])
    ours = build_classifier(ModelSpec("vgg16", 32, 2))
    assert begins_within("vgg16", ours)
    set_backbone_weights(ours, load_family("vgg16").from_keras(weights), "vgg16")
    pixels = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3)).astype(np.float32)
    wanted = first_convolution(theirs)(applications.vgg16.preprocess_input(pixels.copy())).numpy()
    found = first_convolution(ours)(load_family("vgg16").NORMALIZATION.apply(pixels)).numpy()
    inside = (slice(None), slice(1, -1), slice(1, -1))
    # float32 sums of 27 products of size 100: 1e-5 of the largest is rounding, a wrong colour order is all of it.
    np.testing.assert_allclose(found[inside], wanted[inside], rtol=0, atol=1e-5 * wanted.max())
    flipped = first_convolution(ours)(load_family("vgg16").NORMALIZATION.apply(pixels[..., ::-1])).numpy()
    assert np.abs(flipped[inside] - wanted[inside]).max() > 0.1 * wanted.max()
    # The ring whose padding has another colour, told so in from_keras: 24 grey levels of 255 at most, and there alone.
    ring = np.abs(found - wanted).max() / wanted.max()
    assert 1e-3 < ring < 0.2


def first_convolution(model: Any) -> Any:
    return Model(model.input, model.get_layer("block1_conv1").output)


# --- Xception ----------------------------------------------------------------------------------------------------------


def keras_file(path: Path, model: Any) -> Path:
    """A Keras 2 weight file of a model in the layout of save_weights: by layer, then by weight."""
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = [layer.name.encode() for layer in model.layers]
        for layer in model.layers:
            group = file.create_group(layer.name)
            group.attrs["weight_names"] = [weight.name.encode() for weight in layer.weights]
            for weight, values in zip(layer.weights, layer.get_weights(), strict=True):
                group.create_dataset(weight.name, data=values)
    return path


def test_xceptions_layers_have_fixed_names_and_read_keras_file_whatever_its_names(tmp_path: Path) -> None:
    set_seeds(1)
    theirs = applications.Xception(input_shape=(96, 96, 3), include_top=False, weights=None)
    for layer in theirs.layers:  # a fresh BatchNorm is like any other
        if layer.get_weights():
            layer.set_weights(
                [
                    array + np.random.default_rng(array.size).uniform(0, 0.1, array.shape)
                    for array in layer.get_weights()
                ]
            )
    counted = [layer.name for layer in theirs.layers if layer.get_weights() and not layer.name.startswith("block")]
    assert len(counted) == 8, "the case is that Keras numbers some layers itself"
    file = keras_file(tmp_path / "xception_weights_tf_dim_ordering_tf_kernels_notop.h5", theirs)
    request = WeightsRequest("xception", 96, "imagenet")
    weights, source = obtain(request, file, tmp_path, lambda text: None)
    assert weights is not None and source["trained_at_px"] == 299
    ours = build_classifier(ModelSpec("xception", 96, 2))
    made_up = {layer.name for layer in ours.layers[1:] if not layer.name.startswith("block")}
    assert made_up == {"pooled", "logits"}, "and Keras had counted on from the net before"
    set_backbone_weights(ours, weights, "xception")
    images = np.random.default_rng(0).uniform(-1, 1, (1, 96, 96, 3)).astype(np.float32)
    features = Model(ours.input, ours.get_layer("pooled").input)
    np.testing.assert_array_equal(features(images), theirs(images))
    assert begins_within("xception", ours)
    # The sums of blocks 2 to 12 are read by a residual convolution or by the next sum as well as by a ReLU.
    alone = [row.layer for row in preflight(ours) if row.rewrite.startswith("stands alone: add ")]
    assert alone == [f"block{i}_sepconv1_act" for i in range(3, 14)]
