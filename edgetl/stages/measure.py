"""Run every exported file on the whole test split, on every runtime here that opens it, beside Keras."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from edgetl.bundle.golden import MOST_PHOTOS, int8_grid, write_golden
from edgetl.core import machine
from edgetl.core.store import Artifact
from edgetl.dataset.samples import load_split
from edgetl.dataset.scan import Listing
from edgetl.measure.accuracy import accuracy, confusion
from edgetl.measure.latency import summarise, time_runs
from edgetl.measure.parity import ID_DIGITS, coarser_step, pairs_among, parity, parity_matrix
from edgetl.runtimes import open_sessions
from edgetl.runtimes.catalogue import default_backends
from edgetl.runtimes.keras import open_session as open_keras
from edgetl.stages.context import Context
from edgetl.tasks.photos.batches import evaluation_batches, iterate
from edgetl.tasks.photos.contract import Normalization, View, describe_input
from edgetl.tasks.photos.flips import find_flips, write_flips

# Files of float weights come from the Keras model of their role, integer files from the fake-quantized one. What a
# dynamic-range file computes depends on each run's own ranges: no Keras model stands for it.
_FLOAT, _NO_REFERENCE = ("float32", "float16"), ("dynamic",)


def run(options: Mapping[str, Any], inputs: Mapping[str, Artifact], context: Context) -> None:
    """Writes measurements.json, predictions.npz, input.json (the contract's input), golden/ and flips/."""
    data = load_split(inputs["dataset"].path, context.photos)
    view = View.of(options)
    folder = inputs["models"].path
    rows = json.loads((folder / "models.json").read_text())
    # The input's normalization of each role, from the model's own code.
    normalizations = {role: _normalization(inputs[role].path) for role in ("teacher", "student")}
    references = {name: open_keras(inputs[name].path) for name in ("teacher", "student", "quantized") if name in inputs}
    sessions, absent = open_sessions(folder, [row["file"] for row in rows], threads=options["threads"])

    role_of = {row["file"]: row["role"] for row in rows}
    predictions: dict[str, list[Any]] = {name: [] for name in [*(f"keras:{name}" for name in references), *sessions]}
    context.progress.begin(len(data.test), unit="photos")
    for pixels, _ in iterate(evaluation_batches(data.test, view, batch_size=32)):
        images = {
            role: np.asarray(normalization.apply(pixels.numpy()), np.float32)
            for role, normalization in normalizations.items()
        }
        for name, reference in references.items():
            predictions[f"keras:{name}"].append(reference.run(images["teacher" if name == "teacher" else "student"]))
        for name, session in sessions.items():
            predictions[name].append(session.run(images[role_of[name.split("@")[0]]]))
        context.progress.advance(len(pixels), "every file on every runtime")
    whole = {name: np.concatenate(parts) for name, parts in predictions.items()}

    # One after the other in rounds, not each on its own: what disturbs the machine disturbs all of them.
    times: dict[str, list[float]] = {name: [] for name in sessions}
    rounds = 10
    context.progress.begin(rounds * len(sessions), unit="latency rounds")
    for i in range(rounds):
        for name, session in sessions.items():
            times[name] += time_runs(
                session, warmup_runs=options["warmup_runs"] if i == 0 else 2, runs=max(1, options["runs"] // rounds)
            )
            context.progress.advance(1)

    labels = data.test.labels
    measurements: dict[str, Any] = {
        "machine": machine.describe(),
        "runtimes": {name: absent.get(name) or "ready" for name in default_backends()},
        "keras": {name: accuracy(whole[f"keras:{name}"], labels) for name in references},
        "files": {},
        "parity": [],
    }
    for row in rows:
        origin = row["role"] if row["precision"] in _FLOAT else "quantized"
        entry: dict[str, Any] = {"accuracy": {}, "latency": {}, "confusion": {}, "placement": {}, "against_float": {}}
        for name, session in sessions.items():
            file, runtime = name.split("@")
            if file != row["file"]:
                continue
            entry["accuracy"][runtime] = accuracy(whole[name], labels)
            entry["confusion"][runtime] = confusion(whole[name], labels)
            entry["latency"][runtime] = summarise(
                times[name], threads=options["threads"], processor=machine.processor()
            )
            entry["placement"][runtime] = dict(session.placement().ops)
            step = coarser_step(0.0, session.output_step)
            entry["against_float"][runtime] = parity(whole[f"keras:{row['role']}"], whole[name], labels, step=step)
            if row["precision"] not in _NO_REFERENCE:
                pair = parity(whole[f"keras:{origin}"], whole[name], labels, step=step)
                measurements["parity"].append({"a": f"keras:{origin}", "b": f"models/{name}", **pair})
        measurements["files"][row["file"]] = entry
    versions: dict[str, Any] = {
        **{name: whole[name] for name in ("keras:student", "keras:quantized") if name in whole},
        **{f"models/{name}": whole[name] for name in sessions if role_of[name.split("@")[0]] == "student"},
    }
    steps = {name: sessions[name.removeprefix("models/")].output_step if "@" in name else 0.0 for name in versions}
    measurements["parity_matrix"] = parity_matrix(
        versions, labels, [digest[:ID_DIGITS] for digest in data.test.digests], steps=steps
    )
    # The integer files against each other: two formats, one set of integers.
    integer_files = [row["file"] for row in rows if row["precision"] not in (*_FLOAT, *_NO_REFERENCE)]
    integers = {f"models/{name}" for name in sessions if name.split("@")[0] in integer_files}
    measurements["parity"] += pairs_among(measurements["parity_matrix"], integers)
    write_flips(
        context.out / "flips",
        find_flips(versions, reference="keras:student", files=[name for name in versions if "@" in name]),
        versions,
        paths=data.test.paths,
        digests=data.test.digests,
        labels=labels,
        classes=data.classes,
        source=Path(context.listing.source) if isinstance(context.listing, Listing) else None,
    )
    np.savez(context.out / "predictions.npz", labels=labels, **whole)  # type: ignore[arg-type]
    (context.out / "measurements.json").write_text(json.dumps(measurements, indent=1))
    student = normalizations["student"]
    (context.out / "input.json").write_text(json.dumps(describe_input(student, view), indent=1))
    firsts = [int(np.flatnonzero(labels == label)[0]) for label in range(min(len(data.classes), MOST_PHOTOS))]
    write_golden(
        context.out / "golden",
        [(data.test.paths[i], data.classes[int(labels[i])]) for i in firsts],
        student,
        view,
        grid=int8_grid([row["input"] for row in rows]),
        sessions={name: session for name, session in sessions.items() if role_of[name.split("@")[0]] == "student"},
    )
    for session in sessions.values():
        session.close()


def _normalization(artifact: Path) -> Normalization:
    from edgetl.backbones.models import ModelSpec

    return ModelSpec(**json.loads((artifact / "model.json").read_text())).normalization
