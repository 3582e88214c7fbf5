"""How long one run takes, and the quantiles of many runs."""

from __future__ import annotations

import time
from typing import Any

from edgetl.core.stats import quantile, quantile_interval
from edgetl.measure.records import Latency


def time_runs(session: Any, *, warmup_runs: int, runs: int) -> list[float]:
    """Milliseconds of each of `runs` runs after `warmup_runs` that are not counted. The session must have run on an image before."""
    for _ in range(warmup_runs):
        session.invoke()
    times = []
    for _ in range(runs):
        begun = time.perf_counter_ns()
        session.invoke()
        times.append((time.perf_counter_ns() - begun) / 1e6)
    return times


def summarise(times_ms: list[float], *, threads: int, processor: str) -> Latency:
    """p50, p90, p99, the interval of p90, and what they were measured on."""
    low, high = quantile_interval(times_ms, 0.9)
    p50, p90, p99 = (round(quantile(times_ms, share), 4) for share in (0.5, 0.9, 0.99))
    return {
        "p50_ms": p50,
        "p90_ms": p90,
        "p99_ms": p99,
        "p90_interval_ms": [round(low, 4), round(high, 4)],
        "runs": len(times_ms),
        "threads": threads,
        "processor": processor,
    }
