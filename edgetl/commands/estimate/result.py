"""What `edgetl estimate` finds, as types of the JSON that it prints. Light."""

from __future__ import annotations

from typing import NotRequired, TypedDict

from edgetl.commands.inspect.result import InspectedBundle, ReadError
from edgetl.latency.records import EstimateRow, NoEstimate, OpShare


class EstimatedTarget(TypedDict):
    """limit_p90_ms: the target's latency budget, None without one."""

    name: str
    device: str
    limit_p90_ms: float | None
    is_this_machine: bool


class EstimatedModel(TypedDict):
    """One file. estimates: one per runtime of the target that opens it; ops: the largest shares of the time."""

    file: str
    format: NotRequired[str]
    kind: NotRequired[str]
    bytes: NotRequired[int]
    sha256: NotRequired[str]
    macs: NotRequired[int]
    as_built: NotRequired[str]
    error: NotRequired[ReadError]
    estimates: NotRequired[list[EstimateRow | NoEstimate]]
    ops: NotRequired[list[OpShare]]


class Estimates(TypedDict):
    """The files of a bundle, or one file, on one target."""

    target: EstimatedTarget
    bundle: InspectedBundle | None
    models: list[EstimatedModel]
