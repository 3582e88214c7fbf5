"""Keras as a runtime: the model that a stage saved is run unchanged, on the device that was requested."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tf_keras import Model, layers

from edgetl.backbones import vgg16
from edgetl.backbones.models import ModelSpec, build_classifier, save_model, set_seeds
from edgetl.core import machine
from edgetl.core.errors import MissingError
from edgetl.runtimes import PlacementError, keras, open_session, unavailable

SPEC = ModelSpec("vgg16", 32, 3)
# Of very different contrast, so that the probabilities differ between images.
IMAGES = np.random.default_rng(0).uniform(-1, 1, (4, 32, 32, 3)).astype(np.float32)
IMAGES *= np.array([0.1, 1, 4, 10], np.float32)[:, None, None, None]


def two_layers(backbone: str, input_size_px: int) -> Any:
    image = layers.Input((input_size_px, input_size_px, 3), name="image")
    deep = layers.Conv2D(8, 3, strides=2, activation="relu", name="first")(image)
    return Model(image, layers.Conv2D(8, 3, strides=2, activation="relu", name="second")(deep))


@pytest.fixture(scope="module", autouse=True)
def model() -> Iterator[Any]:
    """A classifier on two layers with random weights, in the place of VGG16 for all tests here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(vgg16, "build", two_layers)
        set_seeds(1)
        yield build_classifier(SPEC)


@pytest.fixture(scope="module")
def folder(model: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model as the training stages save it."""
    made = tmp_path_factory.mktemp("finetune")
    save_model(made, SPEC, model)
    return made


@pytest.fixture
def session(folder: Path) -> Iterator[Any]:
    opened = keras.open_session(folder)
    yield opened
    opened.close()


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without an NVIDIA driver."""
    monkeypatch.setattr(machine, "nvidia_gpu", lambda: "")


def softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def test_probabilities_are_the_softmax_of_the_saved_model(session: Any, model: Any) -> None:
    expected = softmax(model(IMAGES, training=False).numpy())
    assert np.ptp(expected, axis=0).max() > 0.1  # the same answer for all images would prove nothing
    # float32 rounding of three layers and a softmax, once eager and once as a graph.
    np.testing.assert_allclose(session.run(IMAGES), expected, rtol=0, atol=1e-5)
    assert session.run(IMAGES).dtype == np.float32


def test_another_model_s_probabilities_differ(session: Any, model: Any, tmp_path: Path) -> None:
    """The comparison above can fail: the classes of this model are in another order."""
    head = model.get_layer("logits")
    right = head.get_weights()
    try:
        head.set_weights([weights[..., ::-1] for weights in right])
        save_model(tmp_path, SPEC, model)
    finally:
        head.set_weights(right)
    swapped = open_session(tmp_path, "keras", threads=0)
    assert np.abs(swapped.run(IMAGES) - session.run(IMAGES)).max() > 0.1
    np.testing.assert_allclose(swapped.run(IMAGES)[:, ::-1], session.run(IMAGES), rtol=0, atol=1e-5)
    swapped.close()


def test_a_session_states_its_input_and_can_run_again_on_the_last_image(session: Any) -> None:
    assert session.input_shape == (1, 32, 32, 3)
    assert (session.output_step, session.executor) == (0.0, "")
    session.run(IMAGES)
    session.invoke()


def test_all_ops_are_on_the_cpu(session: Any) -> None:
    for _ in range(2):  # before the first run, and after it
        placement = session.placement()
        assert placement.devices == {"TensorFlow": "cpu"}
        assert placement.ops["TensorFlow"] > 5 and placement.unknown == 0
        assert (placement.share_of_ops("cpu"), placement.share_of_ops("gpu")) == (1, 0)
        session.run(IMAGES[:1])


def test_keras_is_available_on_the_processor() -> None:
    assert unavailable("keras") is None
    assert keras.device("keras") == machine.processor()


def test_without_a_driver_keras_gpu_is_unavailable_and_not_opened(folder: Path, no_gpu: None) -> None:
    reason = unavailable("keras-gpu")
    assert reason is not None and "no NVIDIA driver" in reason and "\n" not in reason
    with pytest.raises(MissingError, match="keras-gpu is not available"):
        open_session(folder, "keras-gpu", threads=0)


@pytest.mark.usefixtures("no_gpu")
def test_where_tensorflow_sees_no_gpu_keras_gpu_is_refused_and_not_run_on_the_cpu(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import tensorflow as tf

    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: [])
    with pytest.raises(PlacementError, match="keras-gpu was requested, but would not run on the GPU"):
        keras.open_session(folder, backend="keras-gpu")


@pytest.mark.parametrize(
    ("missing", "reason"),
    [
        (("tf_keras",), "tf_keras is not installed: pip install"),
        (("tensorflow", "tf_keras"), "tensorflow and tf_keras are not installed: pip install"),
    ],
    ids=["tf_keras", "both"],
)
def test_missing_packages_are_named(missing: tuple[str, ...], reason: str, monkeypatch: pytest.MonkeyPatch) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name in missing else found(name))
    assert (unavailable("keras") or "").startswith(reason)


def test_a_folder_that_holds_no_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="does not hold a trained or quantized model"):
        open_session(tmp_path, "keras", threads=0)


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: (folder / "weights.npz").write_bytes(b"PK\x03\x04 cut short"),
        lambda folder: (folder / "weights.npz").unlink(),
        lambda folder: (folder / "model.json").write_text("{"),
        lambda folder: (folder / "model.json").write_text('{"backbone": "vgg16"}'),
        lambda folder: (folder / "model.json").write_text('{"backbone": "vgg16", "input_size_px": 32, "n_classes": 4}'),
    ],
    ids=["weights cut short", "no weights", "not JSON", "missing keys", "weights of another shape"],
)
def test_a_damaged_model_is_refused(damage: Any, model: Any, tmp_path: Path) -> None:
    save_model(tmp_path, SPEC, model)
    damage(tmp_path)
    with pytest.raises(ValueError, match="does not hold a trained or quantized model"):
        keras.open_session(tmp_path)
