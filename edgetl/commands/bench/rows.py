"""A row of `edgetl bench`: one model on one backend with a number of threads. Pure, standard library."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgetl.core.stats import batched_median_interval, quantile

Rounds = list[list[float]]


@dataclass(frozen=True)
class Job:
    """model: a .tflite or .onnx file, or for keras a stage's folder. shown: its name in tables. about: what is known of
    it besides (bytes, precision, top1). images: what the worker makes its inputs of (worker._images)."""

    model: Path
    backend: str
    threads: int
    shown: str = ""
    about: Mapping[str, Any] = field(default_factory=dict)
    images: Mapping[str, Any] = field(default_factory=lambda: {"kind": "random", "seed": 0})

    @property
    def name(self) -> str:
        """Unique within a run."""
        return f"{self.shown or self.model.name}@{self.backend} x{self.threads}"


@dataclass
class Row:
    """What was measured of a job. status: "ok", "fallback" (it ran, but not where it was asked to) or "failed".

    rounds: milliseconds of each run, a list a round. stopped: why timing ended. opened: the worker's answer to open.
    """

    job: Job
    status: str = "ok"
    kind: str = ""  # of a failure: "refused", "missing", "placement", "crashed", "hung", "memory"
    reason: str = ""
    opened: dict[str, Any] = field(default_factory=dict)
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
    profile: list[dict[str, Any]] | None = None
    profile_reason: str = ""
    memory: dict[str, int] = field(default_factory=dict)
    parity: dict[str, Any] | None = None
    notes: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._medians: list[float] = []

    def fail(self, kind: str, reason: str) -> None:
        """Nothing more will be measured of it."""
        self.status, self.kind, self.reason = "failed", kind, reason
        self.stopped = self.stopped or (kind if self.rounds else "")

    def medians(self) -> list[float]:
        """Of each round. Runs of one round are alike; rounds are what an interval can be made of."""
        self._medians += [statistics.median(times) for times in self.rounds[len(self._medians) :]]
        return self._medians

    def interval(self) -> tuple[float, float] | None:
        """95%, of the median, from the rounds; None as long as there are too few."""
        return batched_median_interval(self.medians())

    def relative_width(self) -> float:
        """Of the interval, over the median of the rounds; infinite without one."""
        interval = self.interval()
        return (interval[1] - interval[0]) / statistics.median(self.medians()) if interval else float("inf")

    def p50(self) -> float:
        """Median of all runs, milliseconds."""
        return statistics.median(time for times in self.rounds for time in times)


_FIGURES = (
    "min_ms", "mean_ms", "p50_ms", "p90_ms", "p95_ms", "p99_ms", "max_ms", "std_ms", "p50_interval_ms",
    "p50_interval_width", "p90_interval_ms", "throughput_per_s", "processor_ms", "runs", "rounds",
)  # fmt: skip


def figures(row: Row) -> dict[str, Any]:
    """Latencies in milliseconds, None for a row that was not timed: min, mean, p50, p90, p95, p99, max, std, the 95% intervals of
    the median and of p90 (from rounds), throughput."""
    times = [time for one in row.rounds for time in one]
    if not times:
        return dict.fromkeys(_FIGURES)
    interval = row.interval()
    mean = statistics.fmean(times)
    return {
        "min_ms": min(times),
        "mean_ms": mean,
        **{f"p{round(100 * share)}_ms": quantile(times, share) for share in (0.5, 0.9, 0.95, 0.99)},
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
    """Of each round's own p90, and around that of all runs: runs of a round are alike, and an interval that takes each for
    itself is a tenth as wide as it should be."""
    interval = batched_median_interval([quantile(times, 0.9) for times in row.rounds])
    return [min(interval[0], p90), max(interval[1], p90)] if interval else None


def to_json(row: Row) -> dict[str, Any]:
    """A row as `--json` has it. Times are milliseconds, memory bytes."""
    opened = row.opened
    return {
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


COLUMNS = (
    "name", "model", "sha256", "backend", "threads", "status", "failure", "reason", "device", "library", "load_ms", "first_ms", "warmup_runs",
    "runs", "rounds", "timed_s", "stopped", "min_ms", "mean_ms", "p50_ms", "p90_ms", "p95_ms", "p99_ms", "max_ms",
    "std_ms", "p50_low_ms", "p50_high_ms", "throughput_per_s", "processor_ms", "peak_bytes", "model_bytes", "bytes",
    "precision", "top1", "placed_ops", "placed_macs", "max_abs", "notes",
)  # fmt: skip


def to_csv_row(data: Mapping[str, Any]) -> list[Any]:
    """A row of to_json flattened to COLUMNS; what was not measured is empty."""
    low, high = data.get("p50_interval_ms") or (None, None)
    memory, placement, parity = data.get("memory") or {}, data.get("placement") or {}, data.get("parity") or {}
    kinds = placement.get("shares", {})
    flat = {
        **data,
        "p50_low_ms": low,
        "p50_high_ms": high,
        "peak_bytes": memory.get("peak_bytes"),
        "model_bytes": memory.get("model_bytes"),
        "placed_ops": _shares(kinds, "ops"),
        "placed_macs": _shares(kinds, "macs"),
        "max_abs": parity.get("max_abs"),
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
