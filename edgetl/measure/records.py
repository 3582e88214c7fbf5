"""What was measured, as types of the JSON that it is written to: measurements.json and the report. Light."""

from __future__ import annotations

from typing import Any, NotRequired, TypedDict


class Accuracy(TypedDict):
    """Top-1 accuracy on n photos, with its 95% interval."""

    top1: float
    n: int
    interval: list[float]


class Latency(TypedDict):
    """Quantiles of single runs, and what they were measured on. p90_interval_ms: 95%."""

    p50_ms: float
    p90_ms: float
    p99_ms: float
    p90_interval_ms: list[float]
    runs: int
    threads: int
    processor: str


class ParityPair(TypedDict):
    """How far b is from a: see measure.parity.parity. a, b: their names, once they have some. flipped: photos on which their
    classes differ, in a matrix. Older reports do not count in steps."""

    a: NotRequired[str]
    b: NotRequired[str]
    n: int
    top1_agreement: float
    max_abs: float
    output_step: NotRequired[float]
    mean_abs: float
    max_steps: NotRequired[float]
    mean_steps: NotRequired[float]
    within_2_steps: NotRequired[float]
    cosine_mean: float
    cosine_min: float
    lost: int
    gained: int
    top1_drop_pp: float
    top1_drop_interval_pp: list[float]
    top1_drop_bootstrap_pp: list[float]
    mcnemar_p: float
    flipped: NotRequired[list[str]]


def without_photos(pair: ParityPair) -> ParityPair:
    """A copy without the photos on which the two differ."""
    shorter: ParityPair = {**pair}
    shorter.pop("flipped", None)
    return shorter


class ParityMatrix(TypedDict):
    """Every pair of versions, a before b in the order of names."""

    names: list[str]
    pairs: list[ParityPair]


class FileMeasurement(TypedDict):
    """What was measured of one file, by runtime. confusion: counts by [true class][predicted class]. placement: executor ->
    number of ops. against_float: compared with the Keras model of the file's role."""

    accuracy: dict[str, Accuracy]
    latency: dict[str, Latency]
    confusion: dict[str, list[list[int]]]
    placement: dict[str, dict[str, int]]
    against_float: dict[str, ParityPair]


class Measurements(TypedDict):
    """measurements.json, which the verify stage writes. machine: core.machine.describe. runtimes: backend -> "ready", or why
    it is not. keras: role -> accuracy. files: by name."""

    machine: dict[str, Any]
    runtimes: dict[str, str]
    keras: dict[str, Accuracy]
    files: dict[str, FileMeasurement]
    parity: list[ParityPair]
    parity_matrix: ParityMatrix
