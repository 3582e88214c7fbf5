"""Latencies of several open models, compared by ratio: in turns and in processor time, because the machine is shared."""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

Rounds = list[list[float]]


@dataclass
class Times:
    """The milliseconds of each run by two clocks, one list per round. wall: the time an app waits. processor: the time the
    process computed, summed over its threads; for one thread it equals wall on an idle machine, and on a shared machine it
    excludes the time that others used."""

    wall: Rounds = field(default_factory=list)
    processor: Rounds = field(default_factory=list)


def time_in_rounds(sessions: Mapping[str, Any], *, rounds: int, runs: int, seed: int = 0) -> dict[str, Times]:
    """Name -> its times. Each session has one thread and an image set.

    Every round visits every session once, in a new random order: a disturbance longer than a visit affects all of them,
    and no session always follows the same one.
    """
    order = list(sessions)
    shuffled = random.Random(seed)
    times = {name: Times() for name in sessions}
    for _ in range(rounds):
        shuffled.shuffle(order)
        for name in order:
            visit(sessions[name], times[name], runs)
    return times


def visit(session: Any, times: Times, runs: int) -> None:
    """Add one round. Five uncounted runs first bring the net's weights back into the processor's caches."""
    for _ in range(5):
        session.invoke()
    wall, processor = [], []
    for _ in range(runs):
        begun, begun_processor = time.perf_counter_ns(), time.process_time_ns()
        session.invoke()
        processor.append((time.process_time_ns() - begun_processor) / 1e6)
        wall.append((time.perf_counter_ns() - begun) / 1e6)
    times.wall.append(wall)
    times.processor.append(processor)


def p50(rounds: Rounds) -> float:
    """Median over all runs, milliseconds."""
    return statistics.median(value for row in rounds for value in row)


def ratio_interval(numerator: Rounds, denominator: Rounds, *, draws: int = 1000, seed: int = 0) -> tuple[float, float]:
    """95% interval of p50(numerator) / p50(denominator), by bootstrap over rounds (Efron 1979).

    Whole rounds are drawn, the same ones for both: runs of one visit are not independent, and a disturbance of a round
    slowed both.

    >>> ratio_interval([[2.0], [4.0]] * 20, [[1.0], [2.0]] * 20)[0] >= 1.0
    True
    """
    source = random.Random(seed)
    count = len(numerator)
    found = []
    for _ in range(draws):
        chosen = source.choices(range(count), k=count)
        found.append(p50([numerator[i] for i in chosen]) / p50([denominator[i] for i in chosen]))
    found.sort()
    return found[round(0.025 * (draws - 1))], found[round(0.975 * (draws - 1))]
