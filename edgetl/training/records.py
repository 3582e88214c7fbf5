"""The contents of history.json, which every training stage writes and the report reads. Light."""

from __future__ import annotations

from typing import TypedDict

from edgetl.quantization.records import AttemptRow, RewriteRow, SensitivityRow, SignalRow


class EpochRow(TypedDict):
    """One epoch. Losses in nats, top-1 as a share; learning_rate: of its last step."""

    epoch: int
    train_loss: float
    validate_loss: float
    validate_top1: float
    learning_rate: float
    seconds: float


class HistoryJson(TypedDict):
    """history.json of the finetune and distill stages. best_epoch: counted from 1; -1 where nothing was trained."""

    epochs: list[EpochRow]
    best_epoch: int
    stopped_early: bool


class BeforeTraining(TypedDict):
    """Validation figures of the quantized net before quantization-aware training."""

    validate_loss: float
    validate_top1: float


class QuantizationRecord(TypedDict):
    """How the student was quantized, and where that costs accuracy.

    estimator: of the activation ranges. n_calibrate: calibration photos. fold_error: the largest difference in logits
    that folding BatchNorm made, relative to the largest logit.
    """

    scheme: str
    attempts: list[AttemptRow]
    sensitivity: list[SensitivityRow]
    signal: list[SignalRow]
    preflight: list[RewriteRow]
    estimator: str
    n_calibrate: int
    fold_error: float


class QuantizeHistory(HistoryJson, QuantizationRecord):
    """history.json of the quantize stage. Its epochs are those of quantization-aware training; none otherwise.

    before_training: None unless the net was trained.
    """

    before_training: BeforeTraining | None
