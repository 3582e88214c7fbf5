"""Known facts of photos, so that no photo is read twice: the digest by (path, size, time), the verdict by digest."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable
from pathlib import Path

_SCHEMA = """
create table if not exists files (path text primary key, size integer, mtime_ns integer, sha256 text) without rowid;
create table if not exists verdicts (sha256 text, checker text, why text, primary key (sha256, checker)) without rowid;
"""


class PhotoIndex:
    """An SQLite file that several processes may use at once. If it is lost or damaged, that costs time, not results."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._db = self._open(path)
        except sqlite3.DatabaseError as error:
            # Its subclasses mean a busy file or a full disk, not damage.
            if type(error) is not sqlite3.DatabaseError:
                raise
            for damaged in (path, path.with_name(f"{path.name}-journal")):
                damaged.unlink(missing_ok=True)
            self._db = self._open(path)

    @staticmethod
    def _open(path: Path) -> sqlite3.Connection:
        db = sqlite3.connect(path, timeout=60.0)
        try:
            db.executescript(_SCHEMA)
            result = db.execute("pragma quick_check(1)").fetchone()[0]
            if result != "ok":
                raise sqlite3.DatabaseError(result)
        except BaseException:
            db.close()
            raise
        return db

    def digests(self) -> dict[str, tuple[int, int, str]]:
        """Path -> (bytes, modification time in ns, sha256)."""
        return {
            os.fsdecode(row[0]): (row[1], row[2], row[3])
            for row in self._db.execute("select path, size, mtime_ns, sha256 from files")
        }

    def remember_digests(self, rows: Iterable[tuple[str, int, int, str]]) -> None:
        """Rows of (path, bytes, modification time in ns, sha256)."""
        with self._db:
            # As bytes: a file's name need not be UTF-8.
            encoded = ((os.fsencode(path), *facts) for path, *facts in rows)
            self._db.executemany("insert or replace into files values (?, ?, ?, ?)", encoded)

    def verdicts(self, checker: str) -> dict[str, str]:
        """sha256 -> why the photo cannot be used, "" if it can."""
        return dict(self._db.execute("select sha256, why from verdicts where checker = ?", (checker,)))

    def remember_verdicts(self, checker: str, rows: Iterable[tuple[str, str]]) -> None:
        """Rows of (sha256, why)."""
        with self._db:
            self._db.executemany(
                "insert or replace into verdicts values (?, ?, ?)", ((digest, checker, why) for digest, why in rows)
            )

    def close(self) -> None:
        """Close the file."""
        self._db.close()
