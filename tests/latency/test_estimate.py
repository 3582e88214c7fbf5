"""An estimate says what it rests on, keeps to what is physically possible, and is never taken for a measurement."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from edgetl.commands.build.judge import absent_latency_checks
from edgetl.core.errors import EXIT_LATENCY_OR_SIZE
from edgetl.latency.estimate import Estimate, conditions_of, estimate, runtimes_of
from edgetl.latency.load import load_of_net, load_of_ops, precision_of_ops, shares_of_ops
from edgetl.targets.target import Peak, Reference, Target, load_target, targets_folder
from edgetl.verdicts.check import exit_code

PI = load_target("raspberry-pi-4")


def made(target: Target = PI, backbone: str = "mobilenetv2-0.35", size_px: int = 192, runtime: str = "") -> Estimate:
    found = estimate(load_of_net(backbone, size_px, 5, target), target, runtime or target.runtimes[0])
    assert isinstance(found, Estimate)
    return found


def with_budget(target: Target, **changes: object) -> Target:
    return target.model_copy(update={"budget": target.budget.model_copy(update=changes)})


def op(macs: int, moved: int, *, precision: str = "int8", kind: str = "CONV_2D", per_channel: int = 64) -> dict:
    kernel = {"bytes": 8 * per_channel, "channels": 8, "dtype": precision, "tensor": "k", "scales": 1}
    return {
        "name": f"{kind} {macs}", "type": kind, "precision": precision, "part": "compute", "macs": macs,
        "bytes_moved": moved, "weight_bytes": 8 * per_channel, "kernel": kernel,
    }  # fmt: skip


# ---- what it rests on -------------------------------------------------------------------------------------------


def test_the_rows_it_rests_on_are_named_and_are_the_targets_own():
    found = made()
    assert found.level == "same chip" and found.n_evidence == len(PI.references) == len(found.evidence)
    assert {row["latency_ms"] for row in found.evidence} == {reference.latency_ms for reference in PI.references}
    assert all(row["source"] for row in found.evidence)
    assert "3 published rows of the same chip" in found.sentence()
    low, high = found.p90_interval_ms
    assert low < found.p50_ms <= found.p90_ms < high


def test_what_nobody_published_widens_the_interval_and_is_said():
    def width(found: Estimate) -> float:
        return found.p90_interval_ms[1] / found.p90_interval_ms[0]

    floats = PI.model_copy(update={"precision": "float32"})
    as_published, int8, other_runtime = made(floats), made(), made(runtime="ort-cpu")
    assert width(as_published) < width(int8) < width(other_runtime)
    assert not any("left open" in note for note in as_published.notes)
    assert any("no int8 latency is published for this device" in note for note in int8.notes)
    assert any("no latency with ort-cpu is published" in note for note in other_runtime.notes)


def test_a_device_nobody_measured_rests_on_its_kind_and_is_far_less_sure():
    pixel = made(load_target("pixel-8"))
    assert pixel.level == "same kind" and pixel.n_evidence > 50
    low, high = pixel.p90_interval_ms
    assert high / low > 2 * made().p90_interval_ms[1] / made().p90_interval_ms[0]
    assert any("this machine" in note for note in made(load_target("this-machine")).notes)


def test_a_reference_in_the_users_own_file_counts():
    table = {"model": "mobilenet_v2_1.0", "precision": "fp32", "input_size_px": 224, "runtime": "tflite-xnnpack"}
    own = Reference(**table, processor="cpu", threads="4", latency_ms=400.0, statistic="mean", source="my own table")
    slow = load_target("pixel-8").model_copy(update={"references": (own,), "name": "slow"})
    before, after = made(load_target("pixel-8")), made(slow)
    assert (after.level, after.n_evidence) == ("same chip", 1)
    assert after.evidence[0]["source"] == "my own table"
    assert after.p50_ms > 5 * before.p50_ms


def test_an_interval_says_how_many_published_latencies_tried_it_and_that_none_did_where_none_could():
    jetson = load_target("jetson-orin-nano")
    tried = {
        name: [note for note in made(target).notes if "nearer than" in note]
        for name, target in (("pi", PI), ("jetson", jetson))
    }
    [pi], [gpu] = tried["pi"], tried["jetson"]
    of, within = map(
        int,
        re.fullmatch(
            r"test of the method: (\d+) published .* as here; (\d+) of them are within such an interval", pi
        ).groups(),
    )
    assert 0.9 * of <= within <= of
    assert gpu.startswith(
        "no published latency can be estimated from nothing nearer than the same chip with another runtime"
    )


def test_an_npu_of_which_nothing_is_published_gets_no_estimate():
    found = estimate(load_of_net("mobilenetv2-1.0", 224, 5, PI), load_target("pixel-8"), "litert-npu")
    assert isinstance(found, str) and "say nothing about it" in found


def test_a_float_net_is_not_estimated_where_only_integers_run():
    coral = load_target("coral-usb")
    found = estimate(load_of_ops([op(10**6, 10**4, precision="float32")], coral), coral, "edgetpu")
    assert found == "edgetpu runs int8 only, and most of this net's work is float"


def test_a_net_beyond_all_that_was_published_is_told_to_be():
    tiny = estimate(load_of_ops([op(10**4, 10**2)], PI), PI, "litert-cpu")
    assert isinstance(tiny, Estimate) and any(
        "times less than that of any net published here" in note for note in tiny.notes
    )
    assert not any("past that of any" in note for note in made().notes)


def test_the_conditions_are_the_targets():
    of = conditions_of(PI, "litert-cpu", load_of_net("mobilenetv2-1.0", 224, 1000, PI))
    assert (of.chip, of.core, of.clock_ghz, of.threads, of.log_work) == ("bcm2711", "cortex-a72", 1.5, 4, 0.0)
    assert (
        conditions_of(with_budget(PI, threads=64), "litert-cpu", load_of_net("mobilenetv2-1.0", 224, 5, PI)).threads
        == 4
    )
    assert runtimes_of(load_target("rk3588"), "onnx") == ["ort-cpu", "rknn"]


# ---- roofline ---------------------------------------------------------------------------------------------------


def test_no_end_of_an_estimate_is_faster_than_the_published_peaks_allow():
    before = made()
    assert before.bound_ms is None
    # Peaks that would take ten seconds: lower than any published latency, so the bound must hold all of it up.
    crawling = PI.model_copy(update={"peak": Peak(macs_per_second_int8=42.6e6 / 10)})
    found = made(crawling)
    assert found.bound_ms == pytest.approx(1e4, rel=0.01)
    assert min(*found.p50_interval_ms, *found.p90_interval_ms, found.p50_ms, found.p90_ms) == found.bound_ms
    # Reading the weights once counts, activations do not: they may stay in a cache.
    narrow = PI.model_copy(update={"peak": Peak(memory_bytes_per_second=1e6)})
    assert made(narrow).bound_ms == pytest.approx(388.448)


def test_an_op_is_as_slow_as_the_slower_of_computing_and_moving():
    ops = [op(10**6, 10**3), op(10, 4 * 10**5, kind="ADD"), op(0, 10**9, kind="Clip")]
    rows = shares_of_ops(ops, PI)
    assert [(row["type"], row["held_by"]) for row in rows] == [("CONV_2D", "computing"), ("ADD", "memory")]
    assert rows[0]["share"] == pytest.approx(1e6 / 1.8e6)
    balanced = PI.model_copy(update={"peak": Peak(macs_per_second_int8=1e9, memory_bytes_per_second=1e8)})
    assert shares_of_ops(ops, balanced)[0]["type"] == "ADD", "ten MACs a byte, by its own published peaks"


def test_a_file_is_of_the_precision_that_most_of_its_work_is_in():
    assert precision_of_ops([op(10, 1), op(99, 1, precision="float32")]) == "float"
    assert precision_of_ops([op(10, 1), op(9, 1, precision="float32")]) == "int8"
    assert load_of_ops([op(10, 1), op(10, 1, per_channel=9)], PI).family == "depthwise"
    assert load_of_ops([op(10, 1, per_channel=27)], PI).family == "full"
    unknown = load_of_ops([{**op(10, 1), "macs": None}], PI)
    assert "1 ops with an unknown number of MACs" in unknown.notes[0]


# ---- verdicts ---------------------------------------------------------------------------------------------------


def test_the_budget_is_judged_on_the_whole_interval():
    low, high = made().p90_interval_ms
    verdicts = {
        limit: made(with_budget(PI, latency_p90_ms=limit)).verdict for limit in (high, high - 0.1, low, low - 0.1, None)
    }
    assert verdicts == {
        high: "fits",
        high - 0.1: "cannot tell",
        low: "cannot tell",
        low - 0.1: "does not fit",
        None: "no budget",
    }


@pytest.mark.parametrize(("factor", "status"), [(1.01, "pass"), (0.5, "inconclusive"), (0.01, "fail")])
def test_an_estimate_decides_only_where_it_is_accepted(factor, status):
    target = with_budget(PI, latency_p90_ms=factor * made().p90_interval_ms[1])
    found = made(target)
    [told] = absent_latency_checks(target, "student.int8.tflite", found, accept=False)
    assert (told.status, told.measured, told.interval) == ("unmeasured", None, None)
    assert "does not count; estimated p90" in told.reason and told.reason.endswith("for information only")
    [taken] = absent_latency_checks(target, "student.int8.tflite", found, accept=True)
    assert (taken.status, taken.measured, taken.interval) == (status, found.p90_ms, found.p90_interval_ms)
    assert taken.reason.startswith("estimated, not measured (--accept-estimates): ")
    assert taken.estimated and not told.estimated
    assert exit_code([taken], strict=False) == (EXIT_LATENCY_OR_SIZE if status == "fail" else 0)


def test_where_there_is_no_estimate_accepting_them_passes_nothing():
    for missing in (None, "nothing is published"):
        [check] = absent_latency_checks(PI, "student.int8.tflite", missing, accept=True)
        assert check.status == "unmeasured"
    assert "no estimate: nothing is published" in check.reason
    assert absent_latency_checks(with_budget(PI, latency_p90_ms=None), "f", made(), accept=True) == []


def test_a_narrower_interval_would_be_seen_in_the_verdict():
    """Planted: the interval of one half the width. The verdict that was open becomes a pass."""
    found = made()
    target = with_budget(PI, latency_p90_ms=0.9 * found.p90_interval_ms[1])
    halved = replace(found, p90_interval_ms=(found.p90_ms**0.5 * found.p90_interval_ms[0] ** 0.5, found.p90_ms**0.5 * found.p90_interval_ms[1] ** 0.5))  # fmt: skip
    [was], [is_now] = (absent_latency_checks(target, "f", one, accept=True) for one in (found, halved))
    assert (was.status, is_now.status) == ("inconclusive", "pass")


def test_kernels_that_are_slow_on_purpose_get_no_estimate(tmp_path: Path) -> None:
    """Published rows are of other kernels on the same processor: an interval from them would be of another program."""
    text = (targets_folder() / "raspberry-pi-4.toml").read_text(encoding="utf-8").replace('"raspberry-pi-4"', '"other"')
    (tmp_path / "other.toml").write_text(
        re.sub(r"runtimes *= .*", 'runtimes = ["litert-cpu-reference"]', text, count=1)
    )
    target = load_target(str(tmp_path / "other.toml"))
    found = estimate(load_of_net("mobilenetv2-0.35", 96, 3, target), target, "litert-cpu-reference")
    assert isinstance(found, str) and "not for speed" in found
