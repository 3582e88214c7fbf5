"""A bundle's files on photos: the pixels are those a build saw, and what is no probability is an error."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from edgetl.commands.verify.photos import check_classes
from edgetl.commands.verify.versions import views
from edgetl.core.errors import DataError
from edgetl.dataset.samples import Samples
from edgetl.measure.accuracy import probabilities_of
from edgetl.tasks.photos.batches import evaluation_batches, iterate
from edgetl.tasks.photos.contract import View


@pytest.mark.parametrize("resize", ["stretch", "crop"])
def test_pixels_are_those_that_a_build_measured_on(resize, make_photo, tmp_path: Path):
    view = View(32, resize, 0.875)
    files = [make_photo(tmp_path / f"{i}.jpg", size=(60 + i, 44)) for i in range(34)]
    files += [make_photo(tmp_path / "grey.png", mode="L"), make_photo(tmp_path / "clear.png", mode="RGBA")]
    samples = Samples(tuple(files), np.zeros(len(files), np.int32), tuple(str(file) for file in files))
    built = np.concatenate([pixels.numpy() for pixels, _ in iterate(evaluation_batches(samples, view))])
    found = list(views(files, view))
    assert [len(batch) for batch in found] == [32, 4]
    assert found[0].dtype == built.dtype
    np.testing.assert_array_equal(np.concatenate(found), built)


def test_a_photo_that_vanished_or_was_cut_since_it_was_checked_is_an_error(make_photo, tmp_path: Path):
    file = make_photo(tmp_path / "photo.jpg")
    file.write_bytes(file.read_bytes()[:200])
    for path in (file, tmp_path / "gone.jpg"):
        with pytest.raises(DataError, match="cannot be read any more"):
            list(views([path], View(32, "stretch", 1.0)))


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([[0.5, 0.5]], "2 figures per photo"),
        ([[0.1, float("nan"), 0.9]], "probabilities that are not numbers"),
        ([[0.1, float("inf"), 0.9]], "probabilities that are not numbers"),
    ],
    ids=["another count of classes", "nan", "infinite"],
)
def test_what_is_not_a_probability_of_each_class_is_an_error(rows, said):
    session = SimpleNamespace(run=lambda images: np.array(rows, np.float32))
    with pytest.raises(DataError, match=f"student.onnx gives {said}"):
        probabilities_of("student.onnx", session, np.zeros((1, 4, 4, 3)), 3)


def test_a_class_is_the_same_however_its_accents_are_spelt():
    check_classes(["cafe\u0301", "tea"], ["tea", "caf\u00e9"], "photos")
    with pytest.raises(DataError, match="cafe: not a class of the bundle"):
        check_classes(["cafe\u0301", "tea"], ["tea", "cafe"], "photos")
