from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from edgetl.core.errors import DataError
from edgetl.core.words import printable
from edgetl.formats.files import FORMATS

LARGEST_REPORT_BYTES = 64 * 10**6


def bundle_files(folder: Path) -> list[Path]:
    """The model files of a bundle, sorted by name. Raises DataError if there are none."""
    for place in (folder / "models", folder):
        files = sorted(file for suffix in FORMATS for file in place.glob(f"*{suffix}"))
        if files:
            return files
    raise DataError(
        f"There are no model files in {printable(str(folder), 4096)}.",
        why="a bundle has models/*.tflite and models/*.onnx",
        fix="give the folder that `edgetl build` wrote, or a model file",
    )


def read_report(file: Path) -> dict[str, str] | None:
    """File name -> sha256 from report.json; None if there is no report. Raises DataError for a damaged report."""
    if not file.is_file():
        return None
    try:
        if file.stat().st_size > LARGEST_REPORT_BYTES:
            raise ValueError(f"it has {file.stat().st_size} bytes")
        rows = json.loads(file.read_text(encoding="utf-8"))["models"]
        return {str(row["file"]).removeprefix("models/"): str(row["sha256"]) for row in rows}
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise DataError(
            f"{printable(str(file), 4096)} is not a report of a build.",
            why=printable(f"{type(error).__name__}: {error}", 300),
            fix="build again, or inspect the model files one by one",
        ) from None


def as_built(name: str, sha256: str | None, built: Mapping[str, str] | None) -> str:
    """Whether a file has the bytes that its bundle's report recorded for its name.

    >>> as_built("a.tflite", "00", {"a.tflite": "11"}), as_built("b.tflite", "00", {})
    ('changed', 'not in the report')
    """
    if built is None:
        return "no report"
    if name not in built:
        return "not in the report"
    if sha256 is None:
        return "unread"
    return "unchanged" if built[name] == sha256 else "changed"
