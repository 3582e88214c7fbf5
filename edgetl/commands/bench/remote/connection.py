"""The connection to a `board.Board` on another machine, over the pipes of a process that reaches it."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from edgetl.commands.bench.remote import board
from edgetl.core.errors import DataError
from edgetl.core.words import printable

_ANSWER_S = 120.0
_LONGEST_LINE = 1 << 28
_STOP_S = 30.0
_NONSENSE = "it sent something that is not an answer"


class Lost(Exception):
    """The connection ended, or the program at its other end did."""


class Refused(Exception):
    """An error reported by the board. kind: as in board.Failed."""

    def __init__(self, kind: str, reason: str) -> None:
        super().__init__(reason)
        self.kind, self.reason = kind, reason


class Connection:
    """command: starts the process that connects; it ends with the connection. Raises FileNotFoundError if it does not exist."""

    def __init__(self, command: Sequence[str], on_note: Callable[[str], None]) -> None:
        self._note = on_note
        self._chatter = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the connection
        self._read = b""
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._chatter,
            # This process handles Ctrl-C: the rows measured so far come back first.
            start_new_session=True,
        )
        assert self._process.stdout is not None
        os.set_blocking(self._process.stdout.fileno(), False)

    @property
    def code(self) -> int | None:
        """The exit code of the connecting process; None while it runs."""
        return self._process.poll()

    def ask(
        self,
        what: str,
        *,
        on_said: Callable[[Mapping[str, Any]], None] | None = None,
        timeout_s: float = _ANSWER_S,
        **request: Any,
    ) -> Any:
        """The answer's "ok". Ctrl-C during `run` stops the run on the board, which then sends what it has."""
        self.send({"do": what, **request})
        try:
            return self.answer(timeout_s, on_said)
        except KeyboardInterrupt:
            if on_said is None:
                raise
            self.send({"do": "stop"})
            return self.answer(_STOP_S, on_said)

    def answer(self, timeout_s: float, on_said: Callable[[Mapping[str, Any]], None] | None = None) -> Any:
        while True:
            answer = self._line(timeout_s)
            if "note" in answer:
                self._note(printable(answer["note"], 300))
            elif "said" in answer:
                self._hear(answer["said"], on_said)
            elif "failed" in answer:
                raise Refused(str(answer["failed"]["kind"]), printable(str(answer["failed"]["reason"]), 2000))
            else:
                return answer.get("ok")

    def _line(self, timeout_s: float) -> dict[str, Any]:
        """The next answer; other output, such as a login shell's, is skipped. timeout_s: the longest silence."""
        stdout = self._process.stdout
        assert stdout is not None
        last = time.monotonic()
        while True:
            line, newline, rest = self._read.partition(b"\n")
            if newline:
                self._read = rest
                if line.startswith(board.MARK.encode()):
                    return self._parsed(line[len(board.MARK) :])
                continue
            part = stdout.read(1 << 20)
            if part == b"":
                raise Lost(self._last_words())
            if part is None:
                if time.monotonic() - last > timeout_s:
                    raise Lost(f"it was silent for {timeout_s:.0f} s")
                time.sleep(0.02)
                continue
            last = time.monotonic()
            self._read += part
            if len(self._read) > _LONGEST_LINE:
                raise Lost(_NONSENSE)

    def _parsed(self, line: bytes) -> dict[str, Any]:
        try:
            answer = json.loads(line)
        except ValueError:
            answer = None
        if not isinstance(answer, dict):
            raise Lost(_NONSENSE)
        return answer

    def _hear(self, said: Any, on_said: Callable[[Mapping[str, Any]], None] | None) -> None:
        try:
            if on_said is not None:
                on_said(said)
        except (LookupError, TypeError, ValueError, AttributeError):
            raise Lost(_NONSENSE) from None

    def send(self, request: Mapping[str, Any]) -> None:
        self.write(json.dumps(request).encode() + b"\n")

    def write(self, data: bytes) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(data)
            self._process.stdin.flush()
        except OSError:
            raise Lost(self._last_words()) from None

    def write_file(self, path: Path, size: int) -> None:
        with path.open("rb") as stream:
            left = size
            while left:
                part = stream.read(min(left, 1 << 20))
                if not part:
                    raise DataError(f"{printable(str(path), 4096)} became shorter while it was sent.", fix="run again")
                self.write(part)
                left -= len(part)

    def _last_words(self) -> str:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(5)
        self._chatter.seek(0)
        lines = [line for line in self._chatter.read().decode(errors="replace").splitlines() if line.strip()]
        return printable("; ".join(lines[-3:]), 600)

    def end(self) -> None:
        """Close the connection; what runs at its other end stops."""
        for stream in (self._process.stdin, self._process.stdout):
            with contextlib.suppress(OSError):
                if stream is not None:
                    stream.close()
        try:
            self._process.wait(2)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._chatter.close()
