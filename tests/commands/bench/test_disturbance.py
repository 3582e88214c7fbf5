"""Notes on what disturbed a measurement. The system's files are planted: no test depends on how busy this machine is."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgetl.commands.bench import disturbance
from edgetl.commands.bench.disturbance import Watch, cores_by_speed, governors
from edgetl.commands.bench.rows import Job, Row

CORES = 4


@pytest.fixture
def system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty root folder whose proc/ and sys/ are read instead of the machine's own; 4 processors, 100 ticks per second."""

    def planted(path: str) -> Path:
        return tmp_path / path.lstrip("/")

    monkeypatch.setattr(disturbance, "Path", planted)
    monkeypatch.setattr(disturbance.os, "sched_getaffinity", lambda pid: set(range(CORES)), raising=False)
    monkeypatch.setattr(disturbance.os, "sysconf", lambda name: 100)
    monkeypatch.setattr(disturbance.os, "getloadavg", lambda: (0.0, 0.0, 0.0), raising=False)
    monkeypatch.setattr(disturbance.machine, "cores", lambda: CORES)
    return tmp_path


def plant(root: Path, path: str, text: str) -> None:
    file = root / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


def plant_stat(root: Path, *ticks: str) -> None:
    """ticks: of each processor: user nice system idle iowait irq softirq steal."""
    lines = [f"cpu{i} {each} 0 0" for i, each in enumerate(ticks)]
    plant(root, "proc/stat", "\n".join(["cpu  9 9 9 9 9 9 9 9 0 0", *lines, "intr 5 0", ""]))


def watched(root: Path, monkeypatch: pytest.MonkeyPatch, *, before: str, after: str, took_s: float = 10.0,
            ours_s: float = 0.0) -> dict[str, object]:  # fmt: skip
    """The summary of a watch during which processor 0's ticks went from `before` to `after`."""
    clock = iter((100.0, 100.0 + took_s))
    monkeypatch.setattr(disturbance.time, "monotonic", lambda: next(clock))
    watch = Watch()
    plant_stat(root, before)
    watch.begin()
    plant_stat(root, after)
    watch.end([Row(Job(Path("net.tflite"), "litert-cpu", 1), process_s=[3.0, 3.0 + ours_s])])
    return watch.summary()


# --- counts --------------------------------------------------------------------------------------------------------


def test_counts_are_sums_of_seconds_over_the_processors_without_idle_and_waiting(system):
    plant_stat(system, "100 200 300 9999 9999 10 20 50", "100 0 0 9999 9999 0 0 150")
    found = disturbance._counts()
    assert found is not None
    assert (found.busy_s, found.stolen_s) == (7.3, 2.0)


def test_counts_leave_out_processors_that_this_process_may_not_use(system, monkeypatch):
    plant_stat(system, "100 0 0 0 0 0 0 0", "700 0 0 0 0 0 0 0")
    monkeypatch.setattr(disturbance.os, "sched_getaffinity", lambda pid: {0}, raising=False)
    found = disturbance._counts()
    assert found is not None and found.busy_s == 1.0


@pytest.mark.parametrize("text", [None, "", "cpu0 one two\n", "cpu0 1 2\n"], ids=["absent", "empty", "words", "short"])
def test_an_unreadable_proc_stat_gives_no_counts(system, text):
    if text is not None:
        plant(system, "proc/stat", text)
    assert disturbance._counts() is None


# --- governors and cores -------------------------------------------------------------------------------------------


def test_governors_are_named_once_each(system):
    assert governors() == []
    for i, name in enumerate(("schedutil", "performance", "schedutil")):
        plant(system, f"sys/devices/system/cpu/cpu{i}/cpufreq/scaling_governor", f"{name}\n")
    assert governors() == ["performance", "schedutil"]


def test_cores_without_facts_are_in_order_of_their_numbers(system):
    assert cores_by_speed() == [0, 1, 2, 3]


@pytest.mark.parametrize("name", ["cpu_capacity", "cpufreq/cpuinfo_max_freq"])
def test_big_cores_come_first(system, name):
    for core, speed in enumerate((400, 400, 1024, 1024)):
        plant(system, f"sys/devices/system/cpu/cpu{core}/{name}", f"{speed}\n")
    assert cores_by_speed() == [2, 3, 0, 1]


@pytest.mark.parametrize(("lists", "order"), [
    (("0-1", "0-1", "2-3", "2-3"), [0, 2, 1, 3]),
    (("0,2", "1,3", "0,2", "1,3"), [0, 1, 2, 3]),
    (("0,1", "0,1", "2,3", "2,3"), [0, 2, 1, 3]),
], ids=["ranges", "split", "pairs"])  # fmt: skip
def test_second_hardware_threads_come_last(system, lists, order):
    for core, text in enumerate(lists):
        plant(system, f"sys/devices/system/cpu/cpu{core}/topology/thread_siblings_list", f"{text}\n")
    assert cores_by_speed() == order


# --- the watch -----------------------------------------------------------------------------------------------------


def test_a_quiet_machine_is_reported_without_a_warning(system, monkeypatch):
    found = watched(system, monkeypatch, before="0 0 0 0 0 0 0 0", after="1000 0 0 0 0 0 0 0", ours_s=10.0)
    assert (found["timed_for_s"], found["others_cores"], found["stolen_share"]) == (10.0, 0.0, 0.0)
    assert (found["warnings"], found["load_before"], found["governors"]) == ([], 0.0, None)


def test_processors_that_others_kept_busy_are_reported_without_our_own(system, monkeypatch):
    found = watched(system, monkeypatch, before="0 0 0 0 0 0 0 0", after="1500 0 500 0 0 0 0 0", ours_s=5.0)
    assert found["others_cores"] == 1.5
    assert found["warnings"] == ["other programs kept 1.5 of 4 processors busy meanwhile"]


def test_stolen_time_is_a_share_of_all_processors(system, monkeypatch):
    found = watched(system, monkeypatch, before="0 0 0 0 0 0 0 40", after="0 0 0 0 0 0 0 240")
    assert found["stolen_share"] == 0.05
    assert found["warnings"] == ["5% of the processors' time was stolen by other virtual machines"]


def test_a_watch_shorter_than_the_kernel_counts_well_reports_no_shares(system, monkeypatch):
    found = watched(system, monkeypatch, before="0 0 0 0 0 0 0 0", after="900 0 0 0 0 0 0 900", took_s=0.4)
    assert set(found) == {"load_before", "governors", "warnings"} and found["warnings"] == []


def test_the_first_end_counts(system, monkeypatch):
    clock = iter((0.0, 10.0, 20.0))
    monkeypatch.setattr(disturbance.time, "monotonic", lambda: next(clock))
    plant_stat(system, "0 0 0 0 0 0 0 0")
    watch = Watch()
    watch.begin()
    watch.end([])
    watch.end([])
    assert watch.summary()["timed_for_s"] == 10.0


def test_a_load_before_the_measurement_is_a_warning(system, monkeypatch):
    monkeypatch.setattr(disturbance.os, "getloadavg", lambda: (2.5, 0.0, 0.0), raising=False)
    found = Watch().summary()
    assert found["load_before"] == 2.5 and "the load was 2.5 before it began" in found["warnings"]
    monkeypatch.setattr(disturbance.os, "getloadavg", lambda: (1.9, 0.0, 0.0), raising=False)
    assert Watch().summary()["warnings"] == []


@pytest.mark.parametrize(("names", "warned"), [(["performance"], False), (["powersave"], True),
                                               (["performance", "powersave"], True), ([], False)])  # fmt: skip
def test_a_frequency_policy_other_than_performance_is_a_warning(system, monkeypatch, names, warned):
    monkeypatch.setattr(disturbance, "governors", lambda: names)
    found = Watch().summary()
    assert found["governors"] == (names or None)
    assert bool([text for text in found["warnings"] if ", ".join(names) in text and "policy" in text]) is warned


# --- notes of a row ------------------------------------------------------------------------------------------------


def row_of(rounds: list[float], *, threads: int = 1, busy: float = 1.0, device: str = "Some CPU") -> Row:
    """rounds: the time of each round's two runs, ms. busy: the share of it that the processor worked."""
    row = Row(Job(Path("net.tflite"), "litert-cpu", threads), rounds=[[ms, ms] for ms in rounds])
    row.processor_ms = [busy * ms for ms in rounds]
    row.opened = {"device": device}
    return row


@pytest.mark.parametrize(("rounds", "notes"), [
    ([10.0] * 6, []),
    ([10.0] * 4 + [10.4] * 2, []),
    ([10.0] * 4 + [12.0] * 2, ["20% slower at the end than at the beginning"]),
    ([10.0] * 4 + [8.0] * 2, ["20% faster at the end than at the beginning"]),
    ([10.0] * 3 + [20.0] * 2, []),
], ids=["steady", "below the limit", "slower", "faster", "too few rounds"])  # fmt: skip
def test_drift_is_noted_beyond_its_limit(system, monkeypatch, rounds, notes):
    monkeypatch.setattr(disturbance.machine, "processor", lambda: "Some CPU")
    row = row_of(rounds)
    Watch().note_row(row)
    assert row.notes == notes


@pytest.mark.parametrize(("changes", "noted"), [
    ({"busy": 0.7}, True), ({"busy": 0.96}, False), ({"busy": 0.7, "threads": 2}, False),
    ({"busy": 0.7, "device": "Some GPU"}, False),
], ids=["waited", "hardly waited", "two threads", "a GPU"])  # fmt: skip
def test_waiting_for_the_processor_is_noted_of_one_thread_on_the_processor(system, monkeypatch, changes, noted):
    monkeypatch.setattr(disturbance.machine, "processor", lambda: "Some CPU")
    row = row_of([10.0] * 6, **changes)
    Watch().note_row(row)
    assert row.notes == (["30% of the time waiting for the processor"] if noted else [])
