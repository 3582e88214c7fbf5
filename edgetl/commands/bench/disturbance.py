"""What disturbed a measurement: other load, time stolen by a hypervisor, drift, a processor that changes its clock.

Read from /proc and /sys (Linux; proc(5), Documentation/admin-guide/pm/cpufreq.rst); on other systems only what they report.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from edgetl.commands.bench.rows import Disturbance, Row, worst_drift
from edgetl.core import machine

# Shares from which a warning is given. A tenth of a processor taken by others lengthens a run on all of them by about as much.
_OTHERS, _STOLEN, _DRIFT, _WAITED = 0.10, 0.01, 0.05, 0.05
# The kernel counts in hundredths of a second.
_SHORTEST_S = 0.5


@dataclass(frozen=True)
class _Counts:
    """Seconds since boot, of all processors: working, of that stolen, and the clock on the wall."""

    busy_s: float
    stolen_s: float
    at: float


def _counts() -> _Counts | None:
    """Of the processors that this process may use: a container's neighbours on others do not matter."""
    allowed = {f"cpu{core}" for core in os.sched_getaffinity(0)} if hasattr(os, "sched_getaffinity") else set()
    try:
        lines = [line.split() for line in Path("/proc/stat").read_text().splitlines()]
        ticks = [[int(value) for value in line[1:9]] for line in lines if line and line[0] in allowed]
        user, nice, system, _, _, irq, soft, stolen = map(sum, zip(*ticks, strict=True))
    except (OSError, ValueError, IndexError):
        return None
    second = os.sysconf("SC_CLK_TCK")
    return _Counts((user + nice + system + irq + soft) / second, stolen / second, time.monotonic())


def governors() -> list[str]:
    """The frequency policies of the processors, without repetition; empty where the system does not report them."""
    found = set()
    for file in Path("/sys/devices/system/cpu").glob("cpu[0-9]*/cpufreq/scaling_governor"):
        try:
            found.add(file.read_text().strip())
        except OSError:
            continue
    return sorted(found)


def cores_by_speed() -> list[int]:
    """The processors this process may run on, fastest first where they differ (big.LITTLE), then by number."""
    allowed = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []

    def speed(core: int) -> int:
        for name in ("cpu_capacity", "cpufreq/cpuinfo_max_freq"):
            try:
                return int((Path(f"/sys/devices/system/cpu/cpu{core}") / name).read_text())
            except (OSError, ValueError):
                continue
        return 0

    def sibling(core: int) -> int:
        """0 for the first hardware thread of its core: two threads of one share its units."""
        try:
            text = Path(f"/sys/devices/system/cpu/cpu{core}/topology/thread_siblings_list").read_text().strip()
        except OSError:
            return 0
        return int(bool(re.split("[,-]", text)[0] != str(core)))

    return sorted(allowed, key=lambda core: (sibling(core), -speed(core), core))


def _load() -> float | None:
    try:
        return os.getloadavg()[0]
    except (OSError, AttributeError):
        return None


class Watch:
    """From before the first model is opened to after the last is timed."""

    def __init__(self) -> None:
        self._load_before = _load()
        self._begun: _Counts | None = None
        self._found: dict[str, float] = {}

    def begin(self) -> None:
        """Timing begins."""
        self._begun = _counts()

    def end(self, rows: Sequence[Row]) -> None:
        """Timing has ended. rows: our own share of the work."""
        now, begun = _counts(), self._begun
        if now is None or begun is None or now.at <= begun.at:
            return
        took = now.at - begun.at
        if took < _SHORTEST_S or self._found:
            return
        ours = sum(row.process_s[-1] - row.process_s[0] for row in rows if row.process_s)
        self._found = {
            "timed_for_s": took,
            "others_cores": max(0.0, (now.busy_s - begun.busy_s - ours) / took),
            "stolen_share": (now.stolen_s - begun.stolen_s) / took / machine.cores(),
        }

    def note_row(self, row: Row) -> None:
        """Drift and waiting are a row's own."""
        if len(row.rounds) < 6:
            return
        drift = worst_drift(row.medians())
        if abs(drift) > _DRIFT:
            row.notes.append(f"{abs(drift):.0%} {'slower' if drift > 0 else 'faster'} at the end than at the beginning")
        if row.job.threads == 1 and row.opened.get("device") == machine.processor():
            waited = 1.0 - sum(row.processor_ms) / len(row.processor_ms) / (
                sum(sum(times) for times in row.rounds) / sum(len(times) for times in row.rounds)
            )
            if waited > _WAITED:
                row.notes.append(f"{waited:.0%} of the time waiting for the processor")

    def summary(self) -> Disturbance:
        """load_before, governors, others_cores (processors that others kept busy), stolen_share, and `warnings` in words."""
        policies = governors()
        others, stolen = self._found.get("others_cores"), self._found.get("stolen_share")
        warnings = []
        if others is not None and others > _OTHERS * machine.cores():
            warnings.append(f"other programs kept {others:.1f} of {machine.cores()} processors busy meanwhile")
        if stolen is not None and stolen > _STOLEN:
            warnings.append(f"{stolen:.0%} of the processors' time was stolen by other virtual machines")
        if self._load_before is not None and self._load_before > 0.5 * machine.cores():
            warnings.append(f"the load was {self._load_before:.1f} before it began")
        if policies and policies != ["performance"]:
            warnings.append(f"the frequency policy is {', '.join(policies)}: clocks may change with the load")
        found = {"load_before": self._load_before, "governors": policies or None, **self._found, "warnings": warnings}
        return cast("Disturbance", found)
