"""report.json as a type: what make_report writes, and what the page, the terminal and the bundle read.

Keys that came with a later version are NotRequired: a report of an older build makes a page as well.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NotRequired, TypedDict

from edgetl.measure.records import FileMeasurement
from edgetl.stages.records import ModelFile
from edgetl.training.records import HistoryJson

if TYPE_CHECKING:
    from collections.abc import Mapping

    from edgetl.backbones.records import WeightsSource
    from edgetl.measure.records import Accuracy, ParityMatrix, ParityPair
    from edgetl.quantization.records import AttemptRow, RewriteRow, SensitivityRow, SignalRow
    from edgetl.stages.records import FlipsJson, LeftOut
    from edgetl.training.records import BeforeTraining
    from edgetl.verdicts.check import CheckRow


class BudgetRow(TypedDict):
    """The target's budget, as in its file. latency_p90_ms None: no limit."""

    reason: str
    top1_drop_pp: float
    model_bytes: int
    latency_p90_ms: float | None
    threads: int


class ReportTarget(TypedDict):
    """device: its description. is_this_machine: whether a latency measured here is one of the target."""

    name: str
    device: str
    precision: str
    budget: BudgetRow
    is_this_machine: bool


class ReferenceRow(TypedDict):
    """A latency that somebody published for a known net on the target."""

    model: str
    precision: str
    input_size_px: int
    runtime: str
    processor: str
    threads: str
    latency_ms: float
    statistic: str
    source: str
    note: str


class ReportDataset(TypedDict):
    """n_*: numbers of photos; the calibration photos are training photos. duplicates: copies that were dropped."""

    classes: list[str]
    n_train: int
    n_validate: int
    n_test: int
    n_calibrate: int
    fingerprint: str
    duplicates: int
    left_out: list[LeftOut]


class StageRow(TypedDict):
    """One stage of a build. seconds: in this build; made_in_seconds: when its result was computed."""

    name: str
    seconds: float
    cached: bool
    made_in_seconds: float
    key: str


class StudentChoiceRow(TypedDict):
    """The student that `--student auto` chose, and why in one sentence."""

    backbone: str
    input_size_px: int
    macs: int
    model_bytes: int
    considered: int
    estimates: list[dict[str, Any]]
    reason: str
    sentence: str


class ReportModel(ModelFile, FileMeasurement):
    """A model file with what was measured of it, by runtime. file: its path in the bundle. ships: it is for the target."""

    ships: bool


class ReportTraining(HistoryJson):
    """The epochs of one stage. before_training: of the quantize stage, whose student is trained already."""

    before_training: NotRequired[BeforeTraining | None]


class ReportQuantization(TypedDict, total=False):
    """How the student was quantized (training.records.QuantizationRecord); each part may be missing."""

    scheme: str
    attempts: list[AttemptRow]
    sensitivity: list[SensitivityRow]
    signal: list[SignalRow]
    preflight: list[RewriteRow]
    estimator: str
    n_calibrate: int
    fold_error: float


class ReportMachine(TypedDict):
    """The machine that measured (core.machine.describe)."""

    processor: str
    board: str
    cores: int
    memory_bytes: int
    instruction_set: list[str]
    os: str
    python: str


class Report(TypedDict):
    """report.json. estimates: file -> its estimated latency, or {"why_not": reason}. recipe: its tables. training: the
    history of each stage that trained. weights: where each role's first weights came from. keras: by role."""

    schema_version: int
    target: ReportTarget
    references: list[ReferenceRow]
    estimates: NotRequired[dict[str, Mapping[str, Any]]]
    estimates_accepted: NotRequired[bool]
    recipe: Mapping[str, Any]
    student_choice: NotRequired[StudentChoiceRow | None]
    dataset: ReportDataset
    weights: Mapping[str, WeightsSource]
    stages: list[StageRow]
    training: dict[str, ReportTraining]
    quantization: NotRequired[ReportQuantization]
    models: list[ReportModel]
    keras: dict[str, Accuracy]
    parity: list[ParityPair]
    parity_matrix: NotRequired[ParityMatrix]
    flips: NotRequired[FlipsJson]
    checks: list[CheckRow]
    machine: ReportMachine
    runtimes: dict[str, str]
