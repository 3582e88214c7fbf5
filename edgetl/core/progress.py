from __future__ import annotations

import contextlib
from typing import Protocol


class Progress(Protocol):
    """Where a stage tells how far it is; the console decides how that looks."""

    def begin(self, total: int, *, done: int = 0, unit: str = "steps") -> None:
        """A count starts: `total` units of work, `done` of them already behind."""

    def advance(self, count: int, detail: str = "") -> None:
        """`count` more units are done; `detail` is a word on how it goes ("loss 0.31")."""

    def note(self, text: str) -> None:
        """Something a person should know; stays on the screen and goes into the log."""


class Display(Protocol):
    """What shows a build to a person."""

    def stage(self, position: int, count: int, title: str) -> contextlib.AbstractContextManager[Progress]:
        """A stage runs inside this context. title: what it does, in words."""

    def cached(self, position: int, count: int, title: str) -> None:
        """A stage's result was already there."""

    def note(self, text: str) -> None:
        """One line."""
