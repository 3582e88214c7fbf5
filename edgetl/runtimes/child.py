"""A question put to a library in a process of its own, where native code may crash, hang, or write what it likes."""

from __future__ import annotations

import ctypes
import importlib
import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# The child must run this very package, wherever it was found: our folder is on its path for one import only, and the
# current folder never is (-P).
_CHILD = (
    "import sys; sys.path.insert(0, sys.argv.pop(1)); import edgetl; del sys.path[0]; "
    "from edgetl.runtimes.child import serve; serve()"
)


@dataclass(frozen=True)
class Reply:
    """facts: what the question was answered with; None when it was not, and then `why`. chatter: what native code wrote
    meanwhile to stdout and stderr."""

    facts: dict[str, Any] | None
    why: str
    chatter: str


def ask(module: str, *arguments: str, given: bytes = b"", timeout_s: float) -> Reply:
    """What `module.answer(given, *arguments)` says in a fresh process. It returns plain data; an OSError, RuntimeError or
    ValueError of it is `why`, as a crash and running out of time are."""
    command = [sys.executable, "-P", "-c", _CHILD, str(Path(__file__).parents[2]), module, *arguments]
    try:
        done = subprocess.run(command, input=given, capture_output=True, timeout=timeout_s, check=False)
    except subprocess.TimeoutExpired as late:
        return Reply(None, f"not done after {timeout_s:g} s", _text(late.stderr))
    chatter = _text(done.stderr)
    if done.returncode < 0:
        return Reply(None, f"it crashed ({signal.Signals(-done.returncode).name})", chatter)
    if done.returncode or not done.stdout:
        return Reply(None, (chatter.strip().splitlines() or [f"exit status {done.returncode}"])[-1][-300:], chatter)
    said = json.loads(done.stdout)
    return Reply(said["facts"], said["why"], chatter)


def _text(raw: bytes | None) -> str:
    return (raw or b"").decode(errors="replace")


def serve() -> None:
    """The child's side of `ask`."""
    if sys.platform == "linux":
        # Whoever asked may be killed while native code here never comes back.
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG, prctl(2)
    # Native code writes to stdout as well: the answer has a pipe of its own.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    module, *arguments = sys.argv[1:]
    try:
        said = {"facts": importlib.import_module(module).answer(sys.stdin.buffer.read(), *arguments), "why": ""}
    except (OSError, RuntimeError, ValueError) as error:
        said = {"facts": None, "why": " ".join(str(error).split())[-300:] or type(error).__name__}
    with answers:
        json.dump(said, answers)
    # Past native destructors and atexit hooks: the answer is given.
    sys.stderr.flush()
    os._exit(0)
