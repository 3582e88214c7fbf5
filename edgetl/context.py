"""What a stage is given besides its options and inputs. Light: stages and the pipeline both import it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol


class Progress(Protocol):
    """Where a stage tells how far it is; the console decides how that looks."""

    def begin(self, total: int, *, done: int = 0, unit: str = "steps") -> None:
        """A count starts: `total` units of work, `done` of them already behind."""

    def advance(self, count: int, detail: str = "") -> None:
        """`count` more units are done; `detail` is a word on how it goes ("loss 0.31")."""

    def note(self, text: str) -> None:
        """Something a person should know; stays on the screen and goes into the log."""


@dataclass(frozen=True)
class Context:
    """out: the empty folder the stage fills. scratch: survives a killed run. photos: sha256 -> file.

    listing: the data set as found (split; verify, for the photos' names). local_file: first weights found on this machine (weights stage).
    """

    out: Path
    scratch: Path
    progress: Progress
    photos: Mapping[str, Path]
    cache: Path
    listing: object = None
    local_file: Path | None = None
