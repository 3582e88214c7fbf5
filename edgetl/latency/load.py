"""The load of a net on a target: its work, from a file's ops or from an architecture that was not built yet, by a roofline."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from edgetl.backbones.arithmetic import ELEMENT_BYTES
from edgetl.backbones.catalogue import net_ops
from edgetl.formats.read.records import OpRow, Work
from edgetl.latency.published import MACS_PER_BYTE, Family, family_of_net, net_work, work_of
from edgetl.latency.records import OpShare
from edgetl.latency.roofline import roofline
from edgetl.targets.target import Target

# Activation functions that are separate ops in ONNX files; every runtime here computes them in the convolution.
_FUSED_BY_RUNTIMES = ("Clip", "Relu", "RELU", "RELU6")
_SHOWN_OPS = 6


@dataclass(frozen=True)
class Load:
    """The load of a net on a device. work: as latency.published.work_of; bound_ms: no run is faster; None where no peak is published."""

    work: float
    precision: str
    family: Family
    bound_ms: float | None
    notes: tuple[str, ...] = ()


def macs_per_byte(target: Target, precision: str) -> float:
    """Multiply-accumulates that the target does while it moves one byte: by its published peaks, otherwise the usual number."""
    rate = target.peak.macs_per_second_int8 if precision == "int8" else target.peak.macs_per_second_float32
    bandwidth = target.peak.memory_bytes_per_second
    return rate / bandwidth if rate and bandwidth else MACS_PER_BYTE


def precision_of_ops(ops: Iterable[Work]) -> str:
    """The precision of most of a file's multiply-accumulates: "int8", "int16", "dynamic" or "float"."""
    macs: Counter[str] = Counter()
    for op in ops:
        if op["part"] == "compute":
            macs[{"int8": "int8", "int16": "int16", "hybrid": "dynamic"}.get(op["precision"], "float")] += (
                op["macs"] or 0
            )
    return macs.most_common(1)[0][0] if macs else "float"


def _taking_time(ops: Sequence[OpRow]) -> list[OpRow]:
    return [op for op in ops if op["part"] in ("compute", "convert") and op["type"] not in _FUSED_BY_RUNTIMES]


def load_of_ops(ops: Sequence[OpRow], target: Target) -> Load:
    """The load of a file's ops on the target."""
    run = _taking_time(ops)
    precision = precision_of_ops(run)
    unknown = sum(op["macs"] is None for op in run)
    notes = (f"{unknown} ops with an unknown number of MACs count only as memory traffic",) if unknown else ()
    work = work_of(((op["macs"] or 0, op["bytes_moved"]) for op in run), macs_per_byte(target, precision))
    family: Family = "depthwise" if any(map(_is_depthwise, run)) else "full"
    return Load(work, precision, family, _bound_ms(run, target), notes)


def _is_depthwise(op: OpRow) -> bool:
    """One input channel per output channel: a kernel of at most 5 x 5 weights per channel (the first convolution has 27)."""
    kernel = op["kernel"]
    if not kernel or not op["macs"] or kernel["channels"] < 2:
        return False
    size = {"int8": 1, "uint8": 1, "float16": 2}.get(kernel["dtype"], 4)
    return bool(kernel["bytes"] / size / kernel["channels"] <= 25)


def shares_of_ops(ops: Sequence[OpRow], target: Target) -> list[OpShare]:
    """The ops that take most of the estimated time, with their share of the work and what limits them."""
    run = _taking_time(ops)
    balance = macs_per_byte(target, precision_of_ops(run))
    work = [work_of([(op["macs"] or 0, op["bytes_moved"])], balance) for op in run]
    whole = math.fsum(work) or 1.0
    return [
        {
            "name": run[i]["name"],
            "type": run[i]["type"],
            "work": work[i],
            "held_by": "computing" if (run[i]["macs"] or 0) >= balance * run[i]["bytes_moved"] else "memory",
            "share": work[i] / whole,
        }
        for i in sorted(range(len(run)), key=lambda i: -work[i])[:_SHOWN_OPS]
    ]


def load_of_net(backbone: str, input_size_px: int, classes: int, target: Target) -> Load:
    """The load of a net that was not built yet, by its architecture, in the precision that the target ships. Raises ValueError
    for a backbone whose arithmetic is not known."""
    precision = "int8" if target.precision == "int8" else "dynamic" if target.precision == "dynamic" else "float"
    size = "int8" if precision == "int8" else "float32"
    net = net_ops(backbone, input_size_px, classes)
    ops: list[Work] = [
        {
            "part": "compute",
            "precision": size,
            "macs": op.macs,
            "bytes_moved": op.bytes_moved(size),
            "weight_bytes": ELEMENT_BYTES[size] * op.weights,
        }
        for op in net
    ]
    work = net_work(backbone, input_size_px, precision, macs_per_byte(target, precision), classes)
    return Load(work, precision, family_of_net(backbone), _bound_ms(ops, target))


def _bound_ms(ops: Sequence[Work], target: Target) -> float | None:
    """The time for computing at the published peak, or for reading the weights once, whichever is longer. Activations may stay
    in a cache, so they are not part of this bound."""
    peak = target.peak.model_dump()
    computing = roofline(ops, {**peak, "memory_bytes_per_second": None}).compute_ms
    bandwidth = target.peak.memory_bytes_per_second
    reading = 1e3 * sum(op["weight_bytes"] for op in ops) / bandwidth if bandwidth else None
    found = [value for value in (computing, reading) if value is not None]
    return max(found) if found else None
