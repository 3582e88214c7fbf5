"""One run of a benchmark tool, as its log has it. Pure, standard library."""

from __future__ import annotations

from dataclasses import dataclass, field

from edgetl.commands.bench.protocol import Memory, OpTime, PlacementJson
from edgetl.commands.bench.rows import Status


@dataclass
class LoggedRun:
    """None, and figures that are missing: not in the log.

    figures_ms: by the name that a row has for them ("p50_ms", "load_ms"; also "p5_ms" and "p999_ms", which rows do not have).
    broken_off: the line that the log lacks because it ends too early. faults: how the log contradicts itself.
    """

    tool: str
    figures_ms: dict[str, float] = field(default_factory=dict)
    model: str | None = None
    backend: str | None = None
    threads: int | None = None
    runs: int | None = None
    warmup_runs: int | None = None
    timed_s: float | None = None
    throughput_per_s: float | None = None
    memory: Memory | None = None
    placement: PlacementJson | None = None
    profile: list[OpTime] | None = None
    status: Status = "ok"
    failure: str | None = None
    reason: str | None = None
    notes: list[str] = field(default_factory=list)
    broken_off: str = ""
    faults: list[str] = field(default_factory=list)
