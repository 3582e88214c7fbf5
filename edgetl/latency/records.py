"""An estimate, as types of the JSON that it is written to. Light."""

from __future__ import annotations

from typing import Literal, TypedDict

Verdict = Literal["fits", "does not fit", "cannot tell", "no budget"]


class EvidenceRow(TypedDict):
    """One published latency. likeness: how similar it is to the estimated run, a correlation from 0 to 1."""

    device: str
    model: str
    precision: str
    input_size_px: int
    runtime: str
    threads: int
    latency_ms: float
    statistic: str
    source: str
    likeness: float


class EstimateRow(TypedDict):
    """latency.estimate.Estimate in a JSON file."""

    target: str
    runtime: str
    kind: str
    threads: int
    precision: str
    p50_ms: float
    p50_interval_ms: tuple[float, float]
    p90_ms: float
    p90_interval_ms: tuple[float, float]
    bound_ms: float | None
    level: str
    n_evidence: int
    n_rows: int
    evidence: tuple[EvidenceRow, ...]
    notes: tuple[str, ...]
    limit_p90_ms: float | None
    verdict: Verdict


class NoEstimate(TypedDict):
    """Why there is no estimate for a runtime."""

    runtime: str
    why_not: str


class OpShare(TypedDict):
    """One op's share of the estimated time, and what limits it: "computing" or "memory". work: as latency.published.work_of."""

    name: str
    type: str
    work: float
    held_by: str
    share: float
