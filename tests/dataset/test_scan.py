"""What a data set may be: its layouts, its CSV and its fingerprint."""

from __future__ import annotations

import os
import shutil
from collections import Counter
from pathlib import Path

import pytest

from edgetl.core.errors import DataError
from edgetl.dataset.scan import list_photos

TWO_CLASSES = {"cats": 10, "dogs": 10}
REFUSED = "cannot be used as it is"


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
