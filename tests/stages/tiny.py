"""A backbone of two convolutions in place of VGG16, photos of plain colours, and the stages' inputs made from them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tf_keras import Model, layers

from edgetl.backbones import vgg16
from edgetl.backbones.models import ModelSpec, build_classifier, set_seeds
from edgetl.core.store import Artifact
from edgetl.stages.context import Context

CLASSES = ("red", "green", "blue")
COLOURS = np.array([[150, 110, 110], [110, 150, 110], [110, 110, 150]])
# Photos of each class.
COUNTS = {"train": 12, "validate": 8, "test": 4}
IMAGES = {"input_size_px": 32, "resize": "stretch", "centre_fraction": 1.0}
AUGMENT = {"flip": True, "crop_min_area": 0.8, "rotate_degrees": 5.0, "colour": 0.0, "mix": 0.0}
TRAINING = {
    "epochs": 3,
    "batch_size": 12,
    "learning_rate": 0.02,
    "warmup_epochs": 0.5,
    "patience": 3,
    "augment": AUGMENT,
}


class Recorder:
    """Progress that keeps its notes."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def begin(self, total: int, *, done: int = 0, unit: str = "steps") -> None: ...
    def advance(self, count: int, detail: str = "") -> None: ...
    def note(self, text: str) -> None:
        self.notes.append(text)


def build(backbone: str, input_size_px: int) -> Any:
    """Has the name of VGG16's first fine-tuned layer."""
    image = layers.Input((input_size_px, input_size_px, 3), name="image")
    first = layers.Conv2D(4, 3, strides=4, activation="relu", name="block1_conv1")(image)
    normed = layers.BatchNormalization(name="norm")(layers.Conv2D(8, 3, name="block5_conv1")(first))
    return Model(image, layers.ReLU(name="relu")(normed))


class Tiny:
    """A folder with a split data set, and the stages run on it. Use within `patched`."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.photos = folder, dict[str, Path]()
        random = np.random.default_rng(0)
        rows = []
        for split, count in COUNTS.items():
            for i in range(count * len(CLASSES)):
                label, name = i % len(CLASSES), f"{split}-{i:02}"
                pixels = np.clip(COLOURS[label] + random.normal(0, 10, (32, 32, 3)), 0, 255).astype(np.uint8)
                self.photos[name] = folder / f"{name}.png"
                Image.fromarray(pixels).save(self.photos[name])
                rows.append({"sha256": name, "label": label, "split": split})
        (folder / "dataset").mkdir()
        (folder / "dataset" / "dataset.json").write_text(json.dumps({"classes": CLASSES, "photos": rows}))

    def weights(self, name: str, seed: int | None) -> None:
        """The weights stage's artifact: random ones, or that there are none."""
        (self.folder / name).mkdir()
        source = {"weights": "none", "why": "asked for"} if seed is None else {"weights": "file", "file": "mine.h5"}
        (self.folder / name / "source.json").write_text(json.dumps(source))
        if seed is not None:
            set_seeds(seed)
            own = build_classifier(ModelSpec("vgg16", 32, 3)).layers
            arrays = {f"{one.name}/{i}": part for one in own[:-1] for i, part in enumerate(one.get_weights())}
            np.savez(self.folder / name / "weights.npz", **arrays)

    def run(self, stage: Any, options: Mapping[str, Any], out: str, **inputs: str) -> Recorder:
        """inputs: what the stage calls it -> the folder. The result is in the folder `out`."""
        for folder in (out, f"{out}-scratch"):
            (self.folder / folder).mkdir()
        progress = Recorder()
        found = {
            name: Artifact("", self.folder / place, "", "") for name, place in {"dataset": "dataset", **inputs}.items()
        }
        context = Context(self.folder / out, self.folder / f"{out}-scratch", progress, self.photos, self.folder)
        stage.run({**IMAGES, "seed": 5, **options}, found, context)
        return progress

    def json(self, out: str, name: str) -> Any:
        return json.loads((self.folder / out / name).read_text())

    def arrays(self, out: str, name: str = "weights.npz") -> list[np.ndarray]:
        with np.load(self.folder / out / name) as data:
            return [data[key] for key in data.files]


def patched(patch: pytest.MonkeyPatch) -> None:
    """VGG16 is the small backbone from here on."""
    patch.setattr(vgg16, "build", build)


def same(first: list[np.ndarray], second: list[np.ndarray]) -> bool:
    """Bit by bit."""
    return all(np.array_equal(one, other) for one, other in zip(first, second, strict=True))
