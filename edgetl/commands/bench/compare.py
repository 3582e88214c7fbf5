"""Comparisons between rows: is one model slower than another, do two backends give the same answers?"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from edgetl.commands.bench.rows import Comparison, Disturbance, Job, Row
from edgetl.commands.bench.schedule import rounds_of_two
from edgetl.core.stats import median_interval, paired_ratio, paired_ratio_interval
from edgetl.runtimes.catalogue import BACKENDS

SLOWER, WITHIN, UNDECIDED = "slower", "within", "undecided"
_LEAST_PAIRS, _LEAST_FOR_BOOTSTRAP = 6, 20


def compare(baseline: Row, candidate: Row, *, max_ratio: float) -> Comparison:
    """{baseline, candidate, ratio, interval, max_ratio, pairs, verdict}: of the candidate's median over the baseline's, in
    each round; of those the median over rounds, and its 95% interval by bootstrap of the rounds.

    slower: the whole interval is past max_ratio; within: none of it is; undecided: it lies on both sides.
    """
    first, second = rounds_of_two([baseline, candidate])
    ratios = [b / a for a, b in zip(first, second, strict=True)]
    if len(ratios) < _LEAST_FOR_BOOTSTRAP:
        # Too few pairs for a bootstrap: order statistics give a wider interval, and below six pairs none.
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


# Jobs -> their rows, what disturbed the machine, and whether the measurement was interrupted.
Measure = Callable[[Sequence[Job]], tuple[list[Row], Disturbance, bool]]


def measure_two(
    jobs: Sequence[Job], measure: Measure, *, max_ratio: float
) -> tuple[list[Row], Disturbance, bool, Comparison | None]:
    """(rows, disturbance, interrupted, comparison) of a baseline and a candidate; no comparison where one was not timed.

    The verdict "slower" needs two measurements. Two processes of the same model differ by more than their rounds show:
    by where their memory is, and which processor they run on. On a machine kept busy by others, A was called slower than A in 2 of 100
    tries of a second each. So what looks slower is measured again, in new processes started in the other order.
    """
    rows, disturbance, interrupted = measure(jobs)
    if not all(row.rounds and row.status != "failed" for row in rows):
        return rows, disturbance, interrupted, None
    found = compare(rows[0], rows[1], max_ratio=max_ratio)
    if interrupted:
        return rows, disturbance, interrupted, {**found, "verdict": UNDECIDED}
    if found["verdict"] != SLOWER:
        return rows, disturbance, interrupted, found
    again, _, interrupted = measure([jobs[1], jobs[0]])
    if interrupted or not all(row.rounds and row.status != "failed" for row in again):
        for row, other in zip(rows, reversed(again), strict=True):
            if other.status == "failed":
                row.notes.append(f"measured again, it {other.kind}: {other.reason}")
        return rows, disturbance, interrupted, {**found, "verdict": UNDECIDED, "again": None}
    second = compare(again[1], again[0], max_ratio=max_ratio)
    verdict = SLOWER if second["verdict"] == SLOWER else UNDECIDED
    return rows, disturbance, interrupted, {**found, "verdict": verdict, "again": second}


def note_parity(rows: Sequence[Row]) -> None:
    """Set each row's `parity`: how far its answers to the same few images are from another row's.

    The other is the same file on the default backend of its format; of that one itself, the float32 file of the same
    format. {with, images, same_label, max_abs}: max_abs of probabilities.
    """
    answered = [row for row in rows if row.opened.get("answers")]
    for row in answered:
        other = _reference(row, answered)
        if other is None or len(other.opened["answers"][0]) != len(row.opened["answers"][0]):
            continue
        pairs = list(zip(row.opened["answers"], other.opened["answers"], strict=False))
        numbers = [(_numbers(a), _numbers(b)) for a, b in pairs]
        finite = [(a, b) for a, b in numbers if a is not None and b is not None]
        if len(finite) < len(pairs):
            row.parity = {"with": other.job.name, "images": len(pairs), "same_label": 0, "max_abs": None}
            row.notes.append(f"its answers or those of {other.job.name} are not all numbers")
            continue
        row.parity = {
            "with": other.job.name,
            "images": len(pairs),
            "same_label": sum(a.index(max(a)) == b.index(max(b)) for a, b in finite),
            "max_abs": max(abs(x - y) for a, b in finite for x, y in zip(a, b, strict=True)),
        }


def _numbers(answer: Sequence[float | None]) -> list[float] | None:
    """An answer whose values are all finite; None if one is not."""
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
