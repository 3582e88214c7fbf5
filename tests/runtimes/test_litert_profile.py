"""The rows that LiteRT's profiler gives for each op; nothing that it does not report is made up."""

from __future__ import annotations

import ctypes
import struct
from pathlib import Path

import numpy as np
import pytest

from edgetl.core.errors import EXIT_MISSING, MissingError
from edgetl.formats.write.tflite_int8 import write_tflite_int8
from edgetl.graph.graph import Graph, Node
from edgetl.quantization.integers import quantize_graph
from edgetl.runtimes import litert, litert_profile
from edgetl.runtimes.litert_profile import FileOp

OPS = [FileOp("PAD", "padded"), FileOp("CONV_2D", "first"), FileOp("DEPTHWISE_CONV_2D", "deep"), FileOp("SOFTMAX", "p")]


@pytest.fixture(scope="module")
def uneven(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file in which one convolution has nine tenths of all multiplications."""
    random = np.random.default_rng(7)

    def node(name: str, op: str, source: str, shape: tuple[int, ...], kernel: tuple[int, ...], stride: int = 1) -> Node:
        attributes = {"strides": [stride, stride], "padding": "same", "activation": "relu6"}
        filters = shape[-1]
        weights = random.uniform(-1, 1, kernel).astype(np.float32)
        return Node(name, op, (source,), attributes, shape, weights, np.zeros(filters, np.float32))  # type: ignore[arg-type]

    graph = Graph(
        (
            Node("x", "input", shape=(1, 64, 64, 3)),
            node("light", "conv", "x", (1, 32, 32, 16), (3, 3, 3, 16), 2),
            node("heavy", "conv", "light", (1, 16, 16, 64), (5, 5, 16, 64), 2),
            node("deep", "depthwise", "heavy", (1, 4, 4, 64), (3, 3, 64, 1), 4),
            Node("pooled", "mean", ("deep",), {}, (1, 64)),
            Node(
                "logits", "dense", ("pooled",), {"activation": "none"}, (1, 3), random.normal(size=(64, 3)), np.zeros(3)
            ),
        )
    )
    ranges = dict.fromkeys(("light", "heavy", "deep", "pooled"), (0.0, 6.0))
    ranges |= {"x": (-1.0, 1.0), "logits": (-9.0, 9.0)}
    model = tmp_path_factory.mktemp("uneven") / "net.tflite"
    model.write_bytes(write_tflite_int8(graph, quantize_graph(graph, ranges), description="", metadata={}))
    return model


@pytest.mark.parametrize("backend", ["litert-cpu", "litert-cpu-reference"])
def test_the_op_with_nearly_all_multiplications_takes_most_time_and_has_its_name(backend, uneven):
    session = litert.open_session(uneven, threads=1, backend=backend)
    session.run(np.random.default_rng(0).uniform(-1, 1, (1, 64, 64, 3)).astype(np.float32))
    rows = session.profile(runs=20)
    placement = session.placement()
    session.close()
    assert rows[0]["name"] == "heavy"
    assert rows[0]["op"] == "CONV_2D" or rows[0]["op"].startswith("Convolution")
    assert [row["ms"] for row in rows] == sorted((row["ms"] for row in rows), reverse=True)
    assert 0.01 < rows[0]["ms"] < 1000
    assert {"light", "heavy", "deep", "logits"} <= {row["name"] for row in rows}
    # The executors that took time are those that placement counts.
    assert {row["executor"] for row in rows} == {name for name, count in placement.ops.items() if count}
    kernels = [row for row in rows if row["executor"] == litert_profile.KERNELS]
    assert len(kernels) == placement.ops[litert_profile.KERNELS]


def test_the_profiled_model_refuses_an_input_of_another_size(tiny_net, tmp_path):
    """It must not run on whatever happens to be in memory."""
    model = tiny_net(tmp_path) / "net.tflite"
    with pytest.raises(MissingError, match="profiler does not work here") as failure:
        litert_profile.profile(model, [], b"x" * 10**6, threads=1, runs=1, delegate=True)
    assert "has 768 bytes, not 1000000" in failure.value.why
    assert failure.value.exit_code == EXIT_MISSING


def events(*rows: tuple[int, str, int]) -> list[tuple[int, str, int]]:
    return list(rows)


@pytest.mark.parametrize(
    ("seen", "names"),
    [
        (
            events((8, "Constant Pad (ND, X8)", 0), (8, "Convolution (NHWC, QC8) IGEMM", 1), (8, "Convolution (NHWC, QC8) DWConv", 2), (2, "SOFTMAX", 3)),
            ["padded", "first", "deep", "p"],
        ),
        (
            events((8, "Convolution (NHWC, F32) IGEMM", 0), (8, "Convolution (NHWC, F32) DWConv", 1), (8, "Softmax (NC, F32)", 2)),
            ["first", "deep", ""],
        ),
        (
            events((8, "Convolution (NHWC, F32) IGEMM", 0), (8, "Convolution (NHWC, F32) DWConv", 1), (8, "Convolution (NHWC, F32) DWConv", 2), (2, "SOFTMAX", 3)),
            ["", "", "", "p"],
        ),
        (
            events((8, "Constant Pad (ND, X32)", 0), (8, "Convolution (NHWC, F32) IGEMM", 1), (8, "Fully Connected (NC, F32) GEMM", 2), (2, "SOFTMAX", 3)),
            ["", "", "", "p"],
        ),
    ],
    ids=["one operator per op", "a fused pad", "an extra convolution", "a depthwise one as a matrix product"],
)  # fmt: skip
def test_an_operator_gets_a_tensor_name_only_if_the_match_is_certain(seen, names):
    assert litert_profile._names(OPS, seen) == names


class Written:
    """A profiler that writes events of a given size, as another version of LiteRT might."""

    def __init__(self, size: int, count: int = 3, kind: int = 8) -> None:
        self.tag = ctypes.create_string_buffer(b"Convolution")
        head = struct.pack("<QiIQQ", ctypes.addressof(self.tag), kind, 0, 5, 70)
        self.event = head + bytes(max(0, size - len(head) - 24)) + struct.pack("<QQiI", 4, 0, 2, 0)
        self.count = count

    def call(self, name, _profiler, *arguments):
        if name == "LiteRtGetNumProfilerEvents":
            arguments[0]._obj.value = self.count
        else:
            ctypes.memmove(arguments[1], self.event * self.count, len(self.event) * self.count)


@pytest.mark.parametrize("size", [72, 88, 104, 120])
def test_events_of_any_known_size_are_read(size):
    assert litert_profile._events(Written(size), ctypes.c_void_p()) == [[8, "Convolution", 4, 70]] * 3


@pytest.mark.parametrize(
    "library", [Written(512), Written(104, count=0), Written(104, kind=1)], ids=["too large", "none", "of no op"]
)
def test_events_of_an_unknown_format_are_refused(library):
    with pytest.raises(ValueError, match="event"):
        litert_profile._events(library, ctypes.c_void_p())
