"""Run `edgetl.commands.bench.schedule` on a board: one request on stdin, results on stdout as soon as they exist.

The request is a line of JSON. Answers (messages.py) are lines that begin with `board.MARK`. Each has only what is new of a row;
if the connection breaks, everything measured until then is already on the other side. The agent stops when stdin ends.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import sys
import threading
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any, cast

from edgetl.commands.bench.remote.board import MARK
from edgetl.commands.bench.remote.messages import AgentMessage, AgentRequest, Facts
from edgetl.commands.bench.rows import Job, MachineJson, Row
from edgetl.commands.bench.schedule import Settings, measure
from edgetl.core.child import answers_to_parent

# Fields of a Row that only grow: each of their values is sent once. The job is known on the other side.
GROWING = ("rounds", "processor_ms", "process_s")
_PLAIN = tuple(field.name for field in fields(Row) if field.name not in (*GROWING, "job"))


Send = Callable[[AgentMessage], None]


class Reporter:
    """Sends what is new of rows."""

    def __init__(self, send: Send, jobs: list[Job]) -> None:
        self._send = send
        self._number = {id(job): i for i, job in enumerate(jobs)}
        self._rows: dict[int, Row] = {}
        self._sent: dict[int, str] = {}
        self._counts: dict[tuple[int, str], int] = {}

    def visit(self, doing: str, row: Row, done: int, count: int) -> None:
        """As schedule.OnVisit: called between visits, while nothing is being timed."""
        self._rows[self._number[id(row.job)]] = row
        self.send_news()
        self._send({"doing": doing, "row": self._number[id(row.job)], "done": done, "count": count})

    def send_news(self) -> None:
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
            if text != self._sent.get(number):
                self._sent[number] = text
                news |= plain
            if news:
                self._send({"row": number, "news": news})

    def finish(self, rows: list[Row]) -> None:
        """Send what is new of all rows, also of those that were never visited."""
        self._rows = dict(enumerate(rows))
        self.send_news()


def facts() -> Facts:
    """What this machine is.

    Raises ModuleNotFoundError if a package is missing that every row needs: one early error instead of one per row.
    """
    for name in ("numpy", "edgetl.tasks.photos.contract", "edgetl.runtimes"):
        importlib.import_module(name)
    from edgetl.commands.bench.disturbance import cores_by_speed
    from edgetl.core import machine
    from edgetl.core.version import __version__

    return {
        "machine": cast(MachineJson, machine.describe()),
        "cores_by_speed": cores_by_speed(),
        "available_bytes": machine.available_bytes(),
        "edgetl": __version__,
    }


def backends() -> dict[str, str]:
    """Backend -> why it is not ready, "" if it is."""
    from edgetl.runtimes import unavailable
    from edgetl.runtimes.catalogue import runnable

    return {name: unavailable(name) or "" for name in runnable()}


def _measure(request: AgentRequest, send: Send) -> None:
    jobs = [
        Job(Path(job["model"]), job["backend"], job["threads"], job["shown"], images=job["images"])
        for job in request["jobs"]
    ]
    settings = dict(request["settings"])
    settings["cores"] = {int(threads): cores for threads, cores in settings["cores"].items()}
    reporter = Reporter(send, jobs)
    rows, disturbance, interrupted = measure(jobs, Settings(**settings), reporter.visit)
    reporter.finish(rows)
    send({"disturbance": disturbance, "interrupted": interrupted})


def _interrupt_when_stdin_ends() -> None:
    def wait() -> None:
        # Not through sys.stdin: the process could not exit while a thread waits in it.
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

    def send(answer: AgentMessage) -> None:
        answers.write(f"{MARK}{json.dumps(answer)}\n")
        answers.flush()

    request: AgentRequest = json.loads(_first_line())
    # SIGINT is ignored in the background jobs of a shell, and this process may be in one.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    _interrupt_when_stdin_ends()
    try:
        if request["do"] == "facts":
            send({"facts": facts()})
        elif request["do"] == "backends":
            send({"facts": {"backends": backends()}})
        else:
            _measure(request, send)
    except (KeyboardInterrupt, BrokenPipeError):
        os._exit(130)
    sys.stdout.flush()
    # os._exit, because the thread still waits for stdin.
    os._exit(0)
