"""The client of `board.py`: installs edgetl on the board and requests a measurement there, over any connection.

Models, photos and a wheel of this very edgetl go over the connection, each under its digest, and stay there for the next
time (~/.cache/edgetl-bench).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from edgetl.commands.bench.remote.agent import GROWING
from edgetl.commands.bench.remote.connection import Connection, Lost, Refused
from edgetl.commands.bench.remote.package import make_wheel, wheel_name
from edgetl.commands.bench.rows import Disturbance, Job, MeasuredJson, Row, to_json
from edgetl.commands.bench.schedule import OnVisit, Settings
from edgetl.core.errors import DataError, UsageError
from edgetl.core.version import __version__
from edgetl.core.words import printable

OnNote = Callable[[str], None]
_WHEEL = re.compile(r"[A-Za-z0-9_.+!-]+\.whl")
_INSTALL_S = 3600.0


@dataclass(frozen=True)
class Found:
    """What was measured there. rows: a Row a job, as schedule.measure gives them. lost: why the connection ended before
    the measurement did, "" if it did not."""

    rows: list[Row]
    disturbance: Disturbance
    machine: dict[str, Any]
    interrupted: bool
    lost: str = ""

    def to_json(self) -> MeasuredJson:
        """As `edgetl bench --json` has them."""
        return {
            "rows": [{**to_json(row), "machine": self.machine, "measured_elsewhere": True} for row in self.rows],
            "disturbance": self.disturbance,
            "machine": self.machine,
            "interrupted": self.interrupted,
        }


class BoardClient:
    """What `board.Board` is asked over a connection. Use ssh.open_board, which tells Lost and Refused in words."""

    def __init__(self, line: Connection, on_note: OnNote) -> None:
        self._line, self._note = line, on_note
        self._python, self._path = "", [""]
        self.facts: dict[str, Any] = {}

    # ---- what edgetl needs there ----

    def prepare(self, python: str | None, wheels: Path | None) -> None:
        """edgetl and what it needs, there; `facts` is what agent.facts returns."""
        hello = self._line.ask("hello", python=python)
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

    def _environment(self, hello: Mapping[str, Any], wheels: Path | None, digest: str, package: str) -> str:
        """The interpreter of an environment with the package, made now if there is none."""
        files = _wheels(wheels) if wheels else {}
        told = "".join(f"{_sha256(file)} {name}\n" for name, file in files.items())
        version = ".".join(map(str, hello["version"][:2]))
        kept = hashlib.sha256(f"{digest} {told} {version}".encode()).hexdigest()[:16]
        key = f"environments/{__version__}-{kept}"
        ready: str = self._line.ask("installed", key=key)
        if ready:
            return ready
        folder = f"wheels/{kept}" if files else ""
        self._put({f"{folder}/{name}": file for name, file in files.items()})
        made = self._line.ask(
            "install", timeout_s=_INSTALL_S, key=key, python=hello["python"], package=package, wheels=folder
        )
        self._note(f"edgetl is installed there, in {made['seconds']:.0f} s; it is kept for the next time")
        return str(made["python"])

    def _keep_facts(self, said: Mapping[str, Any]) -> None:
        self.facts |= _clean(said.get("facts", {}))

    def _request(self, request: Mapping[str, Any]) -> dict[str, Any]:
        return {"python": self._python, "path": self._path, "request": request}

    def _put(self, files: Mapping[str, Path | bytes]) -> None:
        """Those of {name there: file or bytes} that are not there yet."""
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
        """(those that are ready there, name -> why not). It takes seconds: each is asked, GPUs in processes of their own."""
        self._line.ask("run", on_said=self._keep_facts, timeout_s=300.0, **self._request({"do": "backends"}))
        reasons = self.facts["backends"]
        return [name for name, why in reasons.items() if not why], {name: why for name, why in reasons.items() if why}

    def measure(self, jobs: Sequence[Job], settings: Settings, on_visit: OnVisit) -> Found:
        """As schedule.measure, there. settings: processors and memory are those of `facts`.

        A connection that breaks, and Ctrl-C, leave what was measured until then. Raises Lost and Refused when there is
        nothing.
        """
        rows = [Row(job) for job in jobs]
        sent = self._put_jobs(rows)
        heard = _Heard([rows[i] for i in sent], on_visit)
        request = {"do": "measure", "jobs": list(sent.values()), "settings": asdict(settings)}
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
        return Found(
            rows,
            heard.disturbance or Disturbance(warnings=[f"the connection was lost: {lost}"] if lost else []),
            self.facts["machine"],
            heard.interrupted or bool(lost),
            lost,
        )

    def _put_jobs(self, rows: Sequence[Row]) -> dict[int, dict[str, Any]]:
        """Row's number -> its job as it is there, of those that can be sent."""
        files: dict[str, Path | bytes] = {}

        def place(path: Path) -> str:
            suffix = path.suffix.lower() if re.fullmatch(r"\.\w{1,8}", path.suffix, re.ASCII) else ""
            name = f"files/{_sha256(path)}{suffix}"
            files[name] = path
            return name

        sent: dict[int, dict[str, Any]] = {}
        for i, row in enumerate(rows):
            job, images = row.job, dict(row.job.images)
            if job.model.is_dir():
                row.fail("missing", "a Keras model is not sent: a board gets files that it can ship")
                continue
            if images.get("paths"):
                images["paths"] = [place(Path(path)) for path in images["paths"]]
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
    """Name -> file of a folder's wheels. Raises UsageError if there are none, or some with another name than a wheel's."""
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
    """Rows filled from the agent's answers."""

    def __init__(self, rows: Sequence[Row], on_visit: OnVisit) -> None:
        self._rows, self._on_visit = rows, on_visit
        self.disturbance: Disturbance | None = None
        self.interrupted = False

    def hear(self, said: Mapping[str, Any]) -> None:
        """One answer of agent.py."""
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
            self.disturbance, self.interrupted = _clean(said["disturbance"]), bool(said["interrupted"])


def _close(rows: Sequence[Row], lost: str) -> None:
    """Rows that were not finished say so, as schedule.measure has it for Ctrl-C."""
    for row in rows:
        if row.status != "failed" and not row.rounds:
            row.fail("interrupted", f"the connection was lost: {lost}" if lost else "stopped before it was timed")
        elif not row.stopped:
            row.stopped = "connection lost" if lost else "interrupted"


def _clean(value: Any) -> Any:
    """Text from the board, safe to print on a terminal."""
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
