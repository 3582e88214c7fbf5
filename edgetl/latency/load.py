"""What a net asks of a device: its work, of a file's ops or of an architecture that was not built yet, as a roofline on a target."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from edgetl.backbones.arithmetic import ELEMENT_BYTES
from edgetl.backbones.catalogue import net_ops
from edgetl.latency.published import MACS_PER_BYTE, Family, family_of_net, net_work, work_of
from edgetl.latency.roofline import roofline
from edgetl.targets.target import Target

# Activation functions that ONNX files have as ops of their own; every runtime here computes them in the convolution.
_FUSED_BY_RUNTIMES = ("Clip", "Relu", "RELU", "RELU6")
_SHOWN_OPS = 6


@dataclass(frozen=True)
class Load:
    """What a net asks of a device. work: as published_latencies.work_of; macs, weight_bytes: for the bound."""

    work: float
    precision: str
    family: Family
    bound_ms: float | None
    notes: tuple[str, ...] = ()


def macs_per_byte(target: Target, precision: str) -> float:
    """How many multiply-accumulates the target does while it moves a byte: by its published peaks, else the usual."""
    rate = target.peak.macs_per_second_int8 if precision == "int8" else target.peak.macs_per_second_float32
    bandwidth = target.peak.memory_bytes_per_second
    return rate / bandwidth if rate and bandwidth else MACS_PER_BYTE


def precision_of_ops(ops: Iterable[Mapping[str, Any]]) -> str:
    """What most of a file's multiply-accumulates are done in: "int8", "int16", "dynamic" or "float".

    ops: rows of findings' "ops".
    """
    macs: Counter[str] = Counter()
    for op in ops:
        if op["part"] == "compute":
            macs[{"int8": "int8", "int16": "int16", "hybrid": "dynamic"}.get(op["precision"], "float")] += (
                op["macs"] or 0
            )
    return macs.most_common(1)[0][0] if macs else "float"


def _taking_time(ops: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    return [op for op in ops if op["part"] in ("compute", "convert") and op["type"] not in _FUSED_BY_RUNTIMES]


def load_of_ops(ops: Sequence[Mapping[str, Any]], target: Target) -> Load:
    """A file's ops, rows of findings' "ops", as a load on the target."""
    run = _taking_time(ops)
    precision = precision_of_ops(run)
    unknown = sum(op["macs"] is None for op in run)
    notes = (f"{unknown} ops whose MACs are not known count as moving alone",) if unknown else ()
    work = work_of(((op["macs"] or 0, op["bytes_moved"]) for op in run), macs_per_byte(target, precision))
    family: Family = "depthwise" if any(map(_is_depthwise, run)) else "full"
    return Load(work, precision, family, _bound_ms(run, target), notes)


def _is_depthwise(op: Mapping[str, Any]) -> bool:
    """One photo channel in for each out: a kernel of at most 5 x 5 weights a channel (the first convolution has 27)."""
    kernel = op["kernel"]
    if not kernel or not op["macs"] or kernel["channels"] < 2:
        return False
    size = {"int8": 1, "uint8": 1, "float16": 2}.get(kernel["dtype"], 4)
    return bool(kernel["bytes"] / size / kernel["channels"] <= 25)


def shares_of_ops(ops: Sequence[Mapping[str, Any]], target: Target) -> list[dict[str, Any]]:
    """The ops that take most of the estimated time: name, type, share of the work, and what holds it up."""
    run = _taking_time(ops)
    balance = macs_per_byte(target, precision_of_ops(run))
    rows = [
        {
            "name": op["name"],
            "type": op["type"],
            "work": work_of([(op["macs"] or 0, op["bytes_moved"])], balance),
            "held_by": "computing" if (op["macs"] or 0) >= balance * op["bytes_moved"] else "memory",
        }
        for op in run
    ]
    whole = math.fsum(row["work"] for row in rows) or 1.0
    rows.sort(key=lambda row: -row["work"])
    return [{**row, "share": row.pop("work") / whole} for row in rows[:_SHOWN_OPS]]


def load_of_net(backbone: str, input_size_px: int, classes: int, target: Target) -> Load:
    """A net that was not built yet, by its architecture, in the precision that the target ships. Raises ValueError for a
    backbone whose arithmetic is not known."""
    precision = "int8" if target.precision == "int8" else "dynamic" if target.precision == "dynamic" else "float"
    size = "int8" if precision == "int8" else "float32"
    net = net_ops(backbone, input_size_px, classes)
    ops = [
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


def _bound_ms(ops: Sequence[Mapping[str, Any]], target: Target) -> float | None:
    """Computing at the published peak, or reading the weights once: activations may stay in a cache, so they are no part
    of what cannot be beaten."""
    peak = target.peak.model_dump()
    computing = roofline(ops, {**peak, "memory_bytes_per_second": None}).compute_ms
    bandwidth = target.peak.memory_bytes_per_second
    reading = 1e3 * sum(op["weight_bytes"] for op in ops) / bandwidth if bandwidth else None
    found = [value for value in (computing, reading) if value is not None]
    return max(found) if found else None
