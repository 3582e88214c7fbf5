"""Store: content-addressed artifacts on disk. Atomic, locked, digest-checked on read.

    CACHE/artifacts/<key>/payload/...   what a stage wrote
    CACHE/artifacts/<key>/record.json   written last: no record, no artifact
    CACHE/partial/<key>/                a stage under way: its checkpoints survive a kill
    CACHE/locks/<key>.lock              one builder per key
    CACHE/index.sqlite                  the digests of photos by path, and their verdicts by digest
    CACHE/downloads/                    files downloaded and checked

A key stands for what was requested (stages/plan.py), the record for what was produced. An artifact is used only while its
files have the digests in its record and its parents are those requested; otherwise it counts as absent.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NotRequired, TypedDict, cast

import filelock
import platformdirs

from edgetl.core.errors import DiskFullError, UsageError

# A stage writes a file of this name if a download failed that its result depends on: the result is used for a day.
RETRY = "retry"
_RETRY_AFTER_S = 86_400.0
_MARKER = "edgetl-cache"


@dataclass(frozen=True)
class Artifact:
    """The result of a stage. path: its folder. sha256: over its files. made_by: its key. parents: name -> sha256."""

    kind: str
    path: Path
    sha256: str
    made_by: str
    parents: Mapping[str, str] = field(default_factory=dict)
    seconds: float = 0.0
    bytes: int = 0


class Record(TypedDict):
    """record.json of an artifact. files: path in the payload -> sha256. sha256: over all of them."""

    kind: str
    files: dict[str, str]
    sha256: str
    parents: dict[str, str]
    options: NotRequired[dict[str, object]]
    seconds: NotRequired[float]
    bytes: NotRequired[int]


def file_sha256(path: Path) -> str:
    """Digest of a file's bytes, read in chunks."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _folder_digests(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): file_sha256(path) for path in sorted(folder.rglob("*")) if path.is_file()
    }


def _digest_of(files: Mapping[str, str]) -> str:
    return hashlib.sha256("".join(f"{digest}  {name}\n" for name, digest in sorted(files.items())).encode()).hexdigest()


def _fsync_tree(folder: Path) -> None:
    for path in [folder, *folder.rglob("*")]:
        fd = os.open(path, os.O_RDONLY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)


def write_atomically(path: Path, data: bytes) -> None:
    """Write, fsync, rename: a reader sees the old file or the new one, never a part of one."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with temporary.open("wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def default_cache() -> Path:
    """$EDGETL_CACHE, or the user's cache folder if it is not set."""
    chosen = os.environ.get("EDGETL_CACHE")
    return Path(chosen).expanduser() if chosen else platformdirs.user_cache_path("edgetl")


class Store:
    """The cache at one folder."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.artifacts = root / "artifacts"
        self.partial = root / "partial"
        self.locks = root / "locks"
        self.downloads = root / "downloads"

    def prepare(self) -> None:
        """Create the folders. Raises UsageError if they cannot be created."""
        try:
            for folder in (self.artifacts, self.partial, self.locks, self.downloads):
                folder.mkdir(parents=True, exist_ok=True)
            # Shows `clear` that the folders are edgetl's; writing it also checks that they can be written.
            (self.root / _MARKER).write_text("made by edgetl; `edgetl cache clear` empties it\n")
        except OSError as error:
            raise UsageError(
                f"The cache folder {self.root} cannot be written.",
                why=str(error),
                fix="choose another with --cache or EDGETL_CACHE",
            ) from None

    def record(self, key: str) -> Record | None:
        """The record of an artifact, None if there is none. Does not read its files."""
        try:
            record = json.loads((self.artifacts / key / "record.json").read_text())
        except (OSError, ValueError):
            return None
        whole = isinstance(record, dict) and {"kind", "files", "sha256", "parents"} <= record.keys()
        return cast(Record, record) if whole else None

    def find(self, key: str, parents: Mapping[str, str]) -> Artifact | None:
        """The artifact of a key if it is complete, unchanged and made from exactly these parents; None otherwise."""
        record = self.record(key)
        if record is None or record["parents"] != dict(parents):
            return None
        try:
            if RETRY in record["files"] and self._age_s(key) > _RETRY_AFTER_S:
                return None
            files = _folder_digests(self.artifacts / key / "payload")
        except OSError:  # another process is replacing it, or it cannot be read: either way it is absent
            return None
        if files != record["files"] or _digest_of(files) != record["sha256"]:
            return None
        return self._artifact(key, record)

    def _age_s(self, key: str) -> float:
        return time.time() - (self.artifacts / key / "record.json").stat().st_mtime

    def _artifact(self, key: str, record: Record) -> Artifact:
        return Artifact(
            record["kind"],
            self.artifacts / key / "payload",
            record["sha256"],
            key,
            record["parents"],
            record.get("seconds", 0.0),
            record.get("bytes", 0),
        )

    def make(
        self,
        key: str,
        kind: str,
        parents: Mapping[str, str],
        work: Callable[[Path, Path], None],
        on_wait: Callable[[], None],
        options: Mapping[str, object],
    ) -> tuple[Artifact, bool]:
        """(The artifact of a key, whether it was already there.) If it was not, `work(out, scratch)` makes it.

        `scratch` survives a killed run; `out` is emptied before the work begins. An exception from `work` passes through,
        and only the scratch folder is left.
        """
        self.prepare()
        with self._locked(key, on_wait):
            found = self.find(key, parents)
            if found is not None:
                return found, True
            place = self.partial / key
            # Checkpoints are valid only for the inputs they were made from, not for every input of the key.
            inputs = hashlib.sha256(json.dumps(dict(parents), sort_keys=True).encode()).hexdigest()[:16]
            out, scratch = place / "out", place / f"scratch-{inputs}"
            try:
                shutil.rmtree(out, ignore_errors=True)
                out.mkdir(parents=True)
                scratch.mkdir(exist_ok=True)
                begun = time.monotonic()
                work(out, scratch)
                seconds = time.monotonic() - begun
                return self._commit(key, kind, parents, out, seconds, options), False
            except OSError as error:
                if error.errno in (errno.ENOSPC, errno.EDQUOT):
                    raise DiskFullError(
                        "The disk is full.",
                        why=str(error),
                        fix=f"free some space on the disk of {self.root} and run again: finished stages and epochs are kept there",
                    ) from error
                raise

    def _commit(
        self, key: str, kind: str, parents: Mapping[str, str], out: Path, seconds: float, options: Mapping[str, object]
    ) -> Artifact:
        files = _folder_digests(out)
        record: Record = {
            "kind": kind,
            "files": files,
            "sha256": _digest_of(files),
            "parents": dict(parents),
            "options": dict(options),
            "seconds": round(seconds, 3),
            "bytes": sum(path.stat().st_size for path in out.rglob("*") if path.is_file()),
        }
        _fsync_tree(out)
        final = self.artifacts / key
        shutil.rmtree(final, ignore_errors=True)
        final.mkdir(parents=True)
        os.replace(out, final / "payload")
        write_atomically(final / "record.json", json.dumps(record, indent=1, sort_keys=True).encode())
        shutil.rmtree(self.partial / key, ignore_errors=True)
        return self._artifact(key, record)

    @contextlib.contextmanager
    def _locked(self, key: str, on_wait: Callable[[], None]) -> Iterator[None]:
        # A lock of the operating system: it is released when its holder is killed.
        lock = filelock.FileLock(self.locks / f"{key}.lock")
        try:
            lock.acquire(timeout=0)
        except filelock.Timeout:
            on_wait()
            lock.acquire()
        try:
            yield
        finally:
            lock.release()

    def entries(self) -> list[tuple[str, Record]]:
        """(key, record) of every artifact, sorted by kind."""
        if not self.artifacts.is_dir():
            return []
        found = [
            (folder.name, record)
            for folder in self.artifacts.iterdir()
            if (record := self.record(folder.name)) is not None
        ]
        return sorted(found, key=lambda entry: (entry[1]["kind"], entry[0]))

    def clear(self) -> int:
        """Remove everything and return the bytes freed. A build in progress keeps its locks and fails with an error."""
        if self.root.exists() and not (self.root / _MARKER).is_file():
            raise UsageError(
                f"{self.root} is not an edgetl cache.", why=f"it has no file {_MARKER}", fix="check --cache"
            )
        freed = 0
        for folder in (self.artifacts, self.partial, self.downloads):
            if folder.is_dir():
                freed += sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
                shutil.rmtree(folder, ignore_errors=True)
        (self.root / "index.sqlite").unlink(missing_ok=True)
        return freed
