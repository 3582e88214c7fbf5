"""Compare rows: is one model slower than another, do two backends give the same answers?"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, NotRequired, TypedDict

from edgetl.commands.bench.disturbance import Disturbance
from edgetl.commands.bench.rows import Job, Row
from edgetl.commands.bench.schedule import Measured, rounds_of_two
from edgetl.core.stats import median_interval, paired_ratio, paired_ratio_interval
from edgetl.runtimes.catalogue import BACKENDS

SLOWER, WITHIN, UNDECIDED = "slower", "within", "undecided"
_LEAST_PAIRS, _LEAST_FOR_BOOTSTRAP = 6, 20


class Comparison(TypedDict):
    """As `--json` has it. ratio: median over rounds of the candidate's median time over the baseline's. interval: its 95%
    interval. verdict: "slower", "within" or "undecided". again: the second measurement, None if it failed."""

    baseline: str
    candidate: str
    ratio: float
    interval: list[float]
    max_ratio: float
    pairs: int
    verdict: str
    again: NotRequired[Comparison | None]


def compare(baseline: Row, candidate: Row, *, max_ratio: float) -> Comparison:
    """The ratio of two rows, with its 95% interval by bootstrap of the rounds.

    slower: the whole interval is above max_ratio; within: none of it is; undecided: the interval includes max_ratio.
    """
    first, second = rounds_of_two([baseline, candidate])
    ratios = [b / a for a, b in zip(first, second, strict=True)]
    if len(ratios) < _LEAST_FOR_BOOTSTRAP:
        # Order statistics give a wide interval for few pairs, and none for fewer than six.
        low, high = median_interval(ratios) or (min(ratios, default=0.0), max(ratios, default=0.0))
    else:
        low, high = paired_ratio_interval(second, first)
    verdict = SLOWER if low > max_ratio else WITHIN if high <= max_ratio else UNDECIDED
    if len(ratios) < _LEAST_PAIRS:
        verdict = UNDECIDED
    return {
        "baseline": baseline.job.name,
        "candidate": candidate.job.name,
        "ratio": paired_ratio(second, first),
        "interval": [low, high],
        "max_ratio": max_ratio,
        "pairs": len(first),
        "verdict": verdict,
    }


Measure = Callable[[Sequence[Job]], Measured]


class MeasuredTwo(NamedTuple):
    """Measured, with the comparison; None if one of the two was not timed."""

    rows: list[Row]
    disturbance: Disturbance
    interrupted: bool
    comparison: Comparison | None


def measure_two(jobs: Sequence[Job], measure: Measure, *, max_ratio: float) -> MeasuredTwo:
    """Measure and compare a baseline and a candidate.

    "Slower" needs two measurements that agree. Two processes of the same model differ by more than their rounds show, for
    example in the placement of their memory and the processor that they run on: on a busy machine, A was slower than A in
    2 of 100 tries of one second each. So a model that looks slower is measured again, in new processes and in the opposite
    order.
    """
    rows, disturbance, interrupted = measure(jobs)
    if not all(row.rounds and row.status != "failed" for row in rows):
        return MeasuredTwo(rows, disturbance, interrupted, None)
    first = compare(rows[0], rows[1], max_ratio=max_ratio)
    if interrupted:
        return MeasuredTwo(rows, disturbance, interrupted, {**first, "verdict": UNDECIDED})
    if first["verdict"] != SLOWER:
        return MeasuredTwo(rows, disturbance, interrupted, first)
    again, _, interrupted = measure([jobs[1], jobs[0]])
    if interrupted or not all(row.rounds and row.status != "failed" for row in again):
        for row, other in zip(rows, reversed(again), strict=True):
            if other.status == "failed":
                row.notes.append(f"the second measurement failed ({other.kind}): {other.reason}")
        return MeasuredTwo(rows, disturbance, interrupted, {**first, "verdict": UNDECIDED, "again": None})
    second = compare(again[1], again[0], max_ratio=max_ratio)
    verdict = SLOWER if second["verdict"] == SLOWER else UNDECIDED
    return MeasuredTwo(rows, disturbance, interrupted, {**first, "verdict": verdict, "again": second})


def note_parity(rows: Sequence[Row]) -> None:
    """Set each row's `parity`: how far its answers to the same few images are from another row's.

    The other row is the same file on the default backend of its format. A row on the default backend is compared with the
    float32 file of its format.
    """
    answered = [row for row in rows if row.opened.get("answers")]
    for row in answered:
        other = _reference(row, answered)
        if other is None or len(other.opened["answers"][0]) != len(row.opened["answers"][0]):
            continue
        pairs = [(_finite(a), _finite(b)) for a, b in zip(row.opened["answers"], other.opened["answers"], strict=False)]
        both = [(a, b) for a, b in pairs if a is not None and b is not None]
        if len(both) < len(pairs):
            row.parity = {"with": other.job.name, "images": len(pairs), "same_label": 0, "max_abs": None}
            row.notes.append(f"its answers or those of {other.job.name} are not all finite numbers")
            continue
        row.parity = {
            "with": other.job.name,
            "images": len(pairs),
            "same_label": sum(a.index(max(a)) == b.index(max(b)) for a, b in both),
            "max_abs": max(abs(x - y) for a, b in both for x, y in zip(a, b, strict=True)),
        }


def _finite(answer: Sequence[float | None]) -> list[float] | None:
    """The answer, or None if one of its values is not finite."""
    values = [value for value in answer if value is not None]
    return values if len(values) == len(answer) else None


def _reference(row: Row, rows: Sequence[Row]) -> Row | None:
    default = [other for other in rows if BACKENDS[other.job.backend].default and other is not row]
    same_file = [other for other in default if other.job.model == row.job.model]
    if same_file and not BACKENDS[row.job.backend].default:
        return same_file[0]
    if row.job.about.get("precision") == "float32" and row.job.model.is_file():
        return None
    suffix = row.job.model.suffix if row.job.model.is_file() else ".tflite"
    folder = row.job.model.parent
    floats = [
        other
        for other in default
        if other.job.about.get("precision") == "float32"
        and other.job.model.suffix == suffix
        and (other.job.model.parent == folder or row.job.model.is_dir())
    ]
    return floats[0] if floats else None
