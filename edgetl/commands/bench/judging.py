"""Whether rows keep to a target's latency budget. A row is judged only for the device that it was measured on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from edgetl.commands.bench.rows import RowJson
from edgetl.targets.ships import shipped_files
from edgetl.targets.target import ANY_MACHINE, Target
from edgetl.verdicts.check import Check, verdict

_METRIC = "latency_p90_ms"


def latency_checks(
    rows: Sequence[RowJson], target: Target, machine_description: Mapping[str, Any] | None
) -> list[Check]:
    """One check of p90 per row that the target would ship on one of its runtimes; none if it has no latency budget.

    rows: as rows.to_json has them. machine_description: of the machine that they were measured on (machine.describe, there
    or here); a row's own `machine` goes before it, None for a device that is not known. A row that fell back or failed, is
    of another device, or of other threads than the budget's, is unmeasured.
    """
    limit = target.budget.latency_p90_ms
    if limit is None:
        return []
    judged = [row for row in rows if row["backend"] in target.runtimes and _ships(row, target)]
    if not judged:
        reason = f"no row of {', '.join(target.runtimes)}, with a {target.precision} file, is among these"
        return [Check(_METRIC, target.name, limit, None, None, "unmeasured", reason)]
    return [_check(row, target, limit, row.get("machine", machine_description)) for row in judged]


def _ships(row: RowJson, target: Target) -> bool:
    """Whether the target would ship this file. An unknown precision counts as the target's: the user chose the file."""
    precision = row.get("precision")
    suffix = str(row["model"]).rsplit(".", 1)[-1].lower()
    known = {"role": "student", "format": suffix, "precision": precision}
    return precision is None or bool(shipped_files(target, [known]))


def _check(row: RowJson, target: Target, limit: float, machine: Mapping[str, Any] | None) -> Check:
    subject = f"{row['name']}@{row['backend']}"
    reason = _unfit(row, target, machine)
    interval_ms, threads = row["p90_interval_ms"], row["threads"]
    if reason or interval_ms is None or threads is None:
        return Check(_METRIC, subject, limit, None, None, "unmeasured", reason)
    low, high = interval_ms
    told = f"{row['runs']} runs, {_threads(threads)}"
    if row.get("measured_elsewhere"):
        told += f", from {row['log']}, on {row['device']} as was said" if row.get("log") else f", on {row['device']}"
    if row["p90_ms"] is None:
        told += "; p90 itself is not told, and lies between the quantiles that are"
    return Check(_METRIC, subject, limit, row["p90_ms"], (low, high), verdict(limit, (low, high)), told)


def _unfit(row: RowJson, target: Target, machine: Mapping[str, Any] | None) -> str:
    """Why a row says nothing about the target; "" if it does."""
    if row.get("stopped") in ("interrupted", "connection lost"):
        return f"its timing was not finished: {row['stopped']}"
    if row["status"] == "failed":
        return f"it failed: {row['reason']}"
    if row["status"] == "fallback":
        return "it did not run on the requested device: " + "; ".join(row["notes"])
    if machine is None:
        return "the device it was measured on is not known: give --device NAME"
    if not _is_device(target, machine, elsewhere=bool(row.get("measured_elsewhere"))):
        return (
            f"it was measured on {machine.get('board') or machine.get('processor')}, "
            f"which says nothing about {target.device.description}"
        )
    if row["threads"] is None:
        return "it is not known on how many threads it ran"
    if row["threads"] != target.budget.threads:
        return f"measured on {_threads(row['threads'])}, and the budget is for {target.budget.threads}"
    if row.get("p90_interval_ms") is None:
        return "too little is known of its runs to compute an interval of p90"
    return ""


def _is_device(target: Target, machine: Mapping[str, Any], *, elsewhere: bool) -> bool:
    """Target.is_this_machine for any machine. A target that stands for whatever machine reads it is this one alone."""
    match = target.device.match
    if match == ANY_MACHINE:
        return not elsewhere
    board = str(machine.get("board") or "")
    if elsewhere and "processor" not in machine:
        # What a user says of a log: the target's own name, or how it is described, is meant as well.
        known = {target.name.casefold(), target.device.description.casefold(), target.name.replace("-", " ").casefold()}
        begun = target.device.description.casefold().startswith((f"{board.casefold()},", f"{board.casefold()} ("))
        if board.casefold() in known or (board and begun):
            return True
    return bool(match) and match in board


def _threads(count: int) -> str:
    return f"{count} thread{'s' if count > 1 else ''}"
