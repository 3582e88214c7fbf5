"""A net of two layers and photos of plain colours, for the tests of this folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from tf_keras import Model, layers

from edgetl.backbones.models import Classifier, set_seeds
from edgetl.dataset.samples import Samples
from edgetl.tasks.photos.contract import Normalization, View

VIEW = View(32, "stretch", 1.0)
NORMALIZATION = Normalization((128.0, 128.0, 128.0), (127.5, 127.5, 127.5))
# A class is a colour, near enough to the others that a random head is wrong.
COLOURS = np.array([[150, 110, 110], [110, 150, 110], [110, 110, 150]])


class Recorder:
    """Progress that keeps its notes."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.began: list[tuple[int, int]] = []

    def begin(self, total: int, *, done: int = 0, unit: str = "steps") -> None:
        self.began.append((total, done))

    def advance(self, count: int, detail: str = "") -> None: ...

    def note(self, text: str) -> None:
        self.notes.append(text)


def classifier(seed: int = 1) -> Classifier:
    """A backbone of one convolution, with the layers' names of build_classifier."""
    set_seeds(seed)
    image = layers.Input((32, 32, 3))
    features = layers.Conv2D(8, 3, strides=8, activation="relu", name="features")(image)
    pooled = layers.GlobalAveragePooling2D(name="pooled")(features)
    return Classifier(Model(image, layers.Dense(len(COLOURS), name="logits")(pooled)), NORMALIZATION.apply)


def coloured_photos(folder: Path, count: int, seed: int = 0) -> Samples:
    """`count` photos of each colour, a little noisy."""
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(seed)
    paths, labels = [], []
    for label, colour in enumerate(COLOURS):
        for i in range(count):
            pixels = np.clip(colour + random.normal(0, 10, (32, 32, 3)), 0, 255).astype(np.uint8)
            path = folder / f"{label}-{i}.png"
            Image.fromarray(pixels).save(path)
            paths.append(path)
            labels.append(label)
    return Samples(tuple(paths), np.array(labels, np.int32), tuple(path.name for path in paths))


def top1(model: Classifier, samples: Samples) -> float:
    """Share of the photos that a classifier gets right."""
    pixels = np.stack([np.asarray(Image.open(path), np.float32) for path in samples.paths])
    logits = model.logits(pixels, training=False).numpy()
    return float((logits.argmax(axis=1) == samples.labels).mean())


def same(first: Any, second: Any) -> bool:
    """Whether two lists of arrays are equal, bit by bit."""
    return all(np.array_equal(one, other) for one, other in zip(first, second, strict=True))
