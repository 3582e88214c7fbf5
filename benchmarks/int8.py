"""One float student, several ways to int8: accuracy, latency, size, and the share that really runs in integers.

    python benchmarks/int8.py PHOTOS [--cache C] [--recipe R] [--name NAME] [--csv FILE] [--peer-python PROGRAM=PYTHON]

Builds what is missing in the cache, up to the model files (KERAS_HOME must be the same as in earlier runs: local weight files
are part of the cache's keys). All routes start from the same distilled student and use the same calibration photos or the
same training photos; every file is run on the whole test split. edgetl's PTQ and QAT are the same recipe with different
quantize.scheme. Rows with the same NAME are replaced in the CSV file, others stay: one table can hold several builds.

drop_pp: points of top-1 lost to float32 on the same runtime, with the paired 95% interval. p50_ms and time_to_float32:
one thread, sessions in turns, processor time. integer_share: share of the multiply-accumulates, after the
runtime's own rewriting. ops_left: see integer_share.py.
"""

from __future__ import annotations

import os

os.environ["TF_USE_LEGACY_KERAS"] = "1"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import argparse
import json
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from integer_share import integer_share
from onnxruntime.capi import onnxruntime_pybind11_state as ort_errors
from routes import Lines, Route, build_schemes, edgetl_routes, peer_routes, without_paths
from tables import print_table, put_rows
from timing import Times, p50, time_in_rounds

from edgetl.backbones.models import ModelSpec
from edgetl.commands.build.run import find_source
from edgetl.core import machine
from edgetl.core.stats import paired_drop_interval
from edgetl.core.store import Store, default_cache
from edgetl.dataset.samples import Samples, SplitDataset, load_split
from edgetl.runtimes import load_runtime
from edgetl.stages.recipe import Recipe, make_recipe, read_recipe
from edgetl.tasks.photos.batches import evaluation_batches, iterate
from edgetl.tasks.photos.contract import View

ROUNDS = 20
HEADER = [
    "build",
    "route",
    "runtime",
    "top1",
    "drop_pp",
    "drop_low_pp",
    "drop_high_pp",
    "same_label_as_float",
    "p50_ms",
    "time_to_float32",
    "bytes",
    "integer_share",
    "ops_left",
    "why",
    "tool",
    "student",
    "test_photos",
    "calibration_photos",
    "machine",
]
_ON_SCREEN = slice(1, HEADER.index("tool"))
# Exceptions of the runtimes for a file that they refuse to open or run; ONNX Runtime's have no common base class.
_REFUSALS = (
    ValueError,
    RuntimeError,
    ort_errors.Fail,
    ort_errors.InvalidArgument,
    ort_errors.InvalidGraph,
    ort_errors.InvalidProtobuf,
    ort_errors.NotImplemented,
    ort_errors.RuntimeException,
)


def normalized(spec: ModelSpec, samples: Samples, view: View) -> Iterator[Any]:
    """Batches float32 [n, size, size, 3], normalized for the net."""
    for pixels, _ in iterate(evaluation_batches(samples, view)):
        yield np.asarray(spec.normalization.apply(pixels.numpy()), np.float32)


def training_of(data: SplitDataset, recipe: Recipe, view: View) -> dict[str, Any]:
    """The training options of peers/tfmot_qat.py: photos and views of edgetl's own quantize stage, TFMOT's usual rate."""
    return {
        "paths": [str(path) for path in data.train.paths],
        "labels": data.train.labels.tolist(),
        "n_classes": len(data.classes),
        "view": [view.size_px, view.resize, view.centre_fraction],
        "augment": recipe.quantize.augment.model_dump(),
        "batch_size": recipe.quantize.batch_size,
        "seed": recipe.seed + 2,
        "epochs": 3,
        "learning_rate": 1e-5,
    }


def open_routes(routes: list[Route]) -> tuple[dict[int, Any], dict[int, str]]:
    """(Position -> session, position -> why there is none)."""
    sessions: dict[int, Any] = {}
    refused = {i: route.why for i, route in enumerate(routes) if route.file is None}
    for i, route in enumerate(routes):
        if route.file is not None:
            try:
                sessions[i] = load_runtime(route.runtime).open_session(route.file, threads=1)
            except _REFUSALS as error:
                refused[i] = without_paths(f"{route.runtime} refuses the file: {error}".replace("\n", " "))
    return sessions, refused


def predict(sessions: dict[int, Any], refused: dict[int, str], batches: Iterator[Any]) -> dict[int, Any]:
    """Position -> outputs [photos, classes]. A session that fails on a photo moves from `sessions` to `refused`."""
    parts: dict[int, list[Any]] = {i: [] for i in sessions}
    for images in batches:
        for i, session in list(sessions.items()):
            try:
                parts[i].append(session.run(images))
            except _REFUSALS as error:
                refused[i] = without_paths(f"fails on a photo: {error}".replace("\n", " "))
                sessions.pop(i).close()
    return {i: np.concatenate(parts[i]) for i in sessions}


def measure_times(sessions: Mapping[int, Any]) -> dict[int, Times]:
    """Position -> times in rounds; a visit of the slowest session takes about 0.2 s."""
    named = {str(i): session for i, session in sessions.items()}
    first = time_in_rounds(named, rounds=1, runs=5)
    slowest = max(p50(times.processor) for times in first.values())
    runs = min(50, max(8, round(200.0 / slowest)))
    return {int(name): times for name, times in time_in_rounds(named, rounds=ROUNDS, runs=runs).items()}


def row_of(route: Route, whole: Any, reference: Any, labels: Any, times: Times, reference_times: Times) -> list[Any]:
    """The cells from top1 to why. whole, reference: outputs of this file, and of float32 on the same runtime."""
    assert route.file is not None
    ours, floats = whole.argmax(axis=1), reference.argmax(axis=1)
    right, float_right = ours == labels, floats == labels
    drop = float(float_right.mean() - right.mean())
    low, high = paired_drop_interval(int((float_right & ~right).sum()), int((right & ~float_right).sum()), len(labels))
    share = integer_share(route.file)
    return [
        f"{float(right.mean()):.4f}",
        *(f"{100 * value:.2f}" for value in (drop, low, high)),
        f"{float((ours == floats).mean()):.4f}",
        f"{p50(times.processor):.3f}",
        f"{p50(times.processor) / p50(reference_times.processor):.2f}",
        route.file.stat().st_size,
        f"{share.share:.3f}",
        share.ops_left,
        "",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos")
    parser.add_argument("--cache", type=Path, default=default_cache())
    parser.add_argument("--recipe", type=Path)
    parser.add_argument("--name", default="", help="name of this build in the table; default: the student's backbone")
    parser.add_argument("--csv", type=Path, default=Path(__file__).with_suffix(".csv"))
    parser.add_argument(
        "--peer-python",
        action="append",
        default=[],
        metavar="PROGRAM=PYTHON",
        help="the Python that runs a program of peers/ (without .py)",
    )
    arguments = parser.parse_args()
    tables = read_recipe(arguments.recipe) if arguments.recipe else {}
    recipe = make_recipe(tables)
    store = Store(arguments.cache)
    source = find_source(arguments.photos, recipe, store, Lines().note, fetch=True)
    builds = build_schemes(tables, source, store)
    data = load_split(builds.common["split"].path, source.listing.path_of())
    spec = ModelSpec(**json.loads((builds.common["distill"].path / "model.json").read_text()))
    view = View.of(recipe.dataset.model_dump())
    calibration = np.concatenate(list(normalized(spec, data.calibrate(recipe.calibration.photos, recipe.seed), view)))
    with tempfile.TemporaryDirectory() as folder:
        images = Path(folder) / "calibration.npy"
        np.save(images, calibration)
        routes = [
            *edgetl_routes(builds),
            *peer_routes(
                builds.common,
                training_of(data, recipe, view),
                images,
                Path(folder),
                dict(choice.split("=", 1) for choice in arguments.peer_python),
            ),
        ]
        routes.sort(key=lambda route: route.runtime)  # stable: float32 stays first of each runtime
        sessions, refused = open_routes(routes)
        whole = predict(sessions, refused, normalized(spec, data.test, view))
        times = measure_times(sessions)
        reference = {route.runtime: i for i, route in enumerate(routes) if route.name == "float32"}
        table = []
        for i, route in enumerate(routes):
            cells = ["" for _ in range(HEADER.index("tool") - HEADER.index("top1") - 1)] + [refused.get(i, "")]
            if i in whole:
                base = reference[route.runtime]
                cells = row_of(route, whole[i], whole[base], data.test.labels, times[i], times[base])
            name = arguments.name or spec.backbone
            about = [route.tool, f"{spec.backbone} at {spec.input_size_px} px", len(data.test), len(calibration)]
            table.append([name, route.name, route.runtime, *cells, *about, json.dumps(machine.describe())])
    put_rows(arguments.csv, HEADER, table)
    print_table(HEADER[_ON_SCREEN], [row[_ON_SCREEN] for row in table])
    print(f"{len(data.test)} test photos, {len(calibration)} calibration photos")


if __name__ == "__main__":
    main()
