"""Run every exported file on the whole test split, on every runtime here that opens it, beside Keras."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgetl.bundle.golden import MOST_PHOTOS, int8_grid, write_golden
from edgetl.core import machine
from edgetl.core.progress import Progress
from edgetl.core.store import Artifact
from edgetl.dataset.samples import Samples, SplitDataset, load_split
from edgetl.dataset.scan import Listing
from edgetl.measure.accuracy import accuracy, confusion
from edgetl.measure.latency import summarise, time_runs
from edgetl.measure.parity import ID_DIGITS, coarser_step, pairs_among, parity, parity_matrix
from edgetl.measure.records import FileMeasurement, Measurements, ParityPair
from edgetl.runtimes import Session, open_sessions
from edgetl.runtimes.catalogue import default_backends
from edgetl.runtimes.keras import open_session as open_keras
from edgetl.stages.context import Context
from edgetl.stages.records import ModelFile
from edgetl.tasks.photos.batches import evaluation_batches, iterate
from edgetl.tasks.photos.contract import Normalization, View, describe_input
from edgetl.tasks.photos.flips import find_flips, write_flips

# Files of float weights come from the Keras model of their role, integer files from the fake-quantized one. What a
# dynamic-range file computes depends on the ranges of each run: no Keras model computes the same.
_FLOAT, _NO_REFERENCE = ("float32", "float16"), ("dynamic",)
_ROUNDS = 10


@dataclass(frozen=True)
class _Opened:
    """What is measured. Versions are named "file@runtime" for a file on a runtime, "keras:ROLE" for a Keras model.

    sessions: by version. absent: backend -> why it is not available. references: the Keras models by role. normalizations:
    of the input, by role, from the model's own code.
    """

    files: Sequence[ModelFile]
    sessions: Mapping[str, Session]
    absent: Mapping[str, str]
    references: Mapping[str, Any]
    normalizations: Mapping[str, Normalization]

    def role_of(self, version: str) -> str:
        """The role of a version's file."""
        return next(row["role"] for row in self.files if row["file"] == version.split("@")[0])

    def versions_of(self, file: str) -> list[tuple[str, str]]:
        """(runtime, version) on every runtime that opens the file."""
        return [(name.split("@")[1], name) for name in self.sessions if name.split("@")[0] == file]

    def students(self) -> dict[str, Session]:
        """The sessions of the student's files."""
        return {name: session for name, session in self.sessions.items() if self.role_of(name) == "student"}


@dataclass(frozen=True)
class _Measured:
    """probabilities: by version, float32 [photos, classes] of the test photos. times_ms: of single runs, by version."""

    probabilities: Mapping[str, Any]
    times_ms: Mapping[str, list[float]]
    test: Samples
    threads: int


def run(options: Mapping[str, Any], inputs: Mapping[str, Artifact], context: Context) -> None:
    """Writes measurements.json, predictions.npz, input.json (the contract's input), golden/ and flips/."""
    data = load_split(inputs["dataset"].path, context.photos)
    view = View.of(options)
    opened = _open(inputs, threads=options["threads"])
    probabilities = _answer(opened, data.test, view, context.progress)
    times_ms = _time(opened, options["warmup_runs"], options["runs"], context.progress)
    measured = _Measured(probabilities, times_ms, data.test, options["threads"])
    students = _student_versions(opened, probabilities)
    _write_measurements(opened, measured, students, context.out)
    _write_flips(students, data, context)
    (context.out / "input.json").write_text(
        json.dumps(describe_input(opened.normalizations["student"], view), indent=1)
    )
    _write_golden(opened, data, view, context.out / "golden")
    for session in opened.sessions.values():
        session.close()


def _open(inputs: Mapping[str, Artifact], *, threads: int) -> _Opened:
    folder = inputs["models"].path
    files: list[ModelFile] = json.loads((folder / "models.json").read_text())
    normalizations = {role: _normalization(inputs[role].path) for role in ("teacher", "student")}
    references = {name: open_keras(inputs[name].path) for name in ("teacher", "student", "quantized") if name in inputs}
    sessions, absent = open_sessions(folder, [row["file"] for row in files], threads=threads)
    return _Opened(files, sessions, absent, references, normalizations)


def _normalization(artifact: Path) -> Normalization:
    from edgetl.backbones.models import ModelSpec

    return ModelSpec(**json.loads((artifact / "model.json").read_text())).normalization


def _answer(opened: _Opened, test: Samples, view: View, progress: Progress) -> dict[str, Any]:
    """Every version's probabilities of the test photos: float32 [photos, classes]."""
    parts: dict[str, list[Any]] = {
        name: [] for name in [*(f"keras:{role}" for role in opened.references), *opened.sessions]
    }
    role_of = {name: opened.role_of(name) for name in opened.sessions}
    progress.begin(len(test), unit="photos")
    for pixels, _ in iterate(evaluation_batches(test, view, batch_size=32)):
        images = {
            role: np.asarray(normalization.apply(pixels.numpy()), np.float32)
            for role, normalization in opened.normalizations.items()
        }
        for role, reference in opened.references.items():
            parts[f"keras:{role}"].append(reference.run(images["teacher" if role == "teacher" else "student"]))
        for name, session in opened.sessions.items():
            parts[name].append(session.run(images[role_of[name]]))
        progress.advance(len(pixels), "every file on every runtime")
    return {name: np.concatenate(batches) for name, batches in parts.items()}


def _time(opened: _Opened, warmup_runs: int, runs: int, progress: Progress) -> dict[str, list[float]]:
    """Milliseconds of single runs, in rounds over all files: what disturbs the machine then disturbs all of them."""
    times_ms: dict[str, list[float]] = {name: [] for name in opened.sessions}
    progress.begin(_ROUNDS * len(opened.sessions), unit="latency rounds")
    for i in range(_ROUNDS):
        for name, session in opened.sessions.items():
            times_ms[name] += time_runs(session, warmup_runs=warmup_runs if i == 0 else 2, runs=max(1, runs // _ROUNDS))
            progress.advance(1)
    return times_ms


def _student_versions(opened: _Opened, probabilities: Mapping[str, Any]) -> dict[str, Any]:
    """Version -> probabilities of the student in Keras and of its files, which get the names they have in the bundle."""
    return {
        **{name: probabilities[name] for name in ("keras:student", "keras:quantized") if name in probabilities},
        **{f"models/{name}": probabilities[name] for name in opened.students()},
    }


def _write_measurements(opened: _Opened, measured: _Measured, students: Mapping[str, Any], out: Path) -> None:
    """measurements.json and predictions.npz."""
    labels = measured.test.labels
    keras = {role: accuracy(measured.probabilities[f"keras:{role}"], labels) for role in opened.references}
    steps = {
        name: opened.sessions[name.removeprefix("models/")].output_step if "@" in name else 0.0 for name in students
    }
    ids = [digest[:ID_DIGITS] for digest in measured.test.digests]
    matrix = parity_matrix(students, labels, ids, steps=steps)
    # The integer files of two formats hold one set of integers, so they are compared with each other as well.
    integer_files = [row["file"] for row in opened.files if row["precision"] not in (*_FLOAT, *_NO_REFERENCE)]
    integers = {f"models/{name}" for file in integer_files for _, name in opened.versions_of(file)}
    measurements: Measurements = {
        "machine": machine.describe(),
        "runtimes": {name: opened.absent.get(name) or "ready" for name in default_backends()},
        "keras": keras,
        "files": {row["file"]: _file_measurement(row, opened, measured) for row in opened.files},
        "parity": [
            *(pair for row in opened.files for pair in _pairs_with_keras(row, opened, measured)),
            *pairs_among(matrix, integers),
        ],
        "parity_matrix": matrix,
    }
    np.savez(out / "predictions.npz", labels=labels, **measured.probabilities)
    (out / "measurements.json").write_text(json.dumps(measurements, indent=1))


def _file_measurement(row: ModelFile, opened: _Opened, measured: _Measured) -> FileMeasurement:
    """What was measured of one file, by runtime."""
    labels, threads = measured.test.labels, measured.threads
    trained = measured.probabilities[f"keras:{row['role']}"]
    entry: FileMeasurement = {"accuracy": {}, "latency": {}, "confusion": {}, "placement": {}, "against_float": {}}
    for runtime, name in opened.versions_of(row["file"]):
        session, found = opened.sessions[name], measured.probabilities[name]
        entry["accuracy"][runtime] = accuracy(found, labels)
        entry["confusion"][runtime] = confusion(found, labels)
        entry["latency"][runtime] = summarise(measured.times_ms[name], threads=threads, processor=machine.processor())
        entry["placement"][runtime] = dict(session.placement().ops)
        step = coarser_step(0.0, session.output_step)
        entry["against_float"][runtime] = parity(trained, found, labels, step=step)
    return entry


def _pairs_with_keras(row: ModelFile, opened: _Opened, measured: _Measured) -> list[ParityPair]:
    """The file on each runtime, compared with the Keras model that it was exported from."""
    if row["precision"] in _NO_REFERENCE:
        return []
    origin = f"keras:{row['role'] if row['precision'] in _FLOAT else 'quantized'}"
    pairs: list[ParityPair] = []
    for _, name in opened.versions_of(row["file"]):
        step = coarser_step(0.0, opened.sessions[name].output_step)
        pair = parity(measured.probabilities[origin], measured.probabilities[name], measured.test.labels, step=step)
        pairs.append({"a": origin, "b": f"models/{name}", **pair})
    return pairs


def _write_flips(students: Mapping[str, Any], data: SplitDataset, context: Context) -> None:
    write_flips(
        context.out / "flips",
        find_flips(students, reference="keras:student", files=[name for name in students if "@" in name]),
        students,
        paths=data.test.paths,
        digests=data.test.digests,
        labels=data.test.labels,
        classes=data.classes,
        source=Path(context.listing.source) if isinstance(context.listing, Listing) else None,
    )


def _write_golden(opened: _Opened, data: SplitDataset, view: View, folder: Path) -> None:
    """One photo of each of the first classes."""
    labels = data.test.labels
    firsts = [int(np.flatnonzero(labels == label)[0]) for label in range(min(len(data.classes), MOST_PHOTOS))]
    write_golden(
        folder,
        [(data.test.paths[i], data.classes[int(labels[i])]) for i in firsts],
        opened.normalizations["student"],
        view,
        grid=int8_grid([row["input"] for row in opened.files]),
        sessions=opened.students(),
    )
