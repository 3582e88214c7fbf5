"""`edgetl bench`: parse, run, show."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgetl.console.options import CacheOption, JsonOption
from edgetl.console.output import open_store, print_json, stderr, stdout
from edgetl.core.errors import EXIT_DATA, EXIT_INTERRUPTED, EXIT_LATENCY_OR_SIZE, EXIT_MISSING, EXIT_OK, UsageError

if TYPE_CHECKING:
    from edgetl.commands.bench.rows import RowJson
    from edgetl.commands.bench.run import BenchResult
    from edgetl.targets.target import Target
    from edgetl.verdicts.check import CheckRow


def _threads(text: str) -> list[int]:
    try:
        counts = [int(part) for part in text.split(",")]
    except ValueError:
        counts = []
    if not counts or min(counts) < 1 or max(counts) > 1024:
        raise UsageError(
            f"--threads {text!r} is not a list of numbers between 1 and 1024.", fix="for example --threads 1,2,4"
        )
    return sorted(set(counts))


def bench(
    models: Annotated[
        list[str],
        typer.Argument(
            metavar="MODEL...",
            help=".tflite and .onnx files, and bundles that `edgetl build` wrote. Or: import LOG..., the output of "
            "benchmark_model, benchmark_litert_model or onnxruntime_perf_test.",
        ),
    ],
    backend: Annotated[
        list[str] | None,
        typer.Option(
            "--backend",
            "-b",
            help="Backend to measure: litert-cpu, ort-cuda, ...; may be repeated. Default: all that are ready.",
        ),
    ] = None,
    threads: Annotated[str, typer.Option(help="Numbers of threads, one row per number: 1,2,4.")] = "1",
    images: Annotated[
        str,
        typer.Option(
            "--input",
            metavar="random|PHOTOS",
            help="Input to run on: random numbers or a folder of photos. Default: a bundle's golden photos, otherwise random numbers.",
        ),
    ] = "",
    seconds: Annotated[
        float, typer.Option(min=0.05, help="Time limit for the timed runs of one row, in seconds.")
    ] = 10.0,
    width: Annotated[
        float,
        typer.Option(
            min=0.001, max=1.0, help="Stop a row when its 95% interval is narrower than this share of the median."
        ),
    ] = 0.02,
    compare: Annotated[
        bool,
        typer.Option(
            "--compare",
            help="Compare two models: is the second slower? Measured in pairs, by the ratio of the medians.",
        ),
    ] = False,
    max_ratio: Annotated[
        float,
        typer.Option(
            min=0.01,
            help="With --compare: exit 7 if the whole interval of the ratio (second over first) is above this.",
        ),
    ] = 1.05,
    profile: Annotated[
        bool, typer.Option("--profile", help="Show the slowest ops, if the backend reports times per op.")
    ] = False,
    pin: Annotated[
        str | None,
        typer.Option("--pin", metavar="auto|0,2|0-3", help="Run on these processors only; auto: on the fastest ones."),
    ] = None,
    allow_fallback: Annotated[
        bool,
        typer.Option(
            "--allow-fallback/--no-allow-fallback",
            help="Measure a model even if it does not run on the requested device; its row is marked.",
        ),
    ] = False,
    timeout: Annotated[
        float, typer.Option(min=0.1, help="Time limit for loading a model, and for one visit to a row, in seconds.")
    ] = 60.0,
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
        typer.Option(
            "--on", metavar="ssh://USER@HOST|adb:SERIAL", help="Measure on a board (ssh) or on an Android phone (adb)."
        ),
    ] = None,
    wheels: Annotated[
        Path | None,
        typer.Option(
            "--wheels",
            help="With ssh: folder of wheels for the board's processor. Default: the board's package index.",
        ),
    ] = None,
    remote_python: Annotated[
        str | None,
        typer.Option(
            "--remote-python",
            help="With ssh: Python interpreter on the board, with edgetl's dependencies. Default: a new environment.",
        ),
    ] = None,
    benchmark_model: Annotated[
        Path | None,
        typer.Option("--benchmark-model", help="With adb: LiteRT's benchmark_model, built for the phone's processor."),
    ] = None,
    device: Annotated[
        str | None, typer.Option("--device", help="With import: the device that the logs were measured on.")
    ] = None,
    csv_file: Annotated[Path | None, typer.Option("--csv", help="Write the rows to this file.")] = None,
    plot: Annotated[
        Path | None,
        typer.Option("--plot", metavar="FILE.png", help="Draw latency against accuracy and size, to this file."),
    ] = None,
    as_json: JsonOption = False,
    cache: CacheOption = None,
) -> None:
    """Measure latency on every backend, in isolated processes."""
    from edgetl.commands.bench import run
    from edgetl.commands.bench.schedule import Settings
    from edgetl.commands.bench.view import progress_of

    _check_outputs(csv_file, plot)
    judged_by = _target(target)
    request = run.Request(
        models=[Path(model).expanduser() for model in models],
        backends=backend or [],
        threads=_threads(threads),
        images=images,
        settings=Settings(
            seconds=seconds,
            width=width,
            timeout_s=timeout,
            allow_fallback=allow_fallback,
            profile_runs=20 if profile else 0,
            paired=compare,
        ),
        pin=() if pin is None else run.parse_pin(pin),
        memory_bytes=int(memory * 1e9) if memory else 0,
        max_ratio=max_ratio,
    )
    log = stderr()

    def note(text: str) -> None:
        log.print(f"  {text}", markup=False, highlight=False, soft_wrap=True)

    with progress_of(log) as on_visit:
        if models[0] == "import":
            result = run.measured_in_logs(request.models[1:], device, backend[0] if backend else None)
        elif on is None:
            result = run.measure_here(request, open_store(cache), on_visit)
        else:
            place = run.parse_place(on, benchmark_model=benchmark_model, python=remote_python, wheels=wheels)
            if isinstance(place, run.Ssh):
                result = run.measure_on_board(place, request, open_store(cache), on_visit, note)
            else:
                result = run.measure_on_phone(place, request, note)
    _finish(result, _checks(result, judged_by), csv_file, plot, as_json)


def _check_outputs(csv_file: Path | None, plot: Path | None) -> None:
    """Raises UsageError for files that cannot be written, before anything is measured."""
    if csv_file is not None and not csv_file.resolve().parent.is_dir():
        raise UsageError(f"{csv_file.parent} is not a folder.", fix="create it, or give another file name with --csv")
    if plot is not None:
        from edgetl.commands.bench.plot import check_plot

        check_plot(plot)


def _target(name: str | None) -> Target | None:
    """The target to check against, if one was named."""
    from edgetl.targets.target import load_target

    return load_target(name) if name else None


def _checks(result: BenchResult, target: Target | None) -> list[CheckRow]:
    if target is None:
        return []

    from edgetl.commands.bench.judging import latency_checks

    return [check.to_json() for check in latency_checks(result["rows"], target, result["machine"])]


def _finish(
    result: BenchResult, checks: list[CheckRow], csv_file: Path | None, plot: Path | None, as_json: bool
) -> None:
    """Show the result, write the files, exit with the code."""
    from edgetl.commands.bench.view import print_bench

    code = _code(result, checks)
    if as_json:
        print_json({"exit_code": code, **result, "checks": checks})
    else:
        print_bench(stdout(), result, checks)
    # The result is on the screen before files are written: a full disk must not lose it.
    if csv_file is not None:
        _write_csv(csv_file, result["rows"])
    if plot is not None and any(row["p50_ms"] is not None and row["status"] != "failed" for row in result["rows"]):
        from edgetl.commands.bench.plot import draw

        draw(plot, result["rows"], result["machine"].get("processor") or result["machine"].get("board") or "")
    raise typer.Exit(code)


def _code(result: BenchResult, checks: list[CheckRow]) -> int:
    """The exit code. Interrupted goes before a missing backend, that before a model that failed, that before a slow one."""
    comparison = result["comparison"]
    slow = comparison is not None and comparison["verdict"] == "slower"
    slow = slow or any(check["status"] == "fail" for check in checks)
    kinds = {row["failure"] for row in result["rows"]}
    if result["interrupted"]:
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
        raise UsageError(
            f"{path} cannot be written.", why=str(error), fix="give another file name with --csv"
        ) from None
