"""`edgetl inspect`: what a model file, or each file of a bundle, contains. Light: files are opened in a separate process
(commands.inspect.examine)."""

from __future__ import annotations

from pathlib import Path
from typing import cast

from edgetl.bundle.files import as_built, bundle_files, read_report
from edgetl.commands.inspect.examine import DEFAULT_TIMEOUT_S, examine
from edgetl.commands.inspect.result import InspectedBundle, InspectedModel, Inspection
from edgetl.core.errors import EdgetlError
from edgetl.core.words import printable
from edgetl.formats.files import check_there
from edgetl.latency.roofline import roofline
from edgetl.targets.target import Target


def inspect_path(
    path: Path, *, target: Target | None = None, timeout_s: float = DEFAULT_TIMEOUT_S
) -> tuple[Inspection, EdgetlError | None]:
    """(the findings, an error for the files of a bundle that could not be read). timeout_s: for each file.

    A single file that cannot be read raises; in a bundle the other files are still reported, and the error names all
    that are not. Raises DataError or MissingError.
    """
    check_there(path, printable(str(path), 4096))
    if not path.is_dir():
        return {"bundle": None, "models": [_inspect(path, target, timeout_s)]}, None
    files = bundle_files(path)
    built = read_report(path / "report.json")
    models: list[InspectedModel] = []
    failures: list[EdgetlError] = []
    for file in files:
        try:
            model = _inspect(file, target, timeout_s)
        except EdgetlError as error:
            failures.append(error)
            model = {"file": printable(str(file), 4096), "error": {"what": error.what, "why": error.why}}  # type: ignore[typeddict-item]
        model["as_built"] = as_built(file.name, model.get("sha256"), built)
        models.append(model)
    missing = sorted(set(built or {}) - {file.name for file in files})
    bundle: InspectedBundle = {
        "folder": printable(str(path), 4096),
        "report": built is not None,
        "missing": [printable(name) for name in missing],
    }
    return {"bundle": bundle, "models": models}, _joined(failures)


def _joined(failures: list[EdgetlError]) -> EdgetlError | None:
    """One error for all: twelve bad files are twelve lines, not twelve runs."""
    if len(failures) < 2:
        return failures[0] if failures else None
    return type(failures[0])(
        f"{len(failures)} files of the bundle could not be read.",
        why="\n       ".join(f"{error.what} {error.why}" for error in failures),
        fix=failures[0].fix,
    )


def _inspect(path: Path, target: Target | None, timeout_s: float) -> InspectedModel:
    found = cast("InspectedModel", examine(path, timeout_s=timeout_s))
    if target is not None:
        bound = roofline(found["ops"], target.peak.model_dump())
        found["roofline"] = {
            "target": target.name,
            "total_ms": bound.total_ms,
            "compute_ms": bound.compute_ms,
            "memory_ms": bound.memory_ms,
            "lacking": bound.lacking,
        }
    return found
