"""The verdict and the checks section of report.html as data."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypedDict

from edgetl.report import plots
from edgetl.verdicts.check import CheckRow, Status
from edgetl.verdicts.words import metric


class VerdictView(TypedDict):
    """The worst status, a word for it and one sentence."""

    status: Status
    word: str
    sentence: str


class ShownCheck(CheckRow):
    """bar: the measured interval and the limit; None where nothing was measured."""

    bar: plots.Bar | None


class CheckGroup(TypedDict):
    """The checks of one metric, with the words for it."""

    label: str
    what: str
    checks: list[ShownCheck]


def verdict_view(checks: Sequence[CheckRow]) -> VerdictView:
    """One verdict for all checks: the worst."""
    by_status: dict[Status, list[str]] = {}
    for check in checks:
        by_status.setdefault(check["status"], []).append(metric(check["metric"]).label.lower())

    def named(status: Status) -> str:
        return ", ".join(dict.fromkeys(by_status[status]))

    if not checks:
        return {"status": "unmeasured", "word": "not proven", "sentence": "Nothing was checked."}
    unproven: list[Status] = [status for status in ("inconclusive", "unmeasured") if status in by_status]
    n_fail = len(by_status.get("fail", ()))
    n_open = sum(len(by_status[status]) for status in unproven)
    if n_fail:
        rest = f"; {n_open} more {'is' if n_open == 1 else 'are'} not proven" if n_open else ""
        sentence = f"{n_fail} of {len(checks)} checks failed: {named('fail')}{rest}."
        return {"status": "fail", "word": "failed", "sentence": sentence}
    if n_open:
        verb = "is" if n_open == 1 else "are"
        which = " and ".join(f"{len(by_status[status])} {status} ({named(status)})" for status in unproven)
        sentence = f"No check failed, but {n_open} of {len(checks)} {verb} not proven: {which}."
        return {"status": "inconclusive", "word": "not proven", "sentence": sentence}
    n_estimated = sum(1 for check in checks if check.get("estimated"))
    by = f", {n_estimated} of them by an estimate that this build accepts" if n_estimated else ""
    return {"status": "pass", "word": "passed", "sentence": f"All {len(checks)} checks passed{by}."}


def check_groups(checks: Sequence[CheckRow]) -> list[CheckGroup]:
    """Checks by metric, in the order of their first check, each with the geometry of its bar."""
    groups: dict[str, CheckGroup] = {}
    for check in checks:
        words = metric(check["metric"])
        group = groups.setdefault(check["metric"], {"label": words.label, "what": words.compares, "checks": []})
        group["checks"].append({**check, "bar": _bar(check)})
    return list(groups.values())


def _bar(check: CheckRow) -> plots.Bar | None:
    if check["measured"] is None:
        return None
    low, high = check["interval"] or (check["measured"], check["measured"])
    domain = (min(0.0, low), max(check["limit"], high))
    return {
        **plots.bar(low, high, check["measured"], domain),
        "limit": plots.track(check["limit"], domain),
        "zero": plots.track(0.0, domain),
    }
