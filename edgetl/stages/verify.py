"""Run every exported file on the whole test split, on every runtime here that opens it, beside Keras."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edgetl import machine
from edgetl.context import Context
from edgetl.dataset.batches import evaluation_batches, iterate
from edgetl.dataset.contract import Normalization, View, describe_input
from edgetl.dataset.samples import Samples, load_split
from edgetl.dataset.scan import Listing
from edgetl.errors import MissingError
from edgetl.measure.accuracy import accuracy, confusion
from edgetl.measure.flips import find_flips, write_flips
from edgetl.measure.latency import summarise, time_runs
from edgetl.measure.parity import coarser_step, parity, parity_matrix
from edgetl.runtimes import RUNTIMES, load_runtime, runtimes_for
from edgetl.runtimes.keras import open_session as open_keras
from edgetl.store import Artifact

# Files of float weights come from the Keras model of their role, integer files from the fake-quantized one. What a
# dynamic-range file computes depends on each run's own ranges: no Keras model stands for it.
_FLOAT, _NO_REFERENCE = ("float32", "float16"), ("dynamic",)
_GOLDEN_PHOTOS = 5
# Of a photo's sha256, as its id in lists: 64 bits tell any two photos of a data set apart.
_ID_DIGITS = 16


def run(options: Mapping[str, Any], inputs: Mapping[str, Artifact], context: Context) -> None:
    """Writes measurements.json, predictions.npz, input.json (the contract's input), golden/ and flips/."""
    data = load_split(inputs["dataset"].path, context.photos)
    view = View.of(options)
    folder = inputs["models"].path
    rows = json.loads((folder / "models.json").read_text())
    # The input's normalization of each role, from the model's own code.
    normalizations = {role: _normalization(inputs[role].path) for role in ("teacher", "student")}
    references = {name: open_keras(inputs[name].path) for name in ("teacher", "student", "quantized") if name in inputs}
    absent = {name: reason for name in RUNTIMES if (reason := load_runtime(name).unavailable())}
    sessions: dict[str, Any] = {}
    for row in rows:
        for runtime in runtimes_for(folder / row["file"]):
            if runtime not in absent:
                sessions[f"{row['file']}@{runtime}"] = load_runtime(runtime).open_session(
                    folder / row["file"], threads=options["threads"]
                )
    if not sessions:
        raise MissingError(
            "No runtime here opens any of the exported files.",
            why="; ".join(absent.values()),
            fix="`edgetl doctor` shows what is missing",
        )

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
        "runtimes": {name: absent.get(name) or "ready" for name in RUNTIMES},
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
            entry["placement"][runtime] = session.placement()
            entry["against_float"][runtime] = parity(whole[f"keras:{row['role']}"], whole[name], labels)
            if row["precision"] not in _NO_REFERENCE:
                step = coarser_step(0.0, session.output_step)
                pair = parity(whole[f"keras:{origin}"], whole[name], labels, step=step)
                measurements["parity"].append({"a": f"keras:{origin}", "b": f"models/{name}", **pair})
        measurements["files"][row["file"]] = entry
    integer_files = [row["file"] for row in rows if row["precision"] not in (*_FLOAT, *_NO_REFERENCE)]
    _across_formats(
        [name for name in sessions if name.split("@")[0] in integer_files], sessions, whole, labels, measurements
    )
    versions: dict[str, Any] = {
        **{name: whole[name] for name in ("keras:student", "keras:quantized") if name in whole},
        **{f"models/{name}": whole[name] for name in sessions if role_of[name.split("@")[0]] == "student"},
    }
    steps = {name: sessions[name.removeprefix("models/")].output_step if "@" in name else 0.0 for name in versions}
    measurements["parity_matrix"] = parity_matrix(
        versions, labels, [digest[:_ID_DIGITS] for digest in data.test.digests], steps=steps
    )
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
    _golden(context.out / "golden", data.test, data.classes, student, rows, sessions, options)
    for session in sessions.values():
        session.close()


def _normalization(artifact: Path) -> Normalization:
    from edgetl.backbones.models import ModelSpec

    return ModelSpec(**json.loads((artifact / "model.json").read_text())).normalization


def _across_formats(
    names: Sequence[str],
    sessions: Mapping[str, Any],
    whole: Mapping[str, Any],
    labels: Any,
    measurements: dict[str, Any],
) -> None:
    """The integer files against each other: two formats, one set of integers."""
    for i, first in enumerate(names):
        for second in names[i + 1 :]:
            step = coarser_step(sessions[first].output_step, sessions[second].output_step)
            measurements["parity"].append(
                {
                    "a": f"models/{first}",
                    "b": f"models/{second}",
                    **parity(whole[first], whole[second], labels, step=step),
                }
            )


def _golden(
    folder: Path,
    samples: Samples,
    classes: tuple[str, ...],
    normalization: Normalization,
    rows: list[dict[str, Any]],
    sessions: Mapping[str, Any],
    options: Mapping[str, Any],
) -> None:
    """A few photos with the exact tensors in and out, little-endian, for an app's unit tests."""
    folder.mkdir()
    chosen = [int(np.flatnonzero(samples.labels == label)[0]) for label in range(min(len(classes), _GOLDEN_PHOTOS))]
    few = Samples(
        tuple(samples.paths[i] for i in chosen), samples.labels[chosen], tuple(samples.digests[i] for i in chosen)
    )
    pixels = np.concatenate([batch.numpy() for batch, _ in iterate(evaluation_batches(few, View.of(options)))])
    grid = next((row["input"] for row in rows if row["input"]["dtype"] == "int8"), None)
    index = []
    for i, path in enumerate(few.paths):
        photo = f"{i}{path.suffix.lower()}"
        shutil.copyfile(path, folder / photo)
        image = np.asarray(normalization.apply(pixels[i]), "<f4")
        tensors = {"float32": f"{i}.image.float32.bin"}
        image.tofile(folder / tensors["float32"])
        if grid is not None:
            steps = np.round(image / np.float32(grid["scale"])) + grid["zero_point"]
            tensors["int8"] = f"{i}.image.int8.bin"
            np.clip(steps, -128, 127).astype(np.int8).tofile(folder / tensors["int8"])
        outputs = {
            name: [float(p) for p in session.run(image[None])[0]]
            for name, session in sessions.items()
            if name.startswith("student.")
        }
        index.append(
            {
                "photo": photo,
                "label": classes[int(few.labels[i])],
                **tensors,
                "probabilities": outputs,
            }
        )
    (folder / "golden.json").write_text(
        json.dumps({"layout": "NHWC without the batch, row by row, RGB; little-endian", "photos": index}, indent=1)
    )
