"""The progress of a build, as lines or as bars. Everything here goes to stderr unless a caller passes another console."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress
from rich.text import Text

from edgetl.core.progress import Progress

_PLAIN_EVERY_S = 15.0


class _PlainProgress:
    """Lines for logs and pipes: one count every 15 seconds."""

    def __init__(self, write: Callable[[str], None]) -> None:
        self._write, self._total, self._done, self._unit, self._last = write, 0, 0, "", time.monotonic()

    def begin(self, total: int, *, done: int = 0, unit: str = "steps") -> None:
        self._total, self._done, self._unit, self._last = total, done, unit, time.monotonic()

    def advance(self, count: int, detail: str = "") -> None:
        self._done += count
        if time.monotonic() - self._last >= _PLAIN_EVERY_S:
            self._last = time.monotonic()
            self._write(f"    {self._done}/{self._total} {self._unit}{f', {detail}' if detail else ''}")

    def note(self, text: str) -> None:
        self._write(f"    {text}")


class PlainDisplay:
    """A build as plain lines. See core.progress.Display."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(file=sys.stderr, highlight=False, soft_wrap=True)

    def _write(self, text: str) -> None:
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)

    @contextlib.contextmanager
    def stage(self, position: int, count: int, title: str) -> Iterator[Progress]:
        """See core.progress.Display."""
        begun = time.monotonic()
        self._write(f"[{position}/{count}] {title}")
        yield _PlainProgress(self._write)
        self._write(f"[{position}/{count}] {title}: {time.monotonic() - begun:.1f} s")

    def cached(self, position: int, count: int, title: str) -> None:
        """See core.progress.Display."""
        self._write(f"[{position}/{count}] {title}: cached")

    def note(self, text: str) -> None:
        """See core.progress.Display."""
        self._write(text)


class _BarProgress:
    def __init__(self, bar: RichProgress, console: Console) -> None:
        self._bar, self._console = bar, console
        self._task = bar.add_task("", total=None, detail="")

    def begin(self, total: int, *, done: int = 0, unit: str = "steps") -> None:
        self._bar.reset(self._task, total=total, completed=done, description=unit, detail="")

    def advance(self, count: int, detail: str = "") -> None:
        self._bar.update(self._task, advance=count, detail=detail)

    def note(self, text: str) -> None:
        self._console.print(Text(f"    {text}", style="dim"))


class BarDisplay(PlainDisplay):
    """A build on a terminal: one bar for the running stage."""

    @contextlib.contextmanager
    def stage(self, position: int, count: int, title: str) -> Iterator[Progress]:
        """See core.progress.Display."""
        begun = time.monotonic()
        self._console.print(Text.assemble((f"[{position}/{count}] ", "bold"), title))
        columns = (
            TextColumn("    {task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[detail]}"),
            TimeRemainingColumn(compact=True),
        )
        with RichProgress(*columns, console=self._console, transient=True) as bar:
            yield _BarProgress(bar, self._console)
        self._console.print(Text(f"    done in {time.monotonic() - begun:.1f} s", style="green"))

    def cached(self, position: int, count: int, title: str) -> None:
        """See core.progress.Display."""
        self._console.print(Text.assemble((f"[{position}/{count}] ", "bold"), title, (" cached", "dim")))


def make_display(console: Console) -> PlainDisplay:
    """Bars on a terminal, lines anywhere else."""
    return BarDisplay(console) if console.is_terminal else PlainDisplay(console)


@contextlib.contextmanager
def native_chatter_to(log: Path) -> Iterator[Console]:
    """Redirect the output of C++ libraries into a file; yields a console on the real stderr.

    TensorFlow's libraries write to file descriptors 1 and 2 directly, and no setting of theirs stops all of it.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    sys.stdout.flush()
    sys.stderr.flush()
    kept = [os.dup(1), os.dup(2)]
    terminal = os.fdopen(os.dup(2), "w", buffering=1, encoding="utf-8", errors="replace")
    sink = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    try:
        os.dup2(sink, 1)
        os.dup2(sink, 2)
        yield Console(file=terminal, highlight=False)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        for fd, original in zip((1, 2), kept, strict=True):
            os.dup2(original, fd)
            os.close(original)
        os.close(sink)
        terminal.close()
