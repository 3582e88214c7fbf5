"""What a data set may be, and the messages about one that is not."""

from __future__ import annotations

import io
import os
import shutil
import struct
import subprocess
import sys
import zlib
from collections import Counter
from pathlib import Path

import pytest
from PIL import Image

from edgetl.core.errors import EXIT_DATA, DataError
from edgetl.dataset.index import PhotoIndex
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


# --- nothing to list ---------------------------------------------------------------------------------------------


def test_a_missing_path_is_reported(tmp_path, check):
    with pytest.raises(DataError, match="There is no .*/nowhere") as caught:
        check(tmp_path / "nowhere")
    assert caught.value.exit_code == 4


def test_an_empty_folder_is_reported(tmp_path, check):
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="There are no photos in .*/empty"):
        check(tmp_path / "empty")


def test_photos_without_class_folders_are_reported(tmp_path, make_photo, check):
    make_photo(tmp_path / "flat" / "a.jpg")
    with pytest.raises(DataError, match="no class folders with files in them"):
        check(tmp_path / "flat")


def test_a_single_file_that_is_not_a_csv_is_reported(tmp_path, make_photo, check):
    with pytest.raises(DataError, match="neither a folder nor a .csv file"):
        check(make_photo(tmp_path / "one.jpg"))


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


# --- layouts -----------------------------------------------------------------------------------------------------


def test_train_val_and_test_folders_are_the_split(make_folder, check, tmp_path):
    photos = tmp_path / "split"
    for folder, count in (("train", 10), ("Val", 2), ("testing", 3)):
        make_folder({"cats": count, "dogs": count}, photos / folder)
    kept, _ = check(photos)
    assert Counter(photo.split for photo in kept) == {"train": 20, "validate": 4, "test": 6}
    assert {photo.label for photo in kept} == {"cats", "dogs"}


def test_test_alone_is_the_name_of_a_class(make_folder, check):
    kept, _ = check(make_folder({"test": 10, "dogs": 10}))
    assert {(photo.label, photo.split) for photo in kept} == {("test", ""), ("dogs", "")}


def test_a_class_folder_beside_train_and_test_is_not_guessed_at(make_folder, check, tmp_path):
    photos = tmp_path / "split"
    make_folder({"cats": 10, "dogs": 10}, photos / "train")
    make_folder({"cats": 2, "dogs": 2}, photos / "test")
    make_folder({"birds": 2}, photos)
    with pytest.raises(DataError, match="- birds\n.*not clear which split it belongs to"):
        check(photos)


@pytest.mark.parametrize(
    ("train", "test", "why"),
    [
        ({"cats": 10, "dogs": 10}, {"cats": 10}, "class dogs\n.*no photo in test"),
        ({"cats": 10}, {"cats": 10, "dogs": 10}, "class dogs\n.*no photo in train"),
        ({"cats": 10, "dogs": 1}, {"cats": 10, "dogs": 10}, "class dogs\n.*1 photo in train; it takes at least 2"),
    ],
    ids=["none to test", "none to train", "one to train, and validation takes it"],
)
def test_a_given_split_without_photos_on_one_side_is_refused(train, test, why, make_folder, check, tmp_path):
    make_folder(train, tmp_path / "split" / "train")
    make_folder(test, tmp_path / "split" / "test")
    with pytest.raises(DataError, match=why):
        check(tmp_path / "split", skip_bad=True)


def test_hidden_files_and_clutter_are_not_photos(make_folder, check):
    photos = make_folder(TWO_CLASSES)
    for name in (".DS_Store", "Thumbs.db", "desktop.ini"):
        (photos / "cats" / name).write_text("clutter")
    (photos / ".git").mkdir()
    (photos / ".git" / "config").write_text("clutter")
    kept, _ = check(photos)
    assert len(kept) == 20


def test_photos_in_subfolders_belong_to_the_class(make_folder, make_photo, check):
    photos = make_folder(TWO_CLASSES)
    make_photo(photos / "cats" / "2024" / "spring" / "one.png")
    kept, _ = check(photos)
    assert Counter(photo.label for photo in kept) == {"cats": 11, "dogs": 10}


def test_a_link_to_a_folder_inside_a_class_is_reported(make_folder, check, tmp_path):
    photos = make_folder(TWO_CLASSES)
    elsewhere = make_folder({"more": 3}, tmp_path / "elsewhere")
    (photos / "cats" / "more").symlink_to(elsewhere / "more")
    with pytest.raises(DataError, match="cats/more\n.*a link to a folder inside of a class"):
        check(photos)


def test_unicode_names_of_classes_and_files_are_kept(make_folder, make_photo, check):
    names = ["žluťoučký kůň", "日本", "🌹", "with, comma & 'quotes'"]
    photos = make_folder(dict.fromkeys(names, 10))
    make_photo(photos / names[1] / "写真 №1.jpg")
    kept, _ = check(photos)
    assert {photo.label for photo in kept} == set(names)
    assert len(kept) == 41


def test_a_file_name_that_is_not_utf8_is_accepted(make_folder, make_photo, check):
    photos = make_folder(TWO_CLASSES)
    odd = Path(os.fsdecode(os.fsencode(photos) + b"/cats/caf\xe9.jpg"))
    make_photo(odd)
    kept, _ = check(photos)
    assert odd in {photo.path for photo in kept}
    odd.write_bytes(b"no photo")
    with pytest.raises(DataError, match=r"cats/caf\\udce9.jpg") as caught:
        check(photos)
    str(caught.value).encode("utf-8")


# --- CSV ---------------------------------------------------------------------------------------------------------


def csv_of(photos: Path, *more: str, header: str = "path,label,split") -> Path:
    rows = [f"{path.relative_to(photos)},{path.parent.name}," for path in sorted(photos.rglob("*.jpg"))]
    file = photos / "photos.csv"
    file.write_text("\n".join([header, *rows, *more]) + "\n", encoding="utf-8-sig")
    return file


def test_a_csv_lists_photos_labels_and_splits(make_folder, make_photo, check):
    photos = make_folder(TWO_CLASSES)
    absolute = make_photo(photos.parent / "elsewhere.png")
    for i in range(2):
        make_photo(photos / "held" / f"{i}.png")
    more = [f"{absolute},cats,Training", "held/0.png,cats,test", "held/1.png,dogs,TEST"]
    kept, left_out = check(csv_of(photos, *more))
    assert Counter((photo.label, photo.split) for photo in kept) == {
        ("cats", ""): 10,
        ("dogs", ""): 10,
        ("cats", "train"): 1,
        ("cats", "test"): 1,
        ("dogs", "test"): 1,
    }
    assert left_out == []


def test_a_csv_without_its_columns_is_reported_with_its_first_line(make_folder, check):
    with pytest.raises(DataError, match="has no columns `path` and `label`") as caught:
        check(csv_of(make_folder(TWO_CLASSES), header="file,class"))
    assert "its first line reads: file, class" in str(caught.value)
    assert "path,label,split" in caught.value.fix
    assert caught.value.exit_code == 4


CSV_FAULTS = {
    "a bad split": (
        "cats/000.jpg,cats,holdout",
        r"photos.csv, line 22\n.*split 'holdout' is not one of train, val, test",
    ),
    "a missing file": ("cats/gone.jpg,cats,", r"cats/gone.jpg\n.*cannot be opened \(No such file"),
    "no label": ("cats/000.jpg,,", r"photos.csv, line 22\n.*path or label is empty"),
    "a short line": ("cats/000.jpg", r"photos.csv, line 22\n.*path or label is empty"),
    "a folder": ("cats,cats,", r"/cats\n.*not a regular file"),
    "a name that no file can have": ("cats/\0.jpg,cats,", "cannot be opened"),
    "another label for a photo": ("cats/000.jpg,dogs,", "the same photo under the labels cats and dogs"),
}


@pytest.mark.parametrize("kind", CSV_FAULTS)
def test_a_fault_in_a_csv_is_named(kind, make_folder, check):
    line, why = CSV_FAULTS[kind]
    with pytest.raises(DataError, match=why) as caught:
        check(csv_of(make_folder(TWO_CLASSES), line))
    assert caught.value.exit_code == 4


def test_all_faults_of_a_csv_are_in_one_message(make_folder, check):
    lines = [line for line, _ in CSV_FAULTS.values()]
    with pytest.raises(DataError, match=REFUSED) as caught:
        check(csv_of(make_folder(TWO_CLASSES), *lines))
    assert all(
        part in str(caught.value) for part in ("holdout", "gone.jpg", "line 24", "line 25", "labels cats and dogs")
    )


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "no columns"),
        (b"path,label\n", "the file has no lines after its first"),
        ("path,label\nröse.jpg,röse\n".encode("latin-1"), "cannot be read as CSV in UTF-8"),
        (b"\x89PNG\r\n\x1a\n" + bytes(range(256)), "cannot be read as CSV|no columns"),
    ],
    ids=["empty", "header alone", "Latin-1", "binary"],
)
def test_a_file_that_is_not_a_csv_of_photos_is_reported(content, why, tmp_path, check):
    (tmp_path / "photos.csv").write_bytes(content)
    with pytest.raises(DataError, match=why):
        check(tmp_path / "photos.csv")


def test_a_class_that_a_csv_puts_wholly_into_test_is_refused(make_folder, check):
    """With no "train" in the split column the training side is what is left empty: it must not be empty of a class."""
    photos = make_folder(TWO_CLASSES)
    lines = [f"{path.relative_to(photos)},{path.parent.name}" for path in sorted(photos.rglob("*.jpg"))]
    lines = [f"{line},{'test' if line.startswith('cats') or line == 'dogs/000.jpg,dogs' else ''}" for line in lines]
    (photos / "split.csv").write_text("\n".join(["path,label,split", *lines]))
    with pytest.raises(DataError, match="class cats\n.*no photo in train"):
        check(photos / "split.csv")


# --- the fingerprint ---------------------------------------------------------------------------------------------


def test_the_fingerprint_does_not_depend_on_the_paths_of_photos(make_folder, index, tmp_path):
    photos = make_folder(TWO_CLASSES)
    moved = tmp_path / "moved"
    for path in sorted(photos.rglob("*.jpg"), reverse=True):
        (moved / path.parent.name).mkdir(parents=True, exist_ok=True)
        shutil.copy(path, moved / path.parent.name / f"renamed-{path.stem[::-1]}.jpeg")
    assert list_photos(photos, index).fingerprint == list_photos(moved, index).fingerprint


def _add_a_byte(photos: Path) -> None:
    with (photos / "cats" / "000.jpg").open("ab") as stream:
        stream.write(b"\0")


CHANGES = {
    "a byte added": _add_a_byte,
    "a photo removed": lambda photos: (photos / "cats" / "000.jpg").unlink(),
    "a photo under another label": lambda photos: (photos / "cats" / "000.jpg").rename(photos / "dogs" / "x.jpg"),
    "a class renamed": lambda photos: (photos / "cats").rename(photos / "kittens"),
    "a class emptied": lambda photos: (photos / "birds").mkdir(),
    "an offender added": lambda photos: (photos / "cats" / "x").symlink_to("nowhere"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_the_fingerprint_changes_with_contents_and_labels(change, make_folder, index):
    photos = make_folder({"cats": 11, "dogs": 10})
    before = list_photos(photos, index).fingerprint
    CHANGES[change](photos)
    assert list_photos(photos, index).fingerprint != before


# --- what is remembered ------------------------------------------------------------------------------------------


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


def test_the_reasons_in_a_fingerprint_keep_their_wording(make_folder, index):
    """They are part of cache keys: with another wording, builds with --skip-bad would run again."""
    folder = make_folder({"cats": 1, "dogs": 1})
    (folder / "cats" / "linked").symlink_to(folder / "dogs")
    (folder / "stray.jpg").write_bytes(b"x")
    assert sorted(offender.why for offender in list_photos(folder, index).offenders) == [
        "a link to a folder inside of a class: it is not followed",
        "lies beside the class folders, so it has no label",
    ]
    split = make_folder({"train/cats": 1, "test/cats": 1, "other/cats": 1}, folder / "split")
    assert [offender.why for offender in list_photos(split, index).offenders] == [
        "lies beside train/, val/ or test/, so it is not clear which split it belongs to"
    ]
