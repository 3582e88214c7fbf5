"""`edgetl estimate`: model files read, and what each would take on a target. Light: see inspection."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from edgetl.commands.inspect.examine import DEFAULT_TIMEOUT_S
from edgetl.commands.inspect.run import inspect_path
from edgetl.core.errors import EdgetlError
from edgetl.latency.estimate import Estimate, estimate, runtimes_of
from edgetl.latency.load import load_of_ops, shares_of_ops
from edgetl.targets.ships import shipped_files
from edgetl.targets.target import Target

_OF_A_FILE = ("file", "format", "kind", "bytes", "sha256", "macs", "as_built", "error")


def estimate_path(
    path: Path, target: Target, *, timeout_s: float = DEFAULT_TIMEOUT_S
) -> tuple[dict[str, Any], EdgetlError | None]:
    """(estimates of a file or of every file of a bundle, what is wrong with files of a bundle), as inspect_path."""
    found, failure = inspect_path(path, timeout_s=timeout_s)
    budget = target.budget
    about = {
        "name": target.name,
        "device": target.device.description,
        "limit_p90_ms": budget.latency_p90_ms,
        "is_this_machine": target.is_this_machine(),
    }
    models = []
    for model in found["models"]:
        row = {key: model[key] for key in _OF_A_FILE if key in model}
        if "error" not in model:
            row.update(_of_file(model["ops"], model["format"], target))
        models.append(row)
    return {"target": about, "bundle": found["bundle"], "models": models}, failure


def _of_file(ops: Sequence[Mapping[str, Any]], file_format: str, target: Target) -> dict[str, Any]:
    """{"estimates": one a runtime of the target that opens the format, "ops": the largest shares of the time}."""
    load, rows = load_of_ops(ops, target), []
    for runtime in runtimes_of(target, file_format):
        made = estimate(load, target, runtime)
        rows.append(made.as_dict() if isinstance(made, Estimate) else {"runtime": runtime, "why_not": made})
    return {"estimates": rows, "ops": shares_of_ops(ops, target)}


def estimate_built(folder: Path, models: Sequence[Mapping[str, Any]], target: Target) -> dict[str, Estimate | str]:
    """File name -> its estimate on the target's first runtime that opens it, or why there is none.

    models: rows of models.json. Of those that ship, and only where their latency cannot be measured and has a limit. The
    files are a build's own, so they are read in this process. No part of any key: it judges and changes nothing.
    """
    made: dict[str, Estimate | str] = {}
    if target.is_this_machine() or target.budget.latency_p90_ms is None:
        return made
    for file in (row["file"] for row in shipped_files(target, models)):
        runtimes = runtimes_of(target, file.rsplit(".", 1)[1])
        if runtimes:
            made[file] = estimate(load_of_ops(read_ops(folder / file), target), target, runtimes[0])
    return made


def read_ops(file: Path) -> list[dict[str, Any]]:
    """Rows of findings' "ops" of a model file of our own."""
    from edgetl.formats.read.findings import findings

    if file.suffix == ".tflite":
        from edgetl.formats.read.tflite_file import read_tflite

        census = read_tflite(file.read_bytes())
    else:
        from edgetl.formats.read.onnx_file import read_onnx

        census = read_onnx(file.read_bytes())
    rows: list[dict[str, Any]] = findings(census)["ops"]
    return rows
