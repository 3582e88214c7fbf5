"""`edgetl bench --on adb:SERIAL`: LiteRT's benchmark_model on an Android phone, through the platform's adb.

edgetl does not run on a phone; LiteRT's tool does. The user provides its binary for the phone's processor. Model and tool are
in a temporary folder while it runs, and its output is read as a log (`logs/`). Models are timed one after the other, not in
turns, and by the tool's own clock.
"""

from __future__ import annotations

import contextlib
import re
import secrets
import shlex
import subprocess
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypedDict, cast

from edgetl.commands.bench.disturbance import Disturbance
from edgetl.commands.bench.logs.read import read_log
from edgetl.commands.bench.rows import Job, MachineJson, Row, RowJson, measured_on, to_json
from edgetl.commands.bench.schedule import Settings
from edgetl.core.errors import DataError, EdgetlError, MissingError, UsageError
from edgetl.core.store import file_sha256
from edgetl.core.words import printable

OnNote = Callable[[str], None]
FOLDER = "/data/local/tmp/edgetl"
_SERIAL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,127}")
_TOOL = "benchmark_model"
# The flags that select each backend. A delegate that is not named is off, except for XNNPACK, which is on by default.
_FLAGS = {
    "litert-cpu": ["--use_xnnpack=true"],
    "litert-cpu-reference": ["--use_xnnpack=false"],
    "litert-gpu": ["--use_gpu=true"],
    "litert-npu": ["--use_nnapi=true", "--disable_nnapi_cpu=true"],
}
_LEAST_RUNS = 50
_PUSH_S, _ASK_S = 600.0, 30.0
_PROPERTY = re.compile(r"^\[([\w.]+)\]: \[(.*)\]\r?$", re.MULTILINE)
# Messages of adb itself, printed before or instead of the command's output.
_NO_DEVICE = re.compile(r"(?i)device '[^']*' not found|no devices|device offline|unauthorized|cannot connect|closed")


class PhoneMeasured(TypedDict):
    """The part of a run.BenchResult that a phone fills."""

    rows: list[RowJson]
    machine: MachineJson
    disturbance: Disturbance
    interrupted: bool


def measure_over_adb(
    serial: str,
    jobs: Sequence[Job],
    settings: Settings,
    *,
    benchmark_model: Path,
    on_note: OnNote,
    adb: str = "adb",
) -> PhoneMeasured:
    """Measure jobs on a phone.

    serial: as `adb devices` shows it. benchmark_model: the tool, for the phone's processor. Of settings, only seconds,
    warmup_s, timeout_s, allow_fallback, cores and profile_runs are used: the tool decides how long it runs, whatever the
    width of the interval. Raises UsageError, MissingError (no adb, no such phone), DataError (a file changed during the
    transfer).
    """
    if not _SERIAL.fullmatch(serial):
        raise UsageError(
            f"{printable(serial, 200)!r} is not the serial number of a phone.",
            fix="`adb devices` lists the connected phones: --on adb:SERIAL",
        )
    if not benchmark_model.is_file():
        raise MissingError(
            f"There is no benchmark_model at {printable(str(benchmark_model), 4096)}.",
            why="you provide the tool that runs on the phone: --benchmark-model PATH",
            fix="download it from LiteRT's documentation, for android_aarch64 or android_arm (tools, benchmark)",
        )
    phone = _Phone(adb, serial)
    machine = phone.describe()
    on_note(f"{machine['board']}, {machine['os']}")
    rows: list[RowJson] = []
    interrupted = False
    with phone.folder() as folder:
        try:
            tool = phone.push(benchmark_model, f"{folder}/{_TOOL}")
            phone.shell(["chmod", "755", tool], timeout_s=_ASK_S)
            for job in jobs:
                on_note(f"{job.name}")
                rows.append(_measure(phone, job, settings, tool, folder))
        except KeyboardInterrupt:
            interrupted = True
    for job in jobs[len(rows) :]:
        row = Row(job)
        row.fail("interrupted", "stopped before it was timed")
        rows.append(to_json(row))
    rows = [measured_on({**row, "device": machine["board"]}, machine) for row in rows]
    notes = ["models were timed one after the other: a short disturbance of the phone affects only one of them"]
    return {"rows": rows, "machine": machine, "disturbance": {"warnings": notes}, "interrupted": interrupted}


def command(tool: str, model: str, job: Job, settings: Settings) -> list[str]:
    """The command that runs on the phone.

    >>> from pathlib import Path
    >>> job = Job(Path("net.tflite"), "litert-gpu", 2)
    >>> " ".join(command("./benchmark_model", "net.tflite", job, Settings(seconds=4.0, warmup_s=1.0)))
    './benchmark_model --graph=net.tflite --num_threads=2 --num_runs=50 --min_secs=4 --max_secs=60 --warmup_runs=1
    --warmup_min_secs=1 --use_gpu=true'
    """
    parts = [tool, f"--graph={model}", f"--num_threads={job.threads}", f"--num_runs={_LEAST_RUNS}"]
    parts += [f"--min_secs={settings.seconds:g}", f"--max_secs={max(settings.seconds, settings.timeout_s):g}"]
    parts += ["--warmup_runs=1", f"--warmup_min_secs={settings.warmup_s:g}", *_FLAGS[job.backend]]
    if settings.profile_runs:
        parts.append("--enable_op_profiling=true")
    cores = settings.cores.get(job.threads)
    return ["taskset", f"{sum(1 << core for core in cores):x}", *parts] if cores else parts


def _measure(phone: _Phone, job: Job, settings: Settings, tool: str, folder: str) -> RowJson:
    row = Row(job)
    if job.backend not in _FLAGS or job.model.suffix != ".tflite":
        row.fail("missing", f"benchmark_model runs only .tflite files, on {', '.join(_FLAGS)}")
        return to_json(row)
    model = phone.push(job.model, f"{folder}/{file_sha256(job.model)}.tflite")
    # Warm-up and timed runs take up to max_secs each; loading, and compiling for a GPU, come before them.
    limit_s = 2 * max(settings.seconds, settings.timeout_s) + settings.timeout_s
    try:
        code, output = phone.shell(command(tool, model, job, settings), timeout_s=limit_s, may_fail=True)
    except _Hung:
        phone.kill(folder)
        row.fail("hung", f"it did not end within {limit_s:g} s (--timeout)")
        return to_json(row)
    return _row(row, code, output, allow_fallback=settings.allow_fallback)


def _row(row: Row, code: int, output: str, *, allow_fallback: bool) -> RowJson:
    """The row for an output of benchmark_model. code: its exit code."""
    base = to_json(row)
    last = next((line for line in reversed(output.splitlines()) if line.strip()), "")
    try:
        logged = read_log(output, source=_TOOL)[-1]
    except DataError as error:
        row.fail("crashed", f"exit code {code}: {printable(last, 300) or error.what}")
        return to_json(row)
    if code and logged["status"] != "failed":
        row.fail("crashed", f"exit code {code}: {printable(last, 300)}")
        return to_json(row)
    kept = {"model", "name", "backend", "threads", "device", *row.job.about}
    notes = [note for note in logged["notes"] if not note.startswith("measured elsewhere")]
    if logged["backend"] != row.job.backend and logged["status"] == "ok":
        # The tool ignores flags that its build does not know.
        logged["status"] = "fallback"
        notes.append(f"its output is that of {logged['backend']}")
    if logged["status"] == "fallback" and not allow_fallback:
        row.fail("placement", "; ".join(notes))
        return to_json(row)
    own = {key: value for key, value in base.items() if key in kept}
    return cast(RowJson, {**logged, **own, "notes": notes, "log": None})


class _Hung(MissingError):
    """No answer in time."""


class _Phone:
    """adb with one serial number."""

    def __init__(self, adb: str, serial: str) -> None:
        self._adb, self._serial = adb, serial

    def describe(self) -> MachineJson:
        """As machine.describe, from the phone's properties."""
        _, text = self.shell(["getprop"], timeout_s=_ASK_S)
        properties = {name: printable(value, 100) for name, value in _PROPERTY.findall(text)}
        if not properties:
            raise MissingError(f"The phone {self._serial} does not describe itself.", why=printable(text.strip(), 300))
        _, cores = self.shell(["nproc"], timeout_s=_ASK_S, may_fail=True)

        def joined(*names: str) -> str:
            return " ".join(properties[name] for name in names if properties.get(name))

        return {
            "processor": joined("ro.soc.manufacturer", "ro.soc.model") or joined("ro.hardware"),
            "board": joined("ro.product.manufacturer", "ro.product.model"),
            "cores": int(cores) if cores.strip().isdigit() else None,
            "memory_bytes": None,
            "instruction_set": [joined("ro.product.cpu.abi")],
            "os": f"Android {joined('ro.build.version.release')}".strip(),
            "python": None,
        }

    @contextlib.contextmanager
    def folder(self) -> Iterator[str]:
        """A temporary folder; afterwards it is deleted, and what still runs in it is killed."""
        name = f"{FOLDER}/{secrets.token_hex(8)}"
        self.shell(["mkdir", "-p", name], timeout_s=_ASK_S)
        try:
            yield name
        finally:
            # Report the first error, not that the phone is gone and cannot be cleaned up.
            with contextlib.suppress(EdgetlError):
                self.kill(name)
                self.shell(["rm", "-rf", name], timeout_s=_ASK_S, may_fail=True)
                self.shell(["rmdir", FOLDER], timeout_s=_ASK_S, may_fail=True)

    def kill(self, folder: str) -> None:
        """Kill what runs in a folder: it survives the end of adb. The pattern does not match the shell that runs pkill."""
        above, _, name = folder.rpartition("/")
        self.shell(["pkill", "-9", "-f", f"{above}/[{name[0]}]{name[1:]}/"], timeout_s=_ASK_S, may_fail=True)

    def push(self, file: Path, to: str) -> str:
        """Copy a file to the phone and check its digest there."""
        self._call(["push", str(file.resolve()), to], timeout_s=_PUSH_S)
        _, printed = self.shell(["sha256sum", to], timeout_s=_PUSH_S)
        if printed.split()[:1] != [file_sha256(file)]:
            raise DataError(
                f"{printable(file.name, 200)} changed during the transfer to the phone.",
                why=f"its sha256 there is {printable(' '.join(printed.split()[:1]), 80)}",
                fix="run again; check that the phone's storage is not full",
            )
        return to

    def shell(self, arguments: Sequence[str], *, timeout_s: float, may_fail: bool = False) -> tuple[int, str]:
        """(exit code, output) of a command on the phone."""
        return self._call(["shell", shlex.join(arguments)], timeout_s=timeout_s, may_fail=may_fail)

    def _call(self, arguments: Sequence[str], *, timeout_s: float, may_fail: bool = False) -> tuple[int, str]:
        try:
            done = subprocess.run(
                [self._adb, "-s", self._serial, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                timeout=timeout_s,
                check=False,
            )
        except FileNotFoundError:
            raise MissingError(
                "adb is not installed.", why="edgetl reaches phones through it", fix="install it: apt install adb"
            ) from None
        except subprocess.TimeoutExpired:
            raise _Hung(
                f"The phone {self._serial} did not answer within {timeout_s:g} s.",
                why=f"adb {printable(' '.join(arguments), 200)}",
                fix="wake it up, reconnect it and run again",
            ) from None
        output = done.stdout.decode("utf-8", "replace")
        own = [line for line in output.splitlines() if _is_adbs(line)]
        if done.returncode and own:
            raise MissingError(
                f"The phone {self._serial} cannot be reached.",
                why=printable(own[0], 300),
                fix="connect it, allow USB debugging on its screen, and check that `adb devices` lists it as a device",
            )
        if done.returncode and not may_fail:
            raise MissingError(
                f"A command failed on the phone {self._serial}: adb {printable(' '.join(arguments), 200)}",
                why=printable(output.strip(), 600) or f"exit code {done.returncode}",
                fix="check that its storage is not full and that adb may write to /data/local/tmp",
            )
        return done.returncode, output


def _is_adbs(line: str) -> bool:
    return bool(re.match(r"(?:adb|error):", line) and _NO_DEVICE.search(line))
