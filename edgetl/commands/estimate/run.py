"""`edgetl estimate`: model files are read, and their latency on a target is estimated. Light: see commands/inspect/run.py."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import cast

from edgetl.commands.estimate.result import EstimatedModel, EstimatedTarget, Estimates
from edgetl.commands.inspect.examine import DEFAULT_TIMEOUT_S
from edgetl.commands.inspect.run import inspect_path
from edgetl.core.errors import EdgetlError
from edgetl.formats.read.records import OpRow
from edgetl.latency.estimate import Estimate, estimate, runtimes_of
from edgetl.latency.load import load_of_ops, shares_of_ops
from edgetl.latency.records import EstimateRow, NoEstimate, OpShare
from edgetl.stages.records import ModelFile
from edgetl.targets.ships import shipped_files
from edgetl.targets.target import Target

_OF_A_FILE = ("file", "format", "kind", "bytes", "sha256", "macs", "as_built", "error")


def estimate_path(
    path: Path, target: Target, *, timeout_s: float = DEFAULT_TIMEOUT_S
) -> tuple[Estimates, EdgetlError | None]:
    """(estimates for a file or for every file of a bundle, an error for files that could not be read), as inspect_path."""
    found, failure = inspect_path(path, timeout_s=timeout_s)
    budget = target.budget
    about: EstimatedTarget = {
        "name": target.name,
        "device": target.device.description,
        "limit_p90_ms": budget.latency_p90_ms,
        "is_this_machine": target.is_this_machine(),
    }
    models: list[EstimatedModel] = []
    for model in found["models"]:
        row = cast("EstimatedModel", {key: value for key, value in model.items() if key in _OF_A_FILE})
        if "error" not in model:
            row["estimates"], row["ops"] = _of_file(model["ops"], model["format"], target)
        models.append(row)
    return {"target": about, "bundle": found["bundle"], "models": models}, failure


def _of_file(
    ops: Sequence[OpRow], file_format: str, target: Target
) -> tuple[list[EstimateRow | NoEstimate], list[OpShare]]:
    """(one estimate per runtime of the target that opens the format, the ops that take most of the time)."""
    load = load_of_ops(ops, target)
    rows: list[EstimateRow | NoEstimate] = []
    for runtime in runtimes_of(target, file_format):
        made = estimate(load, target, runtime)
        rows.append(made.as_dict() if isinstance(made, Estimate) else {"runtime": runtime, "why_not": made})
    return rows, shares_of_ops(ops, target)


def estimate_built(folder: Path, models: Sequence[ModelFile], target: Target) -> dict[str, Estimate | str]:
    """File name -> its estimate on the target's first runtime that opens it, or why there is none.

    models: rows of models.json. Only for files that ship, and only where latency has a limit and cannot be measured here. The
    files are the build's own, so they are read in this process. Not in any cache key, because it changes no artifact.
    """
    made: dict[str, Estimate | str] = {}
    if target.is_this_machine() or target.budget.latency_p90_ms is None:
        return made
    for file in (row["file"] for row in shipped_files(target, models)):
        runtimes = runtimes_of(target, file.rsplit(".", 1)[1])
        if runtimes:
            made[file] = estimate(load_of_ops(read_ops(folder / file), target), target, runtimes[0])
    return made


def read_ops(file: Path) -> list[OpRow]:
    """The ops of a model file that edgetl wrote."""
    from edgetl.formats.read.findings import findings

    if file.suffix == ".tflite":
        from edgetl.formats.read.tflite_file import read_tflite

        census = read_tflite(file.read_bytes())
    else:
        from edgetl.formats.read.onnx_file import read_onnx

        census = read_onnx(file.read_bytes())
    return findings(census)["ops"]
