"""Photos made on the spot: small, all different, the same on every run."""

from __future__ import annotations

import os

# TFMOT works on Keras 2 only, and TensorFlow reads this once, when it is first imported.
os.environ["TF_USE_LEGACY_KERAS"] = "1"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import itertools
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgetl.dataset.index import PhotoIndex
from edgetl.dataset.scan import Offender, Photo, list_photos, validate

REPOSITORY = Path(__file__).parent.parent

MakePhoto = Callable[..., Path]


@pytest.fixture
def repository() -> Path:
    """The checkout: where targets/ lies, and where a subprocess finds the package."""
    return REPOSITORY


@pytest.fixture
def make_photo() -> MakePhoto:
    """make(path, mode="RGB", size=(24, 20), **save): a photo of noise that no other photo equals."""
    seeds = itertools.count()

    def make(path: Path, *, mode: str = "RGB", size: tuple[int, int] = (24, 20), **save: object) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        noise = np.random.default_rng(next(seeds)).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
        Image.fromarray(noise).convert(mode).save(path, **save)
        return path

    return make


@pytest.fixture
def make_folder(tmp_path: Path, make_photo: MakePhoto) -> Callable[..., Path]:
    """make({"cats": 10, "dogs": 12}, root=tmp_path / "photos"): a folder of class folders."""

    def make(classes: Mapping[str, int], root: Path = tmp_path / "photos") -> Path:
        for name, count in classes.items():
            for i in range(count):
                make_photo(root / name / f"{i:03}.jpg")
        return root

    return make


@pytest.fixture
def index(tmp_path: Path) -> Iterator[PhotoIndex]:
    opened = PhotoIndex(tmp_path / "index.sqlite")
    yield opened
    opened.close()


@pytest.fixture
def check(index: PhotoIndex) -> Callable[..., tuple[list[Photo], list[Offender]]]:
    """check(source, skip_bad=False): list and validate, as a build does."""

    def run(source: Path, *, skip_bad: bool = False) -> tuple[list[Photo], list[Offender]]:
        return validate(list_photos(source, index), index, skip_bad=skip_bad)

    return run
