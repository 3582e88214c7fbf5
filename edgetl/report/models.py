"""The models section of report.html as data: one row per file and runtime, and two plots of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, TypedDict

from edgetl.core import figures
from edgetl.core.words import of_threads
from edgetl.report import plots, text

if TYPE_CHECKING:
    from edgetl.measure.records import Accuracy, Latency, ParityPair
    from edgetl.report.records import ReportModel


class ModelRow(TypedDict):
    """One file on one runtime. Everything is None for a file that no runtime here opens."""

    model: ReportModel
    runtime: str | None
    accuracy: Accuracy | None
    latency: Latency | None
    placement: dict[str, int] | None
    against_float: ParityPair | None


class ChainStep(TypedDict):
    """The top-1 accuracy of one model, with its interval."""

    name: str
    runtime: str
    ships: bool
    top1: float
    interval: Sequence[float]
    bar: plots.Bar


class Chain(TypedDict):
    """All top-1 accuracies on one axis."""

    ticks: list[plots.Tick]
    steps: list[ChainStep]


def model_rows(models: Sequence[ReportModel]) -> list[ModelRow]:
    """One row per file and runtime; a file that no runtime here opens keeps one row, without figures."""
    return [_row(model, runtime) for model in models for runtime in (model["accuracy"] or [None])]


def _row(model: ReportModel, runtime: str | None) -> ModelRow:
    return {
        "model": model,
        "runtime": runtime,
        "accuracy": model["accuracy"].get(runtime) if runtime else None,
        "latency": model["latency"].get(runtime) if runtime else None,
        "placement": model["placement"].get(runtime) if runtime else None,
        "against_float": model["against_float"].get(runtime) if runtime else None,
    }


def condition(latency: Latency) -> str:
    """How a latency was measured."""
    return f"{latency['runs']} runs, {of_threads(latency['threads'])}, on {latency['processor']}"


def chain(keras: Mapping[str, Accuracy], rows: Sequence[ModelRow]) -> Chain | None:
    """Top-1 from the trained teacher to every exported file. keras: by role. None where nothing was measured."""
    words = {"teacher": "teacher, float", "student": "student, float", "quantized": "student, fake-quantized"}
    found = [(words.get(role, role), "Keras", False, accuracy) for role, accuracy in keras.items()]
    for row in rows:
        if row["accuracy"]:
            model = row["model"]
            found.append((text.plain(model["file"]), row["runtime"] or "", model["ships"], row["accuracy"]))
    if not found:
        return None
    intervals = [accuracy["interval"] for *_, accuracy in found]
    domain = (min(interval[0] for interval in intervals), max(interval[1] for interval in intervals))
    ticks: list[plots.Tick] = [
        {"at": plots.track(tick, domain), "value": tick} for tick in plots.nice_ticks(*domain, 4)
    ]
    plots.write_ticks(ticks, figures.percent, scale=100)
    steps: list[ChainStep] = [
        {
            "name": name,
            "runtime": runtime,
            "ships": ships,
            "top1": accuracy["top1"],
            "interval": accuracy["interval"],
            "bar": plots.bar(accuracy["interval"][0], accuracy["interval"][1], accuracy["top1"], domain),
        }
        for name, runtime, ships, accuracy in found
    ]
    return {"ticks": ticks, "steps": steps}


def scatter(rows: Sequence[ModelRow]) -> plots.Scatter | None:
    """Accuracy against latency, one dot per file and runtime. None where nothing was timed."""
    dots: list[plots.Dot] = []
    for row in sorted(rows, key=lambda row: not row["model"]["ships"]):
        if row["accuracy"] and row["latency"] and row["latency"]["p50_ms"] > 0:
            name, several = text.plain(row["model"]["file"]), len(row["model"]["accuracy"]) > 1
            low, high = row["accuracy"]["interval"]
            x, y = row["latency"]["p50_ms"], row["accuracy"]["top1"]
            dots.append(
                {
                    "x": x,
                    "y": y,
                    "low": low,
                    "high": high,
                    "ships": row["model"]["ships"],
                    "text": f"{name} {row['runtime']}" if several else name,
                    "title": f"{name} on {row['runtime']}: top-1 {figures.percent(y)}, p50 {figures.ms(x)}",
                }
            )
    if not dots:
        return None
    picture = plots.scatter(dots)
    plots.write_ticks(picture["y_ticks"], figures.percent, scale=100)
    return picture
