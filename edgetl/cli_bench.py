"""`edgetl bench`: parse, call, render."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Annotated, Any

import typer

from edgetl.cli_options import CacheOption, JsonOption
from edgetl.cli_output import open_store, print_json, stderr, stdout
from edgetl.errors import EXIT_DATA, EXIT_INTERRUPTED, EXIT_LATENCY_OR_SIZE, EXIT_MISSING, EXIT_OK, UsageError


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
        typer.Argument(metavar="MODEL...", help=".tflite and .onnx files, and bundles that `edgetl build` wrote."),
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
        str | None, typer.Option("--pin", metavar="auto|0,2", help="Keep to these processors; auto: the fastest.")
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
    csv_file: Annotated[Path | None, typer.Option("--csv", help="Write the rows to this file.")] = None,
    plot: Annotated[
        Path | None,
        typer.Option("--plot", metavar="FILE.png", help="Latency against accuracy against size, as a picture."),
    ] = None,
    as_json: JsonOption = False,
    cache: CacheOption = None,
) -> None:
    """Time MODELs on every backend: a process a row, rows in turns, until the median is known to 2%."""
    from edgetl import machine
    from edgetl.bench.compare import SLOWER, note_parity
    from edgetl.bench.compare import compare as compare_rows
    from edgetl.bench.disturbance import cores_by_speed
    from edgetl.bench.models import find_jobs, ready_backends
    from edgetl.bench.rows import to_json
    from edgetl.bench.schedule import Settings, measure
    from edgetl.console_bench import print_bench, progress_of

    if plot is not None:
        from edgetl.bench.plot import check_plot

        check_plot(plot)
    counts = _threads(threads)
    backends, absent = ready_backends(backend or [], allow_fallback=allow_fallback)
    paths = [Path(model).expanduser() for model in models]
    jobs = find_jobs(paths, backends, counts, images=images, store=open_store(cache))
    if compare:
        jobs = _two(jobs, paths)
    settings = Settings(
        seconds=seconds,
        width=width,
        timeout_s=timeout,
        memory_bytes=int(memory * 1e9) if memory else int(0.9 * (machine.available_bytes() or 2**34)),
        allow_fallback=allow_fallback,
        profile_runs=20 if profile else 0,
        cores={count: _cores(pin, count, cores_by_speed()) for count in counts} if pin else {},
        paired=compare,
    )
    with progress_of(stderr()) as on_visit:
        rows, disturbance, interrupted = measure(jobs, settings, on_visit)
    note_parity(rows)
    comparison = None
    if compare and all(row.rounds for row in rows):
        comparison = compare_rows(*rows, max_ratio=max_ratio)
    found: dict[str, Any] = {
        "machine": machine.describe(),
        "disturbance": disturbance,
        "settings": {
            "seconds": seconds,
            "width": width,
            "threads": counts,
            "input": images or "golden photos, or random",
        },
        "interrupted": interrupted,
        "absent": absent,
        "rows": [to_json(row) for row in rows],
        "comparison": comparison,
    }
    if csv_file is not None:
        _write_csv(csv_file, found["rows"])
    if plot is not None:
        from edgetl.bench.plot import draw

        draw(plot, found["rows"], found["machine"]["processor"])
    code = _code(found, slower=comparison is not None and comparison["verdict"] == SLOWER)
    if as_json:
        print_json({"exit_code": code, **found})
    else:
        print_bench(stdout(), found)
    raise typer.Exit(code)


def _two(jobs: list[Any], paths: list[Path]) -> list[Any]:
    """The two jobs to compare: of the one backend that both files share, or the first that opens either."""
    if len(paths) != 2:
        raise UsageError(
            f"--compare takes two models, not {len(paths)}.", fix="edgetl bench --compare BASELINE CANDIDATE"
        )
    if len(jobs) > 2:
        # Two files of one format on several backends: the everyday one, unless another was asked for.
        first = jobs[0]
        jobs = [job for job in jobs if (job.backend, job.threads) == (first.backend, first.threads)] or jobs
    if len(jobs) != 2:
        raise UsageError(
            f"--compare takes two rows, and these are {len(jobs)}: {', '.join(job.name for job in jobs)}.",
            fix="give two files of one format, one --backend and one number of --threads",
        )
    return jobs


def _cores(pin: str, count: int, fastest: list[int]) -> list[int]:
    if pin == "auto":
        return fastest[:count]
    try:
        cores = [int(part) for part in pin.split(",")]
    except ValueError:
        cores = []
    if not cores or not set(cores) <= set(fastest):
        raise UsageError(
            f"--pin {pin!r} names processors that are not here.",
            why=f"this process may run on {', '.join(map(str, fastest)) or 'those that the system chooses'}",
            fix="--pin auto",
        )
    return cores


def _code(found: dict[str, Any], *, slower: bool) -> int:
    """Interrupted before a missing backend before a model that failed before one that is too slow."""
    kinds = {row["failure"] for row in found["rows"]}
    if found["interrupted"]:
        return EXIT_INTERRUPTED
    if kinds & {"missing", "placement"}:
        return EXIT_MISSING
    if kinds - {None}:
        return EXIT_DATA
    return EXIT_LATENCY_OR_SIZE if slower else EXIT_OK


def _write_csv(path: Path, rows: list[dict[str, Any]]) -> None:
    from edgetl.bench.rows import COLUMNS, to_csv_row
    from edgetl.store import write_atomically

    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([COLUMNS, *map(to_csv_row, rows)])
    try:
        write_atomically(path, text.getvalue().encode())
    except OSError as error:
        raise UsageError(f"{path} cannot be written.", why=str(error), fix="name another file with --csv") from None
