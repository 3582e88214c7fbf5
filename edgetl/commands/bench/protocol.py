"""Requests to a row's worker process and its answers, as JSON has them. Pure, standard library.

Keys end in their unit; memory is in bytes. A request is sent as one line, with the method's name as "do"; an answer comes
back as one line, or as {"error": Failure}.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, NotRequired, TypedDict


class Images(TypedDict):
    """What a worker makes its inputs of. contract: a bundle's input contract, None without one."""

    kind: Literal["random", "photos"]
    seed: NotRequired[int]
    paths: NotRequired[list[str]]
    contract: NotRequired[Mapping[str, Any] | None]


class OpenRequest(TypedDict):
    """cores: the processors to run on; None: all."""

    model: str
    backend: str
    threads: int
    allow_fallback: bool
    input: Images
    cores: list[int] | None


class Opened(TypedDict, total=False):
    """Empty for a model that was not opened. answers: per image, the first outputs; None stands for a value that is not
    finite. executor: the name that the backend's ops have in a placement; "" if any name will do."""

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


class TimeRequest(TypedDict):
    """runs: to time. lead: runs before them that are not timed."""

    runs: int
    lead: int


class Timed(TypedDict):
    """processor_ms: of all threads, per run. process_s: processor time of the process since its start."""

    times_ms: list[float]
    processor_ms: float
    process_s: float
    lead_s: float


class Memory(TypedDict, total=False):
    """Empty if the system does not report it. model_bytes: the peak less what the process used before the model."""

    peak_bytes: int
    model_bytes: int


class Share(TypedDict):
    """0 to 1. macs: None if multiply-accumulates are not counted."""

    ops: float
    macs: float | None


class PlacementJson(TypedDict):
    """As Placement.to_json has it. ops, macs, devices: by executor. shares: by kind of device."""

    ops: dict[str, int]
    devices: dict[str, str]
    macs: dict[str, int] | None
    unknown: int
    shares: dict[str, Share]


class Placed(TypedDict):
    memory: Memory
    placement: PlacementJson


class ProfileRequest(TypedDict):
    runs: int
    backend: str


class OpTime(TypedDict):
    """Milliseconds of one op, per run of the model."""

    op: str
    name: str
    ms: float
    executor: str


class Profiled(TypedDict):
    """profile: slowest op first; None with the reason."""

    profile: list[OpTime] | None
    reason: NotRequired[str]


class Failure(TypedDict):
    """kind: "refused", "missing", "placement" or "memory"."""

    kind: str
    reason: str
