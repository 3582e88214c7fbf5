"""dataset.json: which photo is in which split, by content."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_type_hints

import pytest

from edgetl.core.errors import DataError
from edgetl.dataset.index import PhotoIndex
from edgetl.dataset.scan import list_photos
from edgetl.stages import split
from edgetl.stages.context import Context
from edgetl.stages.records import SplitJson, SplitPhoto
from tests.stages.tiny import Recorder

OPTIONS = {"skip_bad": False, "validate_fraction": 0.2, "test_fraction": 0.2, "seed": 0}


def dataset_of(photos: Path, folder: Path, **options: Any) -> dict[str, Any]:
    folder.mkdir()
    index = PhotoIndex(folder / "listing.sqlite")
    listing = list_photos(photos, index)
    index.close()
    split.run({**OPTIONS, **options}, {}, Context(folder, folder, Recorder(), {}, folder, listing=listing))
    return json.loads((folder / "dataset.json").read_text())


def test_every_photo_is_in_one_split(make_folder: Callable[..., Path], tmp_path: Path) -> None:
    found = dataset_of(make_folder({"dogs": 10, "cats": 10}), tmp_path / "out")
    assert list(found) == list(get_type_hints(SplitJson))
    assert list(found["photos"][0]) == list(get_type_hints(SplitPhoto))
    assert found["classes"] == ["cats", "dogs"]
    digests = [row["sha256"] for row in found["photos"]]
    assert len(set(digests)) == 20 and digests == sorted(digests)
    counts = {
        (label, name): sum((row["label"], row["split"]) == (label, name) for row in found["photos"])
        for label in (0, 1)
        for name in ("train", "validate", "test")
    }
    assert set(counts.values()) == {6, 2} and counts[0, "train"] == counts[1, "train"] == 6


def test_the_result_depends_on_the_content_and_not_on_the_folder(
    make_folder: Callable[..., Path], tmp_path: Path
) -> None:
    photos = make_folder({"dogs": 10, "cats": 10})
    first = dataset_of(photos, tmp_path / "a")
    moved = photos.rename(tmp_path / "elsewhere")
    assert dataset_of(moved, tmp_path / "b") == first
    assert dataset_of(moved, tmp_path / "c", seed=1) != first


def test_copies_are_counted_and_used_once(make_folder: Callable[..., Path], tmp_path: Path) -> None:
    photos = make_folder({"dogs": 10, "cats": 10})
    (photos / "dogs" / "copy.jpg").write_bytes((photos / "dogs" / "000.jpg").read_bytes())
    found = dataset_of(photos, tmp_path / "out")
    assert found["duplicates"] == 1 and len(found["photos"]) == 20


def test_a_bad_photo_is_an_error_or_left_out_on_request(make_folder: Callable[..., Path], tmp_path: Path) -> None:
    photos = make_folder({"dogs": 10, "cats": 10})
    (photos / "dogs" / "bad.jpg").write_bytes(b"no photo")
    with pytest.raises(DataError, match=r"bad\.jpg"):
        dataset_of(photos, tmp_path / "a")
    found = dataset_of(photos, tmp_path / "b", skip_bad=True)
    assert [row["what"] for row in found["left_out"]] == ["dogs/bad.jpg"]
    assert len(found["photos"]) == 20
