"""Find the photos of a data set: a folder of class folders; the same under train/ val/ test/; a CSV (`path,label[,split]`).

Listing and hashing are fast, and digests are kept. No photo is decoded here; edgetl.tasks.photos.faults does that.
"""

from __future__ import annotations

import csv
import hashlib
import os
import stat
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from edgetl.core import machine
from edgetl.core.errors import DataError
from edgetl.core.store import file_sha256
from edgetl.dataset.index import PhotoIndex

SPLIT_FOLDERS = {
    "train": "train",
    "training": "train",
    "val": "validate",
    "valid": "validate",
    "validation": "validate",
    "validate": "validate",
    "test": "test",
    "testing": "test",
}
_PHOTO_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp"}
_CLUTTER = {"thumbs.db", "desktop.ini", "__macosx"}


@dataclass(frozen=True)
class Photo:
    """One file with its label. split: train, validate or test; "" if the data does not say."""

    path: Path
    label: str
    split: str
    sha256: str


@dataclass(frozen=True)
class Offender:
    """Something that cannot be used, why, and the fix.

    why: part of a listing's fingerprint, so rewording it makes builds with --skip-bad run again.
    """

    what: str
    why: str
    fix: str


@dataclass(frozen=True)
class Listing:
    """The photos of a data set in path order, and the faults that listing them has shown.

    empty: classes named by a folder or a line without a single photo that could be listed.
    """

    source: str
    photos: tuple[Photo, ...]
    offenders: tuple[Offender, ...]
    empty: tuple[str, ...] = ()

    @property
    def fingerprint(self) -> str:
        """Digest of contents, labels and given splits; the paths of the files are not part of it."""
        lines = sorted(f"{photo.label}\t{photo.split}\t{photo.sha256}" for photo in self.photos)
        lines += sorted(f"offender\t{offender.why}" for offender in self.offenders)
        lines += [f"empty\t{label}" for label in self.empty]
        return hashlib.sha256("\n".join(lines).encode("utf-8", "surrogateescape")).hexdigest()

    def path_of(self) -> dict[str, Path]:
        """sha256 -> file."""
        return {photo.sha256: photo.path for photo in self.photos}


def list_photos(
    source: Path, index: PhotoIndex, on_hashed: Callable[[int, int], None] = lambda done, total: None
) -> Listing:
    """List every photo of `source` with label, split and digest. Raises DataError if there is none."""
    if not source.exists():
        raise DataError(
            f"There is no file or folder {source}.",
            why="PHOTOS is a folder of class folders, a CSV file, or the name of a data set",
            fix="check the path; `edgetl data list` shows the data sets known by name",
        )
    offenders: list[Offender] = []
    named: set[str] = set()
    if source.is_dir():
        found = _in_folder(source, offenders, named)
    elif source.suffix.lower() == ".csv":
        found = _in_csv(source, offenders)
    else:
        raise DataError(
            f"{source} is neither a folder nor a .csv file.",
            why="PHOTOS is a folder of class folders, or a CSV of `path,label[,split]`",
        )
    if not found and not offenders:
        raise DataError(
            f"There are no photos in {source}.",
            why="it has no class folders with files in them",
            fix="put the photos of each class into a folder with the name of the class",
        )
    digests = _hash(found, index, offenders, on_hashed)
    photos = tuple(Photo(path, label, split, digests[path]) for path, label, split in found if path in digests)
    empty = (named | {label for _, label, _ in found}) - {photo.label for photo in photos}
    return Listing(shown_name(source), photos, tuple(offenders), tuple(sorted(empty)))


Found = tuple[Path, str, str]


def shown_name(name: Path | str) -> str:
    """A name that can be printed and stored: bytes that are not UTF-8 become escapes."""
    return str(name).encode("utf-8", "backslashreplace").decode()


def _in_folder(source: Path, offenders: list[Offender], named: set[str]) -> list[Found]:
    """The files of a folder; adds the names of all class folders to `named`."""
    folders = _subfolders(source)
    splits = {folder: SPLIT_FOLDERS[folder.name.lower()] for folder in folders if folder.name.lower() in SPLIT_FOLDERS}
    # "test" alone may be the name of a class; a train folder with another of these beside it means a split.
    if "train" in splits.values() and len(set(splits.values())) > 1:
        strangers = [folder.name for folder in folders if folder not in splits]
        if strangers:
            offenders.append(
                Offender(
                    ", ".join(strangers),
                    "lies beside train/, val/ or test/, so it is not clear which split it belongs to",
                    "move it into one of them, or out of the folder",
                )
            )
        classes = [(folder, split) for top, split in splits.items() for folder in _subfolders(top)]
    else:
        classes = [(folder, "") for folder in folders]
    named |= {folder.name for folder, _ in classes}
    offenders += [
        Offender(
            shown_name(entry),
            "lies beside the class folders, so it has no label",
            "move it into one of them, or out of the folder",
        )
        for entry in sorted(source.iterdir())
        if folders and entry.suffix.lower() in _PHOTO_SUFFIXES and entry.is_file()
    ]
    return [(path, folder.name, split) for folder, split in classes for path in _files(folder, offenders)]


def _is_clutter(name: str) -> bool:
    return name.startswith(".") or name.lower() in _CLUTTER


def _subfolders(folder: Path) -> list[Path]:
    return sorted(entry for entry in folder.iterdir() if entry.is_dir() and not _is_clutter(entry.name))


def _files(folder: Path, offenders: list[Offender]) -> list[Path]:
    found: list[Path] = []

    def refuse(path: Path | str, why: str) -> None:
        offenders.append(
            Offender(shown_name(path), why, "copy the photos themselves there, or leave it out with --skip-bad")
        )

    for place, folders, names in os.walk(
        folder, onerror=lambda error: refuse(error.filename, f"cannot be listed ({error.strerror})")
    ):
        folders[:] = sorted(name for name in folders if not _is_clutter(name))
        for link in [Path(place) / name for name in folders]:
            if link.is_symlink():
                refuse(link, "a link to a folder inside of a class: it is not followed")
        found += [Path(place) / name for name in sorted(names) if not _is_clutter(name)]
    return found


def _in_csv(source: Path, offenders: list[Offender]) -> list[Found]:
    found: list[Found] = []
    try:
        with source.open(newline="", encoding="utf-8-sig") as stream:
            reader = csv.DictReader(stream)
            columns = set(reader.fieldnames or ())
            if not {"path", "label"} <= columns:
                raise DataError(
                    f"{source} has no columns `path` and `label`.",
                    why=f"its first line reads: {', '.join(reader.fieldnames or ()) or 'nothing'}",
                    fix="begin the file with `path,label` or `path,label,split`",
                )
            for row in reader:
                name, label, split = (
                    (row.get("path") or "").strip(),
                    (row.get("label") or "").strip(),
                    (row.get("split") or "").strip().lower(),
                )
                where = f"{source.name}, line {reader.line_num}"
                if not name or not label:
                    offenders.append(Offender(where, "path or label is empty", "fill it in, or remove the line"))
                elif split and split not in SPLIT_FOLDERS:
                    offenders.append(
                        Offender(
                            where, f"split {split!r} is not one of train, val, test", "correct it, or leave it empty"
                        )
                    )
                else:
                    found.append((source.parent / name, label, SPLIT_FOLDERS.get(split, "")))
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(
            f"{source} cannot be read as CSV in UTF-8.", why=str(error), fix="save it as UTF-8 with commas"
        ) from None
    if not found and not offenders:
        raise DataError(f"There are no photos in {source}.", why="the file has no lines after its first")
    return found


def _hash(
    found: Sequence[Found], index: PhotoIndex, offenders: list[Offender], on_hashed: Callable[[int, int], None]
) -> dict[Path, str]:
    known = index.digests()
    digests: dict[Path, str] = {}
    new: list[tuple[Path, os.stat_result]] = []
    for path, _, _ in found:
        try:
            facts = path.stat()
        except (OSError, ValueError) as error:  # ValueError: a name that no file can have
            offenders.append(
                Offender(
                    shown_name(path),
                    f"cannot be opened ({getattr(error, 'strerror', error)})",
                    "correct the path, or leave it out with --skip-bad",
                )
            )
            continue
        if not stat.S_ISREG(facts.st_mode):
            offenders.append(Offender(shown_name(path), "not a regular file", "leave it out with --skip-bad"))
            continue
        size, mtime_ns, digest = known.get(os.path.abspath(path), (0, 0, ""))
        if digest and (size, mtime_ns) == (facts.st_size, facts.st_mtime_ns):
            digests[path] = digest
        else:
            new.append((path, facts))

    def digest_or_error(item: tuple[Path, os.stat_result]) -> str | OSError:
        try:
            return file_sha256(item[0])
        except OSError as error:
            return error

    fresh: list[tuple[str, int, int, str]] = []
    with ThreadPoolExecutor(machine.cores()) as pool:
        for done, ((path, facts), outcome) in enumerate(zip(new, pool.map(digest_or_error, new), strict=True), 1):
            on_hashed(done, len(new))
            if isinstance(outcome, OSError):
                offenders.append(
                    Offender(
                        shown_name(path),
                        f"cannot be read ({outcome.strerror})",
                        "fix its permissions, or leave it out with --skip-bad",
                    )
                )
                continue
            digests[path] = outcome
            fresh.append((os.path.abspath(path), facts.st_size, facts.st_mtime_ns, outcome))
    if fresh:
        index.remember_digests(fresh)
    return digests
