"""A row of `edgetl bench`: one model on one backend with one number of threads. Pure, standard library."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NotRequired, TypedDict, cast

from edgetl.commands.bench.protocol import Images, Memory, Opened, OpTime, PlacementJson, Share
from edgetl.core.stats import batched_median_interval, quantile

Rounds = list[list[float]]
Status = Literal["ok", "fallback", "failed"]


class About(TypedDict, total=False):
    """What is known of a model file. top1: on the build's test photos, 0 to 1. target: of the build."""

    bytes: int
    sha256: str
    precision: str
    target: str
    top1: float | None


class MachineJson(TypedDict, total=False):
    """As machine.describe has it; of a phone or of a log's device, as much as is known. elsewhere: it is a log's."""

    processor: str
    board: str | None
    cores: int | None
    memory_bytes: int | None
    instruction_set: list[str]
    os: str
    python: str | None
    elsewhere: bool


# How far a row's answers are from those of the row `with`. max_abs: of probabilities; None if they are not all finite.
Parity = TypedDict("Parity", {"with": str, "images": int, "same_label": int, "max_abs": float | None})


class Figures(TypedDict):
    """Latencies. None: not measured, or not in the log. Intervals are 95% intervals: [low, high]."""

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


class _Measured(About, Figures):
    """The part of a RowJson that every row has."""

    model: str
    name: str
    backend: str
    threads: int | None
    status: Status
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
    warmup_s: float
    timed_s: float | None
    stopped: str | None
    memory: Memory | None
    placement: PlacementJson | None
    parity: Parity | None
    profile: list[OpTime] | None
    profile_reason: str | None
    notes: list[str]


class RowJson(_Measured):
    """A row as `--json` has it. machine: of a row measured elsewhere; None: unknown. log: the file that the row is from."""

    machine: NotRequired[MachineJson | None]
    measured_elsewhere: NotRequired[bool]
    log: NotRequired[str | None]


@dataclass(frozen=True)
class Job:
    """One row to measure. model: a .tflite or .onnx file, or for keras a stage's folder. shown: its name in tables."""

    model: Path
    backend: str
    threads: int
    shown: str = ""
    about: About = field(default_factory=About)
    images: Images = field(default_factory=lambda: Images(kind="random", seed=0))

    @property
    def name(self) -> str:
        """Unique within a run."""
        return f"{self.shown or self.model.name}@{self.backend} x{self.threads}"


@dataclass
class Row:
    """The measurement of a job. status: "ok", "fallback" (it ran, but not on the requested device) or "failed".

    kind: of a failure: "refused", "missing", "placement", "crashed", "hung", "memory" or "interrupted". rounds:
    milliseconds of each run, one list per round. stopped: why timing ended.
    """

    job: Job
    status: Status = "ok"
    kind: str = ""
    reason: str = ""
    opened: Opened = field(default_factory=Opened)
    warmup_runs: int = 0
    warmup_s: float = 0.0
    rounds: Rounds = field(default_factory=list)
    processor_ms: list[float] = field(default_factory=list)
    # Processor time of the child since its start: at the end of the warm-up, and of each visit.
    process_s: list[float] = field(default_factory=list)
    seconds: float = 0.0
    looked_narrow: bool = False
    stopped: str = ""
    placement: PlacementJson | None = None
    profile: list[OpTime] | None = None
    profile_reason: str = ""
    memory: Memory = field(default_factory=Memory)
    parity: Parity | None = None
    notes: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._medians: list[float] = []

    def fail(self, kind: str, reason: str) -> None:
        """Mark the row as failed: it will not be measured any further."""
        self.status, self.kind, self.reason = "failed", kind, reason
        self.stopped = self.stopped or (kind if self.rounds else "")

    def medians(self) -> list[float]:
        """The median of each round. Runs within a round are correlated, so intervals are computed from rounds."""
        self._medians += [statistics.median(times) for times in self.rounds[len(self._medians) :]]
        return self._medians

    def interval(self) -> tuple[float, float] | None:
        """The 95% interval of the median, from the rounds; None if there are too few."""
        return batched_median_interval(self.medians())

    def relative_width(self) -> float:
        """Width of the interval over the median of the rounds; infinite without an interval."""
        interval = self.interval()
        return (interval[1] - interval[0]) / statistics.median(self.medians()) if interval else float("inf")

    def p50(self) -> float:
        """Median of all runs, in milliseconds."""
        return statistics.median(time for times in self.rounds for time in times)


def no_figures() -> Figures:
    """The figures of a row that was not timed: all None."""
    return cast(Figures, dict.fromkeys(Figures.__annotations__))


def figures(row: Row) -> Figures:
    """Latencies of all runs; the intervals of the median and of p90 are computed from rounds."""
    times = [time for one in row.rounds for time in one]
    if not times:
        return no_figures()
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
    """From the p90 of each round, widened to include the p90 of all runs. Runs within a round are correlated: an interval
    that treats them as independent is a tenth as wide as it should be."""
    interval = batched_median_interval([quantile(times, 0.9) for times in row.rounds])
    return [min(interval[0], p90), max(interval[1], p90)] if interval else None


def to_json(row: Row) -> RowJson:
    """A row as `--json` has it."""
    opened = row.opened
    measured: _Measured = {
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
    return cast(RowJson, measured)


COLUMNS = (
    "name", "model", "sha256", "backend", "threads", "status", "failure", "reason", "device", "library", "load_ms", "first_ms", "warmup_runs",
    "runs", "rounds", "timed_s", "stopped", "min_ms", "mean_ms", "p50_ms", "p90_ms", "p95_ms", "p99_ms", "max_ms",
    "std_ms", "p50_low_ms", "p50_high_ms", "throughput_per_s", "processor_ms", "peak_bytes", "model_bytes", "bytes",
    "precision", "top1", "placed_ops", "placed_macs", "max_abs", "notes",
)  # fmt: skip


def measured_on(row: RowJson, machine: MachineJson) -> RowJson:
    """The row of a measurement on another machine, with its description."""
    moved = row.copy()
    moved["measured_elsewhere"] = True
    moved["machine"] = machine
    return moved


def to_csv_row(data: RowJson) -> list[Any]:
    """A row flattened to COLUMNS; a value that was not measured is empty."""
    low, high = data["p50_interval_ms"] or (None, None)
    memory, placement, parity = data["memory"] or Memory(), data["placement"], data["parity"]
    kinds = placement["shares"] if placement else {}
    flat: dict[str, Any] = {
        **data,
        "p50_low_ms": low,
        "p50_high_ms": high,
        "peak_bytes": memory.get("peak_bytes"),
        "model_bytes": memory.get("model_bytes"),
        "placed_ops": _shares(kinds, "ops"),
        "placed_macs": _shares(kinds, "macs"),
        "max_abs": parity["max_abs"] if parity else None,
        "notes": "; ".join(data["notes"]),
    }
    values = (flat.get(column) for column in COLUMNS)
    return ["" if value is None else f"{value:.6g}" if isinstance(value, float) else value for value in values]


def _shares(kinds: Mapping[str, Share], what: Literal["ops", "macs"]) -> str:
    return " ".join(f"{kind} {share[what]:.3f}" for kind, share in kinds.items() if share[what] is not None)


def worst_drift(medians: Sequence[float]) -> float:
    """How much slower (above 0) or faster (below 0) the last third of the rounds was than the first, as a share.

    >>> worst_drift([1.0, 1.0, 1.0, 1.2, 1.3, 1.3])
    0.3
    """
    third = len(medians) // 3
    if not third:
        return 0.0
    first, last = statistics.median(medians[:third]), statistics.median(medians[-third:])
    return round(last / first - 1.0, 4)
