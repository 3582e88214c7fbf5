"""How work reports its progress. Rooms that compute call this; edgetl.console decides how it looks."""

from __future__ import annotations

import contextlib
from typing import Protocol


class Progress(Protocol):
    """The progress of one stage."""

    def begin(self, total: int, *, done: int = 0, unit: str = "steps") -> None:
        """Start to count: `total` units of work, of which `done` are already done."""

    def advance(self, count: int, detail: str = "") -> None:
        """Count `count` more units as done. detail: a short figure to show beside them ("loss 0.31")."""

    def note(self, text: str) -> None:
        """Show a line that stays on the screen and goes into the log."""


class Display(Protocol):
    """The progress of a build."""

    def stage(self, position: int, count: int, title: str) -> contextlib.AbstractContextManager[Progress]:
        """The context that a stage runs in. title: what the stage does, in words."""

    def cached(self, position: int, count: int, title: str) -> None:
        """A stage's result is in the cache."""

    def note(self, text: str) -> None:
        """Show one line."""
