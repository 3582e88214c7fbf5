"""The first program on a board for `edgetl bench --on ssh://...`: keeps files, creates an environment, starts
`edgetl.commands.bench.remote.agent` in it.

`ssh.py` sends it as text. So it is one file, uses only the standard library, and runs on Python 3.7: it must still run to
report that a Python is too old. Requests are lines of JSON on stdin, and the bytes of a file follow its request. Answers are
lines on stdout that begin with MARK, because a login shell may print there too. When stdin ends, because of Ctrl-C or a lost
connection, everything started here is ended.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import platform
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

MARK = "edgetl-board "
_LEAST_PYTHON = (3, 11)
_NEWER = [f"python3.{minor}" for minor in range(20, 10, -1)]
# How long the agent gets to end on its own: the last answer comes within one visit.
_GRACE_S = 8.0
_KEPT_LINES = 12
_READY = "ready"
_START = "import sys; sys.path[:0] = sys.argv[1:]; from edgetl.commands.bench.remote.agent import main; main()"


class Failed(Exception):
    """kind: "python", "disk", "digest", "pip", "packages" or "ended"."""

    def __init__(self, kind: str, reason: str) -> None:
        super().__init__(reason)
        self.kind, self.reason = kind, reason


class Gone(Exception):
    """The other end of the connection is gone."""


class Board:
    """One connection. root: the folder of everything that is kept."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._read = b""
        self._answers = os.dup(1)
        os.dup2(2, 1)

    def serve(self) -> None:
        """Answer until stdin ends."""
        while True:
            request = json.loads(self._line().decode())
            try:
                self.say({"ok": getattr(self, request["do"])(request)})
            except Failed as failure:
                self.say({"failed": {"kind": failure.kind, "reason": failure.reason}})
            except OSError as error:
                kind = "disk" if error.errno in (errno.ENOSPC, errno.EDQUOT) else "ended"
                self.say({"failed": {"kind": kind, "reason": str(error)}})

    def say(self, answer: Mapping[str, Any]) -> None:
        """One line."""
        data = (MARK + json.dumps(answer) + "\n").encode()
        try:
            while data:
                data = data[os.write(self._answers, data) :]
        except OSError:
            raise Gone from None

    def _line(self) -> bytes:
        while b"\n" not in self._read:
            self._more()
        line, _, self._read = self._read.partition(b"\n")
        return line

    def _more(self) -> None:
        data = os.read(0, 1 << 16)
        if not data:
            raise Gone
        self._read += data

    # ---- requests ----

    def hello(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Describe this machine. python: the requested interpreter, or the newest one."""
        python = request["python"] or self._newest_python()
        code = "import sys, json; print(json.dumps([sys.executable, list(sys.version_info[:3])]))"
        try:
            printed = subprocess.check_output([python, "-I", "-c", code], stdin=subprocess.DEVNULL)
            executable, version = json.loads(printed.decode())
        except (OSError, ValueError, subprocess.CalledProcessError) as error:
            raise Failed("python", f"{python}: {error}") from None
        if tuple(version) < _LEAST_PYTHON:
            raise Failed("python", f"{executable} is Python {'.'.join(map(str, version))}; 3.11 or newer is needed")
        self.root.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(str(self.root)).free
        return {"python": executable, "version": version, "architecture": platform.machine(), "free_bytes": free}

    def _newest_python(self) -> str:
        if sys.version_info >= _LEAST_PYTHON:
            return sys.executable
        return next((found for name in _NEWER for found in [shutil.which(name)] if found), sys.executable)

    def have(self, request: Mapping[str, Any]) -> list[str]:
        """Which of {name: sha256} are missing, or have other contents."""
        return [name for name, digest in request["files"].items() if self._digest(self._place(name)) != digest]

    def _digest(self, path: Path) -> str:
        digest = hashlib.sha256()
        try:
            with path.open("rb") as stream:
                for part in iter(lambda: stream.read(1 << 20), b""):
                    digest.update(part)
        except FileNotFoundError:
            return ""
        return digest.hexdigest()

    def _place(self, name: str) -> Path:
        if not name or name.startswith("/") or ".." in name.split("/"):
            raise Failed("ended", f"{name!r} is outside of the folder")
        return self.root / name

    def put(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Keep a file. Its bytes are read to the end even if they cannot be written: the next request follows them."""
        path, left, digest = self._place(request["name"]), request["bytes"], hashlib.sha256()
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(path.name + ".part")
        failure: OSError | None = None
        with self._alone():
            try:
                with part.open("wb", buffering=0) as sink:
                    while left:
                        if not self._read:
                            self._more()
                        data, self._read = self._read[:left], self._read[left:]
                        left -= len(data)
                        digest.update(data)
                        try:
                            while data and failure is None:
                                data = data[sink.write(data) :]
                        except OSError as error:
                            failure = error
                if failure is not None:
                    raise failure
                if digest.hexdigest() != request["sha256"]:
                    raise Failed("digest", f"{request['name']} arrived as {digest.hexdigest()}")
                part.replace(path)
            finally:
                with contextlib.suppress(FileNotFoundError):
                    part.unlink()
        return {}

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """Only one connection at a time changes the kept files."""
        with (self.root / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def installed(self, request: Mapping[str, Any]) -> str:
        """The interpreter of the environment under `key`; "" if it is not ready."""
        folder = self._place(request["key"])
        return str(folder / "bin" / "python") if (folder / _READY).exists() else ""

    def install(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Create an environment with the wheel and its dependencies, from the index or from the folder `wheels`.

        It is kept under `key`, and ready once it contains the file `ready`; the wheels are not kept.
        """
        folder = self._place(request["key"])
        python = str(folder / "bin" / "python")
        with self._alone():
            if (folder / _READY).exists():
                return {"python": python, "seconds": 0.0}
            begun = time.monotonic()
            shutil.rmtree(str(folder), ignore_errors=True)
            source = ["--no-index", "--find-links", str(self._place(request["wheels"]))] if request["wheels"] else []
            pip = [python, "-I", "-m", "pip", "install", "--disable-pip-version-check", "--no-input", "--no-cache-dir"]
            pip += ["--progress-bar", "off", *source, str(self._place(request["package"]))]
            try:
                self._do("creating an environment", [request["python"], "-I", "-m", "venv", str(folder)])
                self._do("installing", pip)
                (folder / _READY).touch()
            finally:
                if not (folder / _READY).exists():
                    shutil.rmtree(str(folder), ignore_errors=True)
            if request["wheels"]:
                shutil.rmtree(str(self._place(request["wheels"])), ignore_errors=True)
            return {"python": python, "seconds": time.monotonic() - begun}

    def _do(self, doing: str, command: Sequence[str]) -> None:
        lines: list[str] = []

        def on_line(line: str) -> None:
            lines.append(line)
            # pip's warnings are about this machine's settings; after a failure they are among the last lines anyway.
            if not line.startswith("WARNING"):
                self.say({"note": f"{doing}: {line}"})

        code = self._run(command, on_line)
        if code:
            said = "; ".join(lines[-_KEPT_LINES:])
            kind = "disk" if "No space left on device" in said else "pip"
            raise Failed(kind, said or f"it ended with code {code}")

    def unpack(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """The package laid where an interpreter of the user's finds it; nothing is installed into that."""
        folder = self._place(request["key"])
        with self._alone():
            if not (folder / _READY).exists():
                shutil.rmtree(str(folder), ignore_errors=True)
                with zipfile.ZipFile(str(self._place(request["package"]))) as archive:
                    archive.extractall(str(folder))
                (folder / _READY).touch()
        return {}

    def run(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """`edgetl.commands.bench.remote.agent` on a request: its answers are passed on as {"said": ...}."""
        asked = dict(request["request"])
        for job in asked.get("jobs", ()):
            job["model"] = str(self._place(job["model"]))
            if "paths" in job["images"]:
                job["images"]["paths"] = [str(self._place(name)) for name in job["images"]["paths"]]
        command = [request["python"], "-P", "-c", _START, *(str(self._place(name)) for name in request["path"])]
        first = (json.dumps(asked) + "\n").encode()

        def passed_on(line: str) -> None:
            if line.startswith(MARK):
                self.say({"said": json.loads(line[len(MARK) :])})

        with tempfile.TemporaryFile() as chatter:
            code = self._run(command, passed_on, errors=chatter, first=first, grace_s=_GRACE_S)
            chatter.seek(0)
            lines = chatter.read().decode("utf-8", "replace").splitlines()
        if code:
            name = (
                {one.value: one.name for one in signal.Signals}.get(-code, f"signal {-code}")
                if code < 0
                else f"exit code {code}"
            )
            missing = [line for line in lines if line.startswith("ModuleNotFoundError")]
            raise Failed("packages" if missing else "ended", "; ".join([name, *(missing or lines[-3:])]))
        return {}

    # ---- processes ----

    def _run(
        self,
        command: Sequence[str],
        on_line: Callable[[str], None],
        *,
        errors: Any = subprocess.STDOUT,
        first: bytes = b"",
        grace_s: float = 0.0,
    ) -> int:
        """Run a process, call `on_line` with each of its lines, and return its exit code. When stdin ends, the process is ended and
        Gone is raised.

        grace_s: how long the process gets to end on its own.
        """
        pipe = subprocess.PIPE
        process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=errors, start_new_session=True)
        try:
            assert process.stdin is not None
            # It may have ended already; its exit code shows why.
            with contextlib.suppress(BrokenPipeError):
                process.stdin.write(first)
                process.stdin.flush()
            return self._watch(process, on_line)
        finally:
            self._end(process, grace_s)

    def _watch(self, process: subprocess.Popen[bytes], on_line: Callable[[str], None]) -> int:
        assert process.stdin is not None and process.stdout is not None
        source, text = process.stdout.fileno(), b""
        while True:
            if b"\n" in self._read:
                # The only request during a run is "stop": the agent then sends what it has.
                self._line()
                process.stdin.close()
            readable, _, _ = select.select([source, 0], [], [])
            if 0 in readable:
                self._more()
            if source in readable:
                data = os.read(source, 1 << 16)
                text += data
                *lines, text = text.split(b"\n")
                for line in lines:
                    on_line(line.decode("utf-8", "replace"))
                if not data:
                    return process.wait()

    def _end(self, process: subprocess.Popen[bytes], grace_s: float) -> None:
        """End a process: first by closing its stdin, then by killing its whole group."""
        assert process.stdin is not None and process.stdout is not None
        with contextlib.suppress(OSError):
            process.stdin.close()
        os.set_blocking(process.stdout.fileno(), False)
        until = time.monotonic() + grace_s
        while process.poll() is None and time.monotonic() < until:
            with contextlib.suppress(OSError):
                os.read(process.stdout.fileno(), 1 << 16)  # else it could block on a full pipe
            time.sleep(0.05)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        process.stdout.close()


def _leave(number: int, frame: Any) -> None:
    raise Gone


def main() -> None:
    """Answer requests on stdin."""
    signal.signal(signal.SIGTERM, _leave)
    signal.signal(signal.SIGHUP, _leave)
    with contextlib.suppress(Gone):
        Board(Path("~/.cache/edgetl-bench").expanduser()).serve()
