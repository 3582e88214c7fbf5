"""Timing runs of a session, and their summary."""

from __future__ import annotations

from edgetl.measure import latency
from edgetl.measure.latency import summarise, time_runs


class FakeSession:
    """Each run moves the clock by 2 ms; the first three, which warm up, by 50 ms."""

    def __init__(self) -> None:
        self.now_ns = 0
        self.invoked = 0

    def invoke(self) -> None:
        self.invoked += 1
        self.now_ns += 50_000_000 if self.invoked <= 3 else 2_000_000


def test_runs_that_warm_up_are_made_and_not_counted(monkeypatch):
    session = FakeSession()
    monkeypatch.setattr(latency.time, "perf_counter_ns", lambda: session.now_ns)
    assert time_runs(session, warmup_runs=3, runs=5) == [2.0] * 5
    assert session.invoked == 8


def test_a_summary_has_quantiles_in_order_and_what_they_were_measured_with():
    times_ms = [float(i) for i in range(100, 0, -1)]
    row = summarise(times_ms, threads=2, processor="a chip")
    assert 50 <= row["p50_ms"] <= 51
    assert 90 <= row["p90_ms"] <= 91
    assert 99 <= row["p99_ms"] <= 100
    low, high = row["p90_interval_ms"]
    assert 80 < low < row["p90_ms"] < high <= 100
    assert (row["runs"], row["threads"], row["processor"]) == (100, 2, "a chip")


def test_a_summary_keeps_the_keys_that_reports_are_read_by():
    assert list(summarise([1.0, 2.0], threads=1, processor="")) == [
        "p50_ms", "p90_ms", "p99_ms", "p90_interval_ms", "runs", "threads", "processor",
    ]  # fmt: skip
