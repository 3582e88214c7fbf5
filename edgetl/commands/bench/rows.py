"""A row of `edgetl bench`: one model on one backend with a number of threads; and its JSON form. Pure, standard library."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NotRequired, Required, TypedDict, cast

from edgetl.commands.bench.protocol import Memory, Opened, ProfiledOp
from edgetl.core.stats import batched_median_interval, quantile
from edgetl.verdicts.check import CheckRow

Rounds = list[list[float]]


class About(TypedDict, total=False):
    """What is known of a file besides its runs. accuracy: backend -> top-1 as a share; of its row's backend, it is top1."""

    bytes: int
    sha256: str
    precision: str
    target: str
    accuracy: dict[str, float]
    top1: float | None


# {"with": another row's name, images, same_label: how many, max_abs: of probabilities, None if they are not all finite}.
# "with" is a keyword, so the class syntax cannot name it.
Parity = TypedDict("Parity", {"with": str, "images": int, "same_label": int, "max_abs": float | None})


class Figures(TypedDict):
    """Times are None for a row that was not timed."""

    min_ms: float | None
    mean_ms: float | None
    p50_ms: float | None
    p90_ms: float | None
    p95_ms: float | None
    p99_ms: float | None
    max_ms: float | None
    std_ms: float | None
    p50_interval_ms: list[float] | None
    p50_interval_width: float | None
    p90_interval_ms: list[float] | None
    throughput_per_s: float | None
    processor_ms: float | None
    runs: int | None
    rounds: int | None


class RowJson(About, Figures):
    """A row as `--json` has it. Times are milliseconds, memory bytes. placement: as Placement.to_json gives it."""

    model: str
    name: str
    backend: str
    threads: int | None
    status: str
    failure: str | None
    reason: str | None
    device: str | None
    library: str | None
    pinned_to: list[int] | None
    input_shape: list[int] | None
    import_ms: float | None
    load_ms: float | None
    first_ms: float | None
    warmup_runs: int | None
    warmup_s: float | None
    timed_s: float | None
    stopped: str | None
    memory: Memory | None
    placement: dict[str, Any] | None
    parity: Parity | None
    profile: list[ProfiledOp] | None
    profile_reason: str | None
    notes: list[str]
    # Of rows that were measured elsewhere: the device's description, and the log they were read from.
    machine: NotRequired[Mapping[str, Any] | None]
    measured_elsewhere: NotRequired[bool]
    log: NotRequired[str | None]


class Disturbance(TypedDict, total=False):
    """What disturbed a measurement. `warnings` is always there; the others where the system reports them."""

    load_before: float | None
    governors: list[str] | None
    timed_for_s: float
    others_cores: float
    stolen_share: float
    warnings: Required[list[str]]


class Comparison(TypedDict):
    """Of two rows: see compare.compare. again: of the second measurement, where the first said slower."""

    baseline: str
    candidate: str
    ratio: float
    interval: list[float]
    max_ratio: float
    pairs: int
    verdict: str
    again: NotRequired[Comparison | None]


class MeasuredJson(TypedDict):
    """The rows of one measurement and the machine they were measured on, as machine.describe gives it."""

    machine: Mapping[str, Any]
    disturbance: Disturbance
    interrupted: bool
    rows: list[RowJson]


class BenchJson(MeasuredJson):
    """A whole bench as `--json` has it. absent: backend -> why it is not ready."""

    edgetl: NotRequired[str]
    measured_at: NotRequired[str]
    input: NotRequired[list[str]]
    absent: Mapping[str, str]
    comparison: Comparison | None
    checks: NotRequired[list[CheckRow]]


@dataclass(frozen=True)
class Job:
    """model: a .tflite or .onnx file, or for keras a stage's folder. shown: its name in tables. about: what else is
    known of it (bytes, precision, top1). images: what the worker makes its inputs of (worker._images)."""

    model: Path
    backend: str
    threads: int
    shown: str = ""
    about: About = field(default_factory=lambda: About())
    images: Mapping[str, Any] = field(default_factory=lambda: {"kind": "random", "seed": 0})

    @property
    def name(self) -> str:
        """Unique within a run."""
        return f"{self.shown or self.model.name}@{self.backend} x{self.threads}"


@dataclass
class Row:
    """What was measured of a job. status: "ok", "fallback" (it ran, but not on the requested device) or "failed".

    rounds: milliseconds of each run, one list per round. stopped: why timing ended. opened: the worker's answer to open.
    """

    job: Job
    status: str = "ok"
    kind: str = ""  # of a failure: "refused", "missing", "placement", "crashed", "hung", "memory"
    reason: str = ""
    opened: Opened = field(default_factory=lambda: Opened())
    warmup_runs: int = 0
    warmup_s: float = 0.0
    rounds: Rounds = field(default_factory=list)
    processor_ms: list[float] = field(default_factory=list)
    # The child's processor time since it began: at the end of the warm-up, and of each visit.
    process_s: list[float] = field(default_factory=list)
    seconds: float = 0.0
    looked_narrow: bool = False
    stopped: str = ""
    placement: dict[str, Any] | None = None
    profile: list[ProfiledOp] | None = None
    profile_reason: str = ""
    memory: Memory = field(default_factory=lambda: Memory())
    parity: Parity | None = None
    notes: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._medians: list[float] = []

    def fail(self, kind: str, reason: str) -> None:
        """Mark the row as failed; it is not measured further."""
        self.status, self.kind, self.reason = "failed", kind, reason
        self.stopped = self.stopped or (kind if self.rounds else "")

    def medians(self) -> list[float]:
        """Median of each round. Runs of one round are alike, so intervals are computed from rounds."""
        self._medians += [statistics.median(times) for times in self.rounds[len(self._medians) :]]
        return self._medians

    def interval(self) -> tuple[float, float] | None:
        """95% interval of the median, from the rounds; None if there are too few."""
        return batched_median_interval(self.medians())

    def relative_width(self) -> float:
        """Width of the interval over the median of the rounds; infinite without an interval."""
        interval = self.interval()
        return (interval[1] - interval[0]) / statistics.median(self.medians()) if interval else float("inf")

    def p50(self) -> float:
        """Median of all runs, milliseconds."""
        return statistics.median(time for times in self.rounds for time in times)


# In the order of Figures. Of a row that was not timed, or of which a log may say only some.
NO_FIGURES = cast("Figures", dict.fromkeys(Figures.__annotations__))


def figures(row: Row) -> Figures:
    """Latencies in milliseconds, None for a row that was not timed: min, mean, p50, p90, p95, p99, max, std, the 95% intervals of
    the median and of p90 (from rounds), throughput."""
    times = [time for one in row.rounds for time in one]
    if not times:
        return NO_FIGURES.copy()
    interval = row.interval()
    mean = statistics.fmean(times)
    return {
        "min_ms": min(times),
        "mean_ms": mean,
        "p50_ms": quantile(times, 0.5),
        "p90_ms": quantile(times, 0.9),
        "p95_ms": quantile(times, 0.95),
        "p99_ms": quantile(times, 0.99),
        "max_ms": max(times),
        "std_ms": statistics.pstdev(times),
        "p50_interval_ms": list(interval) if interval else None,
        "p50_interval_width": row.relative_width() if interval else None,
        "p90_interval_ms": _p90_interval(row, quantile(times, 0.9)),
        "throughput_per_s": 1e3 / mean,
        "processor_ms": statistics.median(row.processor_ms) if row.processor_ms else None,
        "runs": len(times),
        "rounds": len(row.rounds),
    }


def _p90_interval(row: Row, p90: float) -> list[float] | None:
    """From each round's p90, widened to include that of all runs. Runs of one round are alike: an interval that treats
    them as independent is a tenth as wide as it should be."""
    interval = batched_median_interval([quantile(times, 0.9) for times in row.rounds])
    return [min(interval[0], p90), max(interval[1], p90)] if interval else None


def to_json(row: Row) -> RowJson:
    """A row as `--json` has it. Times are milliseconds, memory bytes."""
    opened = row.opened
    row_json = {
        "model": str(row.job.model),
        "name": row.job.shown or row.job.model.name,
        "backend": row.job.backend,
        "threads": row.job.threads,
        **row.job.about,
        "status": row.status,
        "failure": row.kind or None,
        "reason": row.reason or None,
        "device": opened.get("device"),
        "library": opened.get("library"),
        "pinned_to": opened.get("pinned_to"),
        "input_shape": opened.get("input_shape"),
        "import_ms": opened.get("import_ms"),
        "load_ms": opened.get("load_ms"),
        "first_ms": opened.get("first_ms"),
        "warmup_runs": row.warmup_runs,
        "warmup_s": row.warmup_s,
        "timed_s": row.seconds,
        "stopped": row.stopped or None,
        **figures(row),
        "memory": row.memory or None,
        "placement": row.placement,
        "parity": row.parity,
        "profile": row.profile,
        "profile_reason": row.profile_reason or None,
        "notes": row.notes,
    }
    return cast("RowJson", row_json)


COLUMNS = (
    "name", "model", "sha256", "backend", "threads", "status", "failure", "reason", "device", "library", "load_ms", "first_ms", "warmup_runs",
    "runs", "rounds", "timed_s", "stopped", "min_ms", "mean_ms", "p50_ms", "p90_ms", "p95_ms", "p99_ms", "max_ms",
    "std_ms", "p50_low_ms", "p50_high_ms", "throughput_per_s", "processor_ms", "peak_bytes", "model_bytes", "bytes",
    "precision", "top1", "placed_ops", "placed_macs", "max_abs", "notes",
)  # fmt: skip


def to_csv_row(data: RowJson) -> list[Any]:
    """A row of to_json flattened to COLUMNS; what was not measured is empty."""
    low, high = data.get("p50_interval_ms") or (None, None)
    memory, placement, parity = data["memory"] or Memory(), data["placement"] or {}, data["parity"]
    kinds = placement.get("shares", {})
    flat = {
        **data,
        "p50_low_ms": low,
        "p50_high_ms": high,
        "peak_bytes": memory.get("peak_bytes"),
        "model_bytes": memory.get("model_bytes"),
        "placed_ops": _shares(kinds, "ops"),
        "placed_macs": _shares(kinds, "macs"),
        "max_abs": parity["max_abs"] if parity else None,
        "notes": "; ".join(data.get("notes") or ()),
    }
    values = (flat.get(column) for column in COLUMNS)
    return ["" if value is None else f"{value:.6g}" if isinstance(value, float) else value for value in values]


def _shares(kinds: Mapping[str, Mapping[str, float | None]], what: str) -> str:
    return " ".join(f"{kind} {share[what]:.3f}" for kind, share in kinds.items() if share[what] is not None)


def worst_drift(medians: Sequence[float]) -> float:
    """How much slower (over 0) or faster the last third of the rounds was than the first, as a share.

    >>> worst_drift([1.0, 1.0, 1.0, 1.2, 1.3, 1.3])
    0.3
    """
    third = len(medians) // 3
    if not third:
        return 0.0
    first, last = statistics.median(medians[:third]), statistics.median(medians[-third:])
    return round(last / first - 1.0, 4)
