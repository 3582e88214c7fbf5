"""Classifiers on a backbone, and their form on disk: model.json beside weights.npz, never a pickled or HDF5 model."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from tf_keras import Model, layers

from edgetl.backbones import load_family
from edgetl.backbones.records import WeightsSource
from edgetl.tasks.photos.contract import Normalization

# Layer name -> its arrays, in Keras' order.
LayerWeights = dict[str, list[np.ndarray]]


@dataclass(frozen=True)
class ModelSpec:
    """What is needed to build a classifier again from code. weights_source: where its first weights came from."""

    backbone: str
    input_size_px: int
    n_classes: int
    weights_source: WeightsSource = field(default_factory=lambda: WeightsSource())

    @property
    def normalization(self) -> Normalization:
        """The backbone's preprocessing."""
        normalization: Normalization = load_family(self.backbone).NORMALIZATION
        return normalization


@dataclass(frozen=True)
class Classifier:
    """A Keras model of logits with the normalization of its input. normalize: pixels in 0..255 -> the model's input."""

    model: Any
    normalize: Callable[[Any], Any]

    def logits(self, pixels: Any, *, training: bool) -> Any:
        """pixels: float32 [batch, size, size, 3] in 0..255. Returns float32 [batch, classes]."""
        return self.model(self.normalize(pixels), training=training)


def build_classifier(spec: ModelSpec) -> Any:
    """Flat functional model: image float32 [batch, size, size, 3], normalized -> logits float32 [batch, classes]."""
    features = load_family(spec.backbone).build(spec.backbone, spec.input_size_px)
    pooled = layers.GlobalAveragePooling2D(name="pooled")(features.output)
    logits = layers.Dense(spec.n_classes, name="logits")(pooled)
    return Model(features.input, logits, name=spec.backbone.replace(".", "_"))


def set_seeds(seed: int) -> None:
    """Make random initial weights depend on this seed alone."""
    from tf_keras import utils

    utils.set_random_seed(seed)


def freeze_batch_norm(model: Any) -> None:
    """Keep every BatchNorm in inference mode: on a few thousand photos its statistics drift faster than the weights learn."""
    for layer in model.layers:
        if isinstance(layer, layers.BatchNormalization):
            layer.trainable = False


def save_weights(path: Path, weights: list[np.ndarray]) -> None:
    """Write arrays, in order, as npz."""
    with path.open("wb") as stream:
        np.savez(stream, *weights)


def load_weights(path: Path) -> list[np.ndarray]:
    """The inverse of save_weights."""
    with np.load(path, allow_pickle=False) as data:
        return [data[f"arr_{i}"] for i in range(len(data.files))]


def save_model(folder: Path, spec: ModelSpec, model: Any) -> None:
    """Write model.json and weights.npz."""
    save_weights(folder / "weights.npz", model.get_weights())
    (folder / "model.json").write_text(json.dumps(asdict(spec), indent=1))


def load_model(folder: Path) -> tuple[ModelSpec, Any]:
    """Build the classifier again with its weights. The inverse of save_model."""
    spec = ModelSpec(**json.loads((folder / "model.json").read_text()))
    model = build_classifier(spec)
    model.set_weights(load_weights(folder / "weights.npz"))
    return spec, model


def load_first_weights(folder: Path) -> tuple[LayerWeights | None, WeightsSource]:
    """Read the weights stage's artifact: (layer name -> arrays, or None; where they came from)."""
    source = json.loads((folder / "source.json").read_text())
    if not (folder / "weights.npz").is_file():
        return None, source
    weights: LayerWeights = {}
    with np.load(folder / "weights.npz", allow_pickle=False) as data:
        for key in sorted(data.files, key=lambda key: (key.rsplit("/", 1)[0], int(key.rsplit("/", 1)[1]))):
            weights.setdefault(key.rsplit("/", 1)[0], []).append(data[key])
    return weights, source
