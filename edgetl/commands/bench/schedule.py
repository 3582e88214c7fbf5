"""Time rows in turns: open each in its own process, warm up, then visit all of them in rounds until each is known well enough.

Models are not timed one after the other, because a disturbance of a second would then affect only one of them. Every round
visits every row that is not done, in a new random order.
"""

from __future__ import annotations

import contextlib
import random
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from edgetl.commands.bench.child import Child, ChildFailed
from edgetl.commands.bench.disturbance import Disturbance, Watch
from edgetl.commands.bench.rows import Job, Row
from edgetl.core.stats import paired_ratio_interval
from edgetl.runtimes.catalogue import BACKENDS

# A 95% interval of a median needs at least six rounds.
_LEAST_ROUNDS = 8
# A bootstrap of fewer pairs gives too narrow an interval.
_LEAST_PAIRS = 20
_LEAD_RUNS = 2
# A warm-up has settled when two consecutive visits differ by less than this share, and are long enough.
_SETTLED = 0.03


@dataclass(frozen=True)
class Settings:
    """seconds: limit for the timed runs of one row. width: a row is done when its 95% interval is narrower than this share of
    the median. visit_s: length of one visit to a row. warmup_s: limit. paired: two rows, timed until their ratio is known."""

    seconds: float = 10.0
    width: float = 0.02
    visit_s: float = 0.15
    warmup_s: float = 3.0
    timeout_s: float = 60.0
    memory_bytes: int = 2**34
    allow_fallback: bool = False
    profile_runs: int = 0
    cores: Mapping[int, list[int]] = field(default_factory=dict)  # threads -> the processors to run on
    seed: int = 0
    paired: bool = False


# Called before every visit with (activity, row, number of rows done, number of rows).
OnVisit = Callable[[str, Row, int, int], None]


class Measured(NamedTuple):
    """rows: one per job, in their order. interrupted: by Ctrl-C."""

    rows: list[Row]
    disturbance: Disturbance
    interrupted: bool


def measure(jobs: Sequence[Job], settings: Settings, on_visit: OnVisit) -> Measured:
    """Measure all jobs. Ctrl-C ends the measurement and keeps the rows as they are."""
    rows = [Row(job) for job in jobs]
    watch = Watch()
    interrupted = False
    with contextlib.ExitStack() as stack:
        children: dict[int, Child] = {}
        try:
            for i, row in enumerate(rows):
                on_visit("open", row, i, len(rows))
                child = stack.enter_context(Child(memory_limit_bytes=settings.memory_bytes))
                if _open(row, child, settings):
                    children[i] = child
            _rounds(rows, children, settings, on_visit, watch)
            for i, child in children.items():
                on_visit("placement", rows[i], i, len(rows))
                _afterwards(rows[i], child, settings)
        except KeyboardInterrupt:
            interrupted = True
            _interrupted(rows, settings)
        watch.end(rows)
    for row in rows:
        watch.note_row(row)
    return Measured(rows, watch.summary(), interrupted)


def _interrupted(rows: list[Row], settings: Settings) -> None:
    for row in rows:
        if row.status == "failed":
            continue
        row.stopped = row.stopped or "interrupted"
        if not row.rounds:
            row.fail("interrupted", "stopped before it was timed")
        elif row.placement is None:
            _place(row, settings)


def _open(row: Row, child: Child, settings: Settings) -> bool:
    job = row.job
    try:
        row.opened = child.open(
            {
                "model": str(job.model),
                "backend": job.backend,
                "threads": job.threads,
                "allow_fallback": settings.allow_fallback,
                "input": job.images,
                "cores": settings.cores.get(job.threads),
            },
            timeout_s=settings.timeout_s,
        )
    except ChildFailed as failure:
        row.fail(failure.kind, failure.reason)
        return False
    return True


def _rounds(rows: list[Row], children: dict[int, Child], settings: Settings, on_visit: OnVisit, watch: Watch) -> None:
    order, shuffled = list(children), random.Random(settings.seed)
    runs: dict[int, int] = {}
    for i in list(order):
        on_visit("warm up", rows[i], len(rows) - len(order), len(rows))
        try:
            runs[i] = _warm_up(rows[i], children[i], settings)
        except ChildFailed as failure:
            rows[i].fail(failure.kind, failure.reason)
            children.pop(i)
            order.remove(i)
    watch.begin()
    while order:
        shuffled.shuffle(order)
        for i in list(order):
            on_visit("time", rows[i], len(rows) - len(order), len(rows))
            try:
                _visit(rows[i], children[i], runs[i], settings)
            except ChildFailed as failure:
                rows[i].fail(failure.kind, failure.reason)
                children.pop(i)
            if rows[i].status == "failed" or (not settings.paired and _done(rows[i], settings)):
                order.remove(i)
        if settings.paired and (len(order) < len(rows) or _pair_done(rows, settings)):
            break
    watch.end(rows)


def _warm_up(row: Row, child: Child, settings: Settings) -> int:
    """Run until two consecutive visits agree; returns the number of runs per visit."""
    spent, count, last = 0.0, 1, 0.0
    while True:
        answer = child.time(runs=count, lead=0, timeout_s=settings.timeout_s)
        took = statistics.median(answer["times_ms"])
        row.warmup_runs += count + 1
        row.warmup_s = spent = spent + sum(answer["times_ms"]) / 1e3 + answer["lead_s"]
        # Even a short time limit must leave time for more rounds than an interval needs.
        least = _LEAST_PAIRS if settings.paired else _LEAST_ROUNDS
        visit_ms = 1e3 * min(settings.visit_s, settings.seconds / (least + 2))
        runs = max(1, min(1000, round(visit_ms / max(took, 1e-3))))
        settled = last > 0 and abs(took / last - 1) < _SETTLED and count >= runs / 2
        if settled or spent >= settings.warmup_s:
            row.process_s.append(answer["process_s"])
            return runs
        count, last = runs, took


def _visit(row: Row, child: Child, runs: int, settings: Settings) -> None:
    answer = child.time(runs=runs, lead=min(_LEAD_RUNS, runs), timeout_s=settings.timeout_s)
    row.warmup_runs += min(_LEAD_RUNS, runs) + 1
    row.warmup_s += answer["lead_s"]
    row.rounds.append(answer["times_ms"])
    row.processor_ms.append(answer["processor_ms"])
    row.process_s.append(answer["process_s"])
    row.seconds += sum(answer["times_ms"]) / 1e3


def _done(row: Row, settings: Settings) -> bool:
    narrow = len(row.rounds) >= _LEAST_ROUNDS and row.relative_width() < settings.width
    # Required twice in a row: the first narrow interval is often luck.
    if narrow and row.looked_narrow:
        row.stopped = "interval"
    elif row.seconds >= settings.seconds * (1 if len(row.rounds) >= _LEAST_ROUNDS else 3):
        # If the machine became slower since the warm-up, allow more time for the rounds that an interval needs.
        row.stopped = "time limit"
    row.looked_narrow = narrow
    return bool(row.stopped)


def _pair_done(rows: list[Row], settings: Settings) -> bool:
    stopped = ""
    if len(rows[0].rounds) >= _LEAST_PAIRS:
        low, high = paired_ratio_interval(*rounds_of_two(rows), draws=500)
        stopped = "interval" if high - low < settings.width * low else ""
    enough = 1 if len(rows[0].rounds) >= _LEAST_PAIRS else 3
    if max(row.seconds for row in rows) >= settings.seconds * enough:
        stopped = "time limit"
    for row in rows:
        row.stopped = stopped
    return bool(stopped)


def _afterwards(row: Row, child: Child, settings: Settings) -> None:
    """Where the ops ran, the memory, the slowest ops. A failure here keeps the timed runs."""
    try:
        placed = child.placement(timeout_s=settings.timeout_s)
        row.memory, row.placement = placed["memory"], placed["placement"]
        if settings.profile_runs:
            profiled = child.profile(runs=settings.profile_runs, backend=row.job.backend, timeout_s=settings.timeout_s)
            row.profile, row.profile_reason = profiled["profile"], profiled.get("reason", "")
    except ChildFailed as failure:
        row.notes.append(f"failed after the timed runs: {failure.reason}")
    _place(row, settings)


def _place(row: Row, settings: Settings) -> None:
    """Decide whether the model ran on the backend's kind of device, with the backend's own executor."""
    device, executor = BACKENDS[row.job.backend].device, row.opened.get("executor") or ""
    if row.placement is None:
        # An accelerator may leave ops to the processor without saying so: an unknown placement is not a success.
        if settings.allow_fallback or device != "cpu":
            row.status = "fallback"
            row.notes.append("it is unknown where its ops ran")
        return
    share = row.placement["shares"][device]["ops"] if device in row.placement["shares"] else 0.0
    own = row.placement["ops"].get(executor, 0) if executor else sum(row.placement["ops"].values())
    if share == 1.0 and own:
        total = sum(row.placement["ops"].values()) + row.placement["unknown"]
        if own < total:
            row.notes.append(f"{own} of its {total} ops ran in {executor}, the others in the runtime's own kernels")
        return
    reason = (
        f"only {share:.0%} of its ops ran on the {device.upper()}"
        if share < 1.0
        else f"none of its ops ran in {executor}"
    )
    if settings.allow_fallback:
        row.status = "fallback"
        row.notes.append(reason)
    else:
        row.fail("placement", reason)


def rounds_of_two(rows: Sequence[Row]) -> tuple[list[float], list[float]]:
    """Medians of the rounds that visited both rows: two lists of the same length."""
    first, second = (row.medians() for row in rows)
    count = min(len(first), len(second))
    return first[:count], second[:count]
