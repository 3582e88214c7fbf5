"""What the quantize stage records about layers and attempts: rows of its history.json and of the report. Light."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypedDict


class AttemptRow(TypedDict):
    """One way of quantizing, judged on the validation photos (quantization.attempts.Attempt). chosen: it ships."""

    name: str
    what: str
    n: int
    top1: float
    float_top1: float
    lost: int
    gained: int
    drop_pp: float
    interval_pp: Sequence[float]
    same_label: float
    divergence: float
    one_class: bool
    met: bool
    bytes: int
    seconds: float
    chosen: bool


class SignalRow(TypedDict):
    """One tensor's signal-to-noise ratio in dB, and the worst one among the tensors that its node reads.

    inputs_snr_db: None where the node reads exact tensors, which have no ratio.
    """

    node: str
    op: str
    snr_db: float
    inputs_snr_db: float | None


class SensitivityRow(TypedDict):
    """The logits' signal-to-noise ratio in dB when only this node is quantized."""

    node: str
    op: str
    snr_db: float


class RewriteRow(TypedDict):
    """What folding does to one Keras layer (graph.fold.Rewrite). kind: the layer's class; rewrite: in words."""

    layer: str
    kind: str
    rewrite: str
