"""Each row has its own process: whatever a model does to a runtime, only its own row fails."""

from __future__ import annotations

import os
import random
import time
from pathlib import Path
from typing import Any

import onnx
import pytest

from edgetl.commands.bench.child import Child, ChildFailed
from edgetl.commands.bench.rows import Job, Row, figures, to_csv_row, to_json
from edgetl.commands.bench.schedule import Settings, measure
from edgetl.core.stats import batched_median_interval, median_interval
from edgetl.runtimes import unavailable

QUICK = Settings(seconds=0.4, visit_s=0.03, warmup_s=0.2, timeout_s=5.0, memory_bytes=10**9)


def silent(*_: Any) -> None:
    pass


def children() -> set[int]:
    """Processes that this one started and that still exist."""
    return {int(pid) for pid in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()}


def test_a_model_that_crashes_hangs_or_exhausts_memory_fails_only_its_own_row(models: Path) -> None:
    before = children()
    jobs = [
        Job(models / "crash.tflite", "litert-cpu", 1),
        Job(models / "small.onnx", "ort-cpu", 1),
        Job(models / "hang.onnx", "ort-cpu", 1),
        Job(models / "memory.onnx", "ort-cpu", 1),
        Job(models / "small.tflite", "litert-cpu", 1),
    ]
    rows, disturbance, interrupted = measure(jobs, QUICK, silent)
    assert [row.kind for row in rows] == ["crashed", "", "hung", "memory", ""]
    assert "SIGSEGV" in rows[0].reason
    assert "1 GB" in rows[3].reason
    for row in (rows[1], rows[4]):
        assert row.status == "ok"
        assert row.stopped in ("interval", "time limit")
        assert len(row.rounds) >= 8
        assert row.placement is not None
        assert row.placement["shares"]["cpu"]["ops"] == 1.0
        assert row.memory["peak_bytes"] > row.memory["model_bytes"] > 0
    assert not interrupted
    assert children() == before, "no process is left over"
    assert set(disturbance) >= {"load_before", "warnings"}


def test_rows_are_timed_in_turns_and_figures_are_of_all_runs(models: Path) -> None:
    visits: list[str] = []
    jobs = [Job(models / "small.onnx", "ort-cpu", count) for count in (1, 2)]
    rows, _, _ = measure(jobs, QUICK, lambda doing, row, *_: visits.append(row.job.name) if doing == "time" else None)
    first, second = (job.name for job in jobs)
    both = visits[: 2 * min(visits.count(first), visits.count(second))]
    assert all({both[i], both[i + 1]} == {first, second} for i in range(0, len(both), 2)), "each round visits both"
    for row in rows:
        times = sorted(time for one in row.rounds for time in one)
        found = figures(row)
        assert found["min_ms"] == times[0] <= found["p50_ms"] <= found["p90_ms"] <= found["p99_ms"] <= times[-1]
        assert tuple(found["p50_interval_ms"]) == batched_median_interval(row.medians())
        assert len(to_csv_row(to_json(row))) == len(to_csv_row(to_json(Row(row.job))))


def test_ctrl_c_keeps_what_was_measured_so_far(models: Path) -> None:
    before, visits = children(), 0

    def interrupt(doing: str, *_: Any) -> None:
        nonlocal visits
        visits += doing == "time"
        if visits == 6:
            raise KeyboardInterrupt

    jobs = [Job(models / "small.onnx", "ort-cpu", 1), Job(models / "small.tflite", "litert-cpu", 1)]
    rows, _, interrupted = measure(jobs, QUICK, interrupt)
    assert interrupted
    assert sum(len(row.rounds) for row in rows) == 5
    assert all(row.stopped == "interrupted" for row in rows)
    assert children() == before


@pytest.mark.skipif(Path("/proc/driver/nvidia").exists(), reason="this machine has an NVIDIA GPU")
def test_a_missing_gpu_is_a_failed_row_or_a_marked_one_if_fallback_is_allowed(models: Path) -> None:
    job = Job(models / "small.onnx", "ort-cuda", 1)
    [row], _, _ = measure([job], QUICK, silent)
    assert (row.status, row.kind) == ("failed", "missing")
    assert "NVIDIA" in row.reason
    [row], _, _ = measure([job], Settings(seconds=0.1, visit_s=0.01, warmup_s=0.05, allow_fallback=True), silent)
    assert row.status == "fallback"
    assert any("only 0% of its ops ran on the GPU" in note for note in row.notes)


def test_a_killed_child_is_reported_as_crashed() -> None:
    with Child(memory_limit_bytes=2**33) as child:
        os.kill(child._process.pid, 11)
        with pytest.raises(ChildFailed) as failed:
            child.ask("placement", timeout_s=5.0)
    assert failed.value.kind == "crashed"


def test_a_refused_model_is_reported_in_the_runtime_s_own_words(tmp_path: Path) -> None:
    (tmp_path / "no.onnx").write_bytes(b"no model at all")
    begun = time.monotonic()
    [row], _, _ = measure([Job(tmp_path / "no.onnx", "ort-cpu", 1)], QUICK, silent)
    assert row.kind == "refused"
    assert "protobuf" in row.reason.lower()
    assert time.monotonic() - begun < QUICK.timeout_s, "it is not waited for"


def test_ctrl_c_during_the_placement_request_keeps_what_was_timed(models: Path) -> None:
    def interrupt(doing: str, *_: Any) -> None:
        if doing == "placement":
            raise KeyboardInterrupt

    [row], disturbance, interrupted = measure([Job(models / "small.onnx", "ort-cpu", 1)], QUICK, interrupt)
    assert interrupted
    assert row.stopped in ("interval", "time limit")
    assert len(row.rounds) >= 8
    assert "warnings" in disturbance


@pytest.mark.skipif(unavailable("ort-xnnpack") is None, reason="this ONNX Runtime has XNNPACK")
def test_a_backend_that_runs_on_plain_kernels_is_marked(models: Path) -> None:
    """Without XNNPACK in the wheel, ONNX Runtime uses its own kernels: the right device, but not the requested backend."""
    settings = Settings(seconds=0.1, visit_s=0.01, warmup_s=0.05, allow_fallback=True)
    [row], _, _ = measure([Job(models / "small.onnx", "ort-xnnpack", 1)], settings, silent)
    assert row.status == "fallback"
    assert "none of its ops ran in XnnpackExecutionProvider" in row.notes


def test_an_input_without_a_fixed_size_is_refused_and_not_timed_at_one_pixel(models: Path, tmp_path: Path) -> None:
    model = onnx.load(models / "small.onnx")
    for axis in (1, 2):
        model.graph.input[0].type.tensor_type.shape.dim[axis].dim_param = f"side{axis}"
    onnx.save(model, tmp_path / "any.onnx")
    [row], _, _ = measure([Job(tmp_path / "any.onnx", "ort-cpu", 1)], QUICK, silent)
    assert row.kind == "refused"
    assert "no fixed size" in row.reason


def test_the_interval_of_many_rounds_covers_the_median_and_correlated_rounds_widen_it() -> None:
    source = random.Random(0)
    apart = [source.gauss(10, 1) for _ in range(3000)]
    low, high = batched_median_interval(apart) or (0, 0)
    assert low < 10 < high < low + 0.3
    level, alike = 10.0, []
    for _ in range(300):
        level += 0.3 * (10 - level) + source.gauss(0, 1)
        alike.append(level)
    plain, batched = median_interval(alike), batched_median_interval(alike)
    assert plain is not None
    assert batched is not None
    assert batched[1] - batched[0] > 1.3 * (plain[1] - plain[0])
