"""Which of a build's files ship on a target."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeVar

from edgetl.runtimes.catalogue import BACKENDS
from edgetl.targets.target import Target

# A target's precision -> the precisions of files that ship for it: if int8 does not meet the budget, auto widens it.
_SHIPS = {
    "float32": ("float32",),
    "float16": ("float16",),
    "dynamic": ("dynamic",),
    "int8": ("int8", "int16x8", "int8-float32"),
}


# A row of report.json's "models", or part of one.
Row = TypeVar("Row", bound=Mapping[str, object])


def shipped_files(target: Target, files: Sequence[Row]) -> list[Row]:
    """The student's files of the target's precision, in the formats that its runtimes open.

    files: rows with at least `role`, `format` and `precision`.
    """
    formats = {BACKENDS[runtime].format for runtime in target.runtimes}
    return [
        row
        for row in files
        if row["role"] == "student" and row["format"] in formats and row["precision"] in _SHIPS[target.precision]
    ]
