"""Train, validate, test and calibrate: never overlapping, the same everywhere."""

from __future__ import annotations

import hashlib
import json
import random
import shutil
from collections import Counter
from pathlib import Path

import pytest

from edgetl.dataset.index import PhotoIndex
from edgetl.dataset.samples import load_split
from edgetl.dataset.scan import Photo, list_photos
from edgetl.dataset.split import calibration_order, split_photos
from edgetl.stages import split as split_stage
from edgetl.stages.context import Context


def photos_of(classes: dict[str, int], split: str = "", folder: str = "/photos", tag: str = "") -> list[Photo]:
    return [
        Photo(Path(folder) / label / f"{i}.jpg", label, split, hashlib.sha256(f"{tag}{label}{i}".encode()).hexdigest())
        for label, count in classes.items()
        for i in range(count)
    ]


def counts(photos: list[Photo], assigned: dict[str, str]) -> Counter[tuple[str, str]]:
    return Counter((photo.label, assigned[photo.sha256]) for photo in photos)


DEFAULT = {"validate_fraction": 0.1, "test_fraction": 0.1, "seed": 0}


def test_a_split_is_reproducible_and_independent_of_path_and_order():
    photos = photos_of({"cats": 40, "dogs": 25})
    elsewhere = photos_of({"cats": 40, "dogs": 25}, folder="/another/place")
    random.Random(5).shuffle(elsewhere)
    assert split_photos(photos, **DEFAULT) == split_photos(photos, **DEFAULT) == split_photos(elsewhere, **DEFAULT)


def test_another_seed_is_another_split():
    photos = photos_of({"cats": 40, "dogs": 25})
    assert split_photos(photos, **DEFAULT) != split_photos(photos, **{**DEFAULT, "seed": 1})


def test_one_more_photo_moves_few_others():
    """The purpose of a split by content: a data set that has grown keeps nearly all of its test photos."""
    photos = photos_of({"cats": 200, "dogs": 200})
    before = split_photos(photos, **DEFAULT)
    after = split_photos([*photos, *photos_of({"cats": 1}, tag="new")], **DEFAULT)
    assert sum(before[digest] != after[digest] for digest in before) <= 2


@pytest.mark.parametrize(
    ("validate_fraction", "test_fraction", "expected"),
    [(0.1, 0.1, (160, 20, 20)), (0.2, 0.3, (100, 40, 60)), (0.0, 0.0, (198, 1, 1))],
    ids=["a tenth each", "uneven", "zero: still one each"],
)
def test_fractions_hold_in_every_class(validate_fraction, test_fraction, expected):
    photos = photos_of({"cats": 200, "dogs": 200})
    found = counts(
        photos, split_photos(photos, validate_fraction=validate_fraction, test_fraction=test_fraction, seed=3)
    )
    for label in ("cats", "dogs"):
        assert tuple(found[label, side] for side in ("train", "validate", "test")) == expected


def test_a_rare_class_is_in_every_split():
    photos = photos_of({"cats": 1000, "lynxes": 10})
    found = counts(photos, split_photos(photos, validate_fraction=0.01, test_fraction=0.01, seed=0))
    assert [found["lynxes", side] for side in ("train", "validate", "test")] == [8, 1, 1]


@pytest.mark.parametrize("count", range(3, 30))
def test_every_class_has_photos_in_every_split_whatever_the_fractions(count):
    photos = photos_of({"cats": count})
    for fractions in ((0.49, 0.5), (0.9, 0.09), (0.05, 0.94), (0.0, 0.99)):
        found = counts(photos, split_photos(photos, validate_fraction=fractions[0], test_fraction=fractions[1], seed=0))
        assert min(found["cats", side] for side in ("train", "validate", "test")) >= 1, fractions


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (("validate", "test"), {"train": 100, "validate": 7, "test": 9}),
        (("test",), {"train": 90, "validate": 10, "test": 9}),
        (("validate",), {"train": 90, "validate": 7, "test": 10}),
    ],
    ids=["both given", "validation is taken from train", "test is taken from train"],
)
@pytest.mark.parametrize("train", ["train", ""], ids=["train named", "train left empty"])
def test_a_given_split_is_kept_and_a_missing_one_is_drawn_from_train(train, given, expected):
    photos = photos_of({"cats": 100}, train)
    if "validate" in given:
        photos += photos_of({"cats": 7}, "validate", tag="v")
    if "test" in given:
        photos += photos_of({"cats": 9}, "test", tag="t")
    assigned = split_photos(photos, **DEFAULT)
    assert Counter(assigned.values()) == expected
    assert all(assigned[photo.sha256] == photo.split for photo in photos if photo.split in given)


def test_calibration_order_is_random_and_fixed_by_the_seed():
    digests = sorted(photo.sha256 for photo in photos_of({"cats": 50}))
    order = calibration_order(digests, 0)
    assert order == calibration_order(digests[::-1], 0)
    assert sorted(order) == digests and order != digests
    assert order != calibration_order(digests, 1)


# --- the stage ---------------------------------------------------------------------------------------------------


class Silent:
    """Progress that nobody watches."""

    def begin(self, total: int, *, done: int = 0, unit: str = "steps") -> None: ...
    def advance(self, count: int, detail: str = "") -> None: ...
    def note(self, text: str) -> None: ...


def run_stage(
    photos: Path, work: Path, *, skip_bad: bool = False, cache: Path | None = None
) -> tuple[Path, dict[str, Path]]:
    out, cache = work / "out", cache or work / "cache"
    out.mkdir(parents=True)
    index = PhotoIndex(cache / "index.sqlite")
    listing = list_photos(photos, index)
    index.close()
    context = Context(out, work, Silent(), listing.path_of(), cache, listing)
    split_stage.run({**DEFAULT, "skip_bad": skip_bad}, {}, context)
    return out, listing.path_of()


def test_calibration_photos_are_training_photos_only(make_folder, tmp_path):
    artifact, paths = run_stage(make_folder({"cats": 30, "dogs": 20}), tmp_path / "work")
    data = load_split(artifact, paths)
    held_out = {*data.validate.digests, *data.test.digests}
    assert len(data.train) + len(held_out) == 50
    for count in (1, 16, 10_000):
        chosen = data.calibrate(count, seed=0)
        assert len(chosen) == len(set(chosen.digests)) == min(count, len(data.train))
        assert not held_out & set(chosen.digests)
        assert set(chosen.digests) <= set(data.train.digests)
    rows = {row["sha256"]: row["label"] for row in json.loads((artifact / "dataset.json").read_text())["photos"]}
    assert [rows[digest] for digest in chosen.digests] == chosen.labels.tolist()
    assert all(path.parent.name == data.classes[label] for path, label in zip(chosen.paths, chosen.labels, strict=True))


def test_the_split_artifact_does_not_depend_on_where_the_photos_are(make_folder, tmp_path):
    photos = make_folder({"cats": 12, "dogs": 12})
    shutil.copytree(photos, tmp_path / "elsewhere" / "deep")
    (first, _), (second, _) = (
        run_stage(photos, tmp_path / "a"),
        run_stage(tmp_path / "elsewhere" / "deep", tmp_path / "b"),
    )
    assert (first / "dataset.json").read_bytes() == (second / "dataset.json").read_bytes()


def test_photos_left_out_and_copies_are_in_the_artifact(make_folder, tmp_path):
    photos = make_folder({"cats": 12, "dogs": 12})
    shutil.copy(photos / "cats" / "000.jpg", photos / "cats" / "copy.jpg")
    (photos / "cats" / "bad.jpg").write_bytes(b"")
    artifact, _ = run_stage(photos, tmp_path / "work", skip_bad=True)
    dataset = json.loads((artifact / "dataset.json").read_text())
    assert dataset["duplicates"] == 1
    assert [(Path(row["what"]).name, row["why"]) for row in dataset["left_out"]] == [("bad.jpg", "zero bytes")]
    assert len(dataset["photos"]) == 24 and dataset["classes"] == ["cats", "dogs"]
