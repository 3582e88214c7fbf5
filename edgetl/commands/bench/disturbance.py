"""What disturbed a measurement: other load, time stolen by a hypervisor, drift, changing clock frequencies.

Read from /proc and /sys (Linux; proc(5), Documentation/admin-guide/pm/cpufreq.rst). On other systems only the load and
the drift are known.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NotRequired, TypedDict

from edgetl.commands.bench.rows import Row, worst_drift
from edgetl.core import machine

# Shares above these are reported. Others that take a tenth of the processors lengthen a run on all of them by about a tenth.
_OTHERS, _STOLEN, _DRIFT, _WAITED = 0.10, 0.01, 0.05, 0.05
# The kernel counts in hundredths of a second.
_SHORTEST_S = 0.5


_STAT, _CPUS = Path("/proc/stat"), Path("/sys/devices/system/cpu")


class Disturbance(TypedDict):
    """As `--json` has it. warnings: in words. load_before: the load average before the first model was opened.

    governors: frequency policies of the processors; None if unknown. others_cores: how many processors other programs
    kept busy. stolen_share: 0 to 1, taken by other virtual machines. The last three are missing if nothing was timed.
    """

    load_before: NotRequired[float | None]
    governors: NotRequired[list[str] | None]
    timed_for_s: NotRequired[float]
    others_cores: NotRequired[float]
    stolen_share: NotRequired[float]
    warnings: list[str]


@dataclass(frozen=True)
class Counts:
    """Processor time since boot, summed over processors; `at` is a monotonic clock, in seconds."""

    busy_s: float
    stolen_s: float
    at: float


def _allowed() -> list[int]:
    """The processors that this process may run on; empty if the system does not report them."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []


def read_counts(stat: Path = _STAT, cores: Sequence[int] | None = None) -> Counts | None:
    """Counts of some processors; None if they cannot be read.

    cores: default: those that this process may run on; in a container, load on the others does not matter.
    """
    allowed = {f"cpu{core}" for core in (_allowed() if cores is None else cores)}
    try:
        lines = [line.split() for line in stat.read_text().splitlines()]
        ticks = [[int(value) for value in line[1:9]] for line in lines if line and line[0] in allowed]
        user, nice, system, _, _, irq, soft, stolen = map(sum, zip(*ticks, strict=True))
    except (OSError, ValueError, IndexError):
        return None
    second = os.sysconf("SC_CLK_TCK")
    return Counts((user + nice + system + irq + soft) / second, stolen / second, time.monotonic())


def governors(cpus: Path = _CPUS) -> list[str]:
    """The frequency policies of the processors, sorted, without duplicates; empty if the system does not report them."""
    found = set()
    for file in cpus.glob("cpu[0-9]*/cpufreq/scaling_governor"):
        try:
            found.add(file.read_text().strip())
        except OSError:
            continue
    return sorted(found)


def cores_by_speed(cpus: Path = _CPUS, cores: Sequence[int] | None = None) -> list[int]:
    """Processors by speed, fastest first (they differ on big.LITTLE), then by number; second hardware threads come last.

    cores: default: those that this process may run on.
    """
    allowed = _allowed() if cores is None else cores

    def speed(core: int) -> int:
        for name in ("cpu_capacity", "cpufreq/cpuinfo_max_freq"):
            try:
                return int((cpus / f"cpu{core}" / name).read_text())
            except (OSError, ValueError):
                continue
        return 0

    def sibling(core: int) -> int:
        """0 for the first hardware thread of a core, 1 for the others: they share its execution units."""
        try:
            text = (cpus / f"cpu{core}" / "topology/thread_siblings_list").read_text().strip()
        except OSError:
            return 0
        return int(bool(re.split("[,-]", text)[0] != str(core)))

    return sorted(allowed, key=lambda core: (sibling(core), -speed(core), core))


def load_average() -> float | None:
    """Of the last minute; None if the system does not report it."""
    try:
        return os.getloadavg()[0]
    except (OSError, AttributeError):
        return None


class _Timed(TypedDict):
    timed_for_s: float
    others_cores: float
    stolen_share: float


class Watch:
    """Create it before the first model is opened; call begin and end around the timed rounds.

    The parameters replace the system's own figures in tests.
    """

    def __init__(
        self,
        *,
        counts: Callable[[], Counts | None] = read_counts,
        load: Callable[[], float | None] = load_average,
        policies: Callable[[], list[str]] = governors,
        cores: int | None = None,
    ) -> None:
        self._counts, self._policies = counts, policies
        self._cores = machine.cores() if cores is None else cores
        self._load_before = load()
        self._begun: Counts | None = None
        self._timed: _Timed | None = None

    def begin(self) -> None:
        """Timing begins."""
        self._begun = self._counts()

    def end(self, rows: Sequence[Row]) -> None:
        """Timing has ended; only the first call counts. rows: their processor time is not other programs' load."""
        now, begun = self._counts(), self._begun
        if now is None or begun is None or now.at <= begun.at:
            return
        took = now.at - begun.at
        if took < _SHORTEST_S or self._timed is not None:
            return
        ours = sum(row.process_s[-1] - row.process_s[0] for row in rows if row.process_s)
        self._timed = {
            "timed_for_s": took,
            "others_cores": max(0.0, (now.busy_s - begun.busy_s - ours) / took),
            "stolen_share": (now.stolen_s - begun.stolen_s) / took / self._cores,
        }

    def note_row(self, row: Row) -> None:
        """Add notes on the drift of a row, and on the time that it waited for a processor."""
        if len(row.rounds) < 6:
            return
        drift = worst_drift(row.medians())
        if abs(drift) > _DRIFT:
            row.notes.append(f"{abs(drift):.0%} {'slower' if drift > 0 else 'faster'} at the end than at the start")
        if row.job.threads == 1 and row.opened.get("device") == machine.processor():
            waited = 1.0 - sum(row.processor_ms) / len(row.processor_ms) / (
                sum(sum(times) for times in row.rounds) / sum(len(times) for times in row.rounds)
            )
            if waited > _WAITED:
                row.notes.append(f"{waited:.0%} of the time spent waiting for the processor")

    def summary(self) -> Disturbance:
        """The figures, and a warning for each that is above its limit."""
        policies = self._policies()
        warnings = []
        if self._timed is not None:
            others, stolen = self._timed["others_cores"], self._timed["stolen_share"]
            if others > _OTHERS * self._cores:
                warnings.append(
                    f"other programs kept {others:.1f} of {self._cores} processors busy during the measurement"
                )
            if stolen > _STOLEN:
                warnings.append(f"other virtual machines took {stolen:.0%} of the processors' time")
        if self._load_before is not None and self._load_before > 0.5 * self._cores:
            warnings.append(f"the load average was {self._load_before:.1f} before the measurement")
        if policies and policies != ["performance"]:
            warnings.append(
                f"the frequency policy is {', '.join(policies)}: clock frequencies may change with the load"
            )
        if self._timed is None:
            return {"load_before": self._load_before, "governors": policies or None, "warnings": warnings}
        return {
            "load_before": self._load_before,
            "governors": policies or None,
            **self._timed,
            "warnings": warnings,
        }
