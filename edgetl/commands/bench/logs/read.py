"""`edgetl bench import LOG...`: measurements of other tools, as rows like our own.

The tools are LiteRT's `benchmark_model` (also through logcat) and `benchmark_litert_model`, and `onnxruntime_perf_test`. A row
has the figures of its log, and None for the rest; nothing is guessed. Unknown lines are ignored. A log that contradicts itself
or ends too early is refused.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import cast

from edgetl.commands.bench.logs.litert import read_benchmark_litert_model, read_benchmark_model
from edgetl.commands.bench.logs.ort import read_perf_test
from edgetl.commands.bench.logs.record import LoggedRun
from edgetl.commands.bench.rows import Job, Row, RowJson, to_json
from edgetl.core.errors import DataError
from edgetl.core.stats import quantile_ranks
from edgetl.core.words import printable

_READERS = (read_benchmark_model, read_benchmark_litert_model, read_perf_test)
_MOST_BYTES = 1 << 26
# In ascending order, in any measurement.
_ASCENDING = ("min_ms", "p5_ms", "p50_ms", "p90_ms", "p95_ms", "p99_ms", "p999_ms", "max_ms")
# Figures are rounded to six digits.
_SLACK = 2e-5


def read_logs(logs: Sequence[Path], *, device: str | None = None, backend: str | None = None) -> list[RowJson]:
    """One row per run in every log.

    device: the device of the measurement, named by the user; None: unknown. backend: of logs that do not name one. Each row
    also has `machine` ({"board": device} or None), `measured_elsewhere` and `log`. Raises DataError.
    """
    rows: list[RowJson] = []
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
            why="it has no `Inference timings in us` (benchmark_model), no `BENCHMARK RESULTS` "
            "(benchmark_litert_model) and no `Average inference time cost` (onnxruntime_perf_test)",
            fix="give the complete output of the tool",
        )
    return [_row(run, shown, device, backend) for run in found]


def _text(log: Path) -> str:
    try:
        size = log.stat().st_size
        if size > _MOST_BYTES:
            raise DataError(
                f"{printable(str(log), 4096)} has {size / 1e6:.0f} MB.", why="a log has at most a few thousand lines"
            )
        return log.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise DataError(f"{printable(str(log), 4096)} cannot be read.", why=str(error), fix="check the path") from None


def _row(run: LoggedRun, source: str, device: str | None, backend: str | None) -> RowJson:
    """The run as a row. Raises DataError for a log that ends too early or contradicts itself."""
    if run.broken_off:
        raise DataError(
            f"{source} ends too early: a run of {run.tool} in it has no {run.broken_off}.",
            why="the tool prints its results at the end",
            fix="let the tool run to its end, and keep its complete output",
        )
    _refuse_contradictions(run, source)
    model = printable(str(run.model or Path(source).stem), 4096)
    ran_on = run.backend or backend or ""
    row = to_json(Row(Job(Path(model), ran_on, run.threads or 0)))
    figures = {name: value for name, value in run.figures_ms.items() if name in row}
    row = cast(RowJson, {**row, **figures})
    row |= {
        "status": run.status,
        "failure": run.failure,
        "reason": run.reason,
        "runs": run.runs,
        "throughput_per_s": run.throughput_per_s,
        "memory": run.memory,
        "placement": run.placement,
        "profile": run.profile,
        "model": model,
        "name": model.replace("\\", "/").rsplit("/", 1)[-1],
        "backend": ran_on or "unknown",
        "threads": run.threads,
        "warmup_runs": run.warmup_runs,
        "timed_s": run.timed_s,
        "device": printable(device, 200) if device else None,
        "library": run.tool,
        "notes": [f"measured elsewhere, read from {source}", *run.notes],
        "machine": {"board": printable(device, 200)} if device else None,
        "measured_elsewhere": True,
        "log": source,
    }
    if run.runs:
        row["p90_interval_ms"] = _enclosing(run.runs, run.figures_ms, 0.9)
    return row


def _enclosing(n: int, figures_ms: Mapping[str, float], share: float) -> list[float] | None:
    """An interval for a quantile of n runs, from the quantiles in the log. It encloses the interval from all runs.

    The edges of that interval are two order statistics (stats.quantile_interval). The last known one at or before the lower
    edge and the first known one at or after the upper edge enclose it. Both tools report run number floor(share x n) of the
    sorted runs, counted from zero.
    """
    known = {1: figures_ms.get("min_ms"), n: figures_ms.get("max_ms")}
    for name, at in (("p5_ms", 0.05), ("p50_ms", 0.5), ("p90_ms", 0.9), ("p95_ms", 0.95), ("p99_ms", 0.99)):
        known.setdefault(min(n, math.floor(n * at) + 1), figures_ms.get(name))
    ranks = sorted((rank, value) for rank, value in known.items() if value is not None)
    low, high = quantile_ranks(n, share)
    before = [value for rank, value in ranks if rank <= low]
    after = [value for rank, value in ranks if rank >= high]
    return [before[-1], after[0]] if before and after else None


def _refuse_contradictions(run: LoggedRun, source: str) -> None:
    times_ms = run.figures_ms
    figures = [(name, times_ms[name]) for name in _ASCENDING if name in times_ms]
    faults = [
        f"{a} is {low:g} and {b} is {high:g}"
        for (a, low), (b, high) in itertools.pairwise(figures)
        if low > high * (1 + _SLACK)
    ]
    mean, least, most = times_ms.get("mean_ms"), times_ms.get("min_ms"), times_ms.get("max_ms")
    if mean is not None and least is not None and not least * (1 - _SLACK) <= mean:
        faults.append(f"the mean is {mean:g} ms and the fastest run {least:g} ms")
    if mean is not None and most is not None and not mean <= most * (1 + _SLACK):
        faults.append(f"the mean is {mean:g} ms and the slowest run {most:g} ms")
    faults += run.faults
    numbers = [*times_ms.values(), run.timed_s or 0.0, run.throughput_per_s or 0.0]
    if not all(math.isfinite(value) and value >= 0 for value in numbers):
        faults.append("a time is negative or not a number")
    if run.runs == 0:
        faults.append("no run was timed")
    if faults:
        raise DataError(
            f"{source} contradicts itself: {'; '.join(faults)}.",
            why="no single run can have such figures",
            fix="give the output of the tool unchanged",
        )
