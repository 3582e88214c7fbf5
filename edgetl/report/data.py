"""Report: what was built, measured and decided. `judge` draws the verdicts; nothing here measures, prints or decides
exit codes of exceptions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from edgetl.latency.estimate import Estimate
from edgetl.targets.ships import shipped_files
from edgetl.targets.target import Target
from edgetl.verdicts.check import Check

SCHEMA_VERSION = 1


# What the quantize stage's history.json holds besides its epochs: how integers were reached, and where they cost.
_QUANTIZATION = (
    "scheme",
    "attempts",
    "sensitivity",
    "signal",
    "preflight",
    "estimator",
    "n_calibrate",
    "fold_error",
)


def _training_part(history: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in history.items() if key not in _QUANTIZATION}


def _quantization_part(history: Mapping[str, Any]) -> dict[str, Any]:
    return {key: history[key] for key in _QUANTIZATION if key in history}


def make_report(
    target: Target,
    *,
    checks: Sequence[Check],
    recipe: Mapping[str, Any],
    dataset: Mapping[str, Any],
    n_calibrate: int,
    stages: Sequence[Mapping[str, Any]],
    models: Sequence[Mapping[str, Any]],
    measurements: Mapping[str, Any],
    histories: Mapping[str, Any],
    sources: Mapping[str, Any],
    flips: Mapping[str, Any] | None = None,
    estimates: Mapping[str, Estimate | str] | None = None,
    accept_estimates: bool = False,
    student_choice: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """report.json as plain data. histories: stage -> its history.json; sources: role -> where weights began; flips: the
    verify stage's flips.json. estimates, accept_estimates: see judge. student_choice: of `--student auto`."""
    counts = {
        split: sum(1 for photo in dataset["photos"] if photo["split"] == split)
        for split in ("train", "validate", "test")
    }
    shipped = {row["file"] for row in shipped_files(target, models)}
    rows = []
    for row in models:
        entry = measurements["files"].get(row["file"], {})
        measured = {
            key: entry.get(key, {}) for key in ("accuracy", "latency", "confusion", "placement", "against_float")
        }
        rows.append({**row, "file": f"models/{row['file']}", "ships": row["file"] in shipped, **measured})
    return {
        "schema_version": SCHEMA_VERSION,
        "target": {
            "name": target.name,
            "device": target.device.description,
            "precision": target.precision,
            "budget": target.budget.model_dump(),
            "is_this_machine": target.is_this_machine(),
        },
        "references": [reference.model_dump() for reference in target.references],
        "estimates": {
            f"models/{file}": made.as_dict() if isinstance(made, Estimate) else {"why_not": made}
            for file, made in (estimates or {}).items()
        },
        "estimates_accepted": accept_estimates,
        "recipe": recipe,
        "student_choice": student_choice,
        "dataset": {
            "classes": dataset["classes"],
            **{f"n_{split}": count for split, count in counts.items()},
            "n_calibrate": n_calibrate,
            "fingerprint": dataset["fingerprint"],
            "duplicates": dataset["duplicates"],
            "left_out": dataset["left_out"],
        },
        "weights": sources,
        "stages": list(stages),
        "training": {name: _training_part(history) for name, history in histories.items() if history.get("epochs")},
        "quantization": _quantization_part(histories.get("quantize", {})),
        "models": rows,
        "keras": measurements["keras"],
        "parity": measurements["parity"],
        "parity_matrix": measurements.get("parity_matrix", {"names": [], "pairs": []}),
        "flips": flips or {"n": 0, "photos": []},
        "checks": [asdict(check) for check in checks],
        "machine": measurements["machine"],
        "runtimes": measurements["runtimes"],
    }
