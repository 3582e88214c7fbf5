"""Inspection: what `edgetl inspect` says about a model file or a bundle, as plain data. Light: files are opened in a
process of their own (formats.examine)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from edgetl.errors import DataError, EdgetlError
from edgetl.formats.census import printable
from edgetl.formats.examine import DEFAULT_TIMEOUT_S, FORMATS, check_there, examine
from edgetl.formats.roofline import roofline
from edgetl.target import Target

LARGEST_REPORT_BYTES = 64 * 10**6


def inspect_path(
    path: Path, *, target: Target | None = None, timeout_s: float = DEFAULT_TIMEOUT_S
) -> tuple[dict[str, Any], EdgetlError | None]:
    """(what was found, what is wrong with files of a bundle). timeout_s: for each file.

    A single file that cannot be read raises; in a bundle the other files are still told, and the error names all that
    are not. Raises DataError or MissingError.
    """
    check_there(path, printable(str(path), 4096))
    if not path.is_dir():
        return {"bundle": None, "models": [_inspect(path, target, timeout_s)]}, None
    files = bundle_files(path)
    built = read_report(path / "report.json")
    models: list[dict[str, Any]] = []
    failures: list[EdgetlError] = []
    for file in files:
        try:
            row = _inspect(file, target, timeout_s)
        except EdgetlError as error:
            failures.append(error)
            row = {"file": printable(str(file), 4096), "error": {"what": error.what, "why": error.why}}
        models.append({**row, "as_built": as_built(file.name, row.get("sha256"), built)})
    missing = sorted(set(built or {}) - {file.name for file in files})
    bundle = {
        "folder": printable(str(path), 4096),
        "report": built is not None,
        "missing": [printable(name) for name in missing],
    }
    return {"bundle": bundle, "models": models}, _joined(failures)


def _joined(failures: list[EdgetlError]) -> EdgetlError | None:
    """One message for all: twelve bad files are twelve lines, not twelve runs."""
    if len(failures) < 2:
        return failures[0] if failures else None
    return type(failures[0])(
        f"{len(failures)} files of the bundle could not be read.",
        why="\n       ".join(f"{error.what} {error.why}" for error in failures),
        fix=failures[0].fix,
    )


def bundle_files(folder: Path) -> list[Path]:
    """The model files of a bundle, by name. Raises DataError when there is none."""
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
    """File name -> sha256 as report.json has them; None without a report. Raises DataError for one that is damaged."""
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
    """Whether a file is the one that its bundle's report is about: its bytes, not its name.

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


def _inspect(path: Path, target: Target | None, timeout_s: float) -> dict[str, Any]:
    found = examine(path, timeout_s=timeout_s)
    if target is not None:
        bound = roofline(found["ops"], target.peak.model_dump())
        found["roofline"] = {"target": target.name, **asdict(bound)}
    return found
