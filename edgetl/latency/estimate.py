"""Latency without the device: an interval for a net on a target, from published latencies of other runs.

latency.load computes how much work the net is; latency.model learns from the published rows how long a unit of work takes
on the target. An estimate is not a measurement: its evidence is shown wherever it is.
"""

from __future__ import annotations

import functools
import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import cast

from edgetl.latency.load import Load, macs_per_byte
from edgetl.latency.model import LEVELS, NEAREST, SCALES, Evidence, Prediction, group_of
from edgetl.latency.published import (
    Conditions,
    Published,
    kind_of_reference,
    of_reference,
    published_latencies,
    reference_work,
    spread,
)
from edgetl.latency.records import EstimateRow, EvidenceRow, Verdict
from edgetl.runtimes.catalogue import BACKENDS
from edgetl.targets.target import Target

_GRAPHICS = ("adreno", "mali", "nvidia", "radeon", "powervr", "videocore", "intel", "apple")
# This few chips say nothing about another one: NPUs differ too much (left out one core at a time, 9 NPUs and microcontrollers miss by a
# factor of seventeen at the median).
_FEWEST_CHIPS_OF_A_KIND = 10
_FAR_BEYOND = math.log(2.0)
_SHOWN_ROWS = 6
_HALF_NORMAL = 1.645


@dataclass(frozen=True)
class Estimate:
    """One file or net on one runtime of a target. *_interval_ms: 90%.

    p50_ms is computed as the mean run: published figures are means or were converted to means, and the median of latencies,
    whose tail is above, is not larger. bound_ms: no run is faster by the published peaks; None where none is published. level: one of
    latency.model.LEVELS. evidence: the nearest published rows, with how similar they are (a correlation); n_evidence: how many rows are that near;
    n_rows: how many were used in all. notes: what was assumed.
    """

    target: str
    runtime: str
    kind: str
    threads: int
    precision: str
    p50_ms: float
    p50_interval_ms: tuple[float, float]
    p90_ms: float
    p90_interval_ms: tuple[float, float]
    bound_ms: float | None
    level: str
    n_evidence: int
    n_rows: int
    evidence: tuple[EvidenceRow, ...]
    notes: tuple[str, ...]
    limit_p90_ms: float | None
    verdict: Verdict

    def as_dict(self) -> EstimateRow:
        """The row for JSON."""
        return cast("EstimateRow", asdict(self))

    def sentence(self) -> str:
        """The estimate in one sentence, for reports."""
        low, high = self.p90_interval_ms
        of = "row" if self.n_evidence == 1 else "rows"
        return (
            f"estimated p90 {self.p90_ms:.3g} ms (90% interval {low:.3g} to {high:.3g}) on {self.threads} "
            f"thread{'' if self.threads == 1 else 's'} from {self.n_evidence} published {of} of the {self.level}"
        )


def chip_of(target: Target) -> str:
    """The chip of most of the target's references in the published table; "" if they are not in it."""
    rows = published_latencies()
    chips = Counter(row.conditions.chip for reference in target.references for row in rows if row.matches(reference))
    return chips.most_common(1)[0][0] if chips else ""


def conditions_of(target: Target, runtime: str, load: Load) -> Conditions:
    """The conditions under which a runtime of the target runs a net."""
    backend = BACKENDS[runtime]
    kind = backend.device
    if kind == "npu" and target.device.architecture == "cortex-m":
        kind = "mcu"
    chip = chip_of(target)
    known = next((row.conditions for row in published_latencies() if row.conditions.chip == chip and row.conditions.kind == kind), None)  # fmt: skip
    device = target.device
    if known is not None:
        architecture, core, board = known.architecture, known.core, known.board
    elif kind == "gpu":
        named = " ".join(device.accelerators).lower()
        core = next((family for family in _GRAPHICS if family in named), "")
        architecture, core = ("amd-radeon",) * 2 if core == "radeon" else (core,) * 2
        board = target.name
    else:
        found = re.search(r"cortex-[amx]\d+\w*", device.processor.lower())
        architecture = "" if kind != "cpu" or device.architecture == "detected" else device.architecture
        core, board = (found[0] if found and kind == "cpu" else ""), target.name
    clock = re.search(r"(\d+(?:\.\d+)?) ?(GHz|MHz)", device.processor)
    clock_ghz = float(clock[1]) * (1.0 if clock[2] == "GHz" else 1e-3) if clock else known.clock_ghz if known else 0.0
    return Conditions(
        kind=kind,
        chip=chip or f"target {target.name}",
        board=board,
        architecture=architecture,
        core=core,
        clock_ghz=clock_ghz if kind == "cpu" else 0.0,
        threads=min(target.budget.threads, device.cores) if kind == "cpu" else 1,
        runtime=backend.published or runtime,
        precision=load.precision,
        family=load.family,
        log_work=math.log(load.work / reference_work(load.precision, macs_per_byte(target, load.precision))),
    )


@functools.lru_cache(maxsize=16)
def _evidence(group: str, balance: float, own: tuple[Published, ...]) -> Evidence:
    rows = [row for row in published_latencies(balance) if group_of(row.conditions.kind) == group]
    return Evidence([*rows, *own], SCALES[group])


def _own_rows(target: Target, asked: Conditions, balance: float) -> tuple[Published, ...]:
    """References of the target's own file that the table does not have."""
    table = published_latencies()
    return tuple(
        row
        for reference in target.references
        if kind_of_reference(reference) == asked.kind and not any(row.matches(reference) for row in table)
        if (row := of_reference(reference, asked, balance)) is not None
    )


def estimate(load: Load, target: Target, runtime: str) -> Estimate | str:
    """The latency of the load on the target, or one sentence why there is no estimate."""
    if not BACKENDS[runtime].floats and load.precision != "int8":
        return f"{runtime} runs int8 only, and most of this net's work is {load.precision}"
    if not BACKENDS[runtime].estimated:
        return f"published latencies say nothing about {runtime}: its kernels are made for comparing answers, not for speed"
    asked = conditions_of(target, runtime, load)
    balance = macs_per_byte(target, load.precision)
    evidence = _evidence(group_of(asked.kind), balance, _own_rows(target, asked, balance))
    level = evidence.level(asked)
    if nothing_follows(evidence, asked, level):
        return (
            f"no latency of {target.device.description} on its {asked.kind.upper()} is published here, and the few of other "
            "devices say nothing about it"
        )
    said = evidence.predict(asked)
    runs = spread(asked.kind)
    usual, largest = runs.p90_over_mean
    floor = load.bound_ms or 0.0
    low, high = max(said.low_ms, floor), max(said.high_ms, floor)
    p90 = (max(low, floor), max(high * largest, floor))
    limit = target.budget.latency_p90_ms
    near, n_near = _nearest(evidence, asked, level)
    return Estimate(
        target=target.name,
        runtime=runtime,
        kind=asked.kind,
        threads=asked.threads,
        precision=load.precision,
        p50_ms=max(said.ms, floor),
        p50_interval_ms=(low, high),
        p90_ms=max(said.ms * usual, floor),
        p90_interval_ms=p90,
        bound_ms=load.bound_ms,
        level=level,
        n_evidence=n_near,
        n_rows=len(evidence.rows),
        evidence=near,
        notes=(*load.notes, *_notes(evidence, asked, said, target)),
        limit_p90_ms=limit,
        verdict=_verdict(limit, p90),
    )


def nothing_follows(evidence: Evidence, of: Conditions, level: str, without: Sequence[int] = ()) -> bool:
    """Whether the nearest rows (except those in `without`) are from too few chips of the kind to say anything about another."""
    left_out = set(without)
    others = [row.conditions for i, row in enumerate(evidence.rows) if i not in left_out]
    chips = {other.chip for other in others if other.kind == of.kind}
    return level == LEVELS[-1] and len(chips) < _FEWEST_CHIPS_OF_A_KIND


def _verdict(limit: float | None, interval: tuple[float, float]) -> Verdict:
    if limit is None:
        return "no budget"
    return "fits" if interval[1] <= limit else "does not fit" if interval[0] > limit else "cannot tell"


def _nearest(evidence: Evidence, asked: Conditions, level: str) -> tuple[tuple[EvidenceRow, ...], int]:
    """(the published rows of a level, most similar first, how many there are)."""
    ranked = evidence.likeness(asked)
    if level in LEVELS[:2]:
        ranked = [
            (r, row) for r, row in ranked if row.conditions.chip == asked.chip and row.conditions.kind == asked.kind
        ]
    elif level == LEVELS[2]:
        ranked = [(r, row) for r, row in ranked if row.conditions.core == asked.core]
    elif any(row.conditions.architecture == asked.architecture for _, row in ranked):
        ranked = [(r, row) for r, row in ranked if row.conditions.architecture == asked.architecture]
    named: tuple[EvidenceRow, ...] = tuple(
        {
            "device": row.conditions.board,
            "model": row.model,
            "precision": row.precision,
            "input_size_px": row.input_size_px,
            "runtime": row.conditions.runtime,
            "threads": row.conditions.threads,
            "latency_ms": row.latency_ms,
            "statistic": row.statistic,
            "source": row.source,
            "likeness": round(likeness, 3),
        }
        for likeness, row in ranked[:_SHOWN_ROWS]
    )
    return named, len(ranked)


def _notes(evidence: Evidence, asked: Conditions, said: Prediction, target: Target) -> list[str]:
    """What is assumed, and how much it matters."""
    scales, notes = evidence.scales, []
    same_chip = [row.conditions for row in evidence.rows if row.conditions.chip == asked.chip]
    if asked.precision != "float" and not any(other.precision == asked.precision for other in same_chip):
        there = sum(row.conditions.precision == asked.precision for row in evidence.rows)
        unknown = math.exp(_HALF_NORMAL * math.hypot(scales.precision, scales.precision_chip))
        notes.append(
            f"no {asked.precision} latency is published for this device, and {there or 'none'} for others: the ratio of "
            f"{asked.precision} to float may be off by a factor of up to {unknown:.2g}"
        )
    if not any(row.conditions.runtime == asked.runtime for row in evidence.rows):
        unknown = math.exp(_HALF_NORMAL * math.hypot(scales.runtime, scales.runtime_chip))
        notes.append(
            f"no latency with {asked.runtime} is published here: a factor of up to {unknown:.2g} between runtimes is unknown"
        )
    works = [row.conditions.log_work for row in evidence.rows]
    beyond = max(min(works) - asked.log_work, asked.log_work - max(works))
    if beyond > _FAR_BEYOND:
        notes.append(
            f"its work is {math.exp(beyond):.2g} times {'less' if asked.log_work < min(works) else 'more'} than that of any net published here: the estimate is extrapolated "
            "linearly, without the fixed cost of calling a runtime"
        )
    if asked.clock_ghz:
        notes.append(f"computed for {asked.clock_ghz:g} GHz, the first clock in the target's `processor`")
    runs = spread(asked.kind)
    usual, largest = runs.p90_over_mean
    notes.append(
        f"p90 is taken as {usual:.2f} times the mean run, up to {largest:.2f} times: the largest run of {runs.triples} published "
        f"series on idle devices; heat and other load are not included"
    )
    rows, chips, within = evidence.tested(said.level)
    nearest = NEAREST[said.level]
    notes.append(
        f"test of the method: {rows} published latencies ({chips} chip{'' if chips == 1 else 's'}) were estimated from nothing "
        f"nearer than {nearest}, as here; {within} of them are within such an interval"
        if rows
        else f"no published latency can be estimated from nothing nearer than {nearest}: whether such intervals are wide enough was not tested"
    )
    if target.device.match == "*":
        notes.append("no published device is known to be this machine: measure instead, as `edgetl build` does")
    return notes


def runtimes_of(target: Target, file_format: str) -> list[str]:
    """The target's runtimes that open files of a format ("tflite", "onnx"), its main one first."""
    return [runtime for runtime in target.runtimes if BACKENDS[runtime].format == file_format]
