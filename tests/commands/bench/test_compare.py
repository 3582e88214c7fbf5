"""A is not slower than A, ten percent are detected, and answers are compared with those of another row."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from edgetl.commands.bench.compare import SLOWER, UNDECIDED, WITHIN, compare, measure_two, note_parity
from edgetl.commands.bench.rows import Job, Rounds, Row


def row(name: str, rounds: Rounds) -> Row:
    return Row(Job(Path(name), "litert-cpu", 1), rounds=rounds)


def noisy_pair(seed: int, slower: float) -> tuple[Row, Row]:
    """Two rows whose rounds share a varying disturbance; each run has its own noise and outliers."""
    source = random.Random(seed)
    level, first, second = 1.0, [], []
    for _ in range(25):
        level = max(0.8, level + source.gauss(0, 0.08))

        def visit(base: float) -> list[float]:
            jitter = source.gauss(1.0, 0.02)
            return [base * jitter * (3.0 if source.random() < 0.05 else source.gauss(1.0, 0.03)) for _ in range(20)]

        first.append(visit(level))
        second.append(visit(level * slower))
    return row("a.tflite", first), row("b.tflite", second)


def test_a_against_a_is_never_called_slower_in_a_hundred_tries() -> None:
    verdicts = [compare(*noisy_pair(seed, 1.0), max_ratio=1.05)["verdict"] for seed in range(100)]
    assert SLOWER not in verdicts
    assert verdicts.count(WITHIN) > 90


def test_ten_percent_are_detected_although_the_machine_drifts_by_more() -> None:
    found = [compare(*noisy_pair(seed, 1.10), max_ratio=1.05) for seed in range(100)]
    assert sum(one["verdict"] == SLOWER for one in found) > 95
    assert sum(one["interval"][0] <= 1.10 <= one["interval"][1] for one in found) >= 88, "95% intervals cover the truth"


def test_an_interval_that_includes_the_limit_is_undecided() -> None:
    assert compare(*noisy_pair(0, 1.05), max_ratio=1.05)["verdict"] == UNDECIDED


@pytest.mark.parametrize(("backend", "file"), [("ort-cuda", "m.onnx"), ("litert-cpu-reference", "m.tflite")])
def test_a_backend_is_compared_with_the_default_one_on_the_same_file(backend: str, file: str) -> None:
    default = "ort-cpu" if file.endswith("onnx") else "litert-cpu"
    usual = Row(Job(Path(file), default, 1), opened={"answers": [[0.6, 0.4], [0.3, 0.7]]})
    other = Row(Job(Path(file), backend, 1), opened={"answers": [[0.6, 0.4], [0.6, 0.4]]})
    note_parity([usual, other])
    assert other.parity is not None
    assert other.parity["with"] == usual.job.name
    assert other.parity["same_label"] == 1
    assert other.parity["max_abs"] == pytest.approx(0.3)
    assert usual.parity is None, "there is nothing to compare it with"


@pytest.mark.parametrize(("second", "verdict"), [(1.1, SLOWER), (1.0, UNDECIDED)])
def test_slower_needs_a_second_measurement_in_the_opposite_order(second: float, verdict: str) -> None:
    asked: list[list[str]] = []

    def measure(jobs: Sequence[Job]) -> tuple[list[Row], dict[str, Any], bool]:
        asked.append([job.model.name for job in jobs])
        a, b = noisy_pair(len(asked), 1.1 if len(asked) == 1 else second)
        return [a, b] if len(asked) == 1 else [b, a], {}, False

    jobs = [Job(Path(name), "litert-cpu", 1) for name in ("a.tflite", "b.tflite")]
    comparison = measure_two(jobs, measure, max_ratio=1.05)[3]
    assert asked == [["a.tflite", "b.tflite"], ["b.tflite", "a.tflite"]]
    assert comparison is not None
    assert comparison["verdict"] == verdict
    assert comparison["again"]["baseline"] == comparison["baseline"]
