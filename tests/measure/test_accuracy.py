"""What predictions say, and how long a run takes."""

from __future__ import annotations

import numpy as np

from edgetl.measure.accuracy import accuracy, confusion
from edgetl.measure.latency import summarise, time_runs

LABELS = np.array([0, 0, 1, 1, 2])


def sure(*classes: int) -> np.ndarray:
    """Predictions that give these classes 0.8 and the others 0.1."""
    return np.where(np.eye(3)[list(classes)] > 0, 0.8, 0.1).astype(np.float32)


def test_accuracy_counts_hits_and_carries_its_interval():
    found = accuracy(sure(0, 1, 1, 1, 2), LABELS)
    assert (found["top1"], found["n"]) == (0.8, 5)
    assert found["interval"][0] < 0.8 < found["interval"][1]


def test_confusion_is_by_true_class_then_predicted_class():
    assert confusion(sure(0, 1, 1, 1, 0), LABELS) == [[1, 1, 0], [0, 2, 0], [1, 0, 0]]


def test_latency_leaves_out_the_warm_up_and_times_each_run_alone():
    class Counter:
        runs = 0

        def invoke(self) -> None:
            self.runs += 1

    session = Counter()
    times = time_runs(session, warmup_runs=3, runs=40)
    assert (session.runs, len(times)) == (43, 40)
    assert min(times) >= 0


def test_a_summary_says_what_it_was_measured_on():
    found = summarise([float(i) for i in range(1, 201)], threads=2, processor="a processor")
    assert (found["p50_ms"], found["p90_ms"], found["p99_ms"]) == (100.0, 180.0, 198.0)
    assert found["p90_interval_ms"][0] < 180.0 < found["p90_interval_ms"][1]
    assert (found["runs"], found["threads"], found["processor"]) == (200, 2, "a processor")
