"""The confusion section of report.html as data: the matrices of the files that ship."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, TypedDict

from edgetl.core.stats import share_interval
from edgetl.report import text

if TYPE_CHECKING:
    from edgetl.report.records import ReportModel

# With more classes the matrix is megabytes of empty cells: the page names the worst classes and confusions instead.
_MATRIX_CLASSES = 60
_WORST = 8


class Cell(TypedDict):
    """n: photos of the row's class that got the class `to`. heat: its share of the row, 0 to 85."""

    n: int
    heat: int
    right: bool
    to: str


class Recall(TypedDict):
    """A share with its 95% interval."""

    value: float
    interval: tuple[float, float]


class ClassRow(TypedDict):
    """One true class. recall: None where it has no test photos."""

    name: str
    n: int
    cells: list[Cell]
    recall: Recall | None


# "from", a keyword, is one of the keys.
Mistake = TypedDict("Mistake", {"from": str, "to": str, "n": int, "of": int})


class ConfusionView(TypedDict):
    """One matrix. subjects: the files that it is of. shown: its rows, none where they are too many. precision, predicted: by
    column. upright: class names are short and few enough to stand upright."""

    subjects: list[str]
    shown: list[ClassRow]
    precision: list[float | None]
    predicted: list[int]
    mistakes: list[Mistake]
    worst: list[ClassRow]
    upright: bool


def confusion_views(models: Sequence[ReportModel], classes: Sequence[str]) -> list[ConfusionView]:
    """The matrices of the files that ship; files with the same counts share one."""
    found: list[tuple[list[list[int]], list[str]]] = []
    for model in models:
        for runtime, matrix in model["confusion"].items() if model["ships"] else ():
            subject = f"{text.plain(model['file'])} on {runtime}"
            same = next((subjects for other, subjects in found if other == matrix), None)
            if same is not None:
                same.append(subject)
            elif matrix:
                found.append((matrix, [subject]))
    return [_view(matrix, subjects, classes) for matrix, subjects in found]


def _view(matrix: Sequence[Sequence[int]], subjects: list[str], classes: Sequence[str]) -> ConfusionView:
    """matrix: counts by [true class][predicted class]."""
    rows = [_row(i, counts, classes) for i, counts in enumerate(matrix)]
    columns = [sum(counts[j] for counts in matrix) for j in range(len(matrix))]
    mistakes: list[Mistake] = [
        {"from": row["name"], "to": cell["to"], "n": cell["n"], "of": row["n"]}
        for row in rows
        for cell in row["cells"]
        if cell["n"] and not cell["right"]
    ]
    recalls = [(row["recall"]["value"], row) for row in rows if row["recall"]]
    return {
        "subjects": subjects,
        "shown": rows if len(rows) <= _MATRIX_CLASSES else [],
        "precision": [matrix[j][j] / total if total else None for j, total in enumerate(columns)],
        "predicted": columns,
        "mistakes": sorted(mistakes, key=lambda mistake: -mistake["n"])[:_WORST],
        "worst": [row for _, row in sorted(recalls, key=lambda found: found[0])][:_WORST],
        "upright": len(classes) <= 8 and max(map(len, classes)) <= 12,
    }


def _row(i: int, counts: Sequence[int], classes: Sequence[str]) -> ClassRow:
    n = sum(counts)
    return {
        "name": classes[i],
        "n": n,
        "cells": [
            {"n": count, "heat": round(85 * count / n) if n else 0, "right": i == j, "to": classes[j]}
            for j, count in enumerate(counts)
        ],
        "recall": {"value": counts[i] / n, "interval": share_interval(counts[i], n)} if n else None,
    }
