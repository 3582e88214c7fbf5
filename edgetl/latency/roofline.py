"""Roofline: how fast a file could run by a target's published peaks (Williams et al. 2009). Pure, standard library."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from edgetl.formats.read.records import Work

# The peak of a target that applies to an op's precision. Others have no field, so no figure.
_PEAK_OF = {"int8": "macs_per_second_int8", "float32": "macs_per_second_float32", "hybrid": "macs_per_second_float32"}


@dataclass(frozen=True)
class Roofline:
    """total_ms: sum over ops of the longer of computing and moving data. compute_ms, memory_ms: each alone.

    Every tensor is counted as going through memory once per op. An arena that fits in a cache is faster than memory_ms;
    nothing is faster than compute_ms. None: the target publishes nothing to compute it from. lacking: what is not
    published, with the consequence.
    """

    total_ms: float | None
    compute_ms: float | None
    memory_ms: float | None
    lacking: tuple[str, ...]


def roofline(ops: Iterable[Work], peak: Mapping[str, float | None]) -> Roofline:
    """peak: a target's [peak] table.

    >>> ops = [{"precision": "int8", "part": "compute", "macs": 10**6, "weight_bytes": 0, "bytes_moved": 1000}]
    >>> roofline(ops, {"macs_per_second_int8": 1e9, "memory_bytes_per_second": 1e9}).total_ms
    1.0
    >>> roofline(ops, {}).lacking
    ('no peak is published for this target',)
    """
    known = {name for name, value in peak.items() if value}
    if not known & {*_PEAK_OF.values(), "memory_bytes_per_second"}:
        return Roofline(None, None, None, ("no peak is published for this target",))
    bandwidth = peak.get("memory_bytes_per_second")
    total = compute = memory = 0.0
    counted = uncounted = 0
    without: dict[str, int] = {}
    for op in ops:
        if op["part"] not in ("compute", "convert"):
            continue
        moving = op["bytes_moved"] / bandwidth if bandwidth else 0.0
        computing, macs = 0.0, op["macs"]
        uncounted += macs is None
        if macs:
            rate = peak.get(_PEAK_OF.get(op["precision"], ""))
            if rate:
                computing = macs / rate
                counted += macs
            else:
                without[op["precision"]] = without.get(op["precision"], 0) + macs
        total += max(computing, moving)
        compute += computing
        memory += moving
    lacking = [
        f"no peak is published for {precision}: the time of {macs} MACs is not included"
        for precision, macs in without.items()
    ]
    if not bandwidth:
        lacking.append("no memory bandwidth is published: the time of memory transfers is not included")
    if uncounted:
        lacking.append(f"{uncounted} ops with an unknown number of MACs are not included in the computing time")
    if not bandwidth and not counted:
        return Roofline(None, None, None, tuple(lacking))
    return Roofline(
        1e3 * total, 1e3 * compute if counted else None, 1e3 * memory if bandwidth else None, tuple(lacking)
    )
