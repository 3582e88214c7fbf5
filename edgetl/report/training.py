"""The training section of report.html as data: three curves per stage, and the epoch that was kept."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Literal, TypedDict

from edgetl.core import figures
from edgetl.report import plots

if TYPE_CHECKING:
    from edgetl.report.records import ReportTraining


class ShownCurve(plots.Curve):
    """best_text: the figure of the kept epoch; None where none was kept."""

    title: str
    best_text: str | None


class TrainingView(TypedDict):
    """One stage. before: its figures before training are known."""

    name: str
    curves: list[ShownCurve]
    n_epochs: int
    best_epoch: int
    stopped_early: bool
    seconds: float
    before: bool


_Key = Literal["train_loss", "validate_loss", "validate_top1"]
_CURVES: dict[_Key, str] = {
    "train_loss": "Training loss",
    "validate_loss": "Validation loss",
    "validate_top1": "Validation top-1",
}


def training_view(name: str, history: ReportTraining) -> TrainingView:
    """One stage: its curves, and its best epoch."""
    epochs = history["epochs"]
    return {
        "name": name,
        "curves": [_curve(key, title, history) for key, title in _CURVES.items()] if epochs else [],
        "n_epochs": len(epochs),
        "best_epoch": history["best_epoch"],
        "stopped_early": history["stopped_early"],
        "seconds": sum(row["seconds"] for row in epochs),
        "before": bool(history.get("before_training")),
    }


def _curve(key: _Key, title: str, history: ReportTraining) -> ShownCurve:
    before = history.get("before_training")
    is_share = key == "validate_top1"
    curve = plots.curve(
        [(row["epoch"], row[key]) for row in history["epochs"]],
        best_epoch=history["best_epoch"],
        before=None if before is None or key == "train_loss" else before[key],
        top=1 if is_share else 1e9,
    )
    write: Callable[[float, int], str] = figures.percent if is_share else figures.number
    plots.write_ticks(curve["y_ticks"], write, scale=100 if is_share else 1)
    best = curve["best"]
    best_text = (
        None if best is None else figures.percent(best["value"]) if is_share else figures.number(best["value"], 3)
    )
    return {**curve, "title": title, "best_text": best_text}
