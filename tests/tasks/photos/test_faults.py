"""Photos and classes that cannot be trained on, and the messages about them."""

from __future__ import annotations

import io
import os
import shutil
import struct
import subprocess
import sys
import zlib
from collections import Counter

import pytest
from PIL import Image

from edgetl.core.errors import EXIT_DATA, DataError
from edgetl.dataset.scan import list_photos
from edgetl.tasks.photos.faults import MIN_PHOTOS_PER_CLASS, validate

TWO_CLASSES = {"cats": 10, "dogs": 10}
REFUSED = "cannot be used as it is"


def picture(file_format: str, size: tuple[int, int] = (60, 40)) -> bytes:
    stream = io.BytesIO()
    Image.effect_noise(size, 80).convert("RGB").save(stream, file_format)
    return stream.getvalue()


def png_claiming(width: int, height: int) -> bytes:
    """A PNG whose header claims a size that its data does not have: decoding it would call it truncated."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 64)) + chunk(b"IEND", b"")
    )


def flipped(data: bytes, position: int) -> bytes:
    return data[:position] + bytes([data[position] ^ 0xFF]) + data[position + 1 :]


BAD_FILES = {
    "text": (b"hello, I am no photo", "not an image this tool reads; JPEG, PNG, WebP and BMP are read"),
    "a TIFF": (picture("TIFF"), r"not an image this tool reads \(the file says it is TIFF\)"),
    "a GIF": (picture("GIF"), r"not an image this tool reads \(the file says it is GIF\)"),
    "a PDF": (picture("PDF"), r"not an image this tool reads \(the file says it is PDF\)"),
    "a HEIC": (b"\0\0\0\x18ftypheic" + bytes(64), r"not an image this tool reads \(the file says it is HEIC\)"),
    "a truncated JPEG": (picture("JPEG")[:-300], "truncated or damaged"),
    "a JPEG cut in its header": (picture("JPEG")[:40], "not an image|truncated or damaged"),
    "a truncated PNG": (picture("PNG")[:-300], "truncated or damaged"),
    "a PNG with a flipped byte": (flipped(picture("PNG"), 400), "truncated or damaged"),
    "a truncated WebP": (picture("WEBP")[:-300], "truncated or damaged"),
    "a truncated BMP": (picture("BMP")[:-300], "truncated or damaged"),
    "zero bytes": (b"", "zero bytes"),
    "a pixel bomb": (
        png_claiming(60_000, 60_000),
        "60000 x 60000 pixels by its header; at most 100 million are decoded",
    ),
    "too few pixels": (picture("PNG", (7, 40)), "7 x 40 pixels; at least 8 x 8 are needed"),
}


@pytest.mark.parametrize("kind", BAD_FILES)
def test_a_bad_file_is_named_with_why_and_fix(kind, make_folder, check):
    data, why = BAD_FILES[kind]
    photos = make_folder(TWO_CLASSES)
    (photos / "cats" / "bad.jpg").write_bytes(data)
    with pytest.raises(DataError, match=why) as caught:
        check(photos)
    assert caught.value.exit_code == EXIT_DATA == 4
    assert f"- {photos}/cats/bad.jpg\n" in str(caught.value)
    assert "--skip-bad" in str(caught.value)
    assert "1 problem" in str(caught.value)


def test_every_bad_file_is_in_one_message(make_folder, check):
    photos = make_folder(TWO_CLASSES)
    for number, (data, _) in enumerate(BAD_FILES.values()):
        (photos / "dogs" / f"bad-{number}.jpg").write_bytes(data)
    (photos / "cats" / "nowhere.jpg").symlink_to(photos / "gone")
    with pytest.raises(DataError, match=f"{len(BAD_FILES) + 1} problems") as caught:
        check(photos)
    message = str(caught.value)
    assert all(f"- {photos}/dogs/bad-{number}.jpg\n      why: " in message for number in range(len(BAD_FILES)))
    assert f"- {photos}/cats/nowhere.jpg\n      why: cannot be opened (No such file or directory)" in message
    assert message.count("      fix: ") == len(BAD_FILES) + 1


def test_skip_bad_leaves_out_the_bad_ones_and_names_them(make_folder, check):
    photos = make_folder(TWO_CLASSES)
    for number, (data, _) in enumerate(BAD_FILES.values()):
        (photos / "dogs" / f"bad-{number}.jpg").write_bytes(data)
    kept, left_out = check(photos, skip_bad=True)
    assert Counter(photo.label for photo in kept) == TWO_CLASSES
    assert {offender.what for offender in left_out} == {f"{photos}/dogs/bad-{n}.jpg" for n in range(len(BAD_FILES))}


def test_the_pixel_bomb_would_be_refused_for_another_reason_if_it_were_decoded(tmp_path):
    """Shows that the case above tests the limit: the same file under the limit is refused when it is decoded."""
    from edgetl.tasks.photos.decode import why_refused

    (tmp_path / "small.png").write_bytes(png_claiming(600, 600))
    assert "truncated" in why_refused(tmp_path / "small.png")


def test_a_fifo_is_refused_and_does_not_hang(make_folder, tmp_path, repository):
    photos = make_folder(TWO_CLASSES)
    os.mkfifo(photos / "cats" / "pipe.jpg")
    program = f"""
from pathlib import Path
from edgetl.tasks.photos.faults import validate
from edgetl.dataset.index import PhotoIndex
from edgetl.dataset.scan import list_photos
index = PhotoIndex(Path({str(tmp_path / "fifo.sqlite")!r}))
kept, left_out = validate(list_photos(Path({str(photos)!r}), index), index, skip_bad=True)
print(len(kept), [(offender.what, offender.why) for offender in left_out])
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=repository, capture_output=True, text=True, timeout=30)
    assert done.stdout.strip() == f"20 [('{photos}/cats/pipe.jpg', 'not a regular file')]", done.stderr


# --- faults of the classes ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("skip_bad", [False, True], ids=["strict", "skip-bad"])
def test_a_class_with_too_few_photos_is_reported_with_the_number_needed(skip_bad, make_folder, check):
    photos = make_folder({"cats": 10, "dogs": 7})
    with pytest.raises(DataError, match="class dogs\n.*7 usable photos; it takes at least 10 different ones") as caught:
        check(photos, skip_bad=skip_bad)
    assert "add 3, or take the class out" in str(caught.value)
    assert "--skip-bad does not help" in str(caught.value)
    assert "class cats" not in str(caught.value)


def test_photos_that_are_not_for_training_may_be_few_and_of_one_class(make_folder, index):
    listing = list_photos(make_folder({"cats": 1}), index)
    kept, _ = validate(listing, index, skip_bad=False, to_train=False)
    assert [photo.label for photo in kept] == ["cats"]
    with pytest.raises(DataError, match="the only class"):
        validate(listing, index, skip_bad=False)


def test_copies_do_not_make_a_class_large_enough(make_folder, check):
    photos = make_folder({"cats": 10, "dogs": 9})
    shutil.copy(photos / "dogs" / "000.jpg", photos / "dogs" / "copy.jpg")
    with pytest.raises(DataError, match="9 usable photos; it takes at least 10"):
        check(photos)


def test_the_smallest_accepted_class_is_the_size_that_the_message_asks_for(make_folder, check):
    kept, _ = check(make_folder({"cats": MIN_PHOTOS_PER_CLASS, "dogs": MIN_PHOTOS_PER_CLASS}))
    assert len(kept) == 2 * MIN_PHOTOS_PER_CLASS


@pytest.mark.parametrize("skip_bad", [False, True], ids=["strict", "skip-bad"])
def test_bad_files_and_bad_classes_are_reported_together(skip_bad, make_folder, check):
    photos = make_folder({"cats": 10, "dogs": 10, "birds": 2})
    (photos / "dogs" / "bad.jpg").write_bytes(b"")
    with pytest.raises(DataError, match="2 problems") as caught:
        check(photos, skip_bad=skip_bad)
    assert "dogs/bad.jpg" in str(caught.value) and "class birds" in str(caught.value)


def test_one_class_alone_is_refused(make_folder, check):
    with pytest.raises(DataError, match="the only class: a classifier needs at least two"):
        check(make_folder({"cats": 12}), skip_bad=True)


@pytest.mark.parametrize("skip_bad", [False, True], ids=["strict", "skip-bad"])
def test_a_class_does_not_vanish_because_its_folder_is_empty(skip_bad, make_folder, check):
    photos = make_folder(TWO_CLASSES)
    (photos / "birds").mkdir()
    with pytest.raises(DataError, match="class birds\n.*0 usable photos"):
        check(photos, skip_bad=skip_bad)


def test_a_class_does_not_vanish_because_none_of_its_files_can_be_listed(make_folder, check):
    photos = make_folder(TWO_CLASSES)
    (photos / "birds").mkdir()
    (photos / "birds" / "0.jpg").symlink_to(photos / "gone")
    with pytest.raises(DataError, match="class birds\n.*0 usable photos"):
        check(photos, skip_bad=True)


def test_no_usable_photo_at_all_is_reported(make_folder, check):
    photos = make_folder({"cats": 0, "dogs": 0})
    for name in ("cats", "dogs"):
        (photos / name).mkdir(parents=True)
        (photos / name / "0.jpg").write_bytes(b"")
    with pytest.raises(DataError, match="no usable photo is left"):
        check(photos, skip_bad=True)


@pytest.mark.parametrize(
    ("first", "second"),
    [("Rose", "rose"), ("STRASSE", "straße"), ("caf\u00e9", "cafe\u0301")],
    ids=["ascii", "sharp s", "composed and decomposed"],
)
def test_class_names_equal_up_to_case_are_refused_even_with_skip_bad(first, second, make_folder, check):
    photos = make_folder({first: 10, second: 10})
    with pytest.raises(DataError, match="equal up to upper and lower case") as caught:
        check(photos, skip_bad=True)
    assert first in str(caught.value) and second in str(caught.value)
    assert "--skip-bad does not help" in str(caught.value)


@pytest.mark.parametrize("name", [b"two\nlines", b"caf\xe9"], ids=["line break", "not UTF-8"])
def test_a_class_name_that_labels_txt_cannot_hold_is_refused(name, make_folder, check):
    with pytest.raises(DataError, match="line break, another control character, or bytes that are not UTF-8") as caught:
        check(make_folder({"cats": 10, os.fsdecode(name): 10}), skip_bad=True)
    str(caught.value).encode("utf-8")  # the message itself can be written anywhere


# --- the same photo twice ----------------------------------------------------------------------------------------


def test_the_same_photo_under_two_labels_is_refused(make_folder, check):
    photos = make_folder({"cats": 11, "dogs": 11})
    shutil.copy(photos / "cats" / "003.jpg", photos / "dogs" / "copy.jpg")
    with pytest.raises(DataError, match="the same photo under the labels cats and dogs") as caught:
        check(photos)
    assert "cats/003.jpg = " in str(caught.value) and "dogs/copy.jpg" in str(caught.value)
    kept, left_out = check(photos, skip_bad=True)
    assert Counter(photo.label for photo in kept) == {"cats": 10, "dogs": 11}
    assert len(left_out) == 1


def test_the_same_photo_in_train_and_test_is_refused(make_folder, check, tmp_path):
    photos = tmp_path / "split"
    make_folder({"cats": 10, "dogs": 10}, photos / "train")
    make_folder({"cats": 3, "dogs": 3}, photos / "test")
    shutil.copy(photos / "test" / "cats" / "001.jpg", photos / "train" / "cats" / "leak.jpg")
    with pytest.raises(DataError, match="the same photo in test and train: accuracy would be measured"):
        check(photos)
    kept, _ = check(photos, skip_bad=True)
    assert Counter((photo.label, photo.split) for photo in kept)["cats", "test"] == 2


def test_copies_within_a_class_are_kept_once(make_folder, check):
    photos = make_folder({"cats": 10, "dogs": 10})
    for i in range(3):
        shutil.copy(photos / "cats" / "000.jpg", photos / "cats" / f"copy-{i}.jpg")
    kept, left_out = check(photos)
    assert Counter(photo.label for photo in kept) == {"cats": 10, "dogs": 10}
    assert left_out == []
