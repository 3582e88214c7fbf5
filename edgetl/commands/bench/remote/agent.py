"""`edgetl.commands.bench.schedule` on a board, for a client elsewhere: one request on stdin, results on stdout as they are measured.

The request is a line of JSON. Answers are lines that begin with `board.MARK`; only what is new of a row is sent, so
that if the connection breaks, the client has everything measured until then. It stops when stdin ends.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from edgetl.commands.bench.remote.board import MARK
from edgetl.commands.bench.rows import Job, Row
from edgetl.commands.bench.schedule import Settings, measure
from edgetl.core.child import answers_to_parent

# Fields of a Row that only grow: values already sent are not sent again. The client knows the job.
GROWING = ("rounds", "processor_ms", "process_s")
_PLAIN = tuple(field.name for field in fields(Row) if field.name not in (*GROWING, "job"))


class Teller:
    """Sends what is new of each row."""

    def __init__(self, say: Callable[[Mapping[str, Any]], None], jobs: list[Job]) -> None:
        self._say = say
        self._number = {id(job): i for i, job in enumerate(jobs)}
        self._rows: dict[int, Row] = {}
        self._told: dict[int, str] = {}
        self._counts: dict[tuple[int, str], int] = {}

    def visit(self, doing: str, row: Row, done: int, count: int) -> None:
        """schedule.OnVisit: between two visits nothing is being timed."""
        self._rows[self._number[id(row.job)]] = row
        self.rows()
        self._say({"doing": doing, "row": self._number[id(row.job)], "done": done, "count": count})

    def rows(self) -> None:
        """Send what is new of each row."""
        for number, row in self._rows.items():
            news: dict[str, Any] = {}
            for name in GROWING:
                values = getattr(row, name)
                before = self._counts.get((number, name), 0)
                if len(values) > before:
                    news[name] = values[before:]
                    self._counts[number, name] = len(values)
            plain = {name: getattr(row, name) for name in _PLAIN}
            text = json.dumps(plain)
            if text != self._told.get(number):
                self._told[number] = text
                news |= plain
            if news:
                self._say({"row": number, "news": news})

    def see(self, rows: list[Row]) -> None:
        """Send all rows, also those that no visit reported."""
        self._rows = dict(enumerate(rows))
        self.rows()


def facts() -> dict[str, Any]:
    """What this machine is: {machine, cores_by_speed, available_bytes, edgetl}.

    Raises ModuleNotFoundError if a module that every row needs is missing, so that it is reported once, at the start.
    """
    for name in ("numpy", "edgetl.tasks.photos.contract", "edgetl.runtimes"):
        importlib.import_module(name)
    from edgetl.commands.bench.disturbance import cores_by_speed
    from edgetl.core import machine
    from edgetl.core.version import __version__

    return {
        "machine": machine.describe(),
        "cores_by_speed": cores_by_speed(),
        "available_bytes": machine.available_bytes(),
        "edgetl": __version__,
    }


def backends() -> dict[str, str]:
    """Backend -> why it is not ready here, "" if it is."""
    from edgetl.runtimes import unavailable
    from edgetl.runtimes.catalogue import runnable

    return {name: unavailable(name) or "" for name in runnable()}


def _measure(request: Mapping[str, Any], say: Callable[[Mapping[str, Any]], None]) -> None:
    jobs = [
        Job(Path(job["model"]), job["backend"], job["threads"], job["shown"], images=job["images"])
        for job in request["jobs"]
    ]
    settings = dict(request["settings"])
    settings["cores"] = {int(threads): cores for threads, cores in settings["cores"].items()}
    teller = Teller(say, jobs)
    rows, disturbance, interrupted = measure(jobs, Settings(**settings), teller.visit)
    teller.see(rows)
    say({"disturbance": disturbance, "interrupted": interrupted})


def _interrupt_when_stdin_ends() -> None:
    def wait() -> None:
        # Not through sys.stdin: a thread that waits in it cannot be left behind at the end.
        while os.read(0, 4096):
            pass
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=wait, daemon=True).start()


def _first_line() -> str:
    line = b""
    while not line.endswith(b"\n"):
        part = os.read(0, 1)
        if not part:
            raise SystemExit(1)
        line += part
    return line.decode()


def main() -> None:
    """Answer the request on stdin."""
    answers = answers_to_parent()

    def say(answer: Mapping[str, Any]) -> None:
        answers.write(f"{MARK}{json.dumps(answer)}\n")
        answers.flush()

    request = json.loads(_first_line())
    # A shell starts background jobs with SIGINT ignored, and this may have come through one.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    _interrupt_when_stdin_ends()
    try:
        if request["do"] == "facts":
            say({"facts": facts()})
        elif request["do"] == "backends":
            say({"facts": {"backends": backends()}})
        else:
            _measure(request, say)
    except (KeyboardInterrupt, BrokenPipeError):
        os._exit(130)
    sys.stdout.flush()
    # The thread still waits at stdin.
    os._exit(0)
