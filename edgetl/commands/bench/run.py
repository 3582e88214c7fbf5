"""Run a measurement on this machine, on a board over ssh or on a phone over adb, or read one from a log."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from edgetl.commands.bench.compare import Measure, measure_two, note_parity
from edgetl.commands.bench.disturbance import cores_by_speed
from edgetl.commands.bench.jobs import find_jobs
from edgetl.commands.bench.rows import BenchJson, Disturbance, Job, Row, to_json
from edgetl.commands.bench.schedule import OnVisit, Settings, measure
from edgetl.core import machine
from edgetl.core.errors import UsageError
from edgetl.core.store import Store
from edgetl.core.version import __version__
from edgetl.core.words import printable
from edgetl.runtimes.catalogue import BACKENDS, default_backends
from edgetl.runtimes.choice import check_backends, ready_backends

_FREE = 0.9  # of the memory that can be taken without swapping
# One part of a list of processors as taskset(1) takes it: 5, 0-3, 0-30:2.
_CORES = re.compile(r"([0-9]{1,9})(?:-([0-9]{1,9})(?::([0-9]{1,9}))?)?")
# Linux has no more (NR_CPUS of arch/x86/Kconfig); "0-99999999" is a typo; do not enumerate it.
_MOST_CORES = 8192
Pin = Sequence[int] | Literal["auto"]


@dataclass(frozen=True)
class Asked:
    """The measurement the user requested. backends: by name; all that are ready if none. pin: as parse_pin
    gives it, () for none. memory_bytes: 0 for most of what is free. max_ratio: of a comparison (settings.paired)."""

    models: Sequence[Path]
    backends: Sequence[str]
    threads: Sequence[int]
    images: str
    settings: Settings
    pin: Pin = ()
    memory_bytes: int = 0
    max_ratio: float = 1.05


@dataclass(frozen=True)
class Ssh:
    """A board: see ssh.open_board."""

    url: str
    python: str | None = None
    wheels: Path | None = None


@dataclass(frozen=True)
class Adb:
    """A phone: see adb.measure_over_adb."""

    serial: str
    benchmark_model: Path


def parse_place(text: str, *, benchmark_model: Path | None, python: str | None, wheels: Path | None) -> Ssh | Adb:
    """`--on`: ssh://user@host or adb:SERIAL. Raises UsageError."""
    if text.startswith("ssh://"):
        return Ssh(text, python, wheels)
    if text.startswith("adb:"):
        if benchmark_model is None:
            raise UsageError(
                "--on adb: needs --benchmark-model PATH.",
                why="on a phone the official benchmark_model runs, built for its processor",
                fix="give the binary that LiteRT publishes for android_aarch64 or android_arm",
            )
        return Adb(text.removeprefix("adb:"), benchmark_model)
    raise UsageError(f"--on {text!r} is not a device address.", fix="give ssh://user@host or adb:SERIAL")


def parse_pin(text: str) -> Pin:
    """`--pin`: "auto", or processors in ascending order, each once. Raises UsageError for what is not a list of them.

    >>> parse_pin("0,4-6"), parse_pin("0-6:2"), parse_pin("auto")
    ([0, 4, 5, 6], [0, 2, 4, 6], 'auto')
    """
    if text == "auto":
        return "auto"
    cores: set[int] = set()
    for part in text.split(","):
        named = _named(part.strip())
        if not named:
            raise UsageError(
                f"--pin {printable(text, 200)!r} is not a list of processors.",
                why=f"{printable(part, 200)!r} must be a number below {_MOST_CORES}, or a range with the smaller one first",
                fix="as `taskset -c` takes them: --pin 0,2 or --pin 4-7 or --pin 0-6:2; or --pin auto",
            )
        cores.update(named)
    return sorted(cores)


def _named(part: str) -> range:
    """What one part of a list names; an empty range where it is not one."""
    match = _CORES.fullmatch(part)
    if match is None:
        return range(0)
    first, last, step = int(match[1]), int(match[2] or match[1]), int(match[3] or 1)
    return range(first, last + 1, step) if last < _MOST_CORES and step else range(0)


def measure_here(asked: Asked, store: Store, on_visit: OnVisit) -> BenchJson:
    """{machine, disturbance, interrupted, absent, rows, comparison}, as `--json` has it. Raises as find_jobs does."""
    backends, absent = ready_backends(asked.backends, allow_fallback=asked.settings.allow_fallback)
    jobs = _jobs(asked, backends, store)
    settings = _fitted(asked, cores_by_speed(), machine.available_bytes())
    return _bench(asked, jobs, lambda some: measure(some, settings, on_visit), machine.describe(), absent)


def measure_on_board(
    place: Ssh, asked: Asked, store: Store, on_visit: OnVisit, on_note: Callable[[str], None]
) -> BenchJson:
    """The same on a board, by the same code. Rows carry the board's own description."""
    from edgetl.commands.bench.remote.ssh import open_board

    check_backends(asked.backends)
    with open_board(place.url, on_note=on_note, python=place.python, wheels=place.wheels) as board:
        ready, absent = (list(asked.backends), {}) if asked.backends else board.backends()
        jobs = _jobs(asked, ready, store=None)
        settings = _fitted(asked, board.facts["cores_by_speed"], board.facts["available_bytes"])

        def there(some: Sequence[Job]) -> tuple[list[Row], Disturbance, bool]:
            measured = board.measure(some, settings, on_visit)
            return measured.rows, measured.disturbance, measured.interrupted

        found = _bench(asked, jobs, there, board.facts["machine"], absent)
    for row in found["rows"]:
        row["measured_elsewhere"], row["machine"] = True, found["machine"]
    return found


def measure_on_phone(place: Adb, asked: Asked, on_note: Callable[[str], None]) -> BenchJson:
    """On an Android phone, by the official benchmark_model."""
    from edgetl.commands.bench.remote.adb import measure_over_adb

    if asked.settings.paired:
        raise UsageError(
            "--compare does not work over adb.",
            why="benchmark_model runs one model after the other, so runs cannot be measured in pairs",
            fix="measure both and look at their intervals, or compare on a board over ssh",
        )
    if asked.pin == "auto":
        raise UsageError(
            "--pin auto does not work over adb.",
            why="edgetl does not query which of a phone's processors are fast",
            fix="name them: --pin 4-7",
        )
    settings = replace(asked.settings, cores={count: list(asked.pin) for count in asked.threads if asked.pin})
    check_backends(asked.backends)
    backends = asked.backends or [name for name in default_backends() if BACKENDS[name].format == "tflite"]
    jobs = _jobs(asked, backends, store=None)
    found = measure_over_adb(place.serial, jobs, settings, benchmark_model=place.benchmark_model, on_note=on_note)
    return {
        "rows": found["rows"],
        "machine": found["machine"],
        "disturbance": found["disturbance"],
        "interrupted": found["interrupted"],
        "absent": {},
        "comparison": None,
    }


def measured_in_logs(logs: Sequence[Path], device: str | None, backend: str | None) -> BenchJson:
    """Logs of other tools, as rows."""
    from edgetl.commands.bench.logs.read import read_logs

    if not logs:
        raise UsageError("No log to import.", fix="edgetl bench import LOG...")
    check_backends([backend] if backend else [])
    rows = read_logs(logs, device=device, backend=backend)
    about = {"board": device, "elsewhere": True}
    return {
        "machine": about,
        "disturbance": {"warnings": []},
        "interrupted": False,
        "absent": {},
        "rows": rows,
        "comparison": None,
    }


def _jobs(asked: Asked, backends: Sequence[str], store: Store | None) -> list[Job]:
    jobs = find_jobs(asked.models, backends, asked.threads, images=asked.images, store=store)
    return _two(jobs, asked.models) if asked.settings.paired else jobs


def _two(jobs: list[Job], models: Sequence[Path]) -> list[Job]:
    """The two jobs to compare: each model on the first backend that opens both, otherwise each on its own first one."""
    if len(models) != 2:
        raise UsageError(
            f"--compare takes two models, not {len(models)}.", fix="edgetl bench --compare BASELINE CANDIDATE"
        )
    first, second = ([job for job in jobs if job.model == model] for model in models)
    if not first or not second:
        raise UsageError(
            "--compare takes two files.",
            why="a bundle holds several",
            fix="give a file of each: out/models/student.int8.tflite",
        )
    for one in first:
        for other in second:
            if (one.backend, one.threads) == (other.backend, other.threads):
                return [one, other]
    return [first[0], second[0]]


def _fitted(asked: Asked, fastest: list[int], available_bytes: int) -> Settings:
    """The settings for a machine with these processors, fastest first, and this memory."""
    memory = asked.memory_bytes or int(_FREE * (available_bytes or 2**34))
    cores = {count: _cores(asked.pin, count, fastest) for count in asked.threads} if asked.pin else {}
    return replace(asked.settings, memory_bytes=memory, cores=cores)


def _cores(pin: Pin, count: int, fastest: list[int]) -> list[int]:
    if pin == "auto":
        return fastest[:count]
    absent = [core for core in pin if core not in fastest]
    if absent:
        raise UsageError(
            f"--pin names processors that do not exist: {', '.join(map(str, absent))}.",
            why=f"a process may run on {', '.join(map(str, sorted(fastest))) or 'those that the system chooses'}",
            fix="--pin auto",
        )
    return list(pin)


def _bench(
    asked: Asked, jobs: Sequence[Job], run: Measure, about: Mapping[str, Any], absent: Mapping[str, str]
) -> BenchJson:
    """about: the machine that `run` measures on. absent: backend -> why it is not ready there."""
    comparison = None
    if asked.settings.paired:
        rows, disturbance, interrupted, comparison = measure_two(jobs, run, max_ratio=asked.max_ratio)
    else:
        rows, disturbance, interrupted = run(jobs)
    note_parity(rows)
    return {
        "machine": about,
        "edgetl": __version__,
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "input": sorted({_input(job) for job in jobs}),
        "disturbance": disturbance,
        "interrupted": interrupted,
        "rows": [to_json(row) for row in rows],
        "comparison": comparison,
        "absent": absent,
    }


def _input(job: Job) -> str:
    """The inputs of a job, in words."""
    paths = job.images.get("paths")
    return f"{len(paths)} photos of {Path(paths[0]).parent.name}/" if paths else "random numbers"
