"""What the runtimes want in another form: lone ReLUs, grids that go below 0, averages. Both int8 files agree on it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from tf_keras import Model, initializers, layers

from edgetl.backbones.models import set_seeds
from edgetl.formats.write.onnx_int8 import write_onnx_int8
from edgetl.formats.write.tflite_int8 import write_tflite_int8
from edgetl.graph.fold import check_folded, folding
from edgetl.graph.graph import Graph, same_scale_groups
from edgetl.quantization.fake import FakeQuantized, all_tensors
from edgetl.quantization.integers import quantize_graph
from edgetl.quantization.net import QuantizedNet
from edgetl.quantization.ranges import estimate_ranges
from edgetl.runtimes import litert, ort

INPUT = (-128 / 127.5, 127 / 127.5)
# So that most of what a ReLU gets is below 0: the largest of a few would hide a ReLU that is missing.
BELOW = initializers.Constant(-1.0)


def relu_of_an_add_with_two_readers(x: Any, relu: Any) -> Any:
    branch = layers.Conv2D(4, 3, padding="same", name="branch")(x)
    total = layers.Add(name="total")([branch, layers.Conv2D(4, 1, name="shortcut")(x)])
    return layers.Add(name="end")([total, layers.Conv2D(4, 3, padding="same", name="after")(relu(total))])


def relu_of_an_add_that_it_alone_reads(x: Any, relu: Any) -> Any:
    total = layers.Add(name="total")([layers.Conv2D(4, 3, padding="same")(x), layers.Conv2D(4, 1)(x)])
    return layers.Conv2D(4, 1, name="after")(relu(total))


def relu_of_a_pool(x: Any, relu: Any) -> Any:
    first = layers.Conv2D(4, 3, bias_initializer=BELOW, name="first")(x)
    return relu(layers.MaxPooling2D(2, 1, padding="same", name="pool")(first))


def fused_relu_that_shares_a_grid_with_negative_numbers(x: Any, relu: Any) -> Any:
    """DenseNet's beginning: convolution with ReLU, pooling, concatenation with something that has none."""
    first = layers.Conv2D(4, 3, padding="same", bias_initializer=BELOW, name="first")(x)
    pooled = layers.MaxPooling2D(2, name="pool")(relu(first))
    return layers.Concatenate(name="join")([pooled, layers.Conv2D(4, 1, strides=2, name="signed")(x)])


def fused_relu_behind_a_padding(x: Any, relu: Any) -> Any:
    padded = layers.ZeroPadding2D(2, name="padded")(relu(layers.Conv2D(4, 3, name="first")(x)))
    return layers.MaxPooling2D(3, 2, name="pool")(padded)


BODIES = {
    relu_of_an_add_with_two_readers: {"relu": "relu"},
    relu_of_an_add_that_it_alone_reads: {"total": "add"},
    relu_of_a_pool: {"relu": "relu"},
    fused_relu_that_shares_a_grid_with_negative_numbers: {"first": "conv"},
    fused_relu_behind_a_padding: {"first": "conv"},
}


def images() -> np.ndarray:
    pixels = np.random.default_rng(0).integers(0, 256, (6, 16, 16, 3)).astype(np.float32)
    return (pixels - 128) / 127.5


def net(body: Any, relu: Any) -> tuple[Any, Graph]:
    set_seeds(1)
    x = layers.Input((16, 16, 3), name="image")
    # An average over all positions hides a wrong one: the mean of few channels keeps it.
    features = layers.GlobalAveragePooling2D(name="pooled")(body(x, relu))
    model = Model(x, layers.Dense(3, name="logits")(features))
    return model, folding(model).graph


def found(graph: Graph, folder: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray, Any]:
    """Logits as LiteRT and ONNX Runtime have them, up to a constant, those of the fake-quantized net; the integers."""
    tensors = all_tensors(graph)
    ranges = estimate_ranges(graph, tensors, lambda: [images()], estimator="minmax", input_range=INPUT)
    integers = quantize_graph(graph, ranges)
    grid = integers[graph.input.name]
    (folder / "net.tflite").write_bytes(write_tflite_int8(graph, integers, description="", metadata={}))
    meta = {"input_scale": repr(grid.scale), "input_zero_point": str(grid.zero_point + 128)}
    onnx.save(write_onnx_int8(graph, integers, opset=17, description="", metadata=meta), folder / "net.onnx")
    lite = litert.open_session(folder / "net.tflite", threads=1)
    assert lite.placement().ops["LiteRT kernels"] == 1, "only the softmax is left to LiteRT's own kernels"
    wanted = np.exp(np.asarray(FakeQuantized(QuantizedNet(graph, ranges)).model(images())))
    return (
        lite.run(images()),
        ort.open_session(folder / "net.onnx", threads=1).run(images()),
        wanted / wanted.sum(axis=1, keepdims=True),
        integers,
    )


@pytest.mark.parametrize("limit", [None, 6.0], ids=["relu", "relu6"])
@pytest.mark.parametrize("body", BODIES, ids=lambda body: body.__name__)
def test_a_relu_is_kept_wherever_it_stands(body: Any, limit: float | None, tmp_path: Path) -> None:
    model, graph = net(body, layers.ReLU(limit, name="relu"))
    for name, op in BODIES[body].items():
        assert (graph.node(name).op, graph.node(name).activation) == (op, "relu" if limit is None else "relu6")
    assert check_folded(model, graph, images()) < 1e-5
    lite, onnx_, wanted, integers = found(graph, tmp_path)
    # Two output steps of 1/256: one for the softmax's rounding, one for a logit that lies a step apart.
    np.testing.assert_allclose(lite, onnx_, rtol=0, atol=2.01 / 256)
    np.testing.assert_allclose(lite, wanted, rtol=0, atol=4 / 256)
    if body is fused_relu_that_shares_a_grid_with_negative_numbers:
        assert integers["first"].zero_point > -128, "the case is that the grid goes below 0"
        assert same_scale_groups(graph)["first"] == same_scale_groups(graph)["signed"]
    else:
        assert all(integers[name].zero_point == -128 for name in BODIES[body])


def test_a_relu_left_out_of_the_onnx_file_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The comparison above sees what it is for: with the Clip gone, the formats part."""
    monkeypatch.setattr("edgetl.formats.write.onnx_int8._activation_limits", lambda node, grid: (0, 255))
    _, graph = net(fused_relu_that_shares_a_grid_with_negative_numbers, layers.ReLU(name="relu"))
    lite, onnx_, _, _ = found(graph, tmp_path)
    assert np.abs(lite - onnx_).max() > 2.01 / 256


def test_a_convolution_that_is_off_on_every_photo_makes_no_file_that_does_not_open(tmp_path: Path) -> None:
    def off(x: Any, relu: Any) -> Any:
        silent = layers.Conv2D(4, 3, bias_initializer=initializers.Constant(-50.0), name="silent")(x)
        return layers.Conv2D(4, 1, bias_initializer=initializers.Constant(1.0), name="after")(relu(silent))

    _, graph = net(off, layers.ReLU(name="relu"))
    lite, onnx_, wanted, _ = found(graph, tmp_path)
    np.testing.assert_allclose(lite, onnx_, rtol=0, atol=2.01 / 256)
    np.testing.assert_allclose(lite, wanted, rtol=0, atol=4 / 256)


@pytest.mark.parametrize(("size", "strides"), [(2, 2), (3, 2), ((2, 3), (1, 2))], ids=str)
def test_average_pooling_without_padding_is_taken_by_the_delegate_and_is_an_average(
    size: Any, strides: Any, tmp_path: Path
) -> None:
    def pooling(x: Any, relu: Any) -> Any:
        # One window is looked at, not the mean over all of them, in which their roundings cancel.
        pooled = layers.AveragePooling2D(size, strides, name="average")(layers.Conv2D(4, 3, name="first")(x))
        return layers.MaxPooling2D(pooled.shape[1:3], name="largest")(pooled)

    _, graph = net(pooling, None)
    lite, onnx_, wanted, _ = found(graph, tmp_path)
    np.testing.assert_allclose(lite, onnx_, rtol=0, atol=2.01 / 256)
    np.testing.assert_allclose(lite, wanted, rtol=0, atol=4 / 256)


@pytest.mark.parametrize(
    ("conv", "pool", "moves"),
    [
        ({}, {}, True),
        ({"strides": 2}, {}, False),
        ({"activation": "relu"}, {}, False),
        ({}, {"padding": "same"}, False),
    ],
    ids=["plain", "strided convolution", "relu between", "padding"],
)
def test_averages_are_taken_before_a_1_x_1_convolution_where_that_changes_nothing(
    conv: Any, pool: Any, moves: bool
) -> None:
    def transition(x: Any, relu: Any) -> Any:
        biased = layers.Conv2D(8, 1, bias_initializer=BELOW, name="conv", **conv)(x)
        return layers.Conv2D(4, 3, name="after")(layers.AveragePooling2D(2, name="pool", **pool)(biased))

    model, graph = net(transition, None)
    order = ["pool", "conv"] if moves else ["conv", "pool"]
    assert [node.name for node in graph.nodes if node.name in order] == order
    assert graph.node("after").inputs == (order[-1],)
    assert check_folded(model, graph, images()) < 1e-5


def test_averages_stay_behind_a_convolution_that_others_read() -> None:
    def transition(x: Any, relu: Any) -> Any:
        conv = layers.Conv2D(8, 1, name="conv")(x)
        return layers.Concatenate()([layers.AveragePooling2D(2, name="pool")(conv), layers.MaxPooling2D(2)(conv)])

    model, graph = net(transition, None)
    assert graph.node("pool").inputs == ("conv",)
    assert check_folded(model, graph, images()) < 1e-5


def test_average_pooling_leaves_the_padding_out_of_the_average_in_both_formats(tmp_path: Path) -> None:
    """Of a constant image every average is the constant, at the border as well, only if padding does not count."""
    x = layers.Input((5, 5, 3), name="image")
    pooled = layers.AveragePooling2D(3, 1, padding="same", name="pool")(x)
    model = Model(x, layers.Dense(3, name="logits")(layers.GlobalAveragePooling2D(name="pooled")(pooled)))
    kernel = np.array([[3, 0, 0], [0, 2, 0], [0, 0, 1]], np.float32)
    model.get_layer("logits").set_weights([kernel, np.zeros(3, np.float32)])
    graph = folding(model).graph
    ones = np.ones((1, 5, 5, 3), np.float32) * INPUT[1]
    ranges = estimate_ranges(graph, all_tensors(graph), lambda: [ones], estimator="minmax", input_range=INPUT)
    integers = quantize_graph(graph, ranges)
    (tmp_path / "net.tflite").write_bytes(write_tflite_int8(graph, integers, description="", metadata={}))
    meta = {"input_scale": repr(integers["image"].scale), "input_zero_point": "128"}
    onnx.save(write_onnx_int8(graph, integers, opset=17, description="", metadata=meta), tmp_path / "net.onnx")
    wanted = np.exp(np.diag(kernel) * INPUT[1])
    for module, name in ((litert, "net.tflite"), (ort, "net.onnx")):
        probabilities = module.open_session(tmp_path / name, threads=1).run(ones)[0]
        np.testing.assert_allclose(probabilities, wanted / wanted.sum(), rtol=0, atol=2.01 / 256)
