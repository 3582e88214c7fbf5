"""What a log says of one run of a tool, before it becomes a row. Standard library only."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Required, TypedDict, cast

from edgetl.commands.bench.protocol import Memory, ProfiledOp


class LogRun(TypedDict, total=False):
    """A key that the log says nothing about is absent or None. Names are those of a row (rows.RowJson), except for these:

    tool: what wrote the log. lacks: the line that a log broken off does not have. faults: contradictions in it.
    """

    tool: Required[str]
    notes: Required[list[str]]
    faults: list[str]
    lacks: str
    model: str | None
    backend: str | None
    threads: int | None
    status: str
    failure: str
    reason: str
    runs: int | None
    warmup_runs: int
    timed_s: float | None
    throughput_per_s: float | None
    memory: Memory | None
    placement: dict[str, Any] | None
    profile: list[ProfiledOp] | None
    load_ms: float
    first_ms: float
    min_ms: float
    mean_ms: float
    max_ms: float
    std_ms: float
    p5_ms: float
    p50_ms: float
    p90_ms: float
    p95_ms: float
    p99_ms: float
    p999_ms: float


def add_times(run: LogRun, times_ms: Mapping[str, float]) -> None:
    """times_ms: by their keys in a LogRun."""
    cast("dict[str, object]", run).update(times_ms)


def time_of(run: LogRun, name: str) -> float | None:
    """The time under a key of a LogRun, None if the log does not have it."""
    return cast("Mapping[str, float | None]", run).get(name)
