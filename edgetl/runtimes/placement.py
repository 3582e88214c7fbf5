"""Where a model's ops run, counted. Pure functions, standard library only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from edgetl.runtimes.records import PlacementJson


@dataclass(frozen=True)
class Placement:
    """ops: executor ("XNNPACK", "CUDAExecutionProvider") -> number of ops of the file, or of the runtime's optimized graph.

    macs: executor -> multiply-accumulates; None where they cannot be counted. devices: executor -> "cpu", "gpu", "npu".
    unknown: number of ops for which the runtime does not report where they run.
    """

    ops: Mapping[str, int]
    devices: Mapping[str, str]
    macs: Mapping[str, int] | None = None
    unknown: int = 0

    def share_of_ops(self, device: str) -> float:
        """Ops on one kind of device over all ops, 0 to 1; ops with an unknown device count as running elsewhere.

        >>> Placement({"XNNPACK": 3, "CUDA": 1}, {"XNNPACK": "cpu", "CUDA": "gpu"}).share_of_ops("gpu")
        0.25
        """
        total = sum(self.ops.values()) + self.unknown
        return sum(n for name, n in self.ops.items() if self.devices[name] == device) / total if total else 0.0

    def share_of_macs(self, device: str) -> float | None:
        """The same for multiply-accumulates; None where they are not counted or there are none."""
        total = sum(self.macs.values()) if self.macs else 0
        if not self.macs or not total:
            return None
        return sum(n for name, n in self.macs.items() if self.devices[name] == device) / total

    def to_json(self) -> PlacementJson:
        """The fields, and both shares for each kind of device that has ops."""
        kinds = sorted({self.devices[name] for name in self.ops})
        return {
            "ops": dict(self.ops),
            "devices": dict(self.devices),
            "macs": None if self.macs is None else dict(self.macs),
            "unknown": self.unknown,
            "shares": {kind: {"ops": self.share_of_ops(kind), "macs": self.share_of_macs(kind)} for kind in kinds},
        }
