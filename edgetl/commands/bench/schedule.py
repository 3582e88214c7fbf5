"""Measure rows in turns: open each in its own process, warm up, then time all in rounds until each is known well enough.

Models are not timed one after the other: a disturbance of one second would then affect only one of them. Every round
visits every unfinished row, in a random order.
"""

from __future__ import annotations

import contextlib
import random
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from edgetl.commands.bench.child import Child, ChildFailed
from edgetl.commands.bench.disturbance import Watch
from edgetl.commands.bench.rows import Disturbance, Job, Row
from edgetl.core.stats import paired_ratio_interval
from edgetl.runtimes.catalogue import BACKENDS

# Six rounds are the fewest that enclose a median with 95%.
_LEAST_ROUNDS = 8
# A bootstrap of fewer pairs is narrower than the truth.
_LEAST_PAIRS = 20
_LEAD_RUNS = 2
# A warm-up has settled when two consecutive visits differ by less than this share, and are long enough to compare.
_SETTLED = 0.03


@dataclass(frozen=True)
class Settings:
    """seconds: of timed runs per row, at most. width: of the median's 95% interval over the median, at which a row is done.
    visit_s: how long one visit to a row is. warmup_s: at most."""

    seconds: float = 10.0
    width: float = 0.02
    visit_s: float = 0.15
    warmup_s: float = 3.0
    timeout_s: float = 60.0
    memory_bytes: int = 2**34
    allow_fallback: bool = False
    profile_runs: int = 0
    cores: Mapping[int, list[int]] = field(default_factory=dict)  # threads -> the processors to keep to
    seed: int = 0
    # Two rows in pairs: both continue until the ratio of their medians is known as well.
    paired: bool = False


# Called on every visit: (activity, the row, number of rows done, number of rows).
OnVisit = Callable[[str, Row, int, int], None]


def measure(jobs: Sequence[Job], settings: Settings, on_visit: OnVisit) -> tuple[list[Row], Disturbance, bool]:
    """(one row per job in their order, what disturbed the machine meanwhile, whether Ctrl-C interrupted it)."""
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
    return rows, watch.summary(), interrupted


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
        row.opened = child.ask(
            "open",
            timeout_s=settings.timeout_s,
            model=str(job.model),
            backend=job.backend,
            threads=job.threads,
            allow_fallback=settings.allow_fallback,
            input=dict(job.images),
            cores=settings.cores.get(job.threads),
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
    """Run until two consecutive visits agree; return the number of runs per visit."""
    spent, count, last = 0.0, 1, 0.0
    while True:
        answer = child.ask("time", timeout_s=settings.timeout_s, runs=count, lead=0)
        took = statistics.median(answer["times_ms"])
        row.warmup_runs += count + 1
        row.warmup_s = spent = spent + sum(answer["times_ms"]) / 1e3 + answer["lead_s"]
        # However short the time limit, it must leave room for more rounds than an interval needs.
        least = _LEAST_PAIRS if settings.paired else _LEAST_ROUNDS
        visit_ms = 1e3 * min(settings.visit_s, settings.seconds / (least + 2))
        wanted: int = max(1, min(1000, round(visit_ms / max(took, 1e-3))))
        settled = last > 0 and abs(took / last - 1) < _SETTLED and count >= wanted / 2
        if settled or spent >= settings.warmup_s:
            row.process_s.append(answer["process_s"])
            return wanted
        count, last = wanted, took


def _visit(row: Row, child: Child, runs: int, settings: Settings) -> None:
    answer = child.ask("time", timeout_s=settings.timeout_s, runs=runs, lead=min(_LEAD_RUNS, runs))
    row.warmup_runs += min(_LEAD_RUNS, runs) + 1
    row.warmup_s += answer["lead_s"]
    row.rounds.append(answer["times_ms"])
    row.processor_ms.append(answer["processor_ms"])
    row.process_s.append(answer["process_s"])
    row.seconds += sum(answer["times_ms"]) / 1e3


def _done(row: Row, settings: Settings) -> bool:
    narrow = len(row.rounds) >= _LEAST_ROUNDS and row.relative_width() < settings.width
    # Twice in a row: the first narrow interval is often luck.
    if narrow and row.looked_narrow:
        row.stopped = "interval"
    elif row.seconds >= settings.seconds * (1 if len(row.rounds) >= _LEAST_ROUNDS else 3):
        # A machine that slowed down since the warm-up still gets as many rounds as an interval needs.
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
    """Where its ops ran, its memory, its slowest ops. A failure here leaves what was timed."""
    try:
        answer = child.ask("placement", timeout_s=settings.timeout_s)
        row.memory, row.placement = answer["memory"], answer["placement"]
        if settings.profile_runs:
            profiled = child.ask(
                "profile", timeout_s=settings.timeout_s, runs=settings.profile_runs, backend=row.job.backend
            )
            row.profile, row.profile_reason = profiled["profile"], profiled.get("reason", "")
    except ChildFailed as failure:
        row.notes.append(f"after it was timed: {failure.reason}")
    _place(row, settings)


def _place(row: Row, settings: Settings) -> None:
    """Check that it ran on the requested kind of device, by the backend's own executor."""
    asked, executor = BACKENDS[row.job.backend].device, row.opened.get("executor") or ""
    if row.placement is None:
        # This check exists for accelerators that silently hand ops back to the CPU.
        if settings.allow_fallback or asked != "cpu":
            row.status = "fallback"
            row.notes.append("where it ran is not known")
        return
    share = row.placement["shares"].get(asked, {"ops": 0.0})["ops"]
    own = row.placement["ops"].get(executor, 0) if executor else sum(row.placement["ops"].values())
    if share == 1.0 and own:
        total = sum(row.placement["ops"].values()) + row.placement["unknown"]
        if own < total:
            row.notes.append(f"{own} of its {total} ops were {executor}'s, the others the processor's plain kernels")
        return
    reason = (
        f"only {share:.0%} of its ops ran on the {asked.upper()}"
        if share < 1.0
        else f"none of its ops was {executor}'s"
    )
    if settings.allow_fallback:
        row.status = "fallback"
        row.notes.append(reason)
    else:
        row.fail("placement", reason)


def rounds_of_two(rows: Sequence[Row]) -> tuple[list[float], list[float]]:
    """The medians of the rounds that both rows were visited in, in pairs."""
    first, second = (row.medians() for row in rows)
    count = min(len(first), len(second))
    return first[:count], second[:count]
