"""report.json: what was built, measured and decided, as data. Nothing here measures, judges or prints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from edgetl.latency.estimate import Estimate
from edgetl.report.records import (
    BudgetRow,
    ReferenceRow,
    Report,
    ReportDataset,
    ReportModel,
    ReportQuantization,
    ReportTarget,
    ReportTraining,
    StageRow,
    StudentChoiceRow,
)
from edgetl.targets.ships import shipped_files
from edgetl.targets.target import Target
from edgetl.verdicts.check import Check

if TYPE_CHECKING:
    from edgetl.backbones.records import WeightsSource
    from edgetl.measure.records import FileMeasurement, Measurements
    from edgetl.stages.records import FlipsJson, ModelFile, SplitJson
    from edgetl.training.records import HistoryJson

SCHEMA_VERSION = 1
# The keys of the quantize stage's history.json that are not about its epochs.
_QUANTIZATION = tuple(ReportQuantization.__annotations__)


@dataclass(frozen=True)
class BuildRecords:
    """What the stages of one build recorded, with what was decided on the way.

    recipe: its tables. dataset: dataset.json. models: models.json. measurements: measurements.json. histories: stage ->
    its history.json. weights: role -> where its first weights came from. flips: flips.json. estimates: file -> its
    estimated latency, or why there is none; estimates_accepted: they may decide where nothing was measured.
    student_choice: of `--student auto`.
    """

    recipe: Mapping[str, Any]
    dataset: SplitJson
    stages: Sequence[StageRow]
    models: Sequence[ModelFile]
    measurements: Measurements
    histories: Mapping[str, HistoryJson]
    weights: Mapping[str, WeightsSource]
    flips: FlipsJson | None = None
    estimates: Mapping[str, Estimate | str] | None = None
    estimates_accepted: bool = False
    student_choice: StudentChoiceRow | None = None


def make_report(target: Target, records: BuildRecords, checks: Sequence[Check]) -> Report:
    """report.json as plain data. checks: the verdicts on these records for the target."""
    measurements = records.measurements
    quantization = _quantization(records.histories)
    return {
        "schema_version": SCHEMA_VERSION,
        "target": _target(target),
        "references": [cast(ReferenceRow, reference.model_dump()) for reference in target.references],
        "estimates": {
            f"models/{file}": found.as_dict() if isinstance(found, Estimate) else {"why_not": found}
            for file, found in (records.estimates or {}).items()
        },
        "estimates_accepted": records.estimates_accepted,
        "recipe": records.recipe,
        "student_choice": records.student_choice,
        "dataset": _dataset(records.dataset, quantization.get("n_calibrate", 0)),
        "weights": records.weights,
        "stages": list(records.stages),
        "training": {name: _training(history) for name, history in records.histories.items() if history.get("epochs")},
        "quantization": quantization,
        "models": _models(target, records.models, measurements["files"]),
        "keras": measurements["keras"],
        "parity": measurements["parity"],
        "parity_matrix": measurements.get("parity_matrix", {"names": [], "pairs": []}),
        "flips": records.flips or {"n": 0, "photos": []},
        "checks": [check.to_json() for check in checks],
        "machine": measurements["machine"],
        "runtimes": measurements["runtimes"],
    }


def _target(target: Target) -> ReportTarget:
    return {
        "name": target.name,
        "device": target.device.description,
        "precision": target.precision,
        "budget": cast(BudgetRow, target.budget.model_dump()),
        "is_this_machine": target.is_this_machine(),
    }


def _dataset(dataset: SplitJson, n_calibrate: int) -> ReportDataset:
    splits = [photo["split"] for photo in dataset["photos"]]
    return {
        "classes": dataset["classes"],
        "n_train": splits.count("train"),
        "n_validate": splits.count("validate"),
        "n_test": splits.count("test"),
        "n_calibrate": n_calibrate,
        "fingerprint": dataset["fingerprint"],
        "duplicates": dataset["duplicates"],
        "left_out": dataset["left_out"],
    }


def _training(history: HistoryJson) -> ReportTraining:
    return cast(ReportTraining, {key: value for key, value in history.items() if key not in _QUANTIZATION})


def _quantization(histories: Mapping[str, HistoryJson]) -> ReportQuantization:
    history: Mapping[str, object] = histories.get("quantize") or {}
    return cast(ReportQuantization, {key: history[key] for key in _QUANTIZATION if key in history})


def _models(target: Target, models: Sequence[ModelFile], measured: Mapping[str, FileMeasurement]) -> list[ReportModel]:
    """The rows of models.json with what was measured of each file: nothing, where no runtime here opens it."""
    ships = {row["file"] for row in shipped_files(target, models)}
    rows: list[ReportModel] = []
    for row in models:
        found: Mapping[str, Any] = measured.get(row["file"]) or {}
        rows.append(
            {
                **row,
                "file": f"models/{row['file']}",
                "ships": row["file"] in ships,
                "accuracy": found.get("accuracy", {}),
                "latency": found.get("latency", {}),
                "confusion": found.get("confusion", {}),
                "placement": found.get("placement", {}),
                "against_float": found.get("against_float", {}),
            }
        )
    return rows
