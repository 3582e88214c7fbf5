"""The checks of a build: accuracy, size and latency of each file that ships, and parity of every pair that was compared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from edgetl.core.words import of_threads
from edgetl.latency.estimate import Estimate
from edgetl.runtimes.catalogue import BACKENDS, default_backends
from edgetl.targets.ships import shipped_files
from edgetl.targets.target import Target
from edgetl.verdicts.check import Check, drop_check, verdict
from edgetl.verdicts.parity import parity_checks

if TYPE_CHECKING:
    from edgetl.measure.records import FileMeasurement, Latency, Measurements
    from edgetl.stages.records import ModelFile


def judge(
    target: Target,
    models: Sequence[ModelFile],
    measurements: Measurements,
    *,
    estimates: Mapping[str, Estimate | str] | None = None,
    accept_estimates: bool = False,
) -> list[Check]:
    """Every check of a build, in the order of the report. Pure.

    models: rows of models.json. measurements: the verify stage's measurements.json. estimates: file -> its estimated latency
    on the target, or why there is none. accept_estimates: an estimate may decide where nothing was measured.
    """
    checks: list[Check] = []
    ships = {row["file"] for row in shipped_files(target, models)}
    if not ships:
        reason = f"there is no {target.precision} file in a format that {', '.join(target.runtimes)} can open"
        checks.append(Check("top1_drop_pp", target.name, target.budget.top1_drop_pp, None, None, "unmeasured", reason))
    for row in models:
        if row["file"] not in ships:
            continue
        measured = measurements["files"].get(row["file"])
        checks += _drop_checks(target, row, measured, measurements["runtimes"])
        checks.append(_size_check(target, row))
        if target.is_this_machine():
            checks += _latency_checks(target, row["file"], measured)
        else:
            estimated = (estimates or {}).get(row["file"])
            checks += absent_latency_checks(target, row["file"], estimated, accept=accept_estimates)
    precision_of = {row["file"]: row["precision"] for row in models}
    checks += [check for pair in measurements["parity"] for check in parity_checks(pair, precision_of)]
    return checks


def _drop_checks(
    target: Target, row: ModelFile, measured: FileMeasurement | None, runtimes: Mapping[str, str]
) -> list[Check]:
    """The drop on every runtime that measured the file, and on the target's runtimes that did not. runtimes: see
    Measurements."""
    limit = target.budget.top1_drop_pp
    pairs = measured.get("against_float", {}) if measured else {}
    checks = [drop_check(f"{row['file']}@{runtime}", limit, pair) for runtime, pair in pairs.items()]
    for runtime in target.runtimes:
        if BACKENDS[runtime].format == row["format"] and runtime not in pairs:
            reason = runtimes.get(runtime) or _why_not_measured(runtime)
            subject = f"{row['file']}@{runtime}"
            checks.append(Check("top1_drop_pp", subject, limit, None, None, "unmeasured", reason))
    return checks


def _why_not_measured(runtime: str) -> str:
    if not BACKENDS[runtime].module:
        return f"edgetl writes files for {runtime} and does not run it: measure with the vendor's own tools"
    return (
        f"a build measures on {' and '.join(default_backends())} only: `edgetl verify --backend {runtime}` measures it"
    )


def _size_check(target: Target, row: ModelFile) -> Check:
    limit, size = target.budget.model_bytes, row["bytes"]
    return Check("model_bytes", row["file"], limit, size, None, "pass" if size <= limit else "fail")


def _latency_checks(target: Target, file: str, measured: FileMeasurement | None) -> list[Check]:
    limit = target.budget.latency_p90_ms
    if limit is None:
        return []
    latencies = measured.get("latency", {}) if measured else {}
    return [
        _latency_check(f"{file}@{runtime}", limit, target.budget.threads, latencies.get(runtime))
        for runtime in target.runtimes
        if BACKENDS[runtime].format == file.rsplit(".", 1)[1]
    ]


def _latency_check(subject: str, limit: float, threads: int, latency: Latency | None) -> Check:
    if latency is None:
        reason = "this runtime of the target was not measured on this machine"
        return Check("latency_p90_ms", subject, limit, None, None, "unmeasured", reason)
    if latency["threads"] != threads:
        reason = f"measured on {of_threads(latency['threads'])}, but the budget is for {threads}: set verify.threads in the recipe"
        return Check("latency_p90_ms", subject, limit, None, None, "unmeasured", reason)
    low, high = latency["p90_interval_ms"]
    reason = f"{latency['runs']} runs, {of_threads(latency['threads'])}"
    return Check("latency_p90_ms", subject, limit, latency["p90_ms"], (low, high), verdict(limit, (low, high)), reason)


def absent_latency_checks(target: Target, file: str, estimated: Estimate | str | None, *, accept: bool) -> list[Check]:
    """The latency check on a machine that is not the target; none where the target has no limit.

    estimated: the estimate, or why there is none. The check is unmeasured, with the estimate in its reason. accept: the
    estimate's interval decides instead, and the reason says so.
    """
    limit = target.budget.latency_p90_ms
    if limit is None:
        return []
    if isinstance(estimated, Estimate) and accept:
        reason = f"estimated, not measured (--accept-estimates): {estimated.sentence()}"
        low, high = estimated.p90_interval_ms
        return [
            Check(
                "latency_p90_ms",
                f"{file}@{estimated.runtime}",
                limit,
                estimated.p90_ms,
                (low, high),
                verdict(limit, (low, high)),
                reason,
                estimated=True,
            )
        ]
    reason = f"this machine is not a {target.device.description}, so its own latency does not count"
    if isinstance(estimated, Estimate):
        reason += f"; {estimated.sentence()}, for information only"
    elif estimated is not None:
        reason += f"; no estimate: {estimated}"
    return [Check("latency_p90_ms", file, limit, None, None, "unmeasured", reason)]
