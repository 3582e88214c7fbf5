"""The parent's side of a row's process: start it, send requests, watch its memory and the clock, end it.

Whatever a model makes a runtime do (crash, hang, eat memory) ends this one process, and one row says so.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any, Literal, Unpack, cast, overload

from edgetl.commands.bench.protocol import (
    Failure,
    Opened,
    OpenRequest,
    Placed,
    Profiled,
    ProfileRequest,
    Timed,
    TimeRequest,
)
from edgetl.core.child import command_line
from edgetl.core.words import printable

_LOOK_EVERY_S = 0.05
_CHATTER = 400


class ChildFailed(Exception):
    """kind: "refused", "missing", "placement", "crashed", "hung" or "memory"."""

    def __init__(self, kind: str, reason: str) -> None:
        super().__init__(reason)
        self.kind, self.reason = kind, reason


# Children that are open: they share the machine's memory.
_LIVING: set[int] = set()


def _resident_bytes(pid: int) -> int:
    """Resident memory of a process now; 0 where the system does not tell."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except (OSError, ValueError, IndexError):
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")


class Child:
    """A process that runs `edgetl.commands.bench.worker`. Use as a context manager: it is gone afterwards."""

    def __init__(self, *, memory_limit_bytes: int) -> None:
        self._limit = memory_limit_bytes
        self._chatter = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the child
        env = {**os.environ, "TF_USE_LEGACY_KERAS": "1", "TF_CPP_MIN_LOG_LEVEL": "3"}
        self._process = subprocess.Popen(
            command_line("edgetl.commands.bench.worker", "main"),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._chatter,
            env=env,
            # The parent handles Ctrl-C: it shows what was measured first.
            start_new_session=True,
        )
        _LIVING.add(self._process.pid)
        assert self._process.stdout is not None
        os.set_blocking(self._process.stdout.fileno(), False)
        self._answers = selectors.DefaultSelector()
        self._answers.register(self._process.stdout, selectors.EVENT_READ)
        self._read = b""

    def __enter__(self) -> Child:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    @overload
    def ask(self, what: Literal["open"], *, timeout_s: float, **request: Unpack[OpenRequest]) -> Opened: ...
    @overload
    def ask(self, what: Literal["time"], *, timeout_s: float, **request: Unpack[TimeRequest]) -> Timed: ...
    @overload
    def ask(self, what: Literal["placement"], *, timeout_s: float) -> Placed: ...
    @overload
    def ask(self, what: Literal["profile"], *, timeout_s: float, **request: Unpack[ProfileRequest]) -> Profiled: ...
    def ask(self, what: str, *, timeout_s: float, **request: Any) -> Any:
        """The worker's answer. Raises ChildFailed, and the process is gone."""
        assert self._process.stdin is not None
        begun = time.monotonic()
        try:
            self._process.stdin.write(json.dumps({"do": what, **request}).encode() + b"\n")
            self._process.stdin.flush()
        except OSError:
            self._fail_as_ended()
        while b"\n" not in self._read:
            if self._answers.select(_LOOK_EVERY_S):
                assert self._process.stdout is not None
                part = self._process.stdout.read()
                if part == b"":
                    self._fail_as_ended()
                self._read += part or b""
                continue
            used = _resident_bytes(self._process.pid)
            if used > self._limit or sum(map(_resident_bytes, _LIVING)) > self._limit:
                # Of all open children, only the one at work grows.
                self.end()
                raise ChildFailed(
                    "memory",
                    f"it took {used / 1e9:.2g} GB, and with it all rows more than the {self._limit / 1e9:.2g} GB allowed (--memory)",
                )
            if time.monotonic() - begun > timeout_s:
                self.end()
                raise ChildFailed("hung", f"no answer to {what!r} within {timeout_s:g} s (--timeout)")
        line, _, self._read = self._read.partition(b"\n")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            self.end()
            failure = cast("Failure", answer["error"])
            raise ChildFailed(failure["kind"], printable(failure["reason"], 600))
        return answer

    def _fail_as_ended(self) -> None:
        """Raises ChildFailed: the process ended on its own."""
        code = self._process.wait()
        chatter = self._last_words()
        self.end()
        if code == -signal.SIGKILL:
            raise ChildFailed("memory", "it was killed: the system ran out of memory")
        name = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        raise ChildFailed("crashed", f"{name}{f': {chatter}' if chatter else ''}")

    def _last_words(self) -> str:
        self._chatter.seek(0, os.SEEK_END)
        self._chatter.seek(max(0, self._chatter.tell() - 4096))
        lines = [line for line in self._chatter.read().decode(errors="replace").splitlines() if line.strip()]
        return printable(lines[-1], _CHATTER) if lines else ""

    def end(self) -> None:
        """Kill it if it is still there."""
        _LIVING.discard(self._process.pid)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            # With what it started: a question put to a driver runs in a process of its own.
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout, self._chatter):
            with contextlib.suppress(OSError):
                if stream is not None:
                    stream.close()
        with contextlib.suppress(OSError, ValueError, KeyError):
            self._answers.close()
