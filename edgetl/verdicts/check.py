"""What a check is, and how it is judged."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypedDict

from edgetl.core.errors import EXIT_ACCURACY, EXIT_LATENCY_OR_SIZE, EXIT_NOT_PROVEN, EXIT_OK
from edgetl.core.stats import paired_drop_interval, photos_for_drop, photos_for_share, share_interval
from edgetl.measure.records import ParityPair

Status = Literal["pass", "fail", "inconclusive", "unmeasured"]


class CheckRow(TypedDict):
    """A check in a JSON file."""

    metric: str
    subject: str
    limit: float
    measured: float | None
    interval: Sequence[float] | None
    status: Status
    reason: str
    estimated: bool


@dataclass(frozen=True)
class Check:
    """One verdict. pass: the whole interval is inside the limit; fail: all of it is past the limit; inconclusive: the limit
    is inside the interval; unmeasured: it could not be measured here, and `reason` says why.

    interval: None for an exact figure. estimated: the figure was not measured, but the user allowed it to decide.
    """

    metric: str
    subject: str
    limit: float
    measured: float | None
    interval: tuple[float, float] | None
    status: Status
    reason: str = ""
    estimated: bool = False

    @classmethod
    def from_json(cls, row: CheckRow) -> Check:
        """The inverse of to_json; an interval may have become a list."""
        interval = None if row["interval"] is None else (row["interval"][0], row["interval"][1])
        return cls(
            row["metric"],
            row["subject"],
            row["limit"],
            row["measured"],
            interval,
            row["status"],
            row["reason"],
            row["estimated"],
        )

    def to_json(self) -> CheckRow:
        """The check as a row of a report."""
        return {
            "metric": self.metric,
            "subject": self.subject,
            "limit": self.limit,
            "measured": self.measured,
            "interval": self.interval,
            "status": self.status,
            "reason": self.reason,
            "estimated": self.estimated,
        }


def verdict(limit: float, interval: tuple[float, float]) -> Status:
    """For a figure that must not be above its limit.

    >>> verdict(1.0, (-0.2, 0.9)), verdict(1.0, (0.5, 1.5)), verdict(1.0, (1.1, 2.0))
    ('pass', 'inconclusive', 'fail')
    """
    if interval[1] <= limit:
        return "pass"
    return "fail" if interval[0] > limit else "inconclusive"


# Rows of measure.parity come as mappings: verdicts and measure are on one level and do not import each other.
def drop_check(subject: str, limit_pp: float, pair: ParityPair, *, reference: str = "the float student") -> Check:
    """The top-1 drop of a pair from measure.parity, in percentage points, with Agresti and Min's interval.

    reference: the pair's `a` in words.
    """
    lost, gained, n = pair["lost"], pair["gained"], pair["n"]
    low, high = paired_drop_interval(lost, gained, n)
    interval = (100 * low, 100 * high)
    status = verdict(limit_pp, interval)
    reason = f"only {reference} is right on {lost}, only this file on {gained}, of {n} photos"
    if status == "inconclusive":
        needed = photos_for_drop(lost, gained, n, limit_pp / 100)
        reason += f"; about {needed} test photos would decide it" if needed else "; the drop is exactly the limit"
    return Check("top1_drop_pp", subject, limit_pp, 100 * (lost - gained) / n, interval, status, reason)


def output_step_of(pair: ParityPair) -> str:
    """The step that a row of measure.parity counts differences in; an int8 softmax's where the row has none.

    >>> output_step_of({"output_step": 1 / 32768}), output_step_of({"output_step": 0.0037}), output_step_of({})
    ('1/32768', '0.0037', '1/256')
    """
    step = pair.get("output_step", 1 / 256)
    parts = round(1 / step)
    return f"1/{parts}" if math.isclose(parts * step, 1.0, rel_tol=1e-6) else f"{step:.3g}"


def exact_check(metric: str, subject: str, limit: float, measured: float, reason: str) -> Check:
    """A figure without an interval; NaN fails."""
    return Check(metric, subject, limit, measured, None, "pass" if measured <= limit else "fail", reason)


def share_check(metric: str, subject: str, limit: float, hits: int, n: int, reason: str) -> Check:
    """A share of the test photos; where the limit is inside its interval, the reason says how many photos would decide."""
    interval = share_interval(hits, n)
    status = verdict(limit, interval)
    if status == "inconclusive":
        needed = photos_for_share(hits, n, limit)
        reason += f"; about {needed} test photos would decide it" if needed else "; the share is exactly the limit"
    return Check(metric, subject, limit, hits / n, interval, status, reason)


def exit_code(checks: Sequence[Check], *, strict: bool) -> int:
    """The exit code of the worst verdict: accuracy and parity before latency and size, then what is not proven."""
    failed = {check.metric for check in checks if check.status == "fail"}
    if failed - {"model_bytes", "latency_p90_ms"}:
        return EXIT_ACCURACY
    if failed:
        return EXIT_LATENCY_OR_SIZE
    if strict and any(check.status in ("inconclusive", "unmeasured") for check in checks):
        return EXIT_NOT_PROVEN
    return EXIT_OK
