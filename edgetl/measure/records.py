"""What measurements look like, as they are written to JSON. Standard library only: light modules read these types.

Shares are in 0..1, `_pp` is percentage points, `_ms` milliseconds. An interval is [low, high], at 95%.
"""

from __future__ import annotations

from typing import NotRequired, TypedDict

from edgetl.core.machine import Machine


class Accuracy(TypedDict):
    """top1: the share of n photos that are answered correctly."""

    top1: float
    n: int
    interval: list[float]


class Latency(TypedDict):
    """Quantiles of one run's time, over `runs` runs; processor: the one they were measured on."""

    p50_ms: float
    p90_ms: float
    p99_ms: float
    p90_interval_ms: list[float]
    runs: int
    threads: int
    processor: str


# [true class][predicted class] -> number of photos.
Confusion = list[list[int]]


class ClassRow(TypedDict):
    """photos: of the class; answers: that name it. precision is None without answers, recall without photos."""

    name: str
    photos: int
    answers: int
    precision: float | None
    precision_interval: list[float]
    recall: float | None
    recall_interval: list[float]
    f1: float


class MacroAverage(TypedDict):
    """Means over the classes, each with the same weight."""

    precision: float
    recall: float
    f1: float
    f1_interval: list[float]


class ByClass(TypedDict):
    classes: list[ClassRow]
    macro: MacroAverage


class WorstConfusion(TypedDict):
    """count of `of` photos of the class `true` are answered with `answered`."""

    true: str
    answered: str
    count: int
    of: int


class CalibrationBin(TypedDict):
    """Means over the n photos of one bin."""

    confidence: float
    accuracy: float
    n: int


class Calibration(TypedDict):
    """ece: the expected calibration error; bias_at_most: by how much chance raises it on average, at most."""

    ece: float
    interval: list[float]
    bias_at_most: float
    bins: list[CalibrationBin]


class ParityPair(TypedDict):
    """How far b is from a on the same n photos (measure.parity); `_steps` count output_step.

    a, b: the names of the two, where the pair is in a list. flipped: ids of the photos that they answer differently,
    only in a matrix.
    """

    a: NotRequired[str]
    b: NotRequired[str]
    n: int
    top1_agreement: float
    max_abs: float
    output_step: float
    mean_abs: float
    max_steps: float
    mean_steps: float
    within_2_steps: float
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
    """Every pair of names, a before b."""

    names: list[str]
    pairs: list[ParityPair]


class FileMeasurement(TypedDict):
    """One model file; each key maps a backend's name to what was measured there.

    placement: device -> number of ops. against_float: compared with the Keras model of the file's role.
    """

    accuracy: dict[str, Accuracy]
    latency: dict[str, Latency]
    confusion: dict[str, Confusion]
    placement: dict[str, dict[str, int]]
    against_float: dict[str, ParityPair]


class Measurements(TypedDict):
    """measurements.json of the measure stage.

    machine: core.machine.describe(). runtimes: backend -> "ready", or why it is not. keras: role -> accuracy of the Keras
    model. files: file name -> its measurements.
    """

    machine: Machine
    runtimes: dict[str, str]
    keras: dict[str, Accuracy]
    files: dict[str, FileMeasurement]
    parity: list[ParityPair]
    parity_matrix: ParityMatrix
