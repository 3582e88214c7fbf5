"""The parity section of report.html as data: every version beside every other, and the photos they disagree on."""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, TypedDict

from edgetl.core import figures
from edgetl.report import plots, text
from edgetl.verdicts.check import Status, output_step_of
from edgetl.verdicts.words import PARITY_METRICS

if TYPE_CHECKING:
    from edgetl.measure.records import ParityMatrix, ParityPair
    from edgetl.report.records import Report
    from edgetl.stages.records import FlippedPhoto

_FLOAT = "keras:student"
_KERAS = {
    "keras:teacher": ("Keras teacher", "as trained"),
    _FLOAT: ("Keras float", "as trained"),
    "keras:quantized": ("Keras quantized", "fake-quantized"),
}
# The share of photos at which a cell is as red as possible; on a square-root scale, so that one photo in two hundred shows.
_RED_AT = 0.1
# The worst verdict of a pair's checks stands for the pair.
_WORST_FIRST: tuple[Status, ...] = ("fail", "inconclusive", "unmeasured", "pass")


class VersionName(TypedDict):
    """A version's name in two lines."""

    head: str
    tail: str


class HeatCell(TypedDict):
    """Two versions. heat: how red the cell is, in percent. of: see _of. title: its tooltip."""

    pair: ParityPair
    heat: int
    of: str
    title: str


class HeatRow(VersionName):
    """One version beside every other; None on the diagonal."""

    cells: list[HeatCell | None]


class Heat(TypedDict):
    """One row and one column per version."""

    columns: list[VersionName]
    rows: list[HeatRow]


class FloatRow(VersionName):
    """A version compared with the float student."""

    pair: ParityPair
    bar: plots.Bar
    of: str


class CheckedPair(TypedDict):
    """A pair that was checked. status: "" where no check was made."""

    pair: ParityPair
    of: str
    status: Status | str


class FlipAnswer(TypedDict):
    """A class, and the versions that answer it as (name, probability)."""

    label: str
    right: bool
    versions: list[tuple[str, float]]


class Flip(TypedDict):
    """A photo with the answers to it. source: the photo as a data URL, "" for none."""

    source: str
    name: str
    label: str
    answers: list[FlipAnswer]


class ParityView(TypedDict):
    """Everything that parity.html.j2 draws. steps: the sentence on what a step is."""

    heat: Heat | None
    steps: str
    against_float: list[FloatRow]
    checked: list[CheckedPair]
    n_flips: int
    flips: list[Flip]


def parity_view(report: Report, thumbnails: Mapping[str, bytes]) -> ParityView:
    """thumbnails: name in flips.json -> JPEG."""
    matrix: ParityMatrix = report.get("parity_matrix") or {"names": [], "pairs": []}
    flips = report.get("flips")
    return {
        "heat": _heat(matrix),
        "steps": _steps([*matrix["pairs"], *report["parity"]]),
        "against_float": _against_float(matrix),
        "checked": _checked(report),
        "n_flips": flips["n"] if flips else 0,
        "flips": [_flip(photo, thumbnails.get(photo["thumbnail"])) for photo in (flips["photos"] if flips else ())],
    }


def version(name: str) -> VersionName:
    """A version's name in two lines.

    >>> version("models/student.int8.tflite@litert-cpu")
    {'head': 'int8.tflite', 'tail': 'litert-cpu'}
    """
    if name in _KERAS:
        head, tail = _KERAS[name]
    else:
        head, _, tail = text.plain(name).removeprefix("student.").partition("@")
    return {"head": head, "tail": tail}


def _steps(pairs: Sequence[ParityPair]) -> str:
    """The unit of differences: one size where all pairs have the same step, otherwise which pair has which.

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


def _heat(matrix: ParityMatrix) -> Heat | None:
    """None where nothing was compared."""
    if not matrix["pairs"]:
        return None
    pairs = {frozenset((pair["a"], pair["b"])): pair for pair in matrix["pairs"]}
    rows: list[HeatRow] = []
    for name in matrix["names"]:
        others = [pairs.get(frozenset((name, other))) if name != other else None for other in matrix["names"]]
        rows.append({**version(name), "cells": [pair and _heat_cell(pair) for pair in others]})
    return {"columns": [version(name) for name in matrix["names"]], "rows": rows}


def _heat_cell(pair: ParityPair) -> HeatCell:
    a, b = version(pair["a"]), version(pair["b"])
    differ = round((1.0 - pair["top1_agreement"]) * pair["n"])
    title = (
        f"{a['head']} ({a['tail']}) and {b['head']} ({b['tail']}): another answer on {differ} of {pair['n']} photos; "
        f"probabilities at most {figures.number(pair['max_steps'], 1)} steps of {output_step_of(pair)} apart, {figures.number(pair['mean_steps'], 2)} on "
        f"average; cosine {pair['cosine_mean']:.4f} on average, at least {pair['cosine_min']:.4f}"
    )
    return {"pair": pair, "heat": _heat_of(1.0 - pair["top1_agreement"]), "of": _of(pair), "title": title}


def _heat_of(share: float) -> int:
    """
    >>> _heat_of(0.0), _heat_of(0.005), _heat_of(0.5)
    (0, 22, 100)
    """
    return round(100 * math.sqrt(min(1.0, max(0.0, share) / _RED_AT)))


def _of(pair: ParityPair) -> str:
    """What follows a figure in steps: "" for steps of an int8 softmax, the usual case."""
    step = output_step_of(pair)
    return "" if step == "1/256" else f" of {step}"


def _against_float(matrix: ParityMatrix) -> list[FloatRow]:
    """Every version compared with the float student, with the bars of their drops on one scale."""
    pairs = [pair for pair in matrix["pairs"] if pair["a"] == _FLOAT]
    edges = [edge for pair in pairs for edge in pair["top1_drop_interval_pp"]]
    domain = (min([0.0, *edges]), max([0.0, *edges]))
    rows: list[FloatRow] = []
    for pair in pairs:
        low, high = pair["top1_drop_interval_pp"]
        bar: plots.Bar = {**plots.bar(low, high, pair["top1_drop_pp"], domain), "zero": plots.track(0.0, domain)}
        rows.append({**version(pair["b"]), "pair": pair, "bar": bar, "of": _of(pair)})
    return rows


def _checked(report: Report) -> list[CheckedPair]:
    """The pairs that were checked, each with its worst verdict."""
    statuses: dict[str, list[Status]] = {}
    for check in report["checks"]:
        if check["metric"] in PARITY_METRICS:
            statuses.setdefault(check["subject"], []).append(check["status"])
    rows: list[CheckedPair] = []
    for pair in report["parity"]:
        found = statuses.get(f"{text.plain(pair['a'])} = {text.plain(pair['b'])}", [])
        rows.append({"pair": pair, "of": _of(pair), "status": min(found, key=_WORST_FIRST.index, default="")})
    return rows


def _flip(photo: FlippedPhoto, jpeg: bytes | None) -> Flip:
    """A photo with its answers, equal ones together, the float student's first."""
    heads = [version(name)["head"] for name in photo["says"]]
    answers: dict[str, list[tuple[str, float]]] = {}
    for name, answer in photo["says"].items():
        head, tail = version(name)["head"], version(name)["tail"]
        shown = head if heads.count(head) == 1 else f"{head} on {tail}"
        answers.setdefault(answer["label"], []).append((shown, answer["probability"]))
    return {
        "source": f"data:image/jpeg;base64,{base64.b64encode(jpeg).decode()}" if jpeg else "",
        "name": photo["name"],
        "label": photo["label"],
        "answers": [
            {"label": label, "right": label == photo["label"], "versions": versions}
            for label, versions in answers.items()
        ],
    }
