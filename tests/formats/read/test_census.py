"""What a census of a model file says, against files whose contents are known: sound ones and ones with a planted defect."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import flatbuffers
import numpy as np
import onnx
import pytest
from ai_edge_litert import schema_py_generated as schema
from onnx import TensorProto, helper, numpy_helper

from edgetl.formats.read.census import Census, Grid, Op, Tensor
from edgetl.formats.read.findings import findings, peak_memory, wasted_share
from edgetl.formats.read.onnx_file import read_onnx
from edgetl.formats.read.tflite_file import read_tflite
from edgetl.latency.roofline import roofline
from edgetl.runtimes.ort_graph import optimized_graph

BOTH = pytest.mark.parametrize("kind", ["tflite", "onnx"])


def census_of(file: Path) -> Census:
    return (read_tflite if file.suffix == ".tflite" else read_onnx)(file.read_bytes())


def facts_of(file: Path) -> dict[str, Any]:
    return findings(census_of(file))


def edit_tflite(file: Path, change: Any) -> Path:
    """The same file after change(model, its subgraph)."""
    model = schema.ModelT.InitFromPackedBuf(file.read_bytes())
    change(model, model.subgraphs[0])
    builder = flatbuffers.Builder(1 << 16)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    file.write_bytes(builder.Output())
    return file


def edit_onnx(file: Path, change: Any) -> Path:
    """The same file after change(its list of nodes), which gives the new list."""
    model = onnx.load(file)
    nodes = change(list(model.graph.node), model.graph)
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    onnx.save(model, file)
    return file


def with_clips(nodes: list[Any], graph: Any) -> list[Any]:
    """A Clip to [0, 6] behind `first` and `deep`, as converters write a ReLU6."""
    graph.initializer.extend(numpy_helper.from_array(np.float32(v), n) for v, n in ((0, "zero"), (6, "six")))
    made = []
    for node in nodes:
        if node.op_type == "QuantizeLinear" and node.input[0] in ("first/real", "deep/real"):
            clipped = f"{node.input[0]}/clipped"
            made.append(helper.make_node("Clip", [node.input[0], "zero", "six"], [clipped], name=clipped))
            node.input[0] = clipped
        made.append(node)
    return made


@BOTH
def test_macs_and_weights_are_those_of_the_graph(kind, tiny_net, tmp_path):
    facts = facts_of(tiny_net(tmp_path) / f"net.{kind}")
    # In the ONNX file the 3 x 3 convolution over 3 channels is one of 2 x 2 over 12 (formats/write/lowering.py): 21 more for each
    # of 4 outputs at 8 x 8 places.
    more = 0 if kind == "tflite" else 4 * (2 * 2 * 12 - 3 * 3 * 3)
    assert facts["macs"] == tiny_net.graph.macs() + 8 * 8 * more
    # int8 kernels, int32 biases.
    sizes = [(node.kernel.size, node.bias.size) for node in tiny_net.graph.nodes if node.kernel is not None]
    stored = sum(op["weight_bytes"] for op in facts["ops"])
    scales_and_zero_points = (
        0 if kind == "tflite" else 1
    )  # the one of the last, unfused DequantizeLinear, and its scale
    assert stored == sum(k + 4 * b for k, b in sizes) + more + 5 * scales_and_zero_points


@BOTH
def test_a_sound_int8_file_is_called_one(kind, tiny_net, tmp_path):
    facts = facts_of(tiny_net(tmp_path) / f"net.{kind}")
    assert facts["kind"] == {"tflite": "int8 throughout", "onnx": "int8, float at its output"}[kind]
    assert facts["integer_share"] == 1.0
    assert [row for row in facts["conversions"] if row["place"] == "middle"] == []
    assert facts["biases_at_limits"] == []
    assert facts["weights"]["zero_channels"] == facts["weights"]["weak_channels"] == 0
    assert facts["metadata"]["labels"] == 3
    assert facts["metadata"]["description"] == "a tiny net"
    image = facts["inputs"][0]
    # The uint8 input of the ONNX file has its grid behind a Transpose.
    assert image["scale"] == pytest.approx(2 / 255)
    assert image["range"] == pytest.approx([-1.0, 1.0], abs=2 / 255)


def test_ranges_that_came_from_no_calibration_are_told_in_one_line(tiny_net, tmp_path):
    """TFMOT's default: [-6, 6] at every ReLU6."""
    good = facts_of(tiny_net(tmp_path / "good") / "net.tflite")["ranges"]
    trap = facts_of(tiny_net(tmp_path / "trap", {"first": (-6.0, 6.0), "deep": (-6.0, 6.0)}) / "net.tflite")["ranges"]
    assert (good["calibrated"], good["judged"], good["wasting_any"]) == (True, 2, 0)
    assert (trap["calibrated"], trap["judged"], trap["wasting_a_quarter"]) == (False, 2, 2)
    assert trap["verdict"].startswith("2 of 2 activation ranges waste more than a quarter of their grid")
    assert "did not come from calibration" in trap["verdict"]
    assert [row["share"] for row in trap["rows"]] == pytest.approx([0.5, 0.5], abs=0.01)


def test_a_clip_that_the_grid_does_anyway_leaves_its_convolution_int8(tiny_net, tmp_path):
    file = edit_onnx(tiny_net(tmp_path) / "net.onnx", with_clips)
    facts = facts_of(file)
    assert facts["integer_share"] == 1.0
    assert facts["ranges"]["calibrated"] is True
    assert facts["ranges"]["judged"] == 2


def test_a_clip_that_the_grid_does_not_do_makes_float_islands_here_and_in_onnx_runtime(tiny_net, tmp_path):
    """What the file says must be what ONNX Runtime does with it."""
    shares = {}
    for name, ranges in {"good": {}, "trap": {"first": (-6.0, 6.0), "deep": (-6.0, 6.0)}}.items():
        file = edit_onnx(tiny_net(tmp_path / name, ranges) / "net.onnx", with_clips)
        census = census_of(file)
        shares[name] = findings(census)["integer_share"]
        found = optimized_graph(file.read_bytes(), census.ops)
        assert found["unmatched"] == 0
        assert found["fused_share"] == pytest.approx(shares[name])
    assert shares["trap"] < shares["good"] == 1.0
    trap = facts_of(tmp_path / "trap" / "net.onnx")
    middle = [island for island in trap["float_islands"] if island["place"] == "middle"]
    assert [island["types"] for island in middle] == [("Conv", "Clip"), ("Conv", "Clip")]
    assert middle[0]["ops"] == ("first/real/Conv", "first/real/clipped")
    assert trap["ranges"]["calibrated"] is False


def test_float_weights_between_quantized_tensors_are_found(tiny_net, tmp_path):
    def plant(nodes: list[Any], graph: Any) -> list[Any]:
        kernel = numpy_helper.from_array(np.ones((4, 4, 1, 1), np.float32), "planted")
        graph.initializer.append(kernel)
        next(node for node in nodes if node.name == "flat/real/Conv").input[1] = "planted"
        return nodes

    facts = facts_of(edit_onnx(tiny_net(tmp_path) / "net.onnx", plant))
    first = facts["float_islands"][0]
    assert (first["ops"], first["float_kernels"]) == (("flat/real/Conv",), 1)
    assert facts["weights"]["float"] == {"Conv": 1}


def test_a_float_op_in_the_middle_of_a_tflite_file_is_an_island_with_a_name(tiny_net, tmp_path):
    def plant(model: Any, graph: Any) -> None:
        codes = {}
        for name in ("DEQUANTIZE", "LOGISTIC", "QUANTIZE"):
            code = schema.OperatorCodeT()
            code.builtinCode = code.deprecatedBuiltinCode = getattr(schema.BuiltinOperator, name)
            code.version = 1
            codes[name] = len(model.operatorCodes)
            model.operatorCodes.append(code)
        before = graph.operators[2].outputs[0]
        made = [before]
        for suffix, dtype in (("real", 0), ("squashed", 0), ("again", 9)):
            tensor = schema.TensorT()
            tensor.name, tensor.shape, tensor.type, tensor.buffer = (
                f"flat/{suffix}",
                graph.tensors[before].shape,
                dtype,
                0,
            )
            tensor.quantization = graph.tensors[before].quantization if dtype == 9 else None
            made.append(len(graph.tensors))
            graph.tensors.append(tensor)
        new = []
        for position, name in enumerate(codes):
            operator = schema.OperatorT()
            operator.opcodeIndex, operator.inputs, operator.outputs = (
                codes[name],
                [made[position]],
                [made[position + 1]],
            )
            new.append(operator)
        add = graph.operators[3]
        add.inputs = [made[-1] if index == before else index for index in add.inputs]
        graph.operators = [*graph.operators[:3], *new, *graph.operators[3:]]

    facts = facts_of(edit_tflite(tiny_net(tmp_path) / "net.tflite", plant))
    assert facts["kind"] == "int8 with 1 float island between quantized tensors"
    assert facts["float_islands"] == [
        {"place": "middle", "ops": ("flat/squashed",), "types": ("LOGISTIC",), "macs": 0, "float_kernels": 0}
    ]
    assert [(row["type"], row["place"]) for row in facts["conversions"]] == [
        ("DEQUANTIZE", "middle"),
        ("QUANTIZE", "middle"),
    ]


def test_a_range_that_serves_a_neighbour_is_not_held_against_the_calibration():
    tensors = [Tensor(name, (1, 4), "int8", "activation", 4, Grid(12 / 255, 0)) for name in ("x", "relu", "joined")]
    from edgetl.formats.read.census import Bound

    ops = (
        Op("relu", "CONV_2D", "int8", "compute", 16, reads=(0,), writes=(1,), bound=Bound("RELU6", 0.0, 6.0, 1)),
        Op("joined", "CONCATENATION", "int8", "compute", reads=(1, 0), writes=(2,)),
    )
    ranges = findings(Census("tflite", ops, tuple(tensors), (0,), (2,)))["ranges"]
    assert (ranges["wasting_a_quarter"], ranges["calibrated"], ranges["rows"][0]["shared"]) == (1, True, True)


@BOTH
def test_channels_that_hardly_use_their_grid_and_biases_at_the_limit_are_counted(kind, tiny_net, tmp_path):
    def plant(name: str, made: Any) -> Any:
        if name != "deep":
            return made
        kernel, bias = made.kernel.copy(), made.bias.copy()
        kernel[..., 1, :] = 0
        kernel[..., 2, :] = kernel[..., 2, :] // 12
        bias[3] = 2**31 - 1
        return replace(made, kernel=kernel, bias=bias)

    facts = facts_of(tiny_net(tmp_path, change=plant) / f"net.{kind}")
    weights = facts["weights"]
    assert (weights["zero_channels"], weights["weak_channels"]) == (1, 1)
    assert (weights["worst"]["op"], weights["worst"]["channel"]) == (
        "deep" if kind == "tflite" else "deep/real/Conv",
        2,
    )
    assert weights["worst"]["max_abs_q"] in (10, 11)
    assert [row["count"] for row in facts["biases_at_limits"]] == [1]


def test_a_kernel_with_one_scale_for_all_channels_is_per_tensor(tiny_net, tmp_path):
    def plant(model: Any, graph: Any) -> None:
        made = graph.tensors[graph.operators[1].inputs[1]].quantization
        made.scale, made.zeroPoint = made.scale[:1], made.zeroPoint[:1]

    file = tiny_net(tmp_path) / "net.tflite"
    assert facts_of(file)["weights"]["per_tensor"] == {"FULLY_CONNECTED": 1}
    assert facts_of(edit_tflite(file, plant))["weights"]["per_tensor"] == {"DEPTHWISE_CONV_2D": 1, "FULLY_CONNECTED": 1}


def float_onnx() -> bytes:
    kernel = numpy_helper.from_array(np.ones((4, 3, 3, 3), np.float32), "kernel")
    nodes = [helper.make_node("Conv", ["x", "kernel"], ["c"]), helper.make_node("Relu", ["c"], ["y"])]
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in (("x", ["n", 3, 8, 8]), ("y", None))]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], [kernel])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()


def test_a_float_file_is_a_float_file_and_no_island():
    facts = findings(read_onnx(float_onnx()))
    assert facts["kind"] == "float file"
    assert facts["float_islands"] == []
    assert facts["macs"] == 4 * 3 * 9 * 36
    assert facts["notes"] == ["free dimensions (n) count as 1"]


def float16_tflite() -> bytes:
    """x -> FULLY_CONNECTED with float16 weights behind a DEQUANTIZE, as TensorFlow's converter writes them."""
    model, graph = schema.ModelT(), schema.SubGraphT()
    weights = schema.BufferT()
    weights.data = np.frombuffer(np.ones((2, 5), np.float16).tobytes(), np.uint8)
    model.version, model.buffers = 3, [schema.BufferT(), weights]
    graph.tensors = []
    for name, shape, dtype, buffer in (("x", [1, 5], 0, 0), ("w16", [2, 5], 1, 1), ("w", [2, 5], 0, 0), ("y", [1, 2], 0, 0)):  # fmt: skip
        tensor = schema.TensorT()
        tensor.name, tensor.shape, tensor.type, tensor.buffer = name, shape, dtype, buffer
        graph.tensors.append(tensor)
    graph.operators, model.operatorCodes = [], []
    for position, (name, inputs, outputs) in enumerate((("DEQUANTIZE", [1], [2]), ("FULLY_CONNECTED", [0, 2], [3]))):
        code, operator = schema.OperatorCodeT(), schema.OperatorT()
        code.builtinCode = code.deprecatedBuiltinCode = getattr(schema.BuiltinOperator, name)
        operator.opcodeIndex, operator.inputs, operator.outputs = position, inputs, outputs
        model.operatorCodes.append(code)
        graph.operators.append(operator)
    graph.inputs, graph.outputs, model.subgraphs = [0], [3], [graph]
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())


def test_half_precision_weights_are_weights_and_not_a_conversion():
    facts = findings(read_tflite(float16_tflite()))
    assert facts["kind"] == "float file, float16 weights"
    assert facts["conversions"] == []
    assert [op["part"] for op in facts["ops"]] == ["folded", "compute"]
    assert (facts["ops"][1]["weight_bytes"], facts["ops"][1]["macs"]) == (20, 10)
    # The float32 copy of the weights is no activation.
    assert facts["peak_memory"] == {"bytes": 28, "op": "y", "type": "FULLY_CONNECTED"}


def test_a_file_whose_grids_are_made_at_run_time_is_no_int8_file():
    nodes = [
        helper.make_node("DynamicQuantizeLinear", ["x"], ["q", "scale", "zero"]),
        helper.make_node("ConvInteger", ["q", "kernel", "zero"], ["sums"]),
        helper.make_node("Cast", ["sums"], ["y"], to=TensorProto.FLOAT),
    ]
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in (("x", [1, 3, 8, 8]), ("y", None))]
    kernel = numpy_helper.from_array(np.full((4, 3, 3, 3), 90, np.int8), "kernel")
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], [kernel])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    facts = findings(read_onnx(model.SerializeToString()))
    assert "dynamic quantization" in facts["kind"]
    assert facts["ops"][1]["precision"] == "int8"
    assert facts["weights"]["per_tensor"] == {"ConvInteger": 1}


def test_a_file_that_takes_and_gives_floats_says_so():
    tensors = [
        Tensor(n, (1, 4), d, "activation", 4)
        for n, d in (("x", "float32"), ("a", "int8"), ("b", "int8"), ("y", "float32"))
    ]
    ops = (
        Op("a", "QUANTIZE", "convert", "convert", reads=(0,), writes=(1,)),
        Op("b", "ADD", "int8", "compute", reads=(1,), writes=(2,)),
        Op("y", "DEQUANTIZE", "convert", "convert", reads=(2,), writes=(3,)),
    )
    facts = findings(Census("tflite", ops, tuple(tensors), (0,), (3,)))
    assert facts["kind"] == "int8 throughout, takes and gives floats"
    assert [row["place"] for row in facts["conversions"]] == ["input", "output"]


def test_shapes_are_known_behind_onnx_runtime_s_own_ops():
    """An op that onnx has no definition of would hide the MACs of all that follows it."""

    def grid(name: str) -> list[str]:
        return [f"{name}_scale", f"{name}_zero"]

    kernel = numpy_helper.from_array(np.full((5, 3, 1, 1), 90, np.int8), "kernel")
    constants = [kernel]
    for name in ("x", "sum", "kernel", "y"):
        constants += [
            numpy_helper.from_array(np.float32(0.1), f"{name}_scale"),
            numpy_helper.from_array(np.int8(0), f"{name}_zero"),
        ]
    nodes = [
        helper.make_node(
            "QLinearAdd", ["x", *grid("x"), "x", *grid("x"), *grid("sum")], ["sum"], domain="com.microsoft"
        ),
        helper.make_node("QLinearConv", ["sum", *grid("sum"), "kernel", *grid("kernel"), *grid("y")], ["y"]),
    ]
    ends = [helper.make_tensor_value_info(n, TensorProto.INT8, s) for n, s in (("x", [1, 3, 8, 8]), ("y", None))]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], constants)
    sets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    facts = findings(read_onnx(helper.make_model(graph, opset_imports=sets, ir_version=8).SerializeToString()))
    assert facts["macs_unknown"] == []
    assert facts["macs"] == 5 * 3 * 64
    assert facts["kind"] == "int8 throughout"
    assert facts["outputs"][0]["shape"] == [1, 5, 8, 8]


def test_peak_memory_is_where_the_most_lives_at_once():
    sizes = {"x": 10, "a": 100, "b": 50, "c": 5, "d": 120}
    tensors = tuple(Tensor(name, (size,), "int8", "activation", size) for name, size in sizes.items())
    ops = tuple(
        Op(name, "OP", "int8", "compute", reads=reads, writes=(position + 1,))
        for position, (name, reads) in enumerate((("a", (0,)), ("b", (0,)), ("c", (1, 2)), ("d", (3,))))
    )
    # x, a and b live while b is made; x is gone when c is: 10 + 100 + 50.
    census = Census("tflite", ops, tensors, (0,), (4,))
    peak = peak_memory(census)
    assert peak is not None
    assert (peak.bytes, peak.op) == (160, "b")
    # An output stays to the end: with a among them, d comes on top of it.
    kept = peak_memory(replace(census, outputs=(1, 4)))
    assert kept is not None
    assert (kept.bytes, kept.op) == (225, "d")


@BOTH
def test_tensors_between_q_and_dq_take_one_byte_an_element(kind, tiny_net, tmp_path):
    facts = facts_of(tiny_net(tmp_path) / f"net.{kind}")
    # The Transpose of the ONNX file holds the image twice; else first, deep and flat at flat: three tensors of 256.
    assert facts["peak_memory"]["bytes"] == {"tflite": 1024, "onnx": 1536}[kind]


@pytest.mark.parametrize(
    ("low", "high", "bound", "share"),
    [
        pytest.param(-6.0, 6.0, (0.0, 6.0), 0.5, id="half below zero"),
        pytest.param(0.0, 12.0, (0.0, 6.0), 0.5, id="half above six"),
        pytest.param(0.0, 12.0, (0.0, None), 0.0, id="a plain ReLU has no upper end"),
        pytest.param(-0.02, 6.0, (0.0, 6.0), 0.0, id="less than a step is rounding"),
        pytest.param(-9.0, -3.0, (0.0, 6.0), 1.0, id="all of it"),
    ],
)
def test_waste_is_the_share_past_what_the_activation_produces(low, high, bound, share):
    assert wasted_share(low, high, (high - low) / 255, bound) == pytest.approx(share)


def test_a_roofline_says_what_it_could_not_count():
    rows = [
        {"precision": "int8", "part": "compute", "macs": 2_000_000, "bytes_moved": 1000},
        {"precision": "float32", "part": "compute", "macs": 500, "bytes_moved": 9_000_000},
        {"precision": "int8", "part": "fused", "macs": 10**12, "bytes_moved": 10**12},
    ]
    both = roofline(rows, {"macs_per_second_int8": 1e9, "memory_bytes_per_second": 1e9})
    # 2 ms of computing, then 9 ms of moving; each op by its own longer side.
    assert both.total_ms == pytest.approx(11.0)
    assert both.compute_ms == pytest.approx(2.0)
    assert both.memory_ms == pytest.approx(9.001)
    assert both.lacking == ("no peak is published for float32: the time of 500 MACs is not included",)
    only_float = roofline(rows, {"macs_per_second_float32": 1e9})
    assert only_float.memory_ms is None
    assert "no memory bandwidth is published" in only_float.lacking[-1]
    assert roofline(rows[:1], {"macs_per_second_float32": 1e9}).total_ms is None
    nothing = roofline(rows, {})
    assert (nothing.total_ms, nothing.lacking) == (None, ("no peak is published for this target",))
