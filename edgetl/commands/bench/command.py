"""`edgetl bench`: parse, call, render."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgetl.console.options import CacheOption, JsonOption
from edgetl.console.output import open_store, print_json, stderr, stdout
from edgetl.core.errors import EXIT_DATA, EXIT_INTERRUPTED, EXIT_LATENCY_OR_SIZE, EXIT_MISSING, EXIT_OK, UsageError

if TYPE_CHECKING:
    from edgetl.commands.bench.rows import BenchJson, RowJson
    from edgetl.commands.bench.run import Asked
    from edgetl.targets.target import Target
    from edgetl.verdicts.check import CheckRow


def _threads(text: str) -> list[int]:
    try:
        counts = [int(part) for part in text.split(",")]
    except ValueError:
        counts = []
    if not counts or min(counts) < 1 or max(counts) > 1024:
        raise UsageError(f"--threads {text!r} is not a list of numbers from 1 up.", fix="for example --threads 1,2,4")
    return sorted(set(counts))


def bench(
    models: Annotated[
        list[str],
        typer.Argument(
            metavar="MODEL...",
            help=".tflite and .onnx files, and bundles written by `edgetl build`; or: import LOG..., the output of benchmark_model or onnxruntime_perf_test.",
        ),
    ],
    backend: Annotated[
        list[str] | None,
        typer.Option("--backend", "-b", help="litert-cpu, ort-cuda, ...; repeatable. Default: all installed backends."),
    ] = None,
    threads: Annotated[str, typer.Option(help="Numbers of threads, one row per number: 1,2,4.")] = "1",
    images: Annotated[
        str,
        typer.Option(
            "--input",
            metavar="random|PHOTOS",
            help="Input images. Default: a bundle's golden photos, random numbers for a file.",
        ),
    ] = "",
    seconds: Annotated[float, typer.Option(min=0.05, help="Maximum seconds of timed runs per row.")] = 10.0,
    width: Annotated[
        float,
        typer.Option(
            min=0.001, max=1.0, help="Stop a row when its 95% interval is narrower than this share of the median."
        ),
    ] = 0.02,
    compare: Annotated[
        bool,
        typer.Option(
            "--compare", help="Compare two models: is the second slower? Measured in pairs, by the ratio of medians."
        ),
    ] = False,
    max_ratio: Annotated[
        float,
        typer.Option(
            min=0.01, help="With --compare: exit 7 if the whole interval of second / first is above this ratio."
        ),
    ] = 1.05,
    profile: Annotated[
        bool, typer.Option("--profile", help="Show the slowest ops, where the backend reports them.")
    ] = False,
    pin: Annotated[
        str | None,
        typer.Option("--pin", metavar="auto|0,2|0-3", help="Run only on these processors; auto: the fastest."),
    ] = None,
    allow_fallback: Annotated[
        bool,
        typer.Option(
            "--allow-fallback/--no-allow-fallback",
            help="Measure a backend even if it does not run on the requested device, and mark the row.",
        ),
    ] = False,
    timeout: Annotated[float, typer.Option(min=0.1, help="Maximum seconds to load a model, or for one visit.")] = 60.0,
    memory: Annotated[
        float | None, typer.Option(min=0.01, help="Memory limit per row in GB. Default: 90% of free memory.")
    ] = None,
    target: Annotated[
        str | None,
        typer.Option(
            "--target", "-t", help="Check against this target's latency budget; only its own device can pass."
        ),
    ] = None,
    on: Annotated[
        str | None,
        typer.Option("--on", metavar="ssh://USER@HOST|adb:SERIAL", help="Measure on a board or on an Android phone."),
    ] = None,
    wheels: Annotated[
        Path | None,
        typer.Option(
            "--wheels",
            help="With ssh: a folder of wheels for the board's processor. Default: the board's package index.",
        ),
    ] = None,
    remote_python: Annotated[
        str | None,
        typer.Option("--remote-python", help="With ssh: a Python on the board with all packages edgetl needs."),
    ] = None,
    benchmark_model: Annotated[
        Path | None,
        typer.Option("--benchmark-model", help="With adb: the official tool, built for the phone's processor."),
    ] = None,
    device: Annotated[
        str | None, typer.Option("--device", help="With import: the device the logs were measured on.")
    ] = None,
    csv_file: Annotated[Path | None, typer.Option("--csv", help="Write the rows to this file.")] = None,
    plot: Annotated[
        Path | None,
        typer.Option("--plot", metavar="FILE.png", help="Draw latency against accuracy and size."),
    ] = None,
    as_json: JsonOption = False,
    cache: CacheOption = None,
) -> None:
    """Measure latency on every backend, in isolated processes."""
    from edgetl.commands.bench.run import Asked, parse_pin
    from edgetl.commands.bench.schedule import Settings

    _check_outputs(csv_file, plot)
    judged_by = _target(target)
    settings = Settings(
        seconds=seconds,
        width=width,
        timeout_s=timeout,
        allow_fallback=allow_fallback,
        profile_runs=20 if profile else 0,
        paired=compare,
    )
    asked = Asked(
        [Path(model).expanduser() for model in models],
        backend or [],
        _threads(threads),
        images,
        settings,
        () if pin is None else parse_pin(pin),
        int(memory * 1e9) if memory else 0,
        max_ratio,
    )
    place = _Place(on, wheels, remote_python, benchmark_model)
    found = _import_logs(asked, device) if models[0] == "import" else _measure(asked, place, cache)
    found["checks"] = _checks(found, judged_by)
    _finish(found, csv_file, plot, as_json)


@dataclass(frozen=True)
class _Place:
    """The options that say where to measure, as typed."""

    on: str | None
    wheels: Path | None
    remote_python: str | None
    benchmark_model: Path | None


def _check_outputs(csv_file: Path | None, plot: Path | None) -> None:
    """Before anything is measured: raises UsageError or MissingError for a file that cannot be written."""
    if csv_file is not None and not csv_file.resolve().parent.is_dir():
        raise UsageError(f"{csv_file.parent} is not a folder.", fix="create it, or name another file with --csv")
    if plot is not None:
        from edgetl.commands.bench.plot import check_plot

        check_plot(plot)


def _import_logs(asked: Asked, device: str | None) -> BenchJson:
    from edgetl.commands.bench.run import measured_in_logs

    return measured_in_logs(asked.models[1:], device, asked.backends[0] if asked.backends else None)


def _measure(asked: Asked, place: _Place, cache: Path | None) -> BenchJson:
    from edgetl.commands.bench import run
    from edgetl.commands.bench.view import progress_of

    log = stderr()

    def note(text: str) -> None:
        log.print(f"  {text}", markup=False, highlight=False, soft_wrap=True)

    with progress_of(log) as on_visit:
        if place.on is None:
            return run.measure_here(asked, open_store(cache), on_visit)
        there = run.parse_place(
            place.on, benchmark_model=place.benchmark_model, python=place.remote_python, wheels=place.wheels
        )
        if isinstance(there, run.Ssh):
            return run.measure_on_board(there, asked, open_store(cache), on_visit, note)
        return run.measure_on_phone(there, asked, note)


def _target(name: str | None) -> Target | None:
    """The target to judge by, if one was named."""
    from edgetl.targets.target import load_target

    return load_target(name) if name else None


def _checks(found: BenchJson, target: Target | None) -> list[CheckRow]:
    if target is None:
        return []
    from edgetl.commands.bench.judging import latency_checks

    return [check.to_json() for check in latency_checks(found["rows"], target, found["machine"])]


def _finish(found: BenchJson, csv_file: Path | None, plot: Path | None, as_json: bool) -> None:
    from edgetl.commands.bench.view import print_bench

    code = _code(found)
    if as_json:
        print_json({"exit_code": code, **found})
    else:
        print_bench(stdout(), found)
    # What was measured is on the screen first: a full disk must not cost it.
    if csv_file is not None:
        _write_csv(csv_file, found["rows"])
    if plot is not None and any(row.get("p50_ms") is not None and row["status"] != "failed" for row in found["rows"]):
        from edgetl.commands.bench.plot import draw

        draw(plot, found["rows"], found["machine"].get("processor") or found["machine"].get("board") or "")
    raise typer.Exit(code)


def _code(found: BenchJson) -> int:
    """Interrupted before a missing backend before a model that failed before one that is too slow."""
    comparison = found["comparison"]
    slow = comparison is not None and comparison["verdict"] == "slower"
    slow = slow or any(check["status"] == "fail" for check in found["checks"])
    kinds = {row["failure"] for row in found["rows"]}
    if found["interrupted"]:
        return EXIT_INTERRUPTED
    if kinds & {"missing", "placement"}:
        return EXIT_MISSING
    if kinds - {None}:
        return EXIT_DATA
    return EXIT_LATENCY_OR_SIZE if slow else EXIT_OK


def _write_csv(path: Path, rows: list[RowJson]) -> None:
    from edgetl.commands.bench.rows import COLUMNS, to_csv_row
    from edgetl.core.store import write_atomically

    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([COLUMNS, *map(to_csv_row, rows)])
    try:
        write_atomically(path, text.getvalue().encode())
    except OSError as error:
        raise UsageError(f"{path} cannot be written.", why=str(error), fix="name another file with --csv") from None
