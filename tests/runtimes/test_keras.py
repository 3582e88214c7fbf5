"""The Keras backend opens a stage's folder and gives the probabilities of the model that was saved there."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgetl.backbones.models import ModelSpec, build_classifier, save_model, set_seeds
from edgetl.core import machine
from edgetl.runtimes import keras

SIZE_PX = 32


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """(folder as the training stages write it, the Keras model in it)."""
    set_seeds(5)
    spec = ModelSpec("mobilenetv2-0.35", SIZE_PX, 3)
    model = build_classifier(spec)
    # Random nets answer almost alike for every class; logits this large make wrong weights or a missing softmax show.
    bias = np.float32([0.0, 1.0, 2.0])
    kernel, _ = model.get_layer("logits").get_weights()
    model.get_layer("logits").set_weights([kernel * 20, bias])
    folder = tmp_path_factory.mktemp("finetune")
    save_model(folder, spec, model)
    return folder, model


@pytest.fixture
def images() -> np.ndarray:
    return np.random.default_rng(5).uniform(-1, 1, (4, SIZE_PX, SIZE_PX, 3)).astype(np.float32)


def test_probabilities_are_the_softmax_of_the_saved_model(saved: tuple[Path, Any], images: np.ndarray) -> None:
    folder, model = saved
    session = keras.open_session(folder)
    probabilities = session.run(images)
    logits = model(images, training=False).numpy()
    expected = np.exp(logits - logits.max(axis=1, keepdims=True))
    expected /= expected.sum(axis=1, keepdims=True)
    assert session.input_shape == (1, SIZE_PX, SIZE_PX, 3)
    # Both compute in float32; a compiled graph may add in another order, which moves the last bits alone.
    np.testing.assert_allclose(probabilities, expected, rtol=0, atol=1e-5)
    assert np.ptp(expected, axis=1).min() > 0.1
    session.invoke()
    session.close()


def test_all_ops_are_placed_on_the_cpu(saved: tuple[Path, Any]) -> None:
    placement = keras.open_session(saved[0]).placement()
    assert placement.ops["TensorFlow"] > 0
    assert placement.share_of_ops("cpu") == 1.0


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"model\.json"):
        keras.open_session(tmp_path)


def test_the_cpu_backend_is_ready_and_names_the_processor() -> None:
    assert keras.unavailable("keras") is None
    assert keras.device("keras") == machine.processor()


def test_a_missing_library_is_named_with_the_command_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert "tf_keras not installed: pip install 'edgetl[build]'" in (keras.unavailable("keras") or "")


def test_keras_gpu_is_unavailable_without_a_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "nvidia_gpu", lambda: "")
    assert "no NVIDIA driver" in (keras.unavailable("keras-gpu") or "")


def test_keras_gpu_names_the_gpu_of_the_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "nvidia_gpu", lambda: "NVIDIA H100")
    assert keras.unavailable("keras-gpu") is None
    assert keras.device("keras-gpu") == "NVIDIA H100"
