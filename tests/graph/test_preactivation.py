"""BatchNorms before convolutions: moved into the layers around them where that is exact, and only there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from tf_keras import Model, layers

from edgetl.backbones.models import set_seeds
from edgetl.formats.write.onnx_float import write_onnx_float
from edgetl.formats.write.onnx_int8 import write_onnx_int8
from edgetl.formats.write.tflite_int8 import write_tflite_int8
from edgetl.graph.fold import check_folded, fold, folding
from edgetl.graph.graph import Graph, Node
from edgetl.quantization.fake import ConstantSteps, FakeQuantized, all_tensors
from edgetl.quantization.integers import Quantized, dequantized, quantize_graph
from edgetl.quantization.net import QuantizedNet
from edgetl.quantization.ranges import Range, estimate_ranges
from edgetl.quantization.ties import DENOMINATOR, without_ties
from edgetl.runtimes import litert, ort

INPUT = (-1.0, 1.0)
IMAGES = np.random.default_rng(5).uniform(-1, 1, (8, 16, 16, 3)).astype(np.float32)


def norm_relu(x: Any, name: str) -> Any:
    return layers.ReLU(name=f"{name}_relu")(layers.BatchNormalization(name=name)(x))


def dense_layer(x: Any, name: str) -> Any:
    new = layers.Conv2D(6, 3, padding="same", name=f"{name}_grow")(
        layers.ReLU(name=f"{name}_between")(layers.Conv2D(8, 1, name=f"{name}_narrow")(norm_relu(x, f"{name}_norm")))
    )
    return layers.Concatenate(name=f"{name}_join")([x, new])


def dense_block(x: Any) -> Any:
    """Two dense layers, a transition and one more: everything that DenseNet has."""
    x = layers.ReLU(name="first_relu")(layers.Conv2D(8, 3, padding="same", name="first")(x))
    x = layers.MaxPooling2D(3, 2, name="pool")(layers.ZeroPadding2D(1, name="padded")(x))
    x = dense_layer(dense_layer(x, "a"), "b")
    x = layers.Conv2D(8, 1, name="transition")(norm_relu(x, "transition_norm"))
    x = layers.AveragePooling2D(2, name="average")(x)
    return norm_relu(dense_layer(x, "c"), "last_norm")


def norm_without_relu(x: Any) -> Any:
    first = layers.Conv2D(6, 3, padding="same", name="first")(x)
    joined = layers.Concatenate(name="joined")([first, layers.Conv2D(6, 1, name="second")(x)])
    return layers.Conv2D(6, 1, name="after")(layers.BatchNormalization(name="norm")(joined))


def channels_that_an_addition_reads_too(x: Any) -> Any:
    first = layers.Conv2D(6, 3, padding="same", name="first")(x)
    after = layers.Conv2D(6, 1, name="after")(norm_relu(layers.MaxPooling2D(3, 1, padding="same")(first), "norm"))
    return layers.Add(name="sum")([first, after])


def norm_that_an_addition_reads(x: Any) -> Any:
    first = layers.MaxPooling2D(2, 1, padding="same")(layers.Conv2D(6, 3, padding="same", name="first")(x))
    normed = norm_relu(first, "norm")
    return layers.Add(name="sum")([normed, layers.Conv2D(6, 1, name="after")(normed)])


def a_tensor_joined_with_itself(x: Any) -> Any:
    """The same channels twice in one norm, which may clip one of them and not the other."""
    first = layers.Conv2D(6, 3, padding="same", name="first")(x)
    twice = layers.Concatenate(name="twice")([first, first])
    return layers.Conv2D(6, 1, name="after")(norm_relu(twice, "norm"))


def a_tensor_joined_with_its_maximum(x: Any) -> Any:
    first = layers.Conv2D(6, 3, padding="same", name="first")(x)
    both = layers.Concatenate(name="both")([first, layers.MaxPooling2D(3, 1, padding="same")(first)])
    return layers.Conv2D(6, 1, name="after")(norm_relu(both, "norm"))


def padding_before_the_norm(x: Any) -> Any:
    """The zeros of the padding must not change when a constant moves: so none moves."""
    padded = layers.ZeroPadding2D(2, name="padded")(layers.Conv2D(6, 3, name="first")(x))
    return layers.Conv2D(6, 1, name="after")(norm_relu(layers.MaxPooling2D(3, 2, name="pool")(padded), "norm"))


def net(body: Callable[[Any], Any]) -> Any:
    """Norms as after training: random positive factors, constants of both signs, random means and variances."""
    set_seeds(2)
    random = np.random.default_rng(2)
    image = layers.Input((16, 16, 3), name="image")
    model = Model(image, layers.Dense(3, name="logits")(layers.GlobalAveragePooling2D(name="mean")(body(image))))
    for layer in model.layers:
        if isinstance(layer, layers.BatchNormalization):
            size = layer.gamma.shape
            layer.set_weights(
                [random.uniform(0.6, 1.6, size), *random.normal(0, 0.4, (2, *size)), random.uniform(0.2, 2.0, size)]
            )
    return model


def on_grids(graph: Graph) -> tuple[dict[str, Range], dict[str, Quantized]]:
    tensors = all_tensors(graph)
    measured = estimate_ranges(
        graph,
        lambda batch: [tensor.numpy() for tensor in tensors(batch)],
        lambda: [IMAGES],
        estimator="minmax",
        input_range=INPUT,
    )
    ranges = without_ties(graph, measured)
    return ranges, quantize_graph(graph, ranges)


def test_the_norms_of_a_dense_net_become_additions_and_the_net_computes_the_same() -> None:
    model = net(dense_block)
    graph = fold(model)
    ops = {node.name: node.op for node in graph.nodes}
    norms = ["a_norm", "b_norm", "transition_norm", "c_norm", "last_norm"]
    assert [name for name, op in ops.items() if op == "shift"] == norms
    assert "depthwise" not in ops.values()
    assert check_folded(model, graph, IMAGES) < 1e-5
    for name in ("a_grow", "b_grow", "c_grow", "transition"):
        assert graph.node(name).activation == "relu", "no reader sees what is below 0"
    for name in ("b_norm", "c_norm"):
        bias = graph.node(name).bias
        assert bias is not None
        made_here = bias[8:] if name == "b_norm" else bias
        assert made_here.max() <= 1e-6, "the largest constant of a channel's readers is the convolution's before"


def test_preflight_names_the_norms_that_become_additions() -> None:
    rewrites = {row.layer: row.rewrite for row in folding(net(dense_block)).rewrites}
    assert rewrites["b_norm"] == "becomes an addition; its factors go into b_narrow and into what is before it"
    assert rewrites["last_norm"] == "becomes an addition; its factors go into logits and into what is before it"


def test_preflight_names_a_convolution_of_the_net_that_is_only_a_norm() -> None:
    def body(x: Any) -> Any:
        own = layers.DepthwiseConv2D(1, depthwise_initializer="ones", name="own")
        joined = layers.Concatenate()([layers.Conv2D(4, 3, name="first")(x), layers.Conv2D(4, 3, name="second")(x)])
        return layers.Conv2D(4, 1, name="after")(layers.ReLU(name="relu")(own(joined)))

    found = folding(net(body))
    assert found.graph.node("own").op == "shift"
    (row,) = [row for row in found.rewrites if row.layer == "own"]
    assert (row.kind, row.rewrite.split(";")[0]) == ("DepthwiseConv2D", "becomes an addition")


@pytest.mark.parametrize("factor", [-0.5, 0.0, 1e-4], ids=["negative", "zero", "tiny"])
def test_a_norm_with_a_factor_that_cannot_move_stays(factor: float) -> None:
    model = net(dense_block)
    layer = model.get_layer("b_norm")
    gamma = layer.gamma.numpy()
    gamma[9] = factor  # a channel of a_grow's
    layer.gamma.assign(gamma)
    graph = fold(model)
    assert [node.name for node in graph.nodes if node.op == "depthwise"] == ["b_norm"]
    assert sum(node.op == "shift" for node in graph.nodes) == 4
    assert graph.node("a_grow").activation == "none", "with a factor below 0, what is below 0 counts"
    assert graph.node("b_grow").activation == "relu"
    assert check_folded(model, graph, IMAGES) < 1e-5


def test_norms_stay_if_uneven_factors_would_cost_the_kernel_steps() -> None:
    model = net(dense_block)
    layer = model.get_layer("last_norm")
    gamma = np.full(layer.gamma.shape, 0.02, np.float32)
    gamma[[1, 9]] = 1.0
    layer.gamma.assign(gamma)
    c_norm = model.get_layer("c_norm")
    c_norm.gamma.assign(np.ones(c_norm.gamma.shape, np.float32))
    graph = fold(model)
    assert graph.node("last_norm").op == "depthwise"
    assert check_folded(model, graph, IMAGES) < 1e-5


@pytest.mark.parametrize(
    ("body", "left"),
    [
        (norm_without_relu, ["norm"]),
        (channels_that_an_addition_reads_too, []),
        (norm_that_an_addition_reads, ["norm"]),
        (padding_before_the_norm, []),
        (a_tensor_joined_with_itself, []),
        (a_tensor_joined_with_its_maximum, []),
    ],
    ids=lambda case: getattr(case, "__name__", None),
)
def test_nothing_moves_if_other_readers_would_see_it(body: Callable[[Any], Any], left: list[str]) -> None:
    model = net(body)
    graph = fold(model)
    assert [node.name for node in graph.nodes if node.op == "depthwise"] == left
    assert check_folded(model, graph, IMAGES) < 1e-5


def test_the_files_of_both_formats_and_training_agree_on_the_additions(tmp_path: Path) -> None:
    graph = fold(net(dense_block))
    ranges, integers = on_grids(graph)
    grid = integers[graph.input.name]
    (tmp_path / "net.tflite").write_bytes(write_tflite_int8(graph, integers, description="", metadata={}))
    meta = {"input_scale": repr(grid.scale), "input_zero_point": str(grid.zero_point + 128)}
    onnx.save(write_onnx_int8(graph, integers, opset=17, description="", metadata=meta), tmp_path / "net.onnx")
    lite = litert.open_session(tmp_path / "net.tflite", threads=1)
    assert lite.placement().ops["LiteRT kernels"] == 1, "only the softmax is left to LiteRT's own kernels"
    tensors = litert.open_tensors(tmp_path / "net.tflite")(IMAGES[:1])
    fake = FakeQuantized(QuantizedNet(graph, ranges)).model
    for node in graph.nodes:
        if node.op == "shift":
            wanted = fake.get_layer(f"quant_{node.name}")(tensors[node.inputs[0]].astype(np.float32)).numpy()
            np.testing.assert_allclose(tensors[node.name], wanted, rtol=0, atol=0.01 * integers[node.name].scale)
    ours, theirs = lite.run(IMAGES), ort.open_session(tmp_path / "net.onnx", threads=1).run(IMAGES)
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1.01 / 256)
    logits = fake(IMAGES).numpy()
    wanted = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(ours, wanted, rtol=0, atol=3 / 256)


def test_in_float_onnx_an_addition_is_a_convolution_again(tmp_path: Path) -> None:
    """ONNX Runtime fuses the ReLU into a convolution."""
    model = net(dense_block)
    file = write_onnx_float(fold(model), opset=17, description="", metadata={})
    onnx.save(file, tmp_path / "net.onnx")
    assert not [node for node in file.graph.node if node.op_type == "Add"]
    logits = model(IMAGES).numpy()
    wanted = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    found = ort.open_session(tmp_path / "net.onnx", threads=1).run(IMAGES)
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-5)


def test_no_sum_with_a_constant_falls_on_a_tie() -> None:
    graph = fold(net(dense_block))
    _, integers = on_grids(graph)
    for node in graph.nodes:
        if node.op != "shift":
            continue
        own, source = integers[node.name], integers[node.inputs[0]]
        assert own.bias is not None and own.bias_grid is not None
        constants = (own.bias.astype(np.float64) - own.bias_grid[1]) * own.bias_grid[0]
        steps = np.arange(256)[:, None] * source.scale / own.scale + constants / own.scale
        assert np.abs(steps - np.floor(steps) - 0.5).min() > 0.9 / (2 * DENOMINATOR), node.name


def test_a_channel_that_is_always_off_does_not_make_the_grid_of_the_others_coarse() -> None:
    graph = fold(net(dense_block))
    node = graph.node("b_norm")
    assert node.bias is not None
    bias = node.bias.copy()
    bias[9] = -1000.0
    dead = Graph(tuple(replace(n, bias=bias) if n is node else n for n in graph.nodes))
    ranges, _ = on_grids(graph)
    own = quantize_graph(dead, ranges)["b_norm"]
    assert own.bias_grid is not None
    found = dequantized(dead, {**quantize_graph(dead, ranges)}).node("b_norm").bias
    assert found is not None
    high = ranges[node.inputs[0]][1]
    assert found[9] <= -high + own.bias_grid[0], "off whatever the channel holds"
    others = np.arange(len(bias)) != 9
    assert np.abs(found - bias)[others].max() <= 0.51 * own.bias_grid[0]
    assert own.bias_grid[0] <= 1.02 * (high + max(0.0, float(bias.max()))) / 255


def test_with_sixteen_bits_a_constant_is_useful_down_to_the_lowest_input() -> None:
    """A tensor that goes down to -3 has a grid up to 3, although no calibration photo took it past 1."""
    image = Node("image", "input", (), {}, (1, 4, 4, 2))
    conv_weights = (np.ones((1, 1, 2, 2), np.float32), np.zeros(2, np.float32))
    conv_attributes = {"strides": [1, 1], "padding": "valid", "activation": "none"}
    conv = Node("conv", "conv", ("image",), conv_attributes, (1, 4, 4, 2), *conv_weights)
    bias = np.array([-2.0, 0.5], np.float32)
    shift = Node("shift", "shift", ("conv",), {"activation": "relu"}, (1, 4, 4, 2), None, bias)
    graph = Graph((image, conv, shift))
    ranges = {"image": (-1.0, 1.0), "conv": (-3.0, 1.0), "shift": (0.0, 1.5)}
    wide = dequantized(graph, quantize_graph(graph, ranges, activation_bits=16)).node("shift").bias
    np.testing.assert_allclose(wide, bias, rtol=0, atol=1e-4)
    eight = dequantized(graph, quantize_graph(graph, ranges)).node("shift").bias
    np.testing.assert_allclose(eight, [-1.0, 0.5], rtol=0, atol=0.01)


def test_a_channel_without_weights_keeps_its_constant_in_files_with_16_bit_activations(tmp_path: Path) -> None:
    """Its bias was on a grid of 1e-17: LiteRT's multiplier was 0, and ONNX Runtime's int32 overflowed."""
    model = net(dense_block)
    layer = model.get_layer("last_norm")
    gamma, beta = layer.gamma.numpy(), layer.beta.numpy()
    gamma[[1, 9]], beta[[1, 9]] = 0.0, 3.0
    layer.gamma.assign(gamma)
    layer.beta.assign(beta)
    graph = fold(model)
    assert graph.node("last_norm").op == "depthwise"
    ranges, eight = on_grids(graph)
    wide = quantize_graph(graph, ranges, activation_bits=16)
    (tmp_path / "net.tflite").write_bytes(write_tflite_int8(graph, wide, description="", metadata={}))
    grid = eight[graph.input.name]
    meta = {"input_scale": repr(grid.scale), "input_zero_point": str(grid.zero_point + 128)}
    onnx.save(write_onnx_int8(graph, wide, opset=17, description="", metadata=meta), tmp_path / "net.onnx")
    logits = model(IMAGES).numpy()
    wanted = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    for module, name in ((litert, "net.tflite"), (ort, "net.onnx")):
        found = module.open_session(tmp_path / name, threads=1).run(IMAGES)
        np.testing.assert_allclose(found, wanted, rtol=0, atol=0.02, err_msg=name)


@pytest.mark.parametrize("activation", ["relu", "none"])
@pytest.mark.parametrize("far", [0.0, -1e4, 50.0], ids=["near", "far below", "far above"])
def test_training_has_exactly_the_constants_that_ship(activation: str, far: float) -> None:
    random = np.random.default_rng(3)
    bias = random.normal(0, 0.5, 12).astype(np.float32)
    bias[3] += np.float32(far)
    node = Node("shift", "shift", ("before",), {"activation": activation}, (1, 4, 4, 12), None, bias)
    before = Node("before", "relu", (), {"activation": "relu"}, (1, 4, 4, 12))
    graph = Graph((Node("image", "input", (), {}, (1, 4, 4, 12)), replace(before, inputs=("image",)), node))
    for _ in range(20):
        tops = random.uniform(0.1, 3.0, 2)
        ranges = {"image": INPUT, "before": (0.0, float(tops[0])), "shift": (0.0, float(tops[1]))}
        ships = quantize_graph(graph, ranges)
        steps = ConstantSteps(node, lambda ends=ranges: ends["before"], lambda ends=ranges: ends["shift"])
        grid = ships["shift"].bias_grid
        assert grid is not None
        wanted = dequantized(graph, ships).node("shift").bias
        np.testing.assert_allclose(steps(bias, True, {}), wanted, rtol=0, atol=1e-3 * grid[0])


def test_training_moves_the_constants(tmp_path: Path) -> None:
    import tensorflow as tf

    from edgetl.quantization.fake import trained_weights

    graph = fold(net(dense_block))
    ranges, _ = on_grids(graph)
    fake = FakeQuantized(QuantizedNet(graph, ranges)).model
    for name, (kernel, bias) in trained_weights(graph, fake).items():
        np.testing.assert_array_equal(bias, graph.node(name).bias)
        assert (kernel is None) == (graph.node(name).op == "shift")
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(fake(IMAGES, training=True)[:, 0])
    by_name = {variable.name: variable for variable in fake.trainable_variables}
    constants = [variable for name, variable in by_name.items() if "b_norm" in name]
    assert len(constants) == 1
    gradient = tape.gradient(loss, constants)[0]
    assert gradient is not None and float(tf.reduce_sum(tf.abs(gradient))) > 0.0
