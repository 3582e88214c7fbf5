"""`edgetl bench --on ssh://user@board`: the same measurement on another machine, over the system's own OpenSSH.

One connection does it all: `board.py` is what runs there first, as text in the command; models, photos and a wheel of this
very edgetl follow on its stdin, each under its digest, and stay there for the next time (~/.cache/edgetl-bench). Keys,
known hosts, jump hosts and aliases are as ssh has them; nothing is asked for, and nothing about them is switched off.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import re
import shlex
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from edgetl import __version__
from edgetl.bench import board
from edgetl.bench.connection import Connection, Lost, Refused
from edgetl.bench.package import make_wheel, wheel_name
from edgetl.bench.remote import GROWING
from edgetl.bench.rows import Job, Row, to_json
from edgetl.bench.schedule import OnVisit, Settings
from edgetl.errors import DataError, DiskFullError, EdgetlError, MissingError, UsageError
from edgetl.formats.census import printable

OnNote = Callable[[str], None]
# Names that ssh takes for a user and a host (aliases too), and that it cannot take for an option.
_URL = re.compile(
    r"ssh://(?:(?P<user>[A-Za-z0-9_][A-Za-z0-9_.-]*)@)?"
    r"(?P<host>[A-Za-z0-9_][A-Za-z0-9_.-]*|\[[0-9A-Fa-f:.]+(?:%[A-Za-z0-9]+)?\])(?::(?P<port>\d{1,5}))?/?"
)
_WHEEL = re.compile(r"[A-Za-z0-9_.+!-]+\.whl")
# A connection that says nothing for three quarters of a minute is gone: ssh notices, and ends.
_OPTIONS = [
    "BatchMode=yes",
    "ConnectTimeout=15",
    "ServerAliveInterval=15",
    "ServerAliveCountMax=3",
    "ClearAllForwardings=yes",
    "RemoteCommand=none",
]
_INSTALL_S = 3600.0
_SSH_ITSELF = 255
_NOT_FOUND = (126, 127)


@dataclass(frozen=True)
class Found:
    """What was measured there. rows: a Row a job, as schedule.measure gives them. lost: why the connection ended before
    the measurement did, "" if it did not."""

    rows: list[Row]
    disturbance: dict[str, Any]
    machine: dict[str, Any]
    interrupted: bool
    lost: str = ""

    def to_json(self) -> dict[str, Any]:
        """As `edgetl bench --json` has them."""
        about = {"machine": self.machine, "measured_elsewhere": True}
        return {
            "rows": [{**to_json(row), **about} for row in self.rows],
            "disturbance": self.disturbance,
            "machine": self.machine,
            "interrupted": self.interrupted,
        }


def parse_url(url: str) -> tuple[str, str, int | None]:
    """(user or "", host, port or None) of ssh://[user@]host[:port]. Raises UsageError.

    >>> parse_url("ssh://pi@raspberrypi.local:2222"), parse_url("ssh://[fe80::1%eth0]")
    (('pi', 'raspberrypi.local', 2222), ('', 'fe80::1%eth0', None))
    """
    match = _URL.fullmatch(url)
    port = int(match["port"]) if match and match["port"] else None
    if match is None or (port is not None and not 0 < port < 65536):
        raise UsageError(
            f"{printable(url, 200)!r} is not a machine to measure on.",
            why="it is to be ssh://USER@HOST or ssh://USER@HOST:PORT; a name may begin with a letter, a digit or _",
            fix="for example --on ssh://pi@raspberrypi.local, or an alias of your ssh configuration: --on ssh://board",
        )
    return match["user"] or "", match["host"].strip("[]"), port


def measure_over_ssh(
    url: str,
    jobs: Sequence[Job],
    settings: Settings,
    *,
    on_note: OnNote,
    on_visit: OnVisit = lambda doing, row, done, count: None,
    **options: Any,
) -> Found:
    """open_board and measure in one. options: of open_board. Raises as they do."""
    with open_board(url, on_note=on_note, **options) as there:
        return there.measure(jobs, settings, on_visit)


@contextlib.contextmanager
def open_board(
    url: str,
    *,
    on_note: OnNote,
    python: str | None = None,
    wheels: Path | None = None,
    identity: Path | None = None,
    config: Path | None = None,
) -> Iterator[SshBoard]:
    """A board with edgetl on it, ready to measure.

    python: an interpreter there that has what edgetl needs, used as it is; by itself an environment is made there, with
    what its package index gives. wheels: a folder of wheels for that processor, installed there without an index.
    identity, config: as ssh's -i and -F. Raises UsageError, MissingError (not reachable, no Python, no packages),
    DiskFullError (its disk is full), DataError (a file that changed on the way).
    """
    user, host, port = parse_url(url)
    if python is not None and wheels is not None:
        raise UsageError(
            "--wheels and --python exclude each other.",
            why="wheels are installed into an environment of their own, and an interpreter is used as it is",
            fix="leave one of them out",
        )
    command = ["ssh", "-T", *(part for option in _OPTIONS for part in ("-o", option))]
    command += ["-F", str(config)] if config else []
    command += ["-i", str(identity)] if identity else []
    command += ["-p", str(port)] if port else []
    command += ["-l", user] if user else []
    source = base64.b64encode(zlib.compress(Path(board.__file__).read_bytes(), 9)).decode()
    code = f'import base64,zlib;exec(zlib.decompress(base64.b64decode("{source}")));main()'
    command += ["--", host, f"exec {shlex.quote(python or 'python3')} -u -I -c {shlex.quote(code)}"]
    try:
        line = Connection(command, on_note)
    except FileNotFoundError:
        raise MissingError(
            "There is no ssh here.", why="OpenSSH's client is what connects", fix="install openssh-client"
        ) from None
    try:
        there = SshBoard(url, line, on_note)
        there.prepare(python, wheels)
        yield there
    except Lost as lost:
        raise _lost(url, line.code, str(lost)) from None
    except Refused as refused:
        raise _refused(url, refused.kind, refused.reason) from None
    finally:
        line.end()


class SshBoard:
    """A connection to `board.Board`. Use open_board."""

    def __init__(self, url: str, line: Connection, on_note: OnNote) -> None:
        self._url, self._line, self._note = url, line, on_note
        self._python, self._path = "", [""]
        self.facts: dict[str, Any] = {}

    # ---- what edgetl needs there ----

    def prepare(self, python: str | None, wheels: Path | None) -> None:
        """edgetl and what it needs, there; `facts` is what remote.facts says."""
        self._note(f"connecting to {self._url}")
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
            raise Lost("it did not say what it is")

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

        A connection that breaks, and Ctrl-C, leave what was measured until then. Raises what open_board does when there
        is nothing.
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
            heard.disturbance or {"warnings": [f"the connection was lost: {lost}"] if lost else []},
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
            f"{shown} has a file that is no wheel by its name: {printable(odd[0])}."
            if odd
            else f"There are no wheels in {shown}.",
            fix="pip download --only-binary :all: --platform manylinux2014_aarch64 --python-version 3.11 -d FOLDER "
            "ai-edge-litert onnx onnxruntime numpy Pillow pydantic rich typer filelock platformdirs",
        )
    return files


def _lost(url: str, code: int | None, reason: str) -> EdgetlError:
    """The error for a connection that ended."""
    if code in _NOT_FOUND:
        return _refused(url, "python", reason)
    if code == _SSH_ITSELF:
        return MissingError(
            f"{url} cannot be reached.",
            why=reason,
            fix=f"`{_shown(url)}` must log in by a key without asking; "
            "see ssh-copy-id(1), and connect once by hand to make the host known",
        )
    return MissingError(
        f"The connection to {url} was lost.",
        why=reason or (f"it ended with code {code}" if code is not None else ""),
        fix="run it again: what was sent and installed is kept there",
    )


def _refused(url: str, kind: str, reason: str) -> EdgetlError:
    if kind == "python":
        return MissingError(
            f"There is no Python on {url} that edgetl runs on.",
            why=reason,
            fix="install Python 3.11 or newer there, or name the one to use with --python",
        )
    if kind == "disk":
        return DiskFullError(
            f"The disk of {url} is full.",
            why=reason,
            fix="free some space there; ~/.cache/edgetl-bench holds what earlier measurements left and may be deleted",
        )
    if kind == "digest":
        return DataError("A file did not arrive as it was sent.", why=reason, fix="run again")
    if kind == "pip":
        return MissingError(
            f"What edgetl needs could not be installed on {url}.",
            why=reason,
            fix="with no package index in reach: `pip download` the wheels for its processor and give --wheels FOLDER;"
            " where venv is lacking: apt install python3-venv; or name an interpreter that has it all with --python",
        )
    if kind == "packages":
        return MissingError(
            f"The interpreter on {url} lacks something that edgetl needs.",
            why=reason,
            fix="install it there (numpy, Pillow and a runtime), or leave --python out",
        )
    return MissingError(
        f"The measurement on {url} ended before it was done.",
        why=reason,
        fix="it may have run out of memory there (dmesg); run it again with fewer models",
    )


class _Heard:
    """Rows filled with what is told of them."""

    def __init__(self, rows: Sequence[Row], on_visit: OnVisit) -> None:
        self._rows, self._on_visit = rows, on_visit
        self.disturbance: dict[str, Any] = {}
        self.interrupted = False

    def hear(self, said: Mapping[str, Any]) -> None:
        """One answer of remote.py's."""
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
    """Text from elsewhere as a terminal may see it."""
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


def _shown(url: str) -> str:
    user, host, port = parse_url(url)
    return f"ssh {f'-p {port} ' if port else ''}{f'{user}@' if user else ''}{host} true"
