"""report.html: report.json for a person, as one page that opens offline. Pure; the page itself is report.html.j2.

Every text reaches the page through the template's autoescape: class and file names are whatever somebody called them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib import resources
from typing import Any

from jinja2 import Environment, StrictUndefined

from edgetl import report_plots as plots
from edgetl.console import describe_step, human_bytes
from edgetl.measure.stats import share_interval

_NBSP = "\u00a0"
# Above this the matrix is megabytes of empty cells: the page names the worst classes and confusions instead.
_MATRIX_CLASSES = 60
_WORST = 8


def render_html(report: Mapping[str, Any]) -> str:
    """The whole page. report: what report.make_report returns, or report.json as read back."""
    source = resources.files("edgetl").joinpath("report.html.j2").read_text(encoding="utf-8")
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters.update(
        percent=_percent,
        number=_number,
        ms=_ms,
        size=_size,
        count=_count,
        duration=_duration,
        figure=_figure,
        small=_small,
        condition=_condition,
        span=_span_of,
        plain=_plain,
        step=describe_step,
    )
    rows = _model_rows(report["models"])
    parity = [check for check in report["checks"] if check["metric"] in _PARITY_METRICS]
    page = environment.from_string(source).render(
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
        parity_status={check["subject"]: check["status"] for check in parity},
        recipe="\n".join(f"{key} = {value}" for key, value in _flat(report["recipe"])),
    )
    # A name with bytes that are not UTF-8 must not lose a build its report at the last step.
    return page.encode("utf-8", "backslashreplace").decode()


# ---- figures as text ----


def _number(value: float, digits: int) -> str:
    """Fixed digits with a true minus, and no minus before a zero.

    >>> _number(-0.04, 1), _number(-1.25, 1), _number(1234567, 0)
    ('0.0', '−1.2', '1,234,567')
    """
    return f"{round(value, digits) + 0.0:,.{digits}f}".replace("-", "−")


def _percent(share: float, digits: int = 1) -> str:
    return f"{_number(100 * share, digits)}{_NBSP}%"


def _ms(value: float) -> str:
    """Three digits at any size.

    >>> _ms(0.57834), _ms(6.9845), _ms(1250.4)
    ('0.578\\xa0ms', '6.98\\xa0ms', '1,250\\xa0ms')
    """
    digits = 3 if value < 1 else 2 if value < 10 else 1 if value < 100 else 0
    return f"{_number(value, digits)}{_NBSP}ms"


def _size(count: float) -> str:
    text = f"{count / 1e9:.1f} GB" if count >= 999.5e6 else human_bytes(count)
    return text.replace(" ", _NBSP)


def _count(value: float) -> str:
    """
    >>> _count(29_601_200), _count(395_493), _count(300)
    ('29.6\\xa0M', '395\\xa0k', '300')
    """
    for unit, scale in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if value >= scale:
            scaled = value / scale
            return f"{scaled:.{2 if scaled < 10 else 1 if scaled < 100 else 0}f}{_NBSP}{unit}"
    return f"{value:g}"


def _duration(seconds: float) -> str:
    """
    >>> _duration(4.26), _duration(119.7), _duration(4000)
    ('4.3\\xa0s', '2\\xa0min 0\\xa0s', '1\\xa0h 7\\xa0min')
    """
    if seconds < 59.95:
        return f"{seconds:.1f}{_NBSP}s"
    if seconds < 3599.5:
        minutes, rest = divmod(round(seconds), 60)
        return f"{minutes}{_NBSP}min {rest}{_NBSP}s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours}{_NBSP}h {minutes}{_NBSP}min"


def _small(value: float) -> str:
    """A difference of probabilities: two digits that count."""
    return f"{value:.4f}" if value >= 1e-3 else f"{value:.1e}".replace("e-0", "e-").replace("-", "−") if value else "0"


def _plain(name: str) -> str:
    return name.replace("models/", "")


def _flat(table: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for key, value in table.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", json.dumps(value, ensure_ascii=False)


# ---- verdict and checks ----

# metric -> (what it is called, what it compares, how a figure of it is written)
_METRICS: dict[str, tuple[str, str, Callable[[float], str]]] = {
    "top1_drop_pp": (
        "Accuracy lost",
        "top-1 of the float student less top-1 of the file, same test photos, in percentage points",
        lambda value: f"{_number(value, 2)}{_NBSP}pp",
    ),
    "model_bytes": ("File size", "bytes on disk", _size),
    "latency_p90_ms": ("Latency", "90th percentile of single runs, batch of one", _ms),
    "max_abs_probability": (
        "Same probabilities",
        "largest difference of any probability on any test photo, exported float file against what was trained",
        _small,
    ),
    "top1_disagreement": (
        "Same answers",
        "share of the test photos on which the top-1 class differs",
        lambda value: _percent(value, 2),
    ),
}
_PARITY_METRICS = ("max_abs_probability", "top1_disagreement")


def _metric(name: str) -> tuple[str, str, Callable[[float], str]]:
    return _METRICS.get(name, (name, "", "{:.4g}".format))


def _figure(value: float, metric: str) -> str:
    return _metric(metric)[2](value)


def _verdict(checks: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """The worst status, a word for it and one sentence."""
    by_status: dict[str, list[str]] = {}
    for check in checks:
        by_status.setdefault(check["status"], []).append(_metric(check["metric"])[0].lower())

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
    return {"status": "pass", "word": "passed", "sentence": f"All {len(checks)} checks passed."}


def _span(values: Sequence[float], write: Callable[[float], str]) -> str:
    """The smallest to the largest as one text; the unit once.

    >>> _span([7.0, 6.84], _ms), _span([0.9, 0.9], _percent)
    ('6.84 to 7.00\\xa0ms', '90.0\\xa0%')
    """
    low, high = write(min(values)), write(max(values))
    if low == high:
        return low
    unit = _NBSP + high.rpartition(_NBSP)[2]
    return f"{low.removesuffix(unit)} to {high}"


def _span_of(interval: Sequence[float], metric: str = "") -> str:
    return _span(interval, lambda value: _figure(value, metric) if metric else _percent(value))


def _facts(report: Mapping[str, Any]) -> list[dict[str, str]]:
    """What is asked first, each with what it rests on."""
    target, dataset = report["target"], report["dataset"]
    shipped = [model for model in report["models"] if model["ships"]]
    names = ", ".join(_plain(model["file"]) for model in shipped)
    facts = [{"name": "Ships", "value": target["precision"], "note": names or "no file of the target's precision"}]
    accuracies = [entry for model in shipped for entry in model["accuracy"].values()]
    if accuracies:
        low, high = (edge(entry["interval"][i] for entry in accuracies) for i, edge in enumerate((min, max)))
        facts.append(
            {
                "name": "Top-1 accuracy",
                "value": _span([entry["top1"] for entry in accuracies], _percent),
                "note": f"95% interval {_span((low, high), _percent)}, {accuracies[0]['n']} test photos",
            }
        )
    if shipped:
        limit = _size(target["budget"]["model_bytes"])
        size = _span([model["bytes"] for model in shipped], _size)
        facts.append({"name": "File size", "value": size, "note": f"at most {limit} allowed"})
    latencies = [entry for model in shipped for entry in model["latency"].values()]
    if latencies:
        where = _condition(latencies[0]) + ("" if target["is_this_machine"] else ", which is not the target")
        value = _span([entry["p90_ms"] for entry in latencies], _ms)
        facts.append({"name": "Latency p90", "value": value, "note": where})
    photos = sum(dataset[key] for key in ("n_train", "n_validate", "n_test"))
    facts.append({"name": "Data", "value": f"{photos:,} photos", "note": f"{len(dataset['classes'])} classes"})
    return facts


def _check_groups(checks: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Checks by metric, in the order they came, each with the geometry of its bar."""
    groups: dict[str, dict[str, Any]] = {}
    for check in checks:
        label, what, _ = _metric(check["metric"])
        group = groups.setdefault(check["metric"], {"label": label, "what": what, "checks": []})
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


# ---- models ----


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
    threads = latency["threads"]
    return f"{latency['runs']} runs, {threads} thread{'' if threads == 1 else 's'}, on {latency['processor']}"


def _chain(keras: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """Top-1 from the trained teacher to every exported file, on one axis."""
    words = {"teacher": "teacher, float", "student": "student, float", "quantized": "student, fake-quantized"}
    steps: list[dict[str, Any]] = [
        {"name": words.get(name, name), "runtime": "Keras", "ships": False, **keras[name]} for name in keras
    ]
    for row in rows:
        if row["accuracy"]:
            model = row["model"]
            step = {"name": _plain(model["file"]), "runtime": row["runtime"], "ships": model["ships"]}
            steps.append({**step, **row["accuracy"]})
    if not steps:
        return None
    domain = (min(step["interval"][0] for step in steps), max(step["interval"][1] for step in steps))
    ticks = [{"at": plots.track(tick, domain), "value": tick} for tick in plots.nice_ticks(*domain, 4)]
    plots.write_ticks(ticks, _percent, scale=100)
    for step in steps:
        step["bar"] = plots.bar(low=step["interval"][0], high=step["interval"][1], point=step["top1"], domain=domain)
    return {"ticks": ticks, "steps": steps}


def _scatter(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """Accuracy against latency, a dot a file and runtime. None when nothing was timed."""
    dots = []
    for row in sorted(rows, key=lambda row: not row["model"]["ships"]):
        if row["accuracy"] and row["latency"] and row["latency"]["p50_ms"] > 0:
            name, several = _plain(row["model"]["file"]), len(row["model"]["accuracy"]) > 1
            low, high = row["accuracy"]["interval"]
            x, y = row["latency"]["p50_ms"], row["accuracy"]["top1"]
            title = f"{name} on {row['runtime']}: top-1 {_percent(y)}, p50 {_ms(x)}"
            text = f"{name} {row['runtime']}" if several else name
            dots.append(
                {"x": x, "y": y, "low": low, "high": high, "ships": row["model"]["ships"], "text": text, "title": title}
            )
    if not dots:
        return None
    picture = plots.scatter(dots)
    plots.write_ticks(picture["y_ticks"], _percent, scale=100)
    return picture


# ---- training and confusion ----

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
        plots.write_ticks(curve["y_ticks"], _percent if is_share else _number, scale=100 if is_share else 1)
        best = curve["best"] and (_percent(curve["best"]["value"]) if is_share else _number(curve["best"]["value"], 3))
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
            subject = f"{_plain(model['file'])} on {runtime}"
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
