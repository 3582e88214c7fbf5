from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from edgetl.core.words import of_threads
from edgetl.latency.estimate import Estimate
from edgetl.runtimes.catalogue import BACKENDS
from edgetl.targets.ships import shipped_files
from edgetl.targets.target import Target
from edgetl.verdicts.check import Check, drop_check, verdict
from edgetl.verdicts.parity import parity_checks


def judge(
    target: Target,
    models: Sequence[Mapping[str, Any]],
    measurements: Mapping[str, Any],
    *,
    estimates: Mapping[str, Estimate | str] | None = None,
    accept_estimates: bool = False,
) -> list[Check]:
    """Every check of a build, in the order of the report. Pure.

    models: rows of models.json. measurements: the verify stage's measurements.json. estimates: file -> its latency on the
    target as estimated, or why it could not be; accept_estimates: whether that may decide where nothing was measured.
    """
    checks: list[Check] = []
    shipped = shipped_files(target, models)
    if not shipped:
        reason = f"no {target.precision} file in a format that {', '.join(target.runtimes)} open"
        checks.append(Check("top1_drop_pp", target.name, target.budget.top1_drop_pp, None, None, "unmeasured", reason))
    for row in shipped:
        entry = measurements["files"].get(row["file"], {})
        for runtime, pair in entry.get("against_float", {}).items():
            checks.append(drop_check(f"{row['file']}@{runtime}", target.budget.top1_drop_pp, pair))
        for runtime in target.runtimes:
            if BACKENDS[runtime].format == row["format"] and runtime not in entry.get("against_float", {}):
                reason = measurements["runtimes"].get(runtime, "edgetl has no such runtime on this machine")
                subject = f"{row['file']}@{runtime}"
                limit = target.budget.top1_drop_pp
                checks.append(Check("top1_drop_pp", subject, limit, None, None, "unmeasured", reason))
        size = row["bytes"]
        checks.append(
            Check(
                "model_bytes",
                row["file"],
                target.budget.model_bytes,
                size,
                None,
                "pass" if size <= target.budget.model_bytes else "fail",
            )
        )
        if target.is_this_machine():
            checks += _latency_checks(target, row["file"], entry)
        else:
            made = (estimates or {}).get(row["file"])
            checks += absent_latency_checks(target, row["file"], made, accept=accept_estimates)
    precision_of = {row["file"]: row["precision"] for row in models}
    checks += [check for pair in measurements["parity"] for check in parity_checks(pair, precision_of)]
    return checks


def _latency_checks(target: Target, file: str, entry: Mapping[str, Any]) -> list[Check]:
    limit = target.budget.latency_p90_ms
    if limit is None:
        return []
    checks = []
    for runtime in target.runtimes:
        if BACKENDS[runtime].format != file.rsplit(".", 1)[1]:
            continue
        subject = f"{file}@{runtime}"
        figures = entry.get("latency", {}).get(runtime)
        if figures is None:
            reason = "this runtime of the target was not measured here"
            checks.append(Check("latency_p90_ms", subject, limit, None, None, "unmeasured", reason))
        elif figures["threads"] != target.budget.threads:
            reason = f"measured on {of_threads(figures['threads'])}, the budget is for {target.budget.threads}: set verify.threads in the recipe"
            checks.append(Check("latency_p90_ms", subject, limit, None, None, "unmeasured", reason))
        else:
            low, high = figures["p90_interval_ms"]
            status = verdict(limit, (low, high))
            reason = f"{figures['runs']} runs, {of_threads(figures['threads'])}"
            checks.append(Check("latency_p90_ms", subject, limit, figures["p90_ms"], (low, high), status, reason))
    return checks


def absent_latency_checks(target: Target, file: str, made: Estimate | str | None, *, accept: bool) -> list[Check]:
    """The latency check of a target that this machine is not; none where it has no limit.

    It is unmeasured, with the estimate in its reason; accept: the estimate's interval decides, and the reason says so.
    """
    limit = target.budget.latency_p90_ms
    if limit is None:
        return []
    reason = f"this machine is not a {target.device.description}; what it measured here says nothing about one"
    if isinstance(made, Estimate) and accept:
        said = f"estimated, not measured (--accept-estimates): {made.sentence()}"
        status = verdict(limit, made.p90_interval_ms)
        subject = f"{file}@{made.runtime}"
        return [
            Check("latency_p90_ms", subject, limit, made.p90_ms, made.p90_interval_ms, status, said, estimated=True)
        ]
    if made is not None:
        reason += (
            f"; {made.sentence()}, which decides nothing" if isinstance(made, Estimate) else f"; no estimate: {made}"
        )
    return [Check("latency_p90_ms", file, limit, None, None, "unmeasured", reason)]
