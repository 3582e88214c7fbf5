"""The parent's side of a row's process: start it, send requests, watch its memory and time, end it.

Whatever a model makes a runtime do (crash, hang, exhaust memory), it ends only this process, and only this row fails.
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
from typing import Any, cast

from edgetl.commands.bench.protocol import Opened, OpenRequest, Placed, Profiled, Timed
from edgetl.core.child import command_line, signal_name
from edgetl.core.words import printable

_LOOK_EVERY_S = 0.05
_CHATTER = 400


class ChildFailed(Exception):
    """kind: "refused", "missing", "placement", "crashed", "hung" or "memory"."""

    def __init__(self, kind: str, reason: str) -> None:
        super().__init__(reason)
        self.kind, self.reason = kind, reason


# Process numbers of the open children: they share the machine's memory.
_LIVING: set[int] = set()


def _resident_bytes(pid: int) -> int:
    """Current resident memory of a process; 0 if the system does not report it."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except (OSError, ValueError, IndexError):
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")


class Child:
    """A process that runs `edgetl.commands.bench.worker`. Use as a context manager: the process is ended on exit.

    The methods named like the worker's return its answers. They raise ChildFailed, and the process is ended then.
    """

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
            # The parent handles Ctrl-C: it shows the rows measured so far.
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

    def open(self, request: OpenRequest, *, timeout_s: float) -> Opened:
        return cast(Opened, self.ask("open", timeout_s=timeout_s, **request))

    def time(self, *, runs: int, lead: int, timeout_s: float) -> Timed:
        return cast(Timed, self.ask("time", timeout_s=timeout_s, runs=runs, lead=lead))

    def placement(self, *, timeout_s: float) -> Placed:
        return cast(Placed, self.ask("placement", timeout_s=timeout_s))

    def profile(self, *, runs: int, backend: str, timeout_s: float) -> Profiled:
        return cast(Profiled, self.ask("profile", timeout_s=timeout_s, runs=runs, backend=backend))

    def ask(self, what: str, *, timeout_s: float, **request: Any) -> dict[str, Any]:
        """The worker's answer to any request."""
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
                # Only the child at work can grow: end this one, not the others.
                self.end()
                raise ChildFailed(
                    "memory",
                    f"it used {used / 1e9:.2g} GB, and all open rows together more than the limit of {self._limit / 1e9:.2g} GB (--memory)",
                )
            if time.monotonic() - begun > timeout_s:
                self.end()
                raise ChildFailed("hung", f"no answer to {what!r} within {timeout_s:g} s (--timeout)")
        line, _, self._read = self._read.partition(b"\n")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            self.end()
            raise ChildFailed(answer["error"]["kind"], printable(answer["error"]["reason"], 600))
        return answer

    def _fail_as_ended(self) -> None:
        """Raise ChildFailed for a process that ended on its own."""
        code = self._process.wait()
        chatter = self._last_words()
        self.end()
        if code == -signal.SIGKILL:
            raise ChildFailed("memory", "it was killed: the system ran out of memory")
        name = signal_name(-code) if code < 0 else f"exit code {code}"
        raise ChildFailed("crashed", f"{name}{f': {chatter}' if chatter else ''}")

    def _last_words(self) -> str:
        self._chatter.seek(0, os.SEEK_END)
        self._chatter.seek(max(0, self._chatter.tell() - 4096))
        lines = [line for line in self._chatter.read().decode(errors="replace").splitlines() if line.strip()]
        return printable(lines[-1], _CHATTER) if lines else ""

    def end(self) -> None:
        """Kill the process if it still runs."""
        _LIVING.discard(self._process.pid)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            # Together with the processes that it started: drivers are probed in separate ones.
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout, self._chatter):
            with contextlib.suppress(OSError):
                if stream is not None:
                    stream.close()
        with contextlib.suppress(OSError, ValueError, KeyError):
            self._answers.close()
