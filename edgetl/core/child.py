"""Child processes: one way to start them, and one way to question a library in a separate process.

Native code may crash, hang or print anything. Whatever it does in the child, the parent reads one answer or one reason.
"""

from __future__ import annotations

import ctypes
import importlib
import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from typing import Any, TextIO

from edgetl.core.paths import package_root

# The child must run this very package, wherever it was imported from, and no module beside a model or beside the package.
# So the package's folder is on the path for one import only, after the standard library's modules that this import needs;
# the current folder never is (-P).
_BOOTSTRAP = (
    "import __future__, sys, importlib, typing; root, module, function = sys.argv[1:4]; del sys.argv[1:4]; "
    "sys.path.insert(0, root); import edgetl; del sys.path[0]; getattr(importlib.import_module(module), function)()"
)


def command_line(module: str, function: str, *arguments: str) -> list[str]:
    """The command that calls `module.function()` of this package in a fresh Python. arguments: its sys.argv[1:]."""
    return [sys.executable, "-P", "-c", _BOOTSTRAP, str(package_root().parent), module, function, *arguments]


def end_with_parent() -> None:
    """Called in a child: end it when its parent is killed, even if native code in it never returns (Linux)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG, prctl(2)


def signal_name(number: int) -> str:
    """The name of a signal that ended a process; real-time signals have none.

    >>> signal_name(11), signal_name(40)
    ('SIGSEGV', 'signal 40')
    """
    return {one.value: one.name for one in signal.Signals}.get(number, f"signal {number}")


def answers_to_parent() -> TextIO:
    """Called in a child: the stream that the parent reads. Output of native code to stdout goes to stderr instead."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return answers


@dataclass(frozen=True)
class Reply:
    """facts: the answer, or None with the reason in `why`. chatter: what native code wrote to stdout and stderr."""

    facts: dict[str, Any] | None  # each module's own answer: parsed JSON
    why: str
    chatter: str


def ask(module: str, *arguments: str, given: bytes = b"", timeout_s: float) -> Reply:
    """Run `module.answer(given, *arguments)` in a fresh process and return what it returns: plain data.

    An OSError, RuntimeError or ValueError that it raises becomes `why`, and so do a crash and a timeout.
    """
    command = command_line(__name__, "serve", module, *arguments)
    try:
        done = subprocess.run(command, input=given, capture_output=True, timeout=timeout_s, check=False)
    except subprocess.TimeoutExpired as late:
        return Reply(None, f"not done after {timeout_s:g} s", _text(late.stderr))
    chatter = _text(done.stderr)
    if done.returncode < 0:
        return Reply(None, f"it crashed ({signal_name(-done.returncode)})", chatter)
    if done.returncode or not done.stdout:
        return Reply(None, (chatter.strip().splitlines() or [f"exit status {done.returncode}"])[-1][-300:], chatter)
    answer = json.loads(done.stdout)
    return Reply(answer["facts"], answer["why"], chatter)


def _text(raw: bytes | None) -> str:
    return (raw or b"").decode(errors="replace")


def serve() -> None:
    """The child's side of `ask`."""
    end_with_parent()
    answers = answers_to_parent()
    module, *arguments = sys.argv[1:]
    try:
        answer = {"facts": importlib.import_module(module).answer(sys.stdin.buffer.read(), *arguments), "why": ""}
    except (OSError, RuntimeError, ValueError) as error:
        answer = {"facts": None, "why": " ".join(str(error).split())[-300:] or type(error).__name__}
    with answers:
        json.dump(answer, answers)
    # Skip native destructors and atexit hooks: the answer is written.
    sys.stderr.flush()
    os._exit(0)
