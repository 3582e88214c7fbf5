"""The parity section of report.html as data: every version beside every other, and the photos they disagree on."""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping, Sequence
from typing import Any

from edgetl.core import figures
from edgetl.report import plots, text
from edgetl.verdicts.check import output_step_of
from edgetl.verdicts.words import PARITY_METRICS

_FLOAT = "keras:student"
_KERAS = {
    "keras:teacher": ("Keras teacher", "as trained"),
    _FLOAT: ("Keras float", "as trained"),
    "keras:quantized": ("Keras quantized", "fake-quantized"),
}
# The share of photos at which a cell is as red as it gets; on a root scale, so that one photo in two hundred shows.
_RED_AT = 0.1
# The worst verdict of a pair's checks stands for the pair.
_WORST_FIRST = ("fail", "inconclusive", "unmeasured", "pass")


def parity_view(report: Mapping[str, Any], thumbnails: Mapping[str, bytes]) -> dict[str, Any]:
    """What report_parity.html.j2 draws. report: report.json; thumbnails: name in flips.json -> JPEG."""
    matrix = report.get("parity_matrix") or {"names": [], "pairs": []}
    flips = report.get("flips") or {"n": 0, "photos": []}
    return {
        "heat": _heat(matrix),
        "steps": _steps([*matrix["pairs"], *report["parity"]]),
        "against_float": _against_float(matrix),
        "checked": _checked(report),
        "n_flips": flips["n"],
        "flips": [_flip(photo, thumbnails.get(photo["thumbnail"])) for photo in flips["photos"]],
    }


def version(name: str) -> dict[str, str]:
    """A version's name in two lines.

    >>> version("models/student.int8.tflite@litert-cpu")
    {'head': 'int8.tflite', 'tail': 'litert-cpu'}
    """
    if name in _KERAS:
        head, tail = _KERAS[name]
    else:
        head, _, tail = text.plain(name).removeprefix("student.").partition("@")
    return {"head": head, "tail": tail}


def _steps(pairs: Sequence[Mapping[str, Any]]) -> str:
    """What differences are counted in, told once where all pairs have one step, else with what has which.

    >>> _steps([{"max_steps": 1.0, "output_step": 1 / 32768}])
    'A step is 1/32768 in probability.'
    """
    found = list(dict.fromkeys(output_step_of(pair) for pair in pairs if "max_steps" in pair))
    if len(found) < 2:
        return f"A step is {found[0]} in probability." if found else ""
    return (
        f"A step is that of the coarser of two outputs ({' or '.join(found)} in probability; a figure in steps of "
        "another size than 1/256 says so), and 1/256 for two float outputs."
    )


def _heat(matrix: Mapping[str, Any]) -> dict[str, Any] | None:
    """A row and a column a version. Cells: None on the diagonal, else the pair and how red it is, in percent."""
    if not matrix["pairs"]:
        return None
    pairs = {frozenset((pair["a"], pair["b"])): pair for pair in matrix["pairs"]}
    rows = []
    for name in matrix["names"]:
        cells: list[dict[str, Any] | None] = []
        for other in matrix["names"]:
            pair = pairs.get(frozenset((name, other))) if name != other else None
            heat = pair and _heat_of(1.0 - pair["top1_agreement"])
            cells.append(pair and {"pair": pair, "heat": heat, "of": _of(pair), **_words(pair)})
        rows.append({**version(name), "cells": cells})
    return {"columns": [version(name) for name in matrix["names"]], "rows": rows}


def _heat_of(share: float) -> int:
    """
    >>> _heat_of(0.0), _heat_of(0.005), _heat_of(0.5)
    (0, 22, 100)
    """
    return round(100 * math.sqrt(min(1.0, max(0.0, share) / _RED_AT)))


def _words(pair: Mapping[str, Any]) -> dict[str, str]:
    """A cell's tooltip: all that the pair came to."""
    a, b = (version(pair[side]) for side in ("a", "b"))
    differ = round((1.0 - pair["top1_agreement"]) * pair["n"])
    return {
        "title": f"{a['head']} ({a['tail']}) and {b['head']} ({b['tail']}): another answer on {differ} of {pair['n']} photos; "
        f"probabilities at most {figures.number(pair['max_steps'], 1)} steps of {output_step_of(pair)} apart, {figures.number(pair['mean_steps'], 2)} on "
        f"average; cosine {pair['cosine_mean']:.4f} on average, at least {pair['cosine_min']:.4f}"
    }


def _of(pair: Mapping[str, Any]) -> str:
    """Beside a figure in steps: "" where they are an int8 softmax's, as they mostly are."""
    step = output_step_of(pair)
    return "" if step == "1/256" else f" of {step}"


def _against_float(matrix: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The rows of what the float student became, with the bars of their drops on one scale."""
    pairs = [pair for pair in matrix["pairs"] if pair["a"] == _FLOAT]
    edges = [edge for pair in pairs for edge in pair["top1_drop_interval_pp"]]
    domain = (min([0.0, *edges]), max([0.0, *edges]))
    rows = []
    for pair in pairs:
        low, high = pair["top1_drop_interval_pp"]
        bar = {**plots.bar(low, high, pair["top1_drop_pp"], domain), "zero": plots.track(0.0, domain)}
        rows.append({**version(pair["b"]), "pair": pair, "bar": bar, "of": _of(pair)})
    return rows


def _checked(report: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The pairs that checks were drawn from, each with the worst of its verdicts; "" for none."""
    statuses: dict[str, list[str]] = {}
    for check in report["checks"]:
        if check["metric"] in PARITY_METRICS:
            statuses.setdefault(check["subject"], []).append(check["status"])
    rows = []
    for pair in report["parity"]:
        found = statuses.get(f"{text.plain(pair['a'])} = {text.plain(pair['b'])}", [])
        rows.append({"pair": pair, "of": _of(pair), "status": min(found, key=_WORST_FIRST.index, default="")})
    return rows


def _flip(photo: Mapping[str, Any], jpeg: bytes | None) -> dict[str, Any]:
    """A photo with its answers, those that agree together, the float student's first."""
    heads = [version(name)["head"] for name in photo["says"]]
    answers: dict[str, list[dict[str, Any]]] = {}
    for name, said in photo["says"].items():
        head, tail = version(name).values()
        shown = head if heads.count(head) == 1 else f"{head} on {tail}"
        answers.setdefault(said["label"], []).append({"name": shown, "probability": said["probability"]})
    return {
        "source": f"data:image/jpeg;base64,{base64.b64encode(jpeg).decode()}" if jpeg else "",
        "name": photo["name"],
        "label": photo["label"],
        "answers": [
            {"label": label, "right": label == photo["label"], "versions": versions}
            for label, versions in answers.items()
        ],
    }
