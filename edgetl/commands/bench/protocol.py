"""What a row's process is asked and answers (worker.py and child.py): one JSON object per line. Standard library only."""

from __future__ import annotations

from typing import Any, TypedDict


class OpenRequest(TypedDict):
    """input: as Job.images. cores: the processors to run on; None for any."""

    model: str
    backend: str
    threads: int
    allow_fallback: bool
    input: dict[str, Any]
    cores: list[int] | None


class TimeRequest(TypedDict):
    """runs: timed ones. lead: runs before them, not timed."""

    runs: int
    lead: int


class ProfileRequest(TypedDict):
    backend: str
    runs: int


class Opened(TypedDict, total=False):
    """A row that was never opened has none of the keys.

    answers: per image, the first values of the output; None for a value that is not finite. pinned_to: the processors it
    was pinned to. executor: the name of what ran it, "" where the backend has only one.
    """

    import_ms: float
    load_ms: float
    first_ms: float
    input_shape: list[int]
    output_step: float
    answers: list[list[float | None]]
    device: str
    simulated: bool
    library: str
    pinned_to: list[int] | None
    executor: str


class Timed(TypedDict):
    """times_ms: of each run. processor_ms: processor time per run, of all threads. process_s: processor time of the process
    since it began. lead_s: wall time of the runs that were not timed."""

    times_ms: list[float]
    processor_ms: float
    process_s: float
    lead_s: float


class Memory(TypedDict, total=False):
    """peak_bytes: of the whole process. model_bytes: of that, what the model added. Empty where the system does not report it."""

    peak_bytes: int
    model_bytes: int


class Placed(TypedDict):
    """placement: as runtimes.placement.Placement.to_json gives it."""

    memory: Memory
    placement: dict[str, Any]


class ProfiledOp(TypedDict):
    """One operator that ran. executor: what ran it, "" where that is not known."""

    op: str
    name: str
    ms: float
    executor: str


class _Profile(TypedDict):
    profile: list[ProfiledOp] | None


class Profiled(_Profile, total=False):
    """reason: why there is no profile."""

    reason: str


class Failure(TypedDict):
    """kind: "refused", "missing", "placement" or "memory"."""

    kind: str
    reason: str
