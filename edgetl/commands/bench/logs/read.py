"""`edgetl bench import LOG...`: what other tools measured, as rows like our own.

Read are LiteRT's `benchmark_model` (also through logcat), its `benchmark_litert_model`, and `onnxruntime_perf_test`, as
they print on a console. A row holds what its log holds and None for the rest; nothing is made up, lines that are not known
are passed over, and a log that contradicts itself or breaks off is refused.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from edgetl.commands.bench.logs.found import LogRun, time_of
from edgetl.commands.bench.logs.litert import read_benchmark_litert_model, read_benchmark_model
from edgetl.commands.bench.logs.ort import read_perf_test
from edgetl.commands.bench.rows import NO_FIGURES, Job, Row, RowJson, to_json
from edgetl.core.errors import DataError
from edgetl.core.stats import quantile_ranks
from edgetl.core.words import printable

_READERS = (read_benchmark_model, read_benchmark_litert_model, read_perf_test)
_MOST_BYTES = 1 << 26
# In the order that they must have, whatever was measured.
_ASCENDING = ("min_ms", "p5_ms", "p50_ms", "p90_ms", "p95_ms", "p99_ms", "p999_ms", "max_ms")
# Figures of six digits, rounded.
_SLACK = 2e-5


def read_logs(logs: Sequence[Path], *, device: str | None = None, backend: str | None = None) -> list[RowJson]:
    """Rows as rows.to_json has them, of every run in every log.

    device: what they were measured on, as the user says; None: not known. backend: what ran, where a log does not tell.
    Each row has besides `machine` ({"board": device} or None), `measured_elsewhere` and `log`. Raises DataError.
    """
    rows = []
    for log in logs:
        rows += read_log(_text(log), source=log.name, device=device, backend=backend)
    return rows


def read_log(text: str, *, source: str, device: str | None = None, backend: str | None = None) -> list[RowJson]:
    """The rows of one log's text. source: its name in messages."""
    shown = printable(source, 200)
    found = [run for read in _READERS for run in read(text)]
    if not found:
        raise DataError(
            f"{shown} holds no measurement that edgetl can read.",
            why="there is neither `Inference timings in us` (benchmark_model), nor `BENCHMARK RESULTS` "
            "(benchmark_litert_model), nor `Average inference time cost` (onnxruntime_perf_test) in it",
            fix="give the complete output of the tool",
        )
    return [_row(run, shown, device, backend) for run in found]


def _text(log: Path) -> str:
    try:
        size = log.stat().st_size
        if size > _MOST_BYTES:
            raise DataError(
                f"{printable(str(log), 4096)} has {size / 1e6:.0f} MB.", why="a log of runs has a few thousand lines"
            )
        return log.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise DataError(f"{printable(str(log), 4096)} cannot be read.", why=str(error), fix="check the path") from None


def _row(run: LogRun, source: str, device: str | None, backend: str | None) -> RowJson:
    """run: what a reader found. kept out of the row: `lacks` (what a broken log has not), `tool`."""
    if run.get("lacks"):
        raise DataError(
            f"{source} breaks off: a run of {run['tool']} in it has no {run['lacks']}.",
            why="what came before its end is not what it measured",
            fix="let the tool run to its end, and keep its complete output",
        )
    _refuse_contradictions(run, source)
    model = printable(str(run.get("model") or Path(source).stem), 4096)
    made = Row(Job(Path(model), run.get("backend") or backend or "", run.get("threads") or 0))
    row: dict[str, Any] = {**to_json(made), **NO_FIGURES}
    row |= {key: value for key, value in run.items() if key in row}
    row |= {
        "model": model,
        "name": model.replace("\\", "/").rsplit("/", 1)[-1],
        "backend": made.job.backend or "unknown",
        "threads": run.get("threads"),
        "warmup_runs": run.get("warmup_runs"),
        "timed_s": run.get("timed_s"),
        "device": printable(device, 200) if device else None,
        "library": run["tool"],
        "notes": [f"measured elsewhere, read from {source}", *run.get("notes", ())],
        "machine": {"board": printable(device, 200)} if device else None,
        "measured_elsewhere": True,
        "log": source,
    }
    if row["runs"]:
        row["p90_interval_ms"] = _enclosing(run, 0.9)
    return cast("RowJson", row)


def _enclosing(run: LogRun, share: float) -> list[float] | None:
    """An interval for a quantile, from those that the log has: wider than the one from all runs, which it encloses.

    The interval has two order statistics for edges (stats.quantile_interval). Of the known ones, the last at or before the
    lower edge and the first at or after the upper one enclose it. Both tools take the sorted run number floor(share x n),
    counted from zero.
    """
    n = run.get("runs")
    if not n:
        return None
    known = {1: run.get("min_ms"), n: run.get("max_ms")}
    for name, at in (("p5_ms", 0.05), ("p50_ms", 0.5), ("p90_ms", 0.9), ("p95_ms", 0.95), ("p99_ms", 0.99)):
        known.setdefault(min(n, math.floor(n * at) + 1), time_of(run, name))
    ranks = sorted((rank, value) for rank, value in known.items() if value is not None)
    low, high = quantile_ranks(n, share)
    before = [value for rank, value in ranks if rank <= low]
    after = [value for rank, value in ranks if rank >= high]
    return [before[-1], after[0]] if before and after else None


def _refuse_contradictions(run: LogRun, source: str) -> None:
    figures = [(name, value) for name in _ASCENDING if (value := time_of(run, name)) is not None]
    faults = [
        f"{a} is {low:g} and {b} {high:g}"
        for (a, low), (b, high) in itertools.pairwise(figures)
        if low > high * (1 + _SLACK)
    ]
    mean, least, most = run.get("mean_ms"), run.get("min_ms"), run.get("max_ms")
    if mean is not None and least is not None and not least * (1 - _SLACK) <= mean:
        faults.append(f"the mean is {mean:g} ms and the fastest run {least:g} ms")
    if mean is not None and most is not None and not mean <= most * (1 + _SLACK):
        faults.append(f"the mean is {mean:g} ms and the slowest run {most:g} ms")
    faults += run.get("faults", ())
    numbers = [value for value in run.values() if isinstance(value, float)]
    if not all(math.isfinite(value) and value >= 0 for value in numbers):
        faults.append("a time is negative or not a number")
    if run.get("runs") == 0:
        faults.append("no run was timed")
    if faults:
        raise DataError(
            f"{source} contradicts itself: {'; '.join(map(str, faults))}.",
            why="figures of one run cannot be so",
            fix="give the log as the tool printed it",
        )
