"""The int8 files of both formats: what the graph computes, what the integers say, and planted defects."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import tensorflow as tf
from ai_edge_litert import schema_py_generated as schema
from tf_keras import layers

from edgetl.core.errors import TrainingError
from edgetl.formats.write.onnx_int8 import write_onnx_int8
from edgetl.formats.write.tflite_int8 import write_tflite_int8
from edgetl.graph.fold import check_folded
from edgetl.graph.graph import Graph, load_graph, same_scale_groups, save_graph
from edgetl.graph.rebuild import rebuild
from edgetl.measure.parity import parity
from edgetl.quantization.fake import trained_weights
from edgetl.quantization.integers import Quantized, affine_int8, quantize_graph
from edgetl.runtimes import litert, ort

Net = Any  # tests/nets.py


def sessions(net: Net, folder: Path, integers: dict[str, Quantized]) -> dict[str, Any]:
    grid = integers[net.graph.input.name]
    (folder / "net.tflite").write_bytes(write_tflite_int8(net.graph, integers, description="", metadata={}))
    meta = {"input_scale": repr(grid.scale), "input_zero_point": str(grid.zero_point + 128)}
    onnx.save(write_onnx_int8(net.graph, integers, opset=17, description="", metadata=meta), folder / "net.onnx")
    return {
        "tflite": litert.open_session(folder / "net.tflite", threads=1),
        "onnx": ort.open_session(folder / "net.onnx", threads=1),
    }


def test_folding_keeps_what_the_net_computes(net: Net) -> None:
    assert check_folded(net.model, net.graph, net.images[:4]) < 1e-4


def test_one_layers_swapped_weights_are_caught_and_the_layer_is_named(net: Net) -> None:
    """In the middle of the net, so that it is told apart from all layers before it and from those that only pass it on."""
    kind = layers.Conv2D if net.backbone == "vgg16" else layers.BatchNormalization
    found = [layer for layer in net.model.layers if isinstance(layer, kind)]
    layer = found[len(found) // 2]
    right = layer.get_weights()
    try:
        layer.set_weights([right[0][..., ::-1], *right[1:]])
        with pytest.raises(TrainingError, match=rf"the first to differ, by .* made from .*\b{layer.name}\b"):
            check_folded(net.model, net.graph, net.images[:4])
    finally:
        layer.set_weights(right)


def test_a_graph_survives_the_disk(net: Net, tmp_path: Path) -> None:
    save_graph(tmp_path, net.graph)
    again = load_graph(tmp_path)
    np.testing.assert_array_equal(rebuild(again)(net.images[:2]), rebuild(net.graph)(net.images[:2]))
    assert again.macs() == net.graph.macs() > 0


def test_fake_quantization_begins_from_the_folded_weights(net: Net) -> None:
    weights = trained_weights(net.graph, net.fake)
    for node in net.graph.nodes:
        if node.kernel is not None:
            np.testing.assert_array_equal(weights[node.name][0], node.kernel)


def test_ranges_never_pass_what_the_activation_can_produce(net: Net) -> None:
    for node in net.graph.nodes:
        low, high = net.ranges[node.name]
        if (
            node.attributes.get("activation") in ("relu", "relu6")
            and same_scale_groups(net.graph)[node.name] == node.name
        ):
            assert low == 0.0
        if node.attributes.get("activation") == "relu6":
            assert high <= 6.0


def test_tensors_that_must_share_a_scale_share_it(net: Net) -> None:
    for node in net.graph.nodes:
        if node.op in ("concat", "pad", "max_pool", "average_pool"):
            for source in node.inputs:
                assert (net.integers[source].scale, net.integers[source].zero_point) == (
                    net.integers[node.name].scale,
                    net.integers[node.name].zero_point,
                )


def test_both_formats_agree_with_the_fake_quantized_net_and_with_each_other(net: Net, tmp_path: Path) -> None:
    wanted = tf.nn.softmax(net.fake(net.images)).numpy()
    labels = wanted.argmax(axis=1)
    found = {name: session.run(net.images) for name, session in sessions(net, tmp_path, net.integers).items()}
    between = parity(found["tflite"], found["onnx"], labels, step=1 / 256)
    # The same int8 logits in both (quantization/ties.py): only the last softmax rounds, to half a step.
    assert between["max_steps"] < 0.51
    for name, probabilities in found.items():
        # Random nets leave classes close together: what is compared is probabilities, not the winner.
        assert np.abs(probabilities - wanted).max() < 0.12, name


def test_a_wrong_zero_point_is_caught_by_parity(net: Net, tmp_path: Path) -> None:
    middle = next(node.name for node in net.graph.nodes if node.op == "mean")
    # One grid off by a quarter of its range, and everything after it with it.
    broken = {
        **net.integers,
        middle: replace(net.integers[middle], zero_point=net.integers[middle].zero_point // 2 + 30),
    }
    right = sessions(net, tmp_path, net.integers)["tflite"].run(net.images)
    (tmp_path / "net.tflite").write_bytes(write_tflite_int8(net.graph, broken, description="", metadata={}))
    wrong = litert.open_session(tmp_path / "net.tflite", threads=1).run(net.images)
    assert parity(right, wrong, right.argmax(axis=1), step=1 / 256)["max_steps"] > 8


def test_nothing_in_the_onnx_file_is_left_in_float_after_optimization(net: Net, tmp_path: Path) -> None:
    import onnxruntime

    sessions(net, tmp_path, net.integers)
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    options.log_severity_level = 3
    onnxruntime.InferenceSession(str(tmp_path / "net.onnx"), options, providers=["CPUExecutionProvider"])
    ops = [node.op_type for node in onnx.load(tmp_path / "optimized.onnx").graph.node]
    # Softmax is the one op in float, with the one DequantizeLinear before it: what is measured is "all of it", not "most".
    integer = {"QLinearConv", "QLinearAdd", "QLinearConcat", "QLinearGlobalAveragePool", "QLinearAveragePool"}
    # Split and Concat, of bytes, bring the image into quarters (formats/write/lowering.py).
    integer |= {"MaxPool", "NhwcMaxPool", "Pad", "Clip", "Transpose", "Reshape", "Split", "Concat"}
    assert sorted(set(ops) - integer) == ["DequantizeLinear", "Softmax"]
    assert ops.count("DequantizeLinear") == 1
    assert ops.count("Transpose") == 1, "the input's"


def test_a_dead_channel_keeps_its_bias() -> None:
    from edgetl.graph.graph import Node

    kernel = np.zeros((1, 1, 2, 2), np.float32)
    kernel[..., 0] = 1.0
    graph = Graph(
        (
            Node("x", "input", shape=(1, 4, 4, 2)),
            Node(
                "y",
                "conv",
                ("x",),
                {"strides": [1, 1], "padding": "same", "activation": "none"},
                (1, 4, 4, 2),
                kernel,
                np.array([0.1, -3.0], np.float32),
            ),
        )
    )
    made = quantize_graph(graph, {"x": (-1.0, 1.0), "y": (-4.0, 4.0)})["y"]
    assert made.kernel_scales is not None and made.bias is not None
    np.testing.assert_allclose(made.bias * affine_int8(-1.0, 1.0)[0] * made.kernel_scales, [0.1, -3.0], rtol=1e-3)


def test_placement_counts_every_op_and_names_what_the_delegate_left(net: Net, tmp_path: Path) -> None:
    """XNNPACK does not take the int8 SOFTMAX: a count that says all was delegated hides a fallback."""
    found = sessions(net, tmp_path, net.integers)["tflite"].placement()
    written = schema.ModelT.InitFromPackedBuf((tmp_path / "net.tflite").read_bytes())
    assert sum(found.ops.values()) == len(written.subgraphs[0].operators)
    assert found.ops["LiteRT kernels"] == 1
    # The first convolution's kernel may be filled up with zeros (lowering.over_quarters).
    assert found.macs is not None and net.graph.macs() <= found.macs["XNNPACK"] < 1.5 * net.graph.macs()
    assert found.macs["LiteRT kernels"] == 0, "the softmax multiplies nothing"
    reference = litert.open_session(tmp_path / "net.tflite", threads=1, backend="litert-cpu-reference").placement()
    assert reference.ops["XNNPACK"] == 0, "without the delegate all is left to LiteRT"


def test_onnx_runtimes_placement_counts_what_ran_and_all_multiplications(net: Net, tmp_path: Path) -> None:
    found = sessions(net, tmp_path, net.integers)["onnx"].placement()
    assert set(found.ops) == {"CPUExecutionProvider"}
    assert found.share_of_macs("cpu") == 1.0
    assert found.macs is not None and net.graph.macs() <= found.macs["CPUExecutionProvider"] < 1.5 * net.graph.macs()
