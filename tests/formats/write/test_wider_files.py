"""Files beyond int8: 16-bit activations, and single layers in float, in both formats."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import tensorflow as tf

from edgetl.graph.rebuild import rebuild
from edgetl.quantization.fake import FakeQuantized
from edgetl.quantization.net import QuantizedNet, load_quantized, save_quantized
from edgetl.quantization.signal import signal_to_noise_db


def softmax(logits: Any) -> np.ndarray:
    return tf.nn.softmax(logits).numpy()


def test_sixteen_bit_activations_are_nearer_to_float_and_the_formats_agree(net: Any, open_files: Callable) -> None:
    wide = QuantizedNet(net.graph, net.ranges, activation_bits=16)
    found = {name: session.run(net.images) for name, session in open_files(net.graph, wide.integers()).items()}
    np.testing.assert_allclose(found["tflite"], found["onnx"], rtol=0, atol=2e-3)
    wanted = softmax(rebuild(net.graph)(net.images))
    eight = softmax(FakeQuantized(QuantizedNet(net.graph, net.ranges)).model(net.images))
    assert signal_to_noise_db(wanted, found["tflite"]) > signal_to_noise_db(wanted, eight)
    np.testing.assert_allclose(softmax(FakeQuantized(wide).model(net.images)), found["tflite"], rtol=0, atol=5e-3)


def test_layers_left_in_float_are_float_in_both_files_and_the_others_are_not(
    net: Any, open_files: Callable, tmp_path: Path
) -> None:
    weighted = [node.name for node in net.graph.nodes if node.kernel is not None]
    # The first two are neighbours: between them nothing goes through a grid.
    chosen = (weighted[0], weighted[1], weighted[-1])
    mixed = QuantizedNet(net.graph, net.ranges, float_nodes=chosen)
    found = {name: session.run(net.images) for name, session in open_files(net.graph, mixed.integers(), chosen).items()}
    wanted = softmax(FakeQuantized(mixed).model(net.images))
    for probabilities in found.values():
        assert signal_to_noise_db(wanted, probabilities) > 15
    np.testing.assert_allclose(found["tflite"], found["onnx"], rtol=0, atol=0.06)

    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    options.log_severity_level = 3
    onnxruntime.InferenceSession(str(tmp_path / "net.onnx"), options, providers=["CPUExecutionProvider"])
    kinds = {node.name.split("/")[0]: node.op_type for node in onnx.load(tmp_path / "optimized.onnx").graph.node}
    for name in weighted:
        if name in kinds:
            assert (kinds[name] == "QLinearConv") == (name not in chosen), f"{name}: {kinds[name]}"
    assert any(kind == "QLinearConv" for kind in kinds.values())


def test_a_quantized_net_survives_the_disk(net: Any, tmp_path: Path) -> None:
    mixed = QuantizedNet(net.graph, net.ranges, per_channel=False, float_nodes=("logits",))
    save_quantized(tmp_path, mixed)
    again = load_quantized(tmp_path)
    assert (again.per_channel, again.activation_bits, again.float_nodes) == (False, 8, ("logits",))
    assert again.precision == "int8-float32"
    np.testing.assert_array_equal(
        FakeQuantized(again).model(net.images[:2]), FakeQuantized(mixed).model(net.images[:2])
    )
