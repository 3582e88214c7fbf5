"""`edgetl bench --on ssh://user@board`: the same measurement on another machine, over the system's OpenSSH.

There is one connection. `board.py` runs first on the other side, sent as text in the command; `client.py` sends files and requests to
its stdin. Keys, known hosts, jump hosts and aliases come from ssh's own configuration; ssh never prompts, and none of its checks is
switched off.
"""

from __future__ import annotations

import base64
import contextlib
import re
import shlex
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from edgetl.commands.bench.remote import board
from edgetl.commands.bench.remote.client import BoardClient, BoardMeasured, OnNote
from edgetl.commands.bench.remote.connection import Connection, Lost, Refused
from edgetl.commands.bench.rows import Job
from edgetl.commands.bench.schedule import OnVisit, Settings
from edgetl.core.errors import DataError, DiskFullError, EdgetlError, MissingError, UsageError
from edgetl.core.words import printable

# User and host names (also aliases) that ssh cannot mistake for an option.
_URL = re.compile(
    r"ssh://(?:(?P<user>[A-Za-z0-9_][A-Za-z0-9_.-]*)@)?"
    r"(?P<host>[A-Za-z0-9_][A-Za-z0-9_.-]*|\[[0-9A-Fa-f:.]+(?:%[A-Za-z0-9]+)?\])(?::(?P<port>\d{1,5}))?/?"
)
# ssh ends a connection that is silent for 45 seconds.
_OPTIONS = [
    "BatchMode=yes",
    "ConnectTimeout=15",
    "ServerAliveInterval=15",
    "ServerAliveCountMax=3",
    "ClearAllForwardings=yes",
    "RemoteCommand=none",
]
_SSH_ITSELF = 255
_NOT_FOUND = (126, 127)


def parse_url(url: str) -> tuple[str, str, int | None]:
    """(user or "", host, port or None) of ssh://[user@]host[:port]. Raises UsageError.

    >>> parse_url("ssh://pi@raspberrypi.local:2222"), parse_url("ssh://[fe80::1%eth0]")
    (('pi', 'raspberrypi.local', 2222), ('', 'fe80::1%eth0', None))
    """
    match = _URL.fullmatch(url)
    port = int(match["port"]) if match and match["port"] else None
    if match is None or (port is not None and not 0 < port < 65536):
        raise UsageError(
            f"{printable(url, 200)!r} is not the address of a machine.",
            why="the form is ssh://USER@HOST or ssh://USER@HOST:PORT; names begin with a letter, a digit or _",
            fix="for example --on ssh://pi@raspberrypi.local, or an alias from your ssh configuration: --on ssh://board",
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
) -> BoardMeasured:
    """open_board and measure in one call. options: of open_board. Raises the same errors."""
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
) -> Iterator[BoardClient]:
    """A board with edgetl installed, ready to measure.

    python: an interpreter on the board that has edgetl's dependencies, used as it is. Default: a new environment on the
    board, filled from its package index. wheels: a folder of wheels for the board's processor, installed without an index.
    identity, config: ssh's -i and -F. Raises UsageError, MissingError (not reachable, no Python, no packages),
    DiskFullError (its disk is full), DataError (a file changed during the transfer).
    """
    user, host, port = parse_url(url)
    if python is not None and wheels is not None:
        raise UsageError(
            "--wheels and --remote-python exclude each other.",
            why="wheels are installed into a new environment, while --remote-python names an interpreter to use as it is",
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
            "ssh is not installed.", why="edgetl connects with OpenSSH's client", fix="install openssh-client"
        ) from None
    try:
        on_note(f"connecting to {url}")
        there = BoardClient(line, on_note)
        there.prepare(python, wheels)
        yield there
    except Lost as lost:
        raise _lost(url, line.code, str(lost)) from None
    except Refused as refused:
        raise _refused(url, refused.kind, refused.reason) from None
    finally:
        line.end()


def _lost(url: str, code: int | None, reason: str) -> EdgetlError:
    """The error for a connection that ended."""
    if code in _NOT_FOUND:
        return _refused(url, "python", reason)
    if code == _SSH_ITSELF:
        return MissingError(
            f"{url} cannot be reached.",
            why=reason,
            fix=f"`{_shown(url)}` must log in with a key, without a prompt; "
            "see ssh-copy-id(1), and connect once by hand so that ssh knows the host",
        )
    return MissingError(
        f"The connection to {url} was lost.",
        why=reason or (f"it ended with code {code}" if code is not None else ""),
        fix="run again: files and packages already on the board are kept",
    )


def _refused(url: str, kind: str, reason: str) -> EdgetlError:
    if kind == "python":
        return MissingError(
            f"There is no suitable Python on {url}.",
            why=reason,
            fix="install Python 3.11 or newer there, or name the interpreter with --remote-python",
        )
    if kind == "disk":
        return DiskFullError(
            f"The disk of {url} is full.",
            why=reason,
            fix="free some space there; ~/.cache/edgetl-bench holds files of earlier measurements and may be deleted",
        )
    if kind == "digest":
        return DataError("A file changed during the transfer.", why=reason, fix="run again")
    if kind == "pip":
        return MissingError(
            f"edgetl's dependencies could not be installed on {url}.",
            why=reason,
            fix="without a package index: `pip download` the wheels for the board's processor and give --wheels FOLDER;"
            " without venv: apt install python3-venv; or name an interpreter that has all dependencies with --remote-python",
        )
    if kind == "packages":
        return MissingError(
            f"The Python interpreter on {url} lacks a package that edgetl needs.",
            why=reason,
            fix="install it there (numpy, Pillow and a runtime), or leave out --remote-python",
        )
    return MissingError(
        f"The measurement on {url} ended early.",
        why=reason,
        fix="the board may have run out of memory (see dmesg); run again with fewer models",
    )


def _shown(url: str) -> str:
    user, host, port = parse_url(url)
    return f"ssh {f'-p {port} ' if port else ''}{f'{user}@' if user else ''}{host} true"
