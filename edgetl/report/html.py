"""report.html: report.json for a person, as one page that opens offline. Pure; the page itself is report.html.j2.

Every text reaches the page through the template's autoescape: class and file names may contain anything.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import resources
from typing import TYPE_CHECKING, TypedDict

from edgetl.core import figures
from edgetl.report import text
from edgetl.report.checks import check_groups, verdict_view
from edgetl.report.confusion import confusion_views
from edgetl.report.models import chain, condition, model_rows, scatter
from edgetl.report.parity import parity_view
from edgetl.report.quantization import quantization_view
from edgetl.report.training import training_view
from edgetl.stages.catalogue import describe_step
from edgetl.verdicts.words import figure_in_page

if TYPE_CHECKING:
    from edgetl.report.records import Report

# How the templates write figures and names.
_FILTERS: dict[str, Callable[..., str]] = {
    "percent": figures.percent,
    "number": figures.number,
    "ms": figures.ms,
    "size": figures.size,
    "count": figures.count,
    "duration": figures.duration,
    "figure": figure_in_page,
    "small": figures.small,
    "decibels": figures.decibels,
    "interval_pp": text.interval_pp,
    "probability": figures.probability,
    "condition": condition,
    "span": text.span_of,
    "plain": text.plain,
    "step": describe_step,
}


class Fact(TypedDict):
    """One of the first figures of the page. note: what it rests on."""

    name: str
    value: str
    note: str


def render_html(report: Report, thumbnails: Mapping[str, bytes] | None = None) -> str:
    """The whole page. report: from report.data.make_report, or report.json as read back.

    thumbnails: the JPEG files beside flips.json, by name; a photo without one is described in words only.
    """
    from jinja2 import Environment, FunctionLoader, StrictUndefined

    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, loader=FunctionLoader(_source)
    )
    environment.filters.update(_FILTERS)
    rows = model_rows(report["models"])
    page = environment.get_template("report.html.j2").render(
        report=report,
        verdict=verdict_view(report["checks"]),
        facts=_facts(report),
        check_groups=check_groups(report["checks"]),
        rows=rows,
        conditions=list(dict.fromkeys(condition(row["latency"]) for row in rows if row["latency"])),
        chain=chain(report["keras"], rows),
        scatter=scatter(rows),
        training=[training_view(name, history) for name, history in report["training"].items()],
        confusions=confusion_views(report["models"], report["dataset"]["classes"]),
        parity=parity_view(report, thumbnails or {}),
        quantization=quantization_view(report.get("quantization") or {}),
        recipe="\n".join(f"{key} = {value}" for key, value in text.flat(report["recipe"])),
    )
    # A name with bytes that are not UTF-8 must not cost a build its report at the last step.
    return page.encode("utf-8", "backslashreplace").decode()


def _source(name: str) -> str:
    """The text of a template or of the style sheet, wherever the package is installed."""
    return resources.files("edgetl.report").joinpath(name).read_text(encoding="utf-8")


def _facts(report: Report) -> list[Fact]:
    """The most important figures, each with what it rests on."""
    target, dataset = report["target"], report["dataset"]
    shipped = [model for model in report["models"] if model["ships"]]
    names = ", ".join(text.plain(model["file"]) for model in shipped)
    # Where int8 exceeds the budget, the file that ships for it has wider integers (targets.ships.shipped_files).
    precisions = " and ".join(dict.fromkeys(model["precision"] for model in shipped)) or target["precision"]
    facts: list[Fact] = [{"name": "Ships", "value": precisions, "note": names or "no file of the target's precision"}]
    accuracies = [entry for model in shipped for entry in model["accuracy"].values()]
    if accuracies:
        low = min(entry["interval"][0] for entry in accuracies)
        high = max(entry["interval"][1] for entry in accuracies)
        facts.append(
            {
                "name": "Top-1 accuracy",
                "value": text.span([entry["top1"] for entry in accuracies], figures.percent),
                "note": f"95% interval {text.span((low, high), figures.percent)}, {accuracies[0]['n']} test photos",
            }
        )
    if shipped:
        limit = figures.size(target["budget"]["model_bytes"])
        size = text.span([model["bytes"] for model in shipped], figures.size)
        facts.append({"name": "File size", "value": size, "note": f"limit {limit}"})
    latencies = [entry for model in shipped for entry in model["latency"].values()]
    if latencies:
        where = condition(latencies[0]) + ("" if target["is_this_machine"] else ", which is not the target")
        value = text.span([entry["p90_ms"] for entry in latencies], figures.ms)
        facts.append({"name": "Latency p90", "value": value, "note": where})
    photos = dataset["n_train"] + dataset["n_validate"] + dataset["n_test"]
    facts.append({"name": "Data", "value": f"{photos:,} photos", "note": f"{len(dataset['classes'])} classes"})
    return facts
