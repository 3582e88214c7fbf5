"""`edgetl bench`: parse, call, render."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Annotated, Any

import typer

from edgetl.console.options import CacheOption, JsonOption
from edgetl.console.output import open_store, print_json, stderr, stdout
from edgetl.core.errors import EXIT_DATA, EXIT_INTERRUPTED, EXIT_LATENCY_OR_SIZE, EXIT_MISSING, EXIT_OK, UsageError


def _threads(text: str) -> list[int]:
    try:
        counts = [int(part) for part in text.split(",")]
    except ValueError:
        counts = []
    if not counts or min(counts) < 1 or max(counts) > 1024:
        raise UsageError(f"--threads {text!r} is not a list of numbers from 1 on.", fix="for example --threads 1,2,4")
    return sorted(set(counts))


def bench(
    models: Annotated[
        list[str],
        typer.Argument(
            metavar="MODEL...",
            help=".tflite and .onnx files, and bundles that `edgetl build` wrote; or: import LOG..., what benchmark_model or onnxruntime_perf_test printed.",
        ),
    ],
    backend: Annotated[
        list[str] | None,
        typer.Option(
            "--backend", "-b", help="litert-cpu, ort-cuda, ...; may be given several times. All that are here."
        ),
    ] = None,
    threads: Annotated[str, typer.Option(help="Numbers of threads, each a row of its own: 1,2,4.")] = "1",
    images: Annotated[
        str,
        typer.Option("--input", metavar="random|PHOTOS", help="What to run on; a bundle's golden photos by itself."),
    ] = "",
    seconds: Annotated[float, typer.Option(min=0.05, help="Seconds of timed runs that a row gets at most.")] = 10.0,
    width: Annotated[
        float,
        typer.Option(
            min=0.001, max=1.0, help="A row is done when the median's 95% interval is narrower, over the median."
        ),
    ] = 0.02,
    compare: Annotated[
        bool, typer.Option("--compare", help="Two models: is the second slower? In pairs, by the ratio of medians.")
    ] = False,
    max_ratio: Annotated[
        float,
        typer.Option(
            min=0.01, help="With --compare: exit 7 when the second's time over the first's is wholly past it."
        ),
    ] = 1.05,
    profile: Annotated[bool, typer.Option("--profile", help="Slowest ops, where the backend tells.")] = False,
    pin: Annotated[
        str | None, typer.Option("--pin", metavar="auto|0,2|0-3", help="Keep to these processors; auto: the fastest.")
    ] = None,
    allow_fallback: Annotated[
        bool,
        typer.Option(
            "--allow-fallback/--no-allow-fallback",
            help="Measure a backend that would not run where it was asked to, marked.",
        ),
    ] = False,
    timeout: Annotated[float, typer.Option(min=0.1, help="Seconds a model may take to load, or for one visit.")] = 60.0,
    memory: Annotated[
        float | None, typer.Option(min=0.01, help="GB a row may take; nine tenths of what is free by itself.")
    ] = None,
    target: Annotated[
        str | None,
        typer.Option("--target", "-t", help="Judge by this target's latency budget; only its own device can pass."),
    ] = None,
    on: Annotated[
        str | None,
        typer.Option("--on", metavar="ssh://USER@HOST|adb:SERIAL", help="Measure on a board or on an Android phone."),
    ] = None,
    wheels: Annotated[
        Path | None,
        typer.Option("--wheels", help="With ssh: wheels for that processor; its package index by itself."),
    ] = None,
    remote_python: Annotated[
        str | None,
        typer.Option("--remote-python", help="With ssh: an interpreter there that has what edgetl needs."),
    ] = None,
    benchmark_model: Annotated[
        Path | None, typer.Option("--benchmark-model", help="With adb: the official tool, for the phone's processor.")
    ] = None,
    device: Annotated[str | None, typer.Option("--device", help="With import: what the logs were measured on.")] = None,
    csv_file: Annotated[Path | None, typer.Option("--csv", help="Write the rows to this file.")] = None,
    plot: Annotated[
        Path | None,
        typer.Option("--plot", metavar="FILE.png", help="Latency against accuracy against size, as a picture."),
    ] = None,
    as_json: JsonOption = False,
    cache: CacheOption = None,
) -> None:
    """Time MODELs on every backend: a process a row, rows in turns, until the median is known to 2%."""
    from edgetl.commands.bench import run
    from edgetl.commands.bench.schedule import Settings
    from edgetl.commands.bench.view import progress_of

    if csv_file is not None and not csv_file.resolve().parent.is_dir():
        raise UsageError(f"{csv_file.parent} is not a folder.", fix="make it, or name another file with --csv")
    if plot is not None:
        from edgetl.commands.bench.plot import check_plot

        check_plot(plot)
    made = _target(target)
    asked = run.Asked(
        [Path(model).expanduser() for model in models],
        backend or [],
        _threads(threads),
        images,
        Settings(
            seconds=seconds,
            width=width,
            timeout_s=timeout,
            allow_fallback=allow_fallback,
            profile_runs=20 if profile else 0,
            paired=compare,
        ),
        () if pin is None else run.parse_pin(pin),
        int(memory * 1e9) if memory else 0,
        max_ratio,
    )
    log = stderr()
    with progress_of(log) as on_visit:
        if models[0] == "import":
            found = run.measured_in_logs(asked.models[1:], device, backend[0] if backend else None)
        elif on is None:
            found = run.measure_here(asked, open_store(cache), on_visit)
        else:
            place = run.parse_place(on, benchmark_model=benchmark_model, python=remote_python, wheels=wheels)

            def note(text: str) -> None:
                log.print(f"  {text}", markup=False, highlight=False, soft_wrap=True)

            if isinstance(place, run.Ssh):
                found = run.measure_on_board(place, asked, open_store(cache), on_visit, note)
            else:
                found = run.measure_on_phone(place, asked, note)
    found["checks"] = _checks(found, made)
    _finish(found, csv_file, plot, as_json)


def _target(name: str | None) -> Any:
    """The target to judge by, if one was named."""
    from edgetl.targets.target import load_target

    return load_target(name) if name else None


def _checks(found: dict[str, Any], target: Any) -> list[dict[str, Any]]:
    if target is None:
        return []
    from dataclasses import asdict

    from edgetl.commands.bench.judging import latency_checks

    return [asdict(check) for check in latency_checks(found["rows"], target, found["machine"])]


def _finish(found: dict[str, Any], csv_file: Path | None, plot: Path | None, as_json: bool) -> None:
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


def _code(found: dict[str, Any]) -> int:
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


def _write_csv(path: Path, rows: list[dict[str, Any]]) -> None:
    from edgetl.commands.bench.rows import COLUMNS, to_csv_row
    from edgetl.core.store import write_atomically

    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([COLUMNS, *map(to_csv_row, rows)])
    try:
        write_atomically(path, text.getvalue().encode())
    except OSError as error:
        raise UsageError(f"{path} cannot be written.", why=str(error), fix="name another file with --csv") from None
