"""One student, several ways to int8: edgetl's files beside what TFLite's converter and ONNX Runtime make of the same net.

    python benchmarks/int8_routes.py PHOTOS [--cache C] [--recipe R] [--csv FILE]

Takes the student and the calibration photos of a build that is in the cache (KERAS_HOME must be as it was then). Every
route is run on the whole test split; latencies are taken in turns, one thread, and given as a ratio to float32 of the
same runtime.
"""

from __future__ import annotations

import os

os.environ["TF_USE_LEGACY_KERAS"] = "1"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import argparse
import csv
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime.quantization as ort_quantization
import tensorflow as tf

from edgetl.backbones.models import load_model
from edgetl.dataset.batches import evaluation_batches, iterate
from edgetl.dataset.contract import View
from edgetl.dataset.samples import load_split
from edgetl.measure.accuracy import accuracy
from edgetl.measure.latency import time_runs
from edgetl.measure.stats import quantile
from edgetl.pipeline import find_source, plan_for
from edgetl.quantization.fold import fold, rebuild
from edgetl.recipe import make_recipe, read_recipe
from edgetl.runtimes import load_runtime
from edgetl.store import Store, default_cache
from edgetl.target import load_target

ROUNDS, RUNS_A_ROUND = 20, 20


class _Reader(ort_quantization.CalibrationDataReader):
    def __init__(self, images: np.ndarray) -> None:
        self._rows = iter(images)

    def get_next(self) -> dict[str, np.ndarray] | None:
        row = next(self._rows, None)
        return None if row is None else {"image": row[None]}


def _converter_ptq(student: Any, images: np.ndarray) -> bytes:
    graph = fold(student)
    net = rebuild(graph)
    spec = tf.TensorSpec(graph.input.shape, tf.float32, name="image")
    function = tf.function(lambda image: tf.nn.softmax(net(image, training=False))).get_concrete_function(spec)
    converter = tf.lite.TFLiteConverter.from_concrete_functions([function], net)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = lambda: ([image[None]] for image in images)
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = converter.inference_output_type = tf.int8
    return converter.convert()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("photos")
    parser.add_argument("--cache", type=Path, default=default_cache())
    parser.add_argument("--recipe", type=Path)
    parser.add_argument("--csv", type=Path, default=Path(__file__).with_suffix(".csv"))
    arguments = parser.parse_args()
    store = Store(arguments.cache)
    recipe = make_recipe(read_recipe(arguments.recipe) if arguments.recipe else {})
    source = find_source(arguments.photos, recipe, store, print, fetch=True)
    plan = plan_for(recipe, load_target("this-machine"), source)
    payload = {step.name: store.artifacts / step.key / "payload" for step in plan.steps}
    if not (payload["export"] / "models.json").is_file():
        raise SystemExit("No such build in the cache: run `edgetl build` with the same photos, recipe and cache first.")

    data = load_split(payload["split"], source.listing.path_of())
    spec, student = load_model(payload["distill"])
    view = View.of(plan.steps[-1].options)

    def normalized(samples: Any) -> Any:
        return (
            np.asarray(spec.normalization.apply(pixels.numpy()), np.float32)
            for pixels, _ in iterate(evaluation_batches(samples, view))
        )

    calibration = np.concatenate(list(normalized(data.calibrate(recipe.calibration.photos, recipe.seed))))
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder)
        (made / "converter.tflite").write_bytes(_converter_ptq(student, calibration))
        for method in ("MinMax", "Percentile"):
            ort_quantization.quantize_static(
                str(payload["export"] / "student.float32.onnx"),
                str(made / f"ort-{method}.onnx"),
                _Reader(calibration),
                quant_format=ort_quantization.QuantFormat.QDQ,
                per_channel=True,
                activation_type=ort_quantization.QuantType.QUInt8,
                weight_type=ort_quantization.QuantType.QInt8,
                calibrate_method=getattr(ort_quantization.CalibrationMethod, method),
            )
        routes = [
            ("float32", "litert-cpu", payload["export"] / "student.float32.tflite"),
            ("edgetl int8", "litert-cpu", payload["export"] / "student.int8.tflite"),
            ("TFLite converter PTQ", "litert-cpu", made / "converter.tflite"),
            ("float32", "ort-cpu", payload["export"] / "student.float32.onnx"),
            ("edgetl int8", "ort-cpu", payload["export"] / "student.int8.onnx"),
            ("ORT static QDQ minmax", "ort-cpu", made / "ort-MinMax.onnx"),
            ("ORT static QDQ percentile", "ort-cpu", made / "ort-Percentile.onnx"),
        ]
        sessions = [load_runtime(runtime).open_session(file, threads=1) for _, runtime, file in routes]
        predictions: list[list[Any]] = [[] for _ in routes]
        for images in normalized(data.test):
            for rows, session in zip(predictions, sessions, strict=True):
                rows.append(session.run(images))
        whole = [np.concatenate(rows) for rows in predictions]
        times: list[list[float]] = [[] for _ in routes]
        for _ in range(ROUNDS):
            for row, session in zip(times, sessions, strict=True):
                row += time_runs(session, warmup_runs=3, runs=RUNS_A_ROUND)

        base = {runtime: i for i, (name, runtime, _) in enumerate(routes) if name == "float32"}
        table = []
        for i, (name, runtime, file) in enumerate(routes):
            reference = whole[base[runtime]]
            p50, float_p50 = quantile(times[i], 0.5), quantile(times[base[runtime]], 0.5)
            found = accuracy(whole[i], data.test.labels)
            agreement = float((whole[i].argmax(axis=1) == reference.argmax(axis=1)).mean())
            table.append(
                [
                    name,
                    runtime,
                    f"{found['top1']:.4f}",
                    f"{agreement:.4f}",
                    f"{p50:.3f}",
                    f"{p50 / float_p50:.2f}",
                    file.stat().st_size,
                ]
            )
    header = ["route", "runtime", "top1", "same_label_as_float", "p50_ms", "time_to_float32", "bytes"]
    with arguments.csv.open("w", newline="") as stream:
        csv.writer(stream).writerows([header, *table])
    widths = [max(len(str(row[i])) for row in [header, *table]) for i in range(len(header))]
    for row in [header, *table]:
        print("  ".join(str(cell).ljust(width) for cell, width in zip(row, widths, strict=True)))
    print(f"{len(data.test)} test photos, {len(calibration)} calibration photos; {arguments.csv}")


if __name__ == "__main__":
    main()
