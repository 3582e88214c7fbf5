"""`edgetl bench --on adb:SERIAL`: LiteRT's benchmark_model on an Android phone, through the platform's adb.

edgetl does not run on a phone. What runs there is the official tool, of which the user gives the binary for the phone's
processor; model and tool lie in a folder of their own while it runs, and what it prints is read as a log (`logs.py`). Its
models are timed one after the other, not in turns, and by the tool's own clock.
"""

from __future__ import annotations

import contextlib
import re
import secrets
import shlex
import subprocess
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, cast

from edgetl.commands.bench.logs.read import read_log
from edgetl.commands.bench.rows import Job, MeasuredJson, Row, RowJson, to_json
from edgetl.commands.bench.schedule import Settings
from edgetl.core.errors import DataError, EdgetlError, MissingError, UsageError
from edgetl.core.store import file_sha256
from edgetl.core.words import printable

OnNote = Callable[[str], None]
FOLDER = "/data/local/tmp/edgetl"
_SERIAL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,127}")
_TOOL = "benchmark_model"
# How each backend is asked for; a delegate that is not named is off, but for XNNPACK, which is on by itself.
_FLAGS = {
    "litert-cpu": ["--use_xnnpack=true"],
    "litert-cpu-reference": ["--use_xnnpack=false"],
    "litert-gpu": ["--use_gpu=true"],
    "litert-npu": ["--use_nnapi=true", "--disable_nnapi_cpu=true"],
}
_LEAST_RUNS = 50
_PUSH_S, _ASK_S = 600.0, 30.0
_PROPERTY = re.compile(r"^\[([\w.]+)\]: \[(.*)\]\r?$", re.MULTILINE)
# What adb itself says, before or instead of what it was asked for.
_NO_DEVICE = re.compile(r"(?i)device '[^']*' not found|no devices|device offline|unauthorized|cannot connect|closed")


def measure_over_adb(
    serial: str,
    jobs: Sequence[Job],
    settings: Settings,
    *,
    benchmark_model: Path,
    on_note: OnNote,
    adb: str = "adb",
) -> MeasuredJson:
    """{rows, machine, disturbance, interrupted}, rows as rows.to_json has them.

    serial: as `adb devices` has it. benchmark_model: the tool for the phone's processor. Of settings, seconds, warmup_s,
    cores and profile_runs are kept to; whether a row is known well enough is not asked, since the tool decides how long it
    runs. Raises UsageError, MissingError (no adb, no such phone), DataError (a file that changed on the way).
    """
    if not _SERIAL.fullmatch(serial):
        raise UsageError(
            f"{printable(serial, 200)!r} is not a phone's serial number.",
            fix="`adb devices` lists those that are connected: --on adb:SERIAL",
        )
    if not benchmark_model.is_file():
        raise MissingError(
            f"No benchmark_model at {printable(str(benchmark_model), 4096)}.",
            why="you provide the tool that runs on the phone: --benchmark-model PATH",
            fix="LiteRT's documentation has it built for android_aarch64 and android_arm (tools, benchmark)",
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
    for row_data in rows:
        row_data["machine"], row_data["measured_elsewhere"], row_data["device"] = machine, True, machine["board"]
    notes = ["models were timed one after the other: a short disturbance of the phone affected only one of them"]
    return {"rows": rows, "machine": machine, "disturbance": {"warnings": notes}, "interrupted": interrupted}


def command(tool: str, model: str, job: Job, settings: Settings) -> list[str]:
    """What runs on the phone.

    >>> from pathlib import Path
    >>> job = Job(Path("net.tflite"), "litert-gpu", 2)
    >>> " ".join(command("./benchmark_model", "net.tflite", job, Settings(seconds=4.0, warmup_s=1.0)))
    './benchmark_model --graph=net.tflite --num_threads=2 --num_runs=50 --min_secs=4 --max_secs=60 --warmup_runs=1
    --warmup_min_secs=1 --use_gpu=true'
    """
    made = [tool, f"--graph={model}", f"--num_threads={job.threads}", f"--num_runs={_LEAST_RUNS}"]
    made += [f"--min_secs={settings.seconds:g}", f"--max_secs={max(settings.seconds, settings.timeout_s):g}"]
    made += ["--warmup_runs=1", f"--warmup_min_secs={settings.warmup_s:g}", *_FLAGS[job.backend]]
    if settings.profile_runs:
        made.append("--enable_op_profiling=true")
    cores = settings.cores.get(job.threads)
    return ["taskset", f"{sum(1 << core for core in cores):x}", *made] if cores else made


def _measure(phone: _Phone, job: Job, settings: Settings, tool: str, folder: str) -> RowJson:
    row = Row(job)
    if job.backend not in _FLAGS or job.model.suffix != ".tflite":
        row.fail("missing", f"benchmark_model runs .tflite files on {', '.join(_FLAGS)}")
        return to_json(row)
    model = phone.push(job.model, f"{folder}/{file_sha256(job.model)}.tflite")
    # It warms up and runs for max_secs at most each, loads before, and a GPU compiles for a while.
    limit_s = 2 * max(settings.seconds, settings.timeout_s) + settings.timeout_s
    try:
        code, said = phone.shell(command(tool, model, job, settings), timeout_s=limit_s, may_fail=True)
    except _Hung:
        phone.kill(folder)
        row.fail("hung", f"no end within {limit_s:g} s (--timeout)")
        return to_json(row)
    return _row(row, code, said, allow_fallback=settings.allow_fallback)


def _row(row: Row, code: int, said: str, *, allow_fallback: bool) -> RowJson:
    """The row of what benchmark_model printed."""
    base = to_json(row)
    last = next((line for line in reversed(said.splitlines()) if line.strip()), "")
    try:
        found = read_log(said, source=_TOOL)[-1]
    except DataError as error:
        row.fail("crashed", f"exit code {code}: {printable(last, 300) or error.what}")
        return to_json(row)
    if code and found["status"] != "failed":
        row.fail("crashed", f"exit code {code}: {printable(last, 300)}")
        return to_json(row)
    kept = ("model", "name", "backend", "threads", "device", *row.job.about)
    notes = [note for note in found["notes"] if not note.startswith("measured elsewhere")]
    if found["backend"] != row.job.backend and found["status"] == "ok":
        # Flags that a build of the tool does not know are passed over by it.
        found["status"] = "fallback"
        notes.append(f"what it printed is that of {found['backend']}")
    if found["status"] == "fallback" and not allow_fallback:
        row.fail("placement", "; ".join(notes))
        return to_json(row)
    of_job = {key: value for key, value in base.items() if key in kept}
    return cast("RowJson", {**found, **of_job, "notes": notes, "log": None})


class _Hung(MissingError):
    """No answer in time."""


class _Phone:
    """adb with one serial number."""

    def __init__(self, adb: str, serial: str) -> None:
        self._adb, self._serial = adb, serial

    def describe(self) -> dict[str, Any]:
        """As machine.describe, from the phone's properties."""
        _, text = self.shell(["getprop"], timeout_s=_ASK_S)
        told = {name: printable(value, 100) for name, value in _PROPERTY.findall(text)}
        if not told:
            raise MissingError(f"The phone {self._serial} tells nothing of itself.", why=printable(text.strip(), 300))
        _, cores = self.shell(["nproc"], timeout_s=_ASK_S, may_fail=True)

        def put(*names: str) -> str:
            return " ".join(told[name] for name in names if told.get(name))

        return {
            "processor": put("ro.soc.manufacturer", "ro.soc.model") or put("ro.hardware"),
            "board": put("ro.product.manufacturer", "ro.product.model"),
            "cores": int(cores) if cores.strip().isdigit() else None,
            "memory_bytes": None,
            "instruction_set": [put("ro.product.cpu.abi")],
            "os": f"Android {put('ro.build.version.release')}".strip(),
            "python": None,
        }

    @contextlib.contextmanager
    def folder(self) -> Iterator[str]:
        """A folder of this run's own, gone afterwards with what still runs in it."""
        name = f"{FOLDER}/{secrets.token_hex(8)}"
        self.shell(["mkdir", "-p", name], timeout_s=_ASK_S)
        try:
            yield name
        finally:
            # Whatever went wrong is what is to be told, not that the phone is no longer there to be tidied up.
            with contextlib.suppress(EdgetlError):
                self.kill(name)
                self.shell(["rm", "-rf", name], timeout_s=_ASK_S, may_fail=True)
                self.shell(["rmdir", FOLDER], timeout_s=_ASK_S, may_fail=True)

    def kill(self, folder: str) -> None:
        """What runs in a folder: adb's end does not end it. The pattern does not match the shell that it is given to."""
        above, _, name = folder.rpartition("/")
        self.shell(["pkill", "-9", "-f", f"{above}/[{name[0]}]{name[1:]}/"], timeout_s=_ASK_S, may_fail=True)

    def push(self, file: Path, to: str) -> str:
        """Put a file there, and see that it is the same."""
        self._call(["push", str(file.resolve()), to], timeout_s=_PUSH_S)
        _, told = self.shell(["sha256sum", to], timeout_s=_PUSH_S)
        if told.split()[:1] != [file_sha256(file)]:
            raise DataError(
                f"{printable(file.name, 200)} did not arrive on the phone as it was sent.",
                why=f"its sha256 there is {printable(' '.join(told.split()[:1]), 80)}",
                fix="run again; see whether the phone's storage is full",
            )
        return to

    def shell(self, arguments: Sequence[str], *, timeout_s: float, may_fail: bool = False) -> tuple[int, str]:
        """(exit code, what it printed) of a command on the phone."""
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
                "There is no adb here.", why="it is what reaches phones", fix="install it: apt install adb"
            ) from None
        except subprocess.TimeoutExpired:
            raise _Hung(
                f"The phone {self._serial} has not answered within {timeout_s:g} s.",
                why=f"adb {printable(' '.join(arguments), 200)}",
                fix="wake it up, connect it again and run again",
            ) from None
        said = done.stdout.decode("utf-8", "replace")
        own = [line for line in said.splitlines() if _is_adbs(line)]
        if done.returncode and own:
            raise MissingError(
                f"The phone {self._serial} cannot be reached.",
                why=printable(own[0], 300),
                fix="connect it, allow USB debugging on its screen, and see that `adb devices` lists it as a device",
            )
        if done.returncode and not may_fail:
            raise MissingError(
                f"The phone {self._serial} refuses: adb {printable(' '.join(arguments), 200)}",
                why=printable(said.strip(), 600) or f"exit code {done.returncode}",
                fix="see that its storage is not full and that adb may write to /data/local/tmp",
            )
        return done.returncode, said


def _is_adbs(line: str) -> bool:
    return bool(re.match(r"(?:adb|error):", line) and _NO_DEVICE.search(line))
