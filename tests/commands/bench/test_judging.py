"""A row is judged only for the device that it was measured on."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgetl.commands.bench.judging import latency_checks
from edgetl.commands.bench.logs.read import read_log
from edgetl.commands.bench.rows import Job, Row, to_json
from edgetl.targets.target import Target, load_target
from edgetl.verdicts.check import Check

PI = {"board": "Raspberry Pi 4 Model B Rev 1.4", "processor": "Cortex-A72"}
LAPTOP = {"board": "", "processor": "Some CPU"}


@pytest.fixture
def target() -> Target:
    loaded = load_target("raspberry-pi-4")
    assert loaded.budget.latency_p90_ms == 50.0 and "litert-cpu" in loaded.runtimes
    return loaded


def row(target: Target, times: list[float], **changes: object) -> dict[str, object]:
    made = Row(
        Job(Path("net.tflite"), "litert-cpu", target.budget.threads),
        rounds=[times[i : i + 20] for i in range(0, len(times), 20)],
    )
    return {**to_json(made), **changes}


def only(checks: list[Check]) -> Check:
    (check,) = checks
    return check


@pytest.mark.parametrize(
    ("times", "status"),
    [([40.0] * 200, "pass"), ([60.0] * 200, "fail"), ([40.0] * 100 + [60.0] * 100, "inconclusive")],
    ids=["below", "above", "on both sides"],
)
def test_a_row_of_the_device_is_judged_by_its_p90_interval(target, times, status):
    check = only(latency_checks([row(target, times)], target, PI))
    assert (check.status, check.metric, check.limit) == (status, "latency_p90_ms", 50.0)
    assert check.interval is not None and check.measured is not None


@pytest.mark.parametrize(
    ("changes", "machine", "reason"),
    [
        ({}, LAPTOP, "measured on Some CPU, which says nothing about"),
        ({"machine": LAPTOP}, PI, "measured on Some CPU"),
        ({"machine": None}, PI, "give --device NAME"),
        ({}, None, "give --device NAME"),
        ({"status": "fallback", "notes": ["only 3% of its ops ran on the GPU"]}, PI, "only 3%"),
        ({"status": "failed", "reason": "it crashed"}, PI, "it failed: it crashed"),
        ({"threads": 1000}, PI, "measured on 1000 threads"),
        ({"threads": None}, PI, "number of threads is unknown"),
        ({"p90_interval_ms": None}, PI, "too few figures"),
    ],
    ids=["elsewhere", "row's own machine", "unknown", "nothing known", "fallback", "failed", "threads", "threads unknown", "no interval"],
)  # fmt: skip
def test_a_row_that_says_nothing_about_the_device_is_unmeasured_with_a_reason(target, changes, machine, reason):
    check = only(latency_checks([row(target, [1.0] * 200, **changes)], target, machine))
    assert (check.status, check.measured) == ("unmeasured", None)
    assert reason in check.reason


def test_a_row_s_own_device_takes_precedence(target):
    assert only(latency_checks([row(target, [1.0] * 200, machine=PI)], target, LAPTOP)).status == "pass"


def test_an_imported_log_passes_only_with_the_device_s_name(target):
    line = "count=500 first=9000 curr=9000 min=9000 max=9900 avg=9100 std=9 p5=9001 median=9050 p95=9800"
    text = f"Num threads: [{target.budget.threads}]\nGraph: [net.tflite]\n{line}\nInference timings in us: Init: 9, First inference: 8, Warmup (avg): 8, Inference (avg): 9100"
    assert only(latency_checks(read_log(text, source="x"), target, PI)).status == "unmeasured"
    check = only(latency_checks(read_log(text, source="x", device="Raspberry Pi 4 Model B"), target, LAPTOP))
    assert (check.status, check.measured, check.interval) == ("pass", None, (9.05, 9.8))
    assert "according to the user" in check.reason
    assert only(latency_checks(read_log(text, source="x", device="Raspberry Pi 5"), target, PI)).status == "unmeasured"


def test_a_target_that_matches_any_machine_matches_only_this_one():
    here = load_target("this-machine")
    assert only(latency_checks([row(here, [1.0] * 200)], here, LAPTOP)).status == "pass"
    elsewhere = row(here, [1.0] * 200, measured_elsewhere=True, machine=PI)
    assert only(latency_checks([elsewhere], here, LAPTOP)).status == "unmeasured"


def test_only_files_that_the_target_would_ship_are_judged(target):
    rows = [row(target, [99.0] * 200, precision="float32"), row(target, [9.0] * 200, precision="int8")]
    rows.append(row(target, [99.0] * 200, backend="litert-cpu-reference"))
    assert only(latency_checks(rows, target, PI)).status == "pass"
    assert "no row of" in only(latency_checks(rows[:1], target, PI)).reason
    free = target.model_copy(update={"budget": target.budget.model_copy(update={"latency_p90_ms": None})})
    assert latency_checks(rows, free, PI) == []
