"""What is remembered of photos between runs."""

from __future__ import annotations

import pytest

from edgetl.core.errors import DataError
from edgetl.dataset.index import PhotoIndex
from edgetl.dataset.scan import list_photos
from edgetl.tasks.photos.faults import validate

TWO_CLASSES = {"cats": 10, "dogs": 10}


def test_nothing_is_decoded_twice(make_folder, index):
    photos = make_folder(TWO_CLASSES)
    counts = []
    for _ in range(2):
        seen: list[int] = []
        validate(
            list_photos(photos, index),
            index,
            skip_bad=False,
            on_checked=lambda done, total, seen=seen: seen.append(total),
        )
        counts.append(len(seen))
    assert counts == [20, 0]


def test_a_replaced_photo_is_checked_again(make_folder, make_photo, check):
    photos = make_folder({"cats": 11, "dogs": 10})
    bad = photos / "cats" / "000.jpg"
    bad.write_bytes(b"broken")
    with pytest.raises(DataError, match="not an image"):
        check(photos)
    make_photo(bad)
    assert len(check(photos)[0]) == 21


def test_a_photo_that_could_not_be_read_once_is_not_remembered_as_bad(make_folder, index):
    photos = make_folder({"cats": 11, "dogs": 10})
    listing = list_photos(photos, index)
    (photos / "cats" / "000.jpg").rename(photos.parent / "away.jpg")
    with pytest.raises(DataError, match=r"cannot be read \(No such file or directory\)"):
        validate(listing, index, skip_bad=False)
    (photos.parent / "away.jpg").rename(photos / "cats" / "000.jpg")
    kept, _ = validate(listing, index, skip_bad=False)
    assert len(kept) == 21


@pytest.mark.parametrize("damage", ["no database at all", "damaged pages", "a cut end"])
def test_a_damaged_index_costs_time_not_results(damage, make_folder, tmp_path):
    photos = make_folder(TWO_CLASSES)
    file = tmp_path / "damaged.sqlite"
    first = PhotoIndex(file)
    first.remember_digests([(f"/photos/{i}.jpg", 1, 1, f"{i:064}") for i in range(500)])
    first.close()
    data = file.read_bytes()
    assert len(data) > 5 * 4096
    file.write_bytes(
        {
            "no database at all": b"x" * 9000,
            "damaged pages": data[:8192] + b"\xa5" * (len(data) - 8192),
            "a cut end": data[:8192],
        }[damage]
    )
    index = PhotoIndex(file)
    kept, _ = validate(list_photos(photos, index), index, skip_bad=False)
    index.close()
    assert len(kept) == 20
