"""Check rows against a target's latency budget. A row is judged only for the device that it was measured on."""

from __future__ import annotations

from collections.abc import Sequence

from edgetl.commands.bench.rows import MachineJson, RowJson
from edgetl.targets.ships import shipped_files
from edgetl.targets.target import ANY_MACHINE, Target
from edgetl.verdicts.check import Check, verdict

_METRIC = "latency_p90_ms"


def latency_checks(rows: Sequence[RowJson], target: Target, machine_description: MachineJson | None) -> list[Check]:
    """One check of p90 per row that the target would ship, on one of its runtimes. Empty without a latency budget.

    machine_description: the machine that the rows were measured on; a row's own `machine` takes precedence, and None is an
    unknown device. A row is unmeasured if it failed or fell back, is from another device, or has another number of threads
    than the budget.
    """
    limit = target.budget.latency_p90_ms
    if limit is None:
        return []
    judged = [row for row in rows if row["backend"] in target.runtimes and _ships(row, target)]
    if not judged:
        reason = f"there is no row of {', '.join(target.runtimes)} with a {target.precision} file"
        return [Check(_METRIC, target.name, limit, None, None, "unmeasured", reason)]
    return [_check(row, target, limit, row.get("machine", machine_description)) for row in judged]


def _ships(row: RowJson, target: Target) -> bool:
    """Whether the target ships such a file. A file of unknown precision counts as the target's: the user chose it."""
    precision = row.get("precision")
    suffix = str(row["model"]).rsplit(".", 1)[-1].lower()
    known = {"role": "student", "format": suffix, "precision": precision}
    return precision is None or bool(shipped_files(target, [known]))


def _check(row: RowJson, target: Target, limit: float, machine: MachineJson | None) -> Check:
    subject = f"{row['name']}@{row['backend']}"
    reason, interval = _unfit(row, target, machine), row["p90_interval_ms"]
    if reason or interval is None:
        return Check(_METRIC, subject, limit, None, None, "unmeasured", reason)
    low, high = interval
    basis = f"{row['runs']} runs, {_threads(row['threads'])}"
    if row.get("measured_elsewhere"):
        basis += f", on {row['device']}"
        if row.get("log"):
            basis += f" according to the user, from {row['log']}"
    if row["p90_ms"] is None:
        basis += "; the log has no p90, only quantiles below and above it"
    return Check(_METRIC, subject, limit, row["p90_ms"], (low, high), verdict(limit, (low, high)), basis)


def _unfit(row: RowJson, target: Target, machine: MachineJson | None) -> str:
    """Why a row cannot be judged for the target; "" if it can."""
    if row.get("stopped") in ("interrupted", "connection lost"):
        return f"its timing ended early: {row['stopped']}"
    if row["status"] == "failed":
        return f"it failed: {row['reason']}"
    if row["status"] == "fallback":
        return "it did not run on the requested device: " + "; ".join(row["notes"])
    if machine is None:
        return "the device is unknown: give --device NAME"
    if not _is_device(target, machine, elsewhere=bool(row.get("measured_elsewhere"))):
        return (
            f"it was measured on {machine.get('board') or machine.get('processor')}, "
            f"which says nothing about {target.device.description}"
        )
    if row["threads"] is None:
        return "its number of threads is unknown"
    if row["threads"] != target.budget.threads:
        return f"it was measured on {_threads(row['threads'])}, and the budget is for {target.budget.threads}"
    if row.get("p90_interval_ms") is None:
        return "there are too few figures of its runs for an interval of p90"
    return ""


def _is_device(target: Target, machine: MachineJson, *, elsewhere: bool) -> bool:
    """Target.is_this_machine for any machine. A target that matches any machine means only the one that edgetl runs on."""
    match = target.device.match
    if match == ANY_MACHINE:
        return not elsewhere
    board = str(machine.get("board") or "")
    if elsewhere and "processor" not in machine:
        # The device comes from the user: accept the target's name or description as well.
        known = {target.name.casefold(), target.device.description.casefold(), target.name.replace("-", " ").casefold()}
        begun = target.device.description.casefold().startswith((f"{board.casefold()},", f"{board.casefold()} ("))
        if board.casefold() in known or (board and begun):
            return True
    return bool(match) and match in board


def _threads(count: int | None) -> str:
    return f"{count} thread{'' if count == 1 else 's'}"
