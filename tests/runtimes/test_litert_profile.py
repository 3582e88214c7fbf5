"""What LiteRT's profiler says of each op, and that what it does not say is not made up."""

from __future__ import annotations

import ctypes
import struct

import numpy as np
import pytest

from edgetl.errors import EXIT_MISSING, MissingError
from edgetl.runtimes import litert, litert_profile
from edgetl.runtimes.litert_profile import FileOp

OPS = [FileOp("PAD", "padded"), FileOp("CONV_2D", "first"), FileOp("DEPTHWISE_CONV_2D", "deep"), FileOp("SOFTMAX", "p")]


@pytest.mark.parametrize("backend", ["litert-cpu", "litert-cpu-reference"])
def test_the_ops_that_placement_counts_are_those_that_took_time(backend, tiny_net, tmp_path):
    session = litert.open_session(tiny_net(tmp_path) / "net.tflite", threads=1, backend=backend)
    session.run(np.random.default_rng(0).uniform(-1, 1, (1, 16, 16, 3)).astype(np.float32))
    rows = session.profile(runs=3)
    placement = session.placement()
    session.close()
    executors = {row["executor"] for row in rows}
    assert executors == {name for name, count in placement.ops.items() if count}
    kernels = [row for row in rows if row["executor"] == litert_profile.KERNELS]
    assert len(kernels) == placement.ops[litert_profile.KERNELS]
    assert {"first", "deep", "flat", "logits"} <= {row["name"] for row in rows}
    assert [row["ms"] for row in rows] == sorted((row["ms"] for row in rows), reverse=True)
    assert 0 < sum(row["ms"] for row in rows) < 1000
    named = {row["name"]: row["op"] for row in rows}
    assert named["deep"] == "DEPTHWISE_CONV_2D" or "DWConv" in named["deep"]


def test_an_image_is_what_the_profiled_model_is_given(tiny_net, tmp_path):
    """Another size of input is refused, not run on whatever lies in memory."""
    model = tiny_net(tmp_path) / "net.tflite"
    with pytest.raises(MissingError, match="profile cannot be had") as failure:
        litert_profile.profile(model, [], b"x" * 10**6, threads=1, runs=1, delegate=True)
    assert "takes 768 bytes, not 1000000" in failure.value.why
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
    ids=["one of each", "a pad fused", "a convolution more", "a depthwise one is no matrix product"],
)  # fmt: skip
def test_an_operator_has_the_name_of_a_tensor_only_where_it_is_sure(seen, names):
    assert litert_profile._names(OPS, seen) == names


class Written:
    """A profiler that writes events of some size, as a LiteRT of another version might."""

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
def test_events_are_read_whatever_their_size(size):
    assert litert_profile._events(Written(size), ctypes.c_void_p()) == [[8, "Convolution", 4, 70]] * 3


@pytest.mark.parametrize(
    "library", [Written(512), Written(104, count=0), Written(104, kind=1)], ids=["too large", "none", "of no op"]
)
def test_events_of_another_form_are_refused(library):
    with pytest.raises(ValueError, match="event"):
        litert_profile._events(library, ctypes.c_void_p())
