"""What disturbs a measurement is reported, from planted figures: nothing here depends on how busy this machine is."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgetl.commands.bench.disturbance import Counts, Watch, cores_by_speed, governors, read_counts
from edgetl.commands.bench.rows import Job, Row
from edgetl.core import machine

TICKS = os.sysconf("SC_CLK_TCK")
# Per processor: user, nice, system, idle, iowait, irq, softirq, steal, guest, guest_nice (proc(5)).
STAT = """\
cpu  999999 999999 999999 999999 999999 999999 999999 999999 0 0
cpu0 1000 100 200 5000 700 30 20 400 11 12
cpu1 2000 0 300 6000 800 0 50 600 0 0
cpu10 77777 0 0 0 0 0 0 77777 0 0
intr 123 4 5
"""


def planted(folder: Path, files: dict[str, object]) -> Path:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(f"{content}\n")
    return folder


# ---- /proc/stat ----


def test_counts_sum_the_work_of_the_allowed_processors_only(tmp_path: Path) -> None:
    counts = read_counts(planted(tmp_path, {"stat": STAT}) / "stat", cores=[0, 1])
    assert counts is not None
    # Neither idle nor waiting for a disk is work; stolen time is not either.
    assert counts.busy_s == (1000 + 100 + 200 + 30 + 20 + 2000 + 300 + 50) / TICKS
    assert counts.stolen_s == (400 + 600) / TICKS


def test_the_name_of_a_processor_is_compared_as_a_whole(tmp_path: Path) -> None:
    counts = read_counts(planted(tmp_path, {"stat": STAT}) / "stat", cores=[1])
    assert counts is not None and counts.stolen_s == 600 / TICKS, "cpu10 is not cpu1"


@pytest.mark.parametrize(
    "text",
    ["", "cpu  1 2 3 4 5 6 7 8\n", "cpu0 1 2 three 4 5 6 7 8\n", "cpu0 1 2 3\n"],
    ids=["empty", "no processor of ours", "not a number", "an old kernel without stolen time"],
)
def test_counts_that_cannot_be_read_are_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "stat").write_text(text)
    assert read_counts(tmp_path / "stat", cores=[0]) is None


def test_a_system_without_proc_has_no_counts(tmp_path: Path) -> None:
    assert read_counts(tmp_path / "none", cores=[0]) is None


# ---- /sys/devices/system/cpu ----


def test_governors_are_sorted_and_each_is_listed_once(tmp_path: Path) -> None:
    policies = {"cpu0": "schedutil", "cpu1": "performance", "cpu2": "schedutil"}
    files = {f"{name}/cpufreq/scaling_governor": policy for name, policy in policies.items()}
    assert governors(planted(tmp_path, {**files, "cpufreq/scaling_governor": "not a processor"})) == [
        "performance",
        "schedutil",
    ]
    assert governors(tmp_path / "none") == []


def test_big_cores_come_before_little_ones(tmp_path: Path) -> None:
    capacities = [446, 446, 1024, 871]
    cpus = planted(tmp_path, {f"cpu{i}/cpu_capacity": capacity for i, capacity in enumerate(capacities)})
    assert cores_by_speed(cpus, cores=[0, 1, 2, 3]) == [2, 3, 0, 1]
    assert cores_by_speed(cpus, cores=[0, 3]) == [3, 0], "only processors that this process may run on"


def test_the_clock_decides_where_no_capacity_is_known(tmp_path: Path) -> None:
    clocks = {0: 1_800_000, 1: 2_400_000}
    cpus = planted(tmp_path, {f"cpu{i}/cpufreq/cpuinfo_max_freq": clock for i, clock in clocks.items()})
    assert cores_by_speed(cpus, cores=[0, 1]) == [1, 0]


@pytest.mark.parametrize(("pairs", "order"), [(("0,2", "1,3"), [0, 1, 2, 3]), (("0-1", "2-3"), [0, 2, 1, 3])])
def test_second_hardware_threads_come_last(tmp_path: Path, pairs: tuple[str, str], order: list[int]) -> None:
    listed = {int(core): pair for pair in pairs for core in pair.replace("-", ",").split(",")}
    cpus = planted(tmp_path, {f"cpu{core}/topology/thread_siblings_list": pair for core, pair in listed.items()})
    assert cores_by_speed(cpus, cores=[0, 1, 2, 3]) == order


def test_without_facts_the_processors_keep_the_order_of_their_numbers(tmp_path: Path) -> None:
    assert cores_by_speed(tmp_path, cores=[3, 0, 10]) == [0, 3, 10]


# ---- Watch ----


def watch(*counts: Counts | None, load: float | None = 0.0, policies: tuple[str, ...] = ("performance",)) -> Watch:
    """A Watch of four processors that reads these counts, one after the other."""
    source: Iterator[Counts | None] = iter(counts)
    return Watch(counts=lambda: next(source), load=lambda: load, policies=lambda: list(policies), cores=4)


def row(process_s: tuple[float, ...] = (), **changes: object) -> Row:
    return Row(Job(Path("net.tflite"), "litert-cpu", 1), process_s=list(process_s), **changes)  # type: ignore[arg-type]


def test_load_of_other_programs_is_the_work_that_was_not_ours() -> None:
    watched = watch(Counts(100.0, 0.0, 50.0), Counts(128.0, 0.0, 60.0))
    watched.begin()
    watched.end([row((3.0, 9.0, 11.0)), row((1.0, 3.0)), row()])
    summary = watched.summary()
    # 28 s of work in 10 s on the clock, of which 8 s and 2 s were ours.
    assert (summary["timed_for_s"], summary["others_cores"], summary["stolen_share"]) == (10.0, 1.8, 0.0)
    assert summary["warnings"] == ["other programs kept 1.8 of 4 processors busy during the measurement"]


def test_our_own_load_is_no_disturbance() -> None:
    watched = watch(Counts(0.0, 0.0, 0.0), Counts(39.0, 0.0, 10.0))
    watched.begin()
    watched.end([row((0.0, 38.0))])
    assert watched.summary()["warnings"] == []
    assert watched.summary()["others_cores"] == pytest.approx(0.1)


def test_stolen_time_is_a_share_of_all_processors() -> None:
    watched = watch(Counts(0.0, 7.0, 0.0), Counts(0.0, 9.0, 10.0))
    watched.begin()
    watched.end([])
    assert watched.summary()["stolen_share"] == 0.05
    assert watched.summary()["warnings"] == ["other virtual machines took 5% of the processors' time"]


@pytest.mark.parametrize(
    "counts",
    [(None, None), (Counts(0.0, 0.0, 0.0), None), (Counts(0.0, 0.0, 0.0), Counts(99.0, 9.0, 0.4))],
    ids=["unknown", "unknown at the end", "too short for counts in hundredths of a second"],
)
def test_what_cannot_be_known_is_missing_and_not_zero(counts: tuple[Counts | None, Counts | None]) -> None:
    watched = watch(*counts)
    watched.begin()
    watched.end([])
    assert watched.summary() == {"load_before": 0.0, "governors": ["performance"], "warnings": []}


def test_only_the_first_end_counts() -> None:
    watched = watch(Counts(0.0, 0.0, 0.0), Counts(0.0, 0.0, 10.0), Counts(400.0, 0.0, 110.0))
    watched.begin()
    watched.end([])
    watched.end([])
    assert watched.summary()["timed_for_s"] == 10.0, "opening and closing models is not part of the timing"


def test_an_end_without_a_beginning_reports_nothing() -> None:
    watched = watch(Counts(0.0, 0.0, 10.0))
    watched.end([])
    assert "timed_for_s" not in watched.summary()


@pytest.mark.parametrize(("load", "warned"), [(2.0, False), (2.1, True), (None, False)])
def test_a_load_above_half_of_the_processors_is_a_warning(load: float | None, warned: bool) -> None:
    summary = watch(load=load).summary()
    assert summary["load_before"] == load
    assert [text.startswith("the load average was 2.1") for text in summary["warnings"]] == [True] * warned


@pytest.mark.parametrize(
    ("policies", "warned"), [((), False), (("performance",), False), (("performance", "powersave"), True)]
)
def test_a_policy_that_changes_clocks_is_a_warning(policies: tuple[str, ...], warned: bool) -> None:
    summary = watch(policies=policies).summary()
    assert summary["governors"] == (list(policies) or None)
    assert [text for text in summary["warnings"] if "performance, powersave" in text] == summary["warnings"]
    assert bool(summary["warnings"]) == warned


# ---- notes of rows ----


def noted(**changes: object) -> list[str]:
    changed = row(**changes)  # type: ignore[arg-type]
    watch().note_row(changed)
    return changed.notes


@pytest.mark.parametrize(
    ("medians", "notes"),
    [
        ([1.0, 1.0, 1.1, 1.1, 1.2, 1.2], ["20% slower at the end than at the start"]),
        ([1.0, 1.0, 0.9, 0.9, 0.8, 0.8], ["20% faster at the end than at the start"]),
        ([1.0, 1.0, 2.0, 2.0, 1.04, 1.04], []),
        ([1.0, 1.0, 1.0, 9.0, 9.0], []),
    ],
    ids=["slower", "faster", "a disturbance in the middle", "too few rounds"],
)
def test_drift_is_noted_on_its_row(medians: list[float], notes: list[str]) -> None:
    assert noted(rounds=[[median] * 3 for median in medians]) == notes


@pytest.mark.parametrize(
    ("processor_ms", "device", "notes"),
    [
        (1.6, machine.processor(), ["20% of the time spent waiting for the processor"]),
        (1.96, machine.processor(), []),
        (0.1, "a GPU", []),
    ],
    ids=["waited", "hardly waited", "ran elsewhere"],
)
def test_waiting_for_the_processor_is_noted(processor_ms: float, device: str, notes: list[str]) -> None:
    assert noted(rounds=[[2.0] * 4] * 6, processor_ms=[processor_ms] * 6, opened={"device": device}) == notes


def test_with_several_threads_processor_time_does_not_show_waiting() -> None:
    changed = Row(
        Job(Path("net.tflite"), "litert-cpu", 2),
        rounds=[[2.0] * 4] * 6,
        processor_ms=[0.5] * 6,
        opened={"device": machine.processor()},
    )
    watch().note_row(changed)
    assert changed.notes == []
