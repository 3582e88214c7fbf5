from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from edgetl.runtimes.catalogue import BACKENDS
from edgetl.targets.target import Target

# What serves a target of a precision: where int8 could not keep to the budget, auto goes to wider integers.
_SHIPS = {
    "float32": ("float32",),
    "float16": ("float16",),
    "dynamic": ("dynamic",),
    "int8": ("int8", "int16x8", "int8-float32"),
}


def shipped_files(target: Target, files: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The student's files of the target's precision in the formats that its runtimes open."""
    formats = {BACKENDS[runtime].format for runtime in target.runtimes}
    return [
        row
        for row in files
        if row["role"] == "student" and row["format"] in formats and row["precision"] in _SHIPS[target.precision]
    ]
