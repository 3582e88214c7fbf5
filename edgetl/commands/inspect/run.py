"""Inspection: what `edgetl inspect` says about a model file or a bundle, as plain data. Light: files are opened in a
process of their own (formats.examine)."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from edgetl.bundle.files import as_built, bundle_files, read_report
from edgetl.commands.inspect.examine import DEFAULT_TIMEOUT_S, examine
from edgetl.core.errors import EdgetlError
from edgetl.core.words import printable
from edgetl.formats.files import check_there
from edgetl.latency.roofline import roofline
from edgetl.targets.target import Target


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


def _inspect(path: Path, target: Target | None, timeout_s: float) -> dict[str, Any]:
    found = examine(path, timeout_s=timeout_s)
    if target is not None:
        bound = roofline(found["ops"], target.peak.model_dump())
        found["roofline"] = {"target": target.name, **asdict(bound)}
    return found
