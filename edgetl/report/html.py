"""report.html: report.json for a person, as one page that opens offline. Pure; the page itself is report.html.j2.

Every text reaches the page through the template's autoescape: class and file names are whatever somebody called them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Any

from edgetl.core import figures
from edgetl.core.stats import share_interval
from edgetl.core.words import of_threads
from edgetl.report import plots, text
from edgetl.report.parity import parity_view
from edgetl.report.quantization import quantization_view
from edgetl.stages.catalogue import describe_step
from edgetl.verdicts.words import figure_in_page, metric

# Above this the matrix is megabytes of empty cells: the page names the worst classes and confusions instead.
_MATRIX_CLASSES = 60
_WORST = 8


def render_html(report: Mapping[str, Any], thumbnails: Mapping[str, bytes] | None = None) -> str:
    """The whole page. report: what report.make_report returns, or report.json as read back.

    thumbnails: the JPEG files beside flips.json, by name; a photo without one is told of in words alone.
    """
    from jinja2 import Environment, FunctionLoader, StrictUndefined

    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, loader=FunctionLoader(_source)
    )
    environment.filters.update(
        percent=figures.percent,
        number=figures.number,
        ms=figures.ms,
        size=figures.size,
        count=figures.count,
        duration=figures.duration,
        figure=figure_in_page,
        small=figures.small,
        decibels=figures.decibels,
        interval_pp=text.interval_pp,
        probability=figures.probability,
        condition=_condition,
        span=text.span_of,
        plain=text.plain,
        step=describe_step,
    )
    rows = _model_rows(report["models"])
    page = environment.get_template("report.html.j2").render(
        report=report,
        verdict=_verdict(report["checks"]),
        facts=_facts(report),
        check_groups=_check_groups(report["checks"]),
        rows=rows,
        conditions=list(dict.fromkeys(_condition(row["latency"]) for row in rows if row["latency"])),
        chain=_chain(report["keras"], rows),
        scatter=_scatter(rows),
        training=[_training(name, history) for name, history in report["training"].items()],
        confusions=_confusions(report),
        parity=parity_view(report, thumbnails or {}),
        quantization=quantization_view(report.get("quantization") or {}),
        recipe="\n".join(f"{key} = {value}" for key, value in text.flat(report["recipe"])),
    )
    # A name with bytes that are not UTF-8 must not lose a build its report at the last step.
    return page.encode("utf-8", "backslashreplace").decode()


def _source(name: str) -> str:
    """The text of a template or of the style sheet, wherever the package is installed."""
    return resources.files("edgetl.report").joinpath(name).read_text(encoding="utf-8")


def _verdict(checks: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """The worst status, a word for it and one sentence."""
    by_status: dict[str, list[str]] = {}
    for check in checks:
        by_status.setdefault(check["status"], []).append(metric(check["metric"]).label.lower())

    def named(status: str) -> str:
        return ", ".join(dict.fromkeys(by_status[status]))

    if not checks:
        return {"status": "unmeasured", "word": "not proven", "sentence": "Nothing was checked."}
    unproven = [
        f"{len(by_status[status])} {status} ({named(status)})"
        for status in ("inconclusive", "unmeasured")
        if status in by_status
    ]
    n_fail = len(by_status.get("fail", ()))
    n_open = len(checks) - n_fail - len(by_status.get("pass", ()))
    if n_fail:
        rest = f"; {n_open} more {'is' if n_open == 1 else 'are'} not proven" if n_open else ""
        sentence = f"{n_fail} of {len(checks)} checks failed: {named('fail')}{rest}."
        return {"status": "fail", "word": "failed", "sentence": sentence}
    if n_open:
        are = "is" if n_open == 1 else "are"
        sentence = f"No check failed, but {n_open} of {len(checks)} {are} not proven: {' and '.join(unproven)}."
        return {"status": "inconclusive", "word": "not proven", "sentence": sentence}
    n_estimated = sum(1 for check in checks if check.get("estimated"))
    by = f", {n_estimated} of them by an estimate that the build was told to accept" if n_estimated else ""
    return {"status": "pass", "word": "passed", "sentence": f"All {len(checks)} checks passed{by}."}


def _facts(report: Mapping[str, Any]) -> list[dict[str, str]]:
    """What is asked first, each with what it rests on."""
    target, dataset = report["target"], report["dataset"]
    shipped = [model for model in report["models"] if model["ships"]]
    names = ", ".join(text.plain(model["file"]) for model in shipped)
    # Where int8 could not keep to the budget, what ships for it has wider integers (report.shipped_files).
    precisions = " and ".join(dict.fromkeys(model["precision"] for model in shipped)) or target["precision"]
    facts = [{"name": "Ships", "value": precisions, "note": names or "no file of the target's precision"}]
    accuracies = [entry for model in shipped for entry in model["accuracy"].values()]
    if accuracies:
        low, high = (edge(entry["interval"][i] for entry in accuracies) for i, edge in enumerate((min, max)))
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
        facts.append({"name": "File size", "value": size, "note": f"at most {limit} allowed"})
    latencies = [entry for model in shipped for entry in model["latency"].values()]
    if latencies:
        where = _condition(latencies[0]) + ("" if target["is_this_machine"] else ", which is not the target")
        value = text.span([entry["p90_ms"] for entry in latencies], figures.ms)
        facts.append({"name": "Latency p90", "value": value, "note": where})
    photos = sum(dataset[key] for key in ("n_train", "n_validate", "n_test"))
    facts.append({"name": "Data", "value": f"{photos:,} photos", "note": f"{len(dataset['classes'])} classes"})
    return facts


def _check_groups(checks: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Checks by metric, in the order they came, each with the geometry of its bar."""
    groups: dict[str, dict[str, Any]] = {}
    for check in checks:
        words = metric(check["metric"])
        group = groups.setdefault(check["metric"], {"label": words.label, "what": words.compares, "checks": []})
        group["checks"].append({**check, "bar": _check_bar(check)})
    return list(groups.values())


def _check_bar(check: Mapping[str, Any]) -> dict[str, float] | None:
    if check["measured"] is None:
        return None
    low, high = check["interval"] or (check["measured"], check["measured"])
    domain = (min(0.0, low), max(check["limit"], high))
    return {
        **plots.bar(low, high, check["measured"], domain),
        "limit": plots.track(check["limit"], domain),
        "zero": plots.track(0.0, domain),
    }


def _model_rows(models: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """A row a file and runtime; a file that nothing here opens keeps one row, without figures."""
    rows = []
    for model in models:
        for runtime in model["accuracy"] or [None]:
            keys = ("accuracy", "latency", "placement", "against_float")
            rows.append({"model": model, "runtime": runtime, **{key: model[key].get(runtime) for key in keys}})
    return rows


def _condition(latency: Mapping[str, Any]) -> str:
    """How a latency was taken."""
    return f"{latency['runs']} runs, {of_threads(latency['threads'])}, on {latency['processor']}"


def _chain(keras: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """Top-1 from the trained teacher to every exported file, on one axis."""
    words = {"teacher": "teacher, float", "student": "student, float", "quantized": "student, fake-quantized"}
    steps: list[dict[str, Any]] = [
        {"name": words.get(name, name), "runtime": "Keras", "ships": False, **keras[name]} for name in keras
    ]
    for row in rows:
        if row["accuracy"]:
            model = row["model"]
            step = {"name": text.plain(model["file"]), "runtime": row["runtime"], "ships": model["ships"]}
            steps.append({**step, **row["accuracy"]})
    if not steps:
        return None
    domain = (min(step["interval"][0] for step in steps), max(step["interval"][1] for step in steps))
    ticks = [{"at": plots.track(tick, domain), "value": tick} for tick in plots.nice_ticks(*domain, 4)]
    plots.write_ticks(ticks, figures.percent, scale=100)
    for step in steps:
        step["bar"] = plots.bar(low=step["interval"][0], high=step["interval"][1], point=step["top1"], domain=domain)
    return {"ticks": ticks, "steps": steps}


def _scatter(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """Accuracy against latency, a dot a file and runtime. None when nothing was timed."""
    dots = []
    for row in sorted(rows, key=lambda row: not row["model"]["ships"]):
        if row["accuracy"] and row["latency"] and row["latency"]["p50_ms"] > 0:
            name, several = text.plain(row["model"]["file"]), len(row["model"]["accuracy"]) > 1
            low, high = row["accuracy"]["interval"]
            x, y = row["latency"]["p50_ms"], row["accuracy"]["top1"]
            title = f"{name} on {row['runtime']}: top-1 {figures.percent(y)}, p50 {figures.ms(x)}"
            label = f"{name} {row['runtime']}" if several else name
            dots.append(
                {
                    "x": x,
                    "y": y,
                    "low": low,
                    "high": high,
                    "ships": row["model"]["ships"],
                    "text": label,
                    "title": title,
                }
            )
    if not dots:
        return None
    picture = plots.scatter(dots)
    plots.write_ticks(picture["y_ticks"], figures.percent, scale=100)
    return picture


_CURVES = {"train_loss": "Training loss", "validate_loss": "Validation loss", "validate_top1": "Validation top-1"}


def _training(name: str, history: Mapping[str, Any]) -> dict[str, Any]:
    """One stage: its three curves, and what its best epoch came to."""
    epochs, before = history["epochs"], history.get("before_training") or {}
    curves = []
    for key, title in _CURVES.items() if epochs else ():
        points = [(row["epoch"], row[key]) for row in epochs]
        is_share = key == "validate_top1"
        curve = plots.curve(
            points, best_epoch=history["best_epoch"], before=before.get(key), top=1 if is_share else 1e9
        )
        plots.write_ticks(
            curve["y_ticks"], figures.percent if is_share else figures.number, scale=100 if is_share else 1
        )
        best = curve["best"] and (
            figures.percent(curve["best"]["value"]) if is_share else figures.number(curve["best"]["value"], 3)
        )
        curves.append({**curve, "title": title, "best_text": best})
    return {
        "name": name,
        "curves": curves,
        "n_epochs": len(epochs),
        "best_epoch": history["best_epoch"],
        "stopped_early": history["stopped_early"],
        "seconds": sum(row["seconds"] for row in epochs),
        "before": bool(before),
    }


def _confusions(report: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The shipped files' matrices; files whose counts are the same share one."""
    found: list[tuple[list[list[int]], list[str]]] = []
    for model in report["models"]:
        for runtime, matrix in model["confusion"].items() if model["ships"] else ():
            subject = f"{text.plain(model['file'])} on {runtime}"
            same = next((subjects for other, subjects in found if other == matrix), None)
            if same is not None:
                same.append(subject)
            elif matrix:
                found.append((matrix, [subject]))
    return [{"subjects": subjects, **_confusion(matrix, report["dataset"]["classes"])} for matrix, subjects in found]


def _confusion(matrix: Sequence[Sequence[int]], classes: Sequence[str]) -> dict[str, Any]:
    """Rows with recall and its interval, precision by column, and the commonest mistakes. matrix: [true][predicted]."""
    rows: list[dict[str, Any]] = []
    for i, counts in enumerate(matrix):
        n = sum(counts)
        cells = [
            {"n": count, "heat": round(85 * count / n) if n else 0, "right": i == j, "to": classes[j]}
            for j, count in enumerate(counts)
        ]
        recall = {"value": counts[i] / n, "interval": share_interval(counts[i], n)} if n else None
        rows.append({"name": classes[i], "n": n, "cells": cells, "recall": recall})
    columns = [sum(counts[j] for counts in matrix) for j in range(len(matrix))]
    mistakes = sorted(
        (
            {"from": row["name"], "to": cell["to"], "n": cell["n"], "of": row["n"]}
            for row in rows
            for cell in row["cells"]
            if cell["n"] and not cell["right"]
        ),
        key=lambda mistake: -mistake["n"],
    )
    return {
        "shown": rows if len(rows) <= _MATRIX_CLASSES else [],
        "precision": [matrix[j][j] / total if total else None for j, total in enumerate(columns)],
        "predicted": columns,
        "mistakes": mistakes[:_WORST],
        "worst": sorted((row for row in rows if row["recall"]), key=lambda row: row["recall"]["value"])[:_WORST],
        "upright": len(classes) <= 8 and max(map(len, classes)) <= 12,
    }
