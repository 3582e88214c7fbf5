"""The first blocks of one net per family, folded and quantized: built once for all tests."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import tensorflow as tf
from tf_keras import Model, layers

from edgetl.backbones import load_family
from edgetl.backbones.models import set_seeds
from edgetl.formats.write.onnx_int8 import write_onnx_int8
from edgetl.formats.write.tflite_int8 import write_tflite_int8
from edgetl.graph.fold import fold
from edgetl.graph.graph import Graph
from edgetl.quantization.fake import FakeQuantized, all_tensors
from edgetl.quantization.integers import Quantized, quantize_graph
from edgetl.quantization.net import QuantizedNet
from edgetl.quantization.ranges import Range, estimate_ranges
from edgetl.quantization.ties import without_ties
from edgetl.runtimes import litert, ort
from edgetl.training.norm import estimate_batch_norm


@dataclass
class Net:
    backbone: str
    model: Any
    graph: Graph
    ranges: dict[str, Range]
    integers: dict[str, Quantized]
    images: np.ndarray
    fake: Any


def build_net(backbone: str, last: str, size_px: int) -> Net:
    """The first blocks of a net with random weights that keep the signal: BatchNorm statistics of its own 24 images, logits of
    size 2. Not the whole net: fifty random layers turn a rounding error into another image; trained layers do not
    (tests/end_to_end and the README's figures are about those)."""
    set_seeds(3)
    whole = load_family(backbone).build(backbone, size_px)
    pooled = layers.GlobalAveragePooling2D(name="pooled")(whole.get_layer(last).output)
    model = Model(whole.input, layers.Dense(4, name="logits")(pooled))
    random = np.random.default_rng(3)
    coarse = random.uniform(-1, 1, (24, 4, 4, 3)).astype(np.float32)
    images = coarse.repeat(size_px // 4, axis=1).repeat(size_px // 4, axis=2)
    estimate_batch_norm(model, [images])
    for layer in model.layers:
        if "BatchNorm" in type(layer).__name__:
            gamma, beta, mean, variance = layer.get_weights()
            layer.set_weights(
                [random.uniform(0.8, 1.2, gamma.shape), random.normal(0, 0.1, beta.shape), mean, variance]
            )
    kernel, _ = model.get_layer("logits").get_weights()
    logits = model(images, training=False).numpy()
    size = 2.0 / logits.std(axis=0)
    model.get_layer("logits").set_weights([kernel * size, -logits.mean(axis=0) * size])
    graph = fold(model)
    tensors = tf.function(all_tensors(graph))
    measured = estimate_ranges(
        graph,
        lambda batch: [tensor.numpy() for tensor in tensors(batch)],
        lambda: [images],
        estimator="minmax",
        input_range=(-128 / 127.5, 127 / 127.5),
    )
    ranges = without_ties(graph, measured)
    fake = FakeQuantized(QuantizedNet(graph, ranges)).model
    return Net(backbone, model, graph, ranges, quantize_graph(graph, ranges), images, fake)


def files_opener(tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """open(graph, integers, float_nodes=()): both files, written to tmp_path as net.tflite and net.onnx, and opened."""

    def opened(graph: Graph, integers: dict[str, Quantized], float_nodes: tuple[str, ...] = ()) -> dict[str, Any]:
        grid = integers[graph.input.name]
        data = write_tflite_int8(graph, integers, float_nodes=float_nodes, description="", metadata={})
        (tmp_path / "net.tflite").write_bytes(data)
        meta = {"input_scale": repr(grid.scale), "input_zero_point": str(grid.zero_point + 128)}
        proto = write_onnx_int8(graph, integers, float_nodes=float_nodes, opset=17, description="", metadata=meta)
        onnx.save(proto, tmp_path / "net.onnx")
        return {
            "tflite": litert.open_session(tmp_path / "net.tflite", threads=1),
            "onnx": ort.open_session(tmp_path / "net.onnx", threads=1),
        }

    return opened
