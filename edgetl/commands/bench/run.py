"""Run a measurement: here, on a board over ssh, on a phone over adb; or read it from logs of other tools."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, NotRequired, TypedDict, cast

from edgetl.commands.bench.compare import Comparison, Measure, measure_two, note_parity
from edgetl.commands.bench.disturbance import Disturbance, cores_by_speed
from edgetl.commands.bench.jobs import find_jobs
from edgetl.commands.bench.rows import Job, MachineJson, RowJson, measured_on, to_json
from edgetl.commands.bench.schedule import Measured, OnVisit, Settings, measure
from edgetl.core import machine
from edgetl.core.errors import UsageError
from edgetl.core.store import Store
from edgetl.core.version import __version__
from edgetl.core.words import printable
from edgetl.runtimes.catalogue import BACKENDS, default_backends
from edgetl.runtimes.choice import check_backends, ready_backends

_FREE = 0.9  # of the memory that can be used without swapping
# One part of a list of processors as taskset(1) takes it: 5, 0-3, 0-30:2.
_CORES = re.compile(r"([0-9]{1,9})(?:-([0-9]{1,9})(?::([0-9]{1,9}))?)?")
# Linux has no more (NR_CPUS of arch/x86/Kconfig); "0-99999999" is a typo; do not enumerate it.
_MOST_CORES = 8192
Pin = Sequence[int] | Literal["auto"]


class BenchResult(TypedDict):
    """As `--json` has it, without exit_code and checks. input: of all rows, in words. absent: backend -> why it is not
    available. Measurements by other tools have no edgetl, measured_at and input."""

    machine: MachineJson
    edgetl: NotRequired[str]
    measured_at: NotRequired[str]
    input: NotRequired[list[str]]
    disturbance: Disturbance
    interrupted: bool
    absent: dict[str, str]
    rows: list[RowJson]
    comparison: Comparison | None


class _Timed(TypedDict):
    """The part of a BenchResult that edgetl's own timing makes."""

    edgetl: str
    measured_at: str
    input: list[str]
    disturbance: Disturbance
    interrupted: bool
    rows: list[RowJson]
    comparison: Comparison | None


@dataclass(frozen=True)
class Request:
    """What the user requested. backends: by name; if empty, all that are ready. pin: from parse_pin, () for none.
    memory_bytes: limit per row; 0: 90% of free memory. max_ratio: of a comparison (settings.paired)."""

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
    """A board; the parameters are those of ssh.open_board."""

    url: str
    python: str | None = None
    wheels: Path | None = None


@dataclass(frozen=True)
class Adb:
    """A phone; the parameters are those of adb.measure_over_adb."""

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
                why="a phone runs LiteRT's benchmark_model, built for its processor",
                fix="use the binary that LiteRT publishes for android_aarch64 or android_arm",
            )
        return Adb(text.removeprefix("adb:"), benchmark_model)
    raise UsageError(f"--on {text!r} is not a device address.", fix="use ssh://USER@HOST or adb:SERIAL")


def parse_pin(text: str) -> Pin:
    """`--pin`: "auto", or processor numbers in ascending order, without duplicates. Raises UsageError for any other text.

    >>> parse_pin("0,4-6"), parse_pin("0-6:2"), parse_pin("auto")
    ([0, 4, 5, 6], [0, 2, 4, 6], 'auto')
    """
    if text == "auto":
        return "auto"
    cores: set[int] = set()
    for part in text.split(","):
        numbers = _processors(part.strip())
        if not numbers:
            raise UsageError(
                f"--pin {printable(text, 200)!r} is not a list of processors.",
                why=f"{printable(part, 200)!r} is neither a number below {_MOST_CORES} nor a range with the smaller number first",
                fix="use the syntax of `taskset -c`: --pin 0,2 or --pin 4-7 or --pin 0-6:2; or --pin auto",
            )
        cores.update(numbers)
    return sorted(cores)


def _processors(part: str) -> range:
    """The processors of one part of a list; empty if the part is not valid."""
    match = _CORES.fullmatch(part)
    if match is None:
        return range(0)
    first, last, step = int(match[1]), int(match[2] or match[1]), int(match[3] or 1)
    return range(first, last + 1, step) if last < _MOST_CORES and step else range(0)


def measure_here(request: Request, store: Store, on_visit: OnVisit) -> BenchResult:
    """Measure on this machine. Raises as find_jobs does."""
    backends, absent = ready_backends(request.backends, allow_fallback=request.settings.allow_fallback)
    jobs = _jobs(request, backends, store)
    settings = _fitted(request, cores_by_speed(), machine.available_bytes())
    timed = _timed(request, jobs, lambda some: measure(some, settings, on_visit))
    return {"machine": cast(MachineJson, machine.describe()), **timed, "absent": absent}


def measure_on_board(
    place: Ssh, request: Request, store: Store, on_visit: OnVisit, on_note: Callable[[str], None]
) -> BenchResult:
    """The same on a board, with the same code. Each row carries the board's description."""
    from edgetl.commands.bench.remote.ssh import open_board

    check_backends(request.backends)
    with open_board(place.url, on_note=on_note, python=place.python, wheels=place.wheels) as board:
        ready, absent = (list(request.backends), {}) if request.backends else board.backends()
        jobs = _jobs(request, ready, store=None)
        settings = _fitted(request, board.facts["cores_by_speed"], board.facts["available_bytes"])

        def there(some: Sequence[Job]) -> Measured:
            measured = board.measure(some, settings, on_visit)
            return Measured(measured.rows, measured.disturbance, measured.interrupted)

        timed = _timed(request, jobs, there)
        about = board.facts["machine"]
    timed["rows"] = [measured_on(row, about) for row in timed["rows"]]
    return {"machine": about, **timed, "absent": absent}


def measure_on_phone(place: Adb, request: Request, on_note: Callable[[str], None]) -> BenchResult:
    """The same on an Android phone, with LiteRT's benchmark_model."""
    from edgetl.commands.bench.remote.adb import measure_over_adb

    if request.settings.paired:
        raise UsageError(
            "--compare does not work over adb.",
            why="benchmark_model runs one model after the other, so there are no pairs of rounds",
            fix="measure both and compare their intervals, or use --compare on a board over ssh",
        )
    if request.pin == "auto":
        raise UsageError(
            "--pin auto does not work over adb.",
            why="edgetl does not ask a phone which of its processors are fast",
            fix="name them: --pin 4-7",
        )
    settings = replace(request.settings, cores={count: list(request.pin) for count in request.threads if request.pin})
    check_backends(request.backends)
    backends = request.backends or [name for name in default_backends() if BACKENDS[name].format == "tflite"]
    jobs = _jobs(request, backends, store=None)
    timed = measure_over_adb(place.serial, jobs, settings, benchmark_model=place.benchmark_model, on_note=on_note)
    return {
        "rows": timed["rows"],
        "machine": timed["machine"],
        "disturbance": timed["disturbance"],
        "interrupted": timed["interrupted"],
        "absent": {},
        "comparison": None,
    }


def measured_in_logs(logs: Sequence[Path], device: str | None, backend: str | None) -> BenchResult:
    """Rows of what other tools measured and printed."""
    from edgetl.commands.bench.logs.read import read_logs

    if not logs:
        raise UsageError("There is no log to import.", fix="edgetl bench import LOG...")
    check_backends([backend] if backend else [])
    rows = read_logs(logs, device=device, backend=backend)
    about: MachineJson = {"board": device, "elsewhere": True}
    return {
        "machine": about,
        "disturbance": {"warnings": []},
        "interrupted": False,
        "absent": {},
        "rows": rows,
        "comparison": None,
    }


def _jobs(request: Request, backends: Sequence[str], store: Store | None) -> list[Job]:
    jobs = find_jobs(request.models, backends, request.threads, images=request.images, store=store)
    return _two(jobs, request.models) if request.settings.paired else jobs


def _two(jobs: list[Job], models: Sequence[Path]) -> list[Job]:
    """The two jobs to compare: both models on the first backend that opens both, otherwise each on its own first backend."""
    if len(models) != 2:
        raise UsageError(
            f"--compare takes two models, not {len(models)}.", fix="edgetl bench --compare BASELINE CANDIDATE"
        )
    first, second = ([job for job in jobs if job.model == model] for model in models)
    if not first or not second:
        raise UsageError(
            "--compare takes two files.",
            why="a bundle holds several",
            fix="give one file per model: out/models/student.int8.tflite",
        )
    for one in first:
        for other in second:
            if (one.backend, one.threads) == (other.backend, other.threads):
                return [one, other]
    return [first[0], second[0]]


def _fitted(request: Request, fastest: list[int], available_bytes: int) -> Settings:
    """The settings for a machine with these processors (fastest first) and this much free memory."""
    memory = request.memory_bytes or int(_FREE * (available_bytes or 2**34))
    cores = {count: _cores(request.pin, count, fastest) for count in request.threads} if request.pin else {}
    return replace(request.settings, memory_bytes=memory, cores=cores)


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


def _timed(request: Request, jobs: Sequence[Job], run: Measure) -> _Timed:
    comparison: Comparison | None = None
    if request.settings.paired:
        rows, disturbance, interrupted, comparison = measure_two(jobs, run, max_ratio=request.max_ratio)
    else:
        rows, disturbance, interrupted = run(jobs)
    note_parity(rows)
    return {
        "edgetl": __version__,
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "input": sorted({_input(job) for job in jobs}),
        "disturbance": disturbance,
        "interrupted": interrupted,
        "rows": [to_json(row) for row in rows],
        "comparison": comparison,
    }


def _input(job: Job) -> str:
    """The input of a job, in words."""
    paths = job.images.get("paths")
    return f"{len(paths)} photos of {Path(paths[0]).parent.name}/" if paths else "random numbers"
