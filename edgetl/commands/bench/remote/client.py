"""The near side of `board.py`: installs edgetl on the board and requests measurements, over any connection.

Models, photos and a wheel of this edgetl are sent over the connection. The board keeps them under their digests for later
measurements (~/.cache/edgetl-bench).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

from edgetl.commands.bench.disturbance import Disturbance
from edgetl.commands.bench.remote.agent import GROWING
from edgetl.commands.bench.remote.connection import Connection, Lost, Refused
from edgetl.commands.bench.remote.messages import AgentRequest, Facts, Hello, Installed, JobJson
from edgetl.commands.bench.remote.package import make_wheel, wheel_name
from edgetl.commands.bench.rows import Job, MachineJson, Row
from edgetl.commands.bench.schedule import OnVisit, Settings
from edgetl.core.errors import DataError, UsageError
from edgetl.core.version import __version__
from edgetl.core.words import printable

OnNote = Callable[[str], None]
_WHEEL = re.compile(r"[A-Za-z0-9_.+!-]+\.whl")
_INSTALL_S = 3600.0


@dataclass(frozen=True)
class BoardMeasured:
    """A measurement on the board. rows, disturbance, interrupted: as in schedule.Measured. lost: why the connection ended
    before the measurement did, "" if it did not."""

    rows: list[Row]
    disturbance: Disturbance
    machine: MachineJson
    interrupted: bool
    lost: str = ""


class BoardClient:
    """Sends requests to a `board.Board`. Use ssh.open_board, which turns Lost and Refused into messages."""

    def __init__(self, line: Connection, on_note: OnNote) -> None:
        self._line, self._note = line, on_note
        self._python, self._path = "", [""]
        self.facts: Facts = {}

    # ---- install edgetl ----

    def prepare(self, python: str | None, wheels: Path | None) -> None:
        """Install edgetl and its dependencies on the board, and fill `facts`."""
        hello: Hello = self._line.ask("hello", python=python)
        package = make_wheel()
        digest = hashlib.sha256(package).hexdigest()
        name = f"packages/{digest}/{wheel_name()}"
        self._put({name: package})
        if python is not None:
            key = f"source/{__version__}-{digest[:16]}"
            self._line.ask("unpack", key=key, package=name)
            self._python, self._path = hello["python"], [key]
        else:
            self._python, self._path = self._environment(hello, wheels, digest, name), []
        self._line.ask("run", on_said=self._keep_facts, timeout_s=300.0, **self._request({"do": "facts"}))
        if "machine" not in self.facts:
            raise Lost("it did not describe itself")

    def _environment(self, hello: Hello, wheels: Path | None, digest: str, package: str) -> str:
        """The interpreter of an environment with the package; the environment is created if it does not exist."""
        files = _wheels(wheels) if wheels else {}
        listed = "".join(f"{_sha256(file)} {name}\n" for name, file in files.items())
        version = ".".join(map(str, hello["version"][:2]))
        kept = hashlib.sha256(f"{digest} {listed} {version}".encode()).hexdigest()[:16]
        key = f"environments/{__version__}-{kept}"
        ready: str = self._line.ask("installed", key=key)
        if ready:
            return ready
        folder = f"wheels/{kept}" if files else ""
        self._put({f"{folder}/{name}": file for name, file in files.items()})
        installed: Installed = self._line.ask(
            "install", timeout_s=_INSTALL_S, key=key, python=hello["python"], package=package, wheels=folder
        )
        self._note(f"installed edgetl there in {installed['seconds']:.0f} s; it is kept for later measurements")
        return installed["python"]

    def _keep_facts(self, said: Mapping[str, Any]) -> None:
        self.facts |= cast(Facts, _clean(said.get("facts", {})))

    def _request(self, request: AgentRequest) -> dict[str, Any]:
        return {"python": self._python, "path": self._path, "request": request}

    def _put(self, files: Mapping[str, Path | bytes]) -> None:
        """Send the files that the board does not have yet. files: name on the board -> file or bytes."""
        digests = {
            name: hashlib.sha256(file).hexdigest() if isinstance(file, bytes) else _sha256(file)
            for name, file in files.items()
        }
        for name in self._line.ask("have", files=digests):
            file = files[name]
            size = len(file) if isinstance(file, bytes) else file.stat().st_size
            self._note(f"sending {name.rsplit('/', 1)[-1]}, {size / 1e6:.1f} MB")
            self._line.send({"do": "put", "name": name, "sha256": digests[name], "bytes": size})
            if isinstance(file, bytes):
                self._line.write(file)
            else:
                self._line.write_file(file, size)
            self._line.answer(_INSTALL_S)

    # ---- measuring ----

    def backends(self) -> tuple[list[str], dict[str, str]]:
        """(backends that are ready on the board, backend -> why it is not). Takes seconds: every backend is probed."""
        self._line.ask("run", on_said=self._keep_facts, timeout_s=300.0, **self._request({"do": "backends"}))
        reasons = self.facts["backends"]
        return [name for name, why in reasons.items() if not why], {name: why for name, why in reasons.items() if why}

    def measure(self, jobs: Sequence[Job], settings: Settings, on_visit: OnVisit) -> BoardMeasured:
        """As schedule.measure, on the board. settings: processors and memory are those of `facts`.

        After a lost connection or Ctrl-C, the rows have what was measured until then. Raises Lost or Refused if that is
        nothing.
        """
        rows = [Row(job) for job in jobs]
        sent = self._put_jobs(rows)
        heard = _Heard([rows[i] for i in sent], on_visit)
        request: AgentRequest = {"do": "measure", "jobs": list(sent.values()), "settings": asdict(settings)}
        lost = ""
        try:
            if sent:
                silence_s = 2 * settings.timeout_s + settings.visit_s + 60.0
                self._line.ask("run", on_said=heard.hear, timeout_s=silence_s, **self._request(request))
        except (Lost, Refused) as broken:
            if not any(row.rounds for row in rows):
                raise
            lost = str(broken) or "it ended"
        if lost or heard.interrupted:
            _close(rows, lost)
        return BoardMeasured(
            rows,
            heard.disturbance or {"warnings": [f"the connection was lost: {lost}"] if lost else []},
            self.facts["machine"],
            heard.interrupted or bool(lost),
            lost,
        )

    def _put_jobs(self, rows: Sequence[Row]) -> dict[int, JobJson]:
        """Send the files of all jobs. Returns row's number -> its job on the board; a job that cannot be sent is missing."""
        files: dict[str, Path | bytes] = {}

        def place(path: Path) -> str:
            suffix = path.suffix.lower() if re.fullmatch(r"\.\w{1,8}", path.suffix, re.ASCII) else ""
            name = f"files/{_sha256(path)}{suffix}"
            files[name] = path
            return name

        sent: dict[int, JobJson] = {}
        for i, row in enumerate(rows):
            job, images = row.job, row.job.images.copy()
            if job.model.is_dir():
                row.fail("missing", "a Keras model is not sent: a board runs only files that it can ship")
                continue
            if paths := images.get("paths"):
                images["paths"] = [place(Path(path)) for path in paths]
            sent[i] = {
                "model": place(job.model),
                "backend": job.backend,
                "threads": job.threads,
                "shown": job.shown or job.model.name,
                "images": images,
            }
        self._put(files)
        return sent


def _wheels(folder: Path) -> dict[str, Path]:
    """Name -> file of the wheels in a folder. Raises UsageError if there are none, or if a name is not a wheel's."""
    files = {file.name: file for file in sorted(folder.glob("*.whl"))} if folder.is_dir() else {}
    odd = [name for name in files if not _WHEEL.fullmatch(name)]
    if odd or not files:
        shown = printable(str(folder), 4096)
        raise UsageError(
            f"{shown} has a file whose name is not a wheel's: {printable(odd[0])}."
            if odd
            else f"There are no wheels in {shown}.",
            fix="pip download --only-binary :all: --platform manylinux2014_aarch64 --python-version 3.11 -d FOLDER "
            "ai-edge-litert onnx onnxruntime numpy Pillow pydantic rich typer filelock platformdirs",
        )
    return files


class _Heard:
    """Fills rows with the agent's messages."""

    def __init__(self, rows: Sequence[Row], on_visit: OnVisit) -> None:
        self._rows, self._on_visit = rows, on_visit
        self.disturbance: Disturbance | None = None
        self.interrupted = False

    def hear(self, said: Mapping[str, Any]) -> None:
        """Apply one of the agent's messages (messages.py), which is not validated before."""
        if "news" in said:
            row = self._rows[said["row"]]
            for name, value in said["news"].items():
                if name in GROWING:
                    getattr(row, name).extend(value)
                elif name != "job" and hasattr(row, name):
                    setattr(row, name, _clean(value))
        elif "doing" in said:
            self._on_visit(str(said["doing"]), self._rows[said["row"]], said["done"], said["count"])
        elif "disturbance" in said:
            self.disturbance = cast(Disturbance, _clean(said["disturbance"]))
            self.interrupted = bool(said["interrupted"])


def _close(rows: Sequence[Row], lost: str) -> None:
    """Mark the rows that were not finished, as schedule.measure does after Ctrl-C."""
    for row in rows:
        if row.status != "failed" and not row.rounds:
            row.fail("interrupted", f"the connection was lost: {lost}" if lost else "stopped before it was timed")
        elif not row.stopped:
            row.stopped = "connection lost" if lost else "interrupted"


def _clean(value: Any) -> Any:
    """JSON from another machine, with all text made safe for a terminal."""
    if isinstance(value, str):
        return printable(value, 4096)
    if isinstance(value, dict):
        return {printable(str(key), 200): _clean(one) for key, one in value.items()}
    return [_clean(one) for one in value] if isinstance(value, list) else value


def _sha256(path: Path) -> str:
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise DataError(f"{printable(str(path), 4096)} cannot be read.", why=str(error), fix="check the path") from None
