"""How much faster int8 is than float32: whole nets, one thread, both runtimes.

    python benchmarks/int8_speed.py [--repeats N] [--csv FILE]

The nets have random weights and the ranges of random images: the time does not depend on the values. The timed files are
those that a build ships, written by the same code, and "converter float32": the same net by TensorFlow's own converter,
without edgetl's changes that make float32 faster too. Sessions take turns, in rounds. p50_ms and ratio are of processor time,
which other work on the machine does not lengthen; wall_ratio is of wall-clock time, and the two agree on an idle machine. Each
repeat is a separate run, with new sessions and a new order of rounds.
"""

from __future__ import annotations

import os

os.environ["TF_USE_LEGACY_KERAS"] = "1"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import argparse
import csv
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import tensorflow as tf
from integer_share import integer_share
from tables import print_table
from tf_keras import layers
from timing import Times, p50, ratio_interval, time_in_rounds

from edgetl.backbones.models import ModelSpec, build_classifier, set_seeds
from edgetl.core import machine
from edgetl.formats.write.onnx_float import write_onnx_float
from edgetl.formats.write.onnx_int8 import write_onnx_int8
from edgetl.formats.write.tflite_float import write_tflite_float
from edgetl.formats.write.tflite_int8 import write_tflite_int8
from edgetl.graph.fold import fold
from edgetl.quantization.fake import all_tensors
from edgetl.quantization.integers import quantize_graph
from edgetl.quantization.ranges import estimate_ranges
from edgetl.quantization.ties import without_ties
from edgetl.runtimes import load_runtime
from edgetl.stages.workbench import input_range
from edgetl.training.norm import estimate_batch_norm

# Backbone, input size, rounds, runs per round: about 20 s of timing each.
NETS = (("mobilenetv2-1.0", 224, 40, 20), ("mobilenetv2-0.35", 192, 40, 50), ("densenet121", 224, 20, 8))
HEADER = [
    "backbone",
    "input_size_px",
    "repeat",
    "compared",
    "p50_ms",
    "p50_ms_of_other",
    "ratio",
    "ratio_low",
    "ratio_high",
    "wall_ratio",
    "integer_share",
    "ops_left",
    "processor",
]
FILES = {
    "litert float32": ("litert-cpu", "float32.tflite"),
    "litert int8": ("litert-cpu", "int8.tflite"),
    "converter float32": ("litert-cpu", "converter.tflite"),
    "ort float32": ("ort-cpu", "float32.onnx"),
    "ort int8": ("ort-cpu", "int8.onnx"),
}
COMPARISONS = (
    ("litert float32", "litert int8"),
    ("converter float32", "litert int8"),
    ("ort float32", "ort int8"),
    ("ort int8", "litert int8"),
)


def write_files(backbone: str, size_px: int, folder: Path) -> Any:
    """Write the files of FILES to `folder`; return one normalized image [1, size_px, size_px, 3]."""
    set_seeds(0)
    spec = ModelSpec(backbone, size_px, 5)
    model = build_classifier(spec)
    pixels = np.random.default_rng(0).uniform(0, 255, (8, size_px // 16, size_px // 16, 3))
    images = spec.normalization.apply(pixels.astype(np.float32).repeat(16, axis=1).repeat(16, axis=2))
    _learn_norms(model)
    # Without it the signal dies in random layers, and float kernels meet denormal numbers.
    estimate_batch_norm(model, [images])
    graph = fold(model)
    tensors = tf.function(all_tensors(graph))
    ranges = estimate_ranges(
        graph,
        lambda batch: [tensor.numpy() for tensor in tensors(batch)],
        lambda: [images],
        estimator="minmax",
        input_range=input_range(spec.normalization),
    )
    integers = quantize_graph(graph, without_ties(graph, ranges))
    grid = integers[graph.input.name]
    meta = {"input_scale": repr(grid.scale), "input_zero_point": str(grid.zero_point + 128)}
    converter = tf.lite.TFLiteConverter.from_keras_model(model)
    (folder / "converter.tflite").write_bytes(converter.convert())
    (folder / "float32.tflite").write_bytes(write_tflite_float(graph, precision="float32", description="", metadata={}))
    (folder / "int8.tflite").write_bytes(write_tflite_int8(graph, integers, description="", metadata={}))
    onnx.save(write_onnx_float(graph, opset=17, description="", metadata={}), folder / "float32.onnx")
    onnx.save(write_onnx_int8(graph, integers, opset=17, description="", metadata=meta), folder / "int8.onnx")
    return images[:1]


def _learn_norms(model: Any) -> None:
    """Set factors and constants as if learned: with the initial 1 and 0, converters leave out work that a trained net has."""
    random = np.random.default_rng(0)
    for layer in model.layers:
        if isinstance(layer, layers.BatchNormalization):
            layer.gamma.assign(np.exp(random.normal(0.0, 0.2, layer.gamma.shape)))
            layer.beta.assign(random.normal(0.0, 0.3, layer.beta.shape))


def measure(folder: Path, image: Any, *, rounds: int, runs: int, seed: int) -> Mapping[str, Times]:
    """Name in FILES -> its times."""
    sessions = {}
    for name, (runtime, file) in FILES.items():
        sessions[name] = load_runtime(runtime).open_session(folder / file, threads=1)
        sessions[name].run(image)
    try:
        return time_in_rounds(sessions, rounds=rounds, runs=runs, seed=seed)
    finally:
        for session in sessions.values():
            session.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--csv", type=Path, default=Path(__file__).with_suffix(".csv"))
    arguments = parser.parse_args()
    table: list[list[Any]] = []
    for backbone, size_px, rounds, runs in NETS:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            image = write_files(backbone, size_px, folder)
            shares = {name: integer_share(folder / file) for name, (_, file) in FILES.items()}
            for repeat in range(arguments.repeats):
                times = measure(folder, image, rounds=rounds, runs=runs, seed=repeat)
                for slow, fast in COMPARISONS:
                    first, second = times[slow], times[fast]
                    low, high = ratio_interval(first.processor, second.processor)
                    # Of the row's int8 file; if both are int8, ONNX Runtime's.
                    share = shares[slow if "int8" in slow else fast]
                    table.append(
                        [
                            backbone,
                            size_px,
                            repeat,
                            f"{slow} / {fast}",
                            f"{p50(first.processor):.3f}",
                            f"{p50(second.processor):.3f}",
                            f"{p50(first.processor) / p50(second.processor):.2f}",
                            f"{low:.2f}",
                            f"{high:.2f}",
                            f"{p50(first.wall) / p50(second.wall):.2f}",
                            f"{share.share:.3f}",
                            share.ops_left,
                            machine.processor(),
                        ]
                    )
    with arguments.csv.open("w", newline="") as stream:
        csv.writer(stream).writerows([HEADER, *table])
    print_table(HEADER, table)


if __name__ == "__main__":
    main()
