"""A net that collapsed: what is said of it, and with which exit code."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from edgetl.core.errors import EXIT_ACCURACY
from edgetl.graph.graph import Graph, Node
from edgetl.quantization.attempts import Attempt
from edgetl.quantization.fake import all_tensors
from edgetl.quantization.net import QuantizedNet
from edgetl.quantization.signal import Signal
from edgetl.stages.quantize import _Workshop, collapse


def attempt(name: str, top1: float, lost: int, *, one_class: bool = False) -> Attempt:
    drop = 100.0 * lost / 300
    return Attempt(
        name, "", 300, top1, 0.9, lost, 0, drop, (drop - 3, drop + 3), 0.5, 1.0, one_class, False, 600_000, 10.0
    )


SIGNALS = [
    Signal("first", "conv", 40.0, 120.0),
    Signal("second", "depthwise", 31.5, 40.0),
    Signal("third", "conv", 4.2, 31.5),
    Signal("logits", "dense", 1.0, 4.2),
]


def test_every_attempt_the_layer_and_the_next_scheme_are_named() -> None:
    tried = [attempt("ptq", 0.3, 180), attempt("ptq, biases corrected", 0.2, 210, one_class=True)]
    error = collapse("ptq", tried, tried[0], SIGNALS)
    assert error.exit_code == EXIT_ACCURACY
    said = str(error)
    for words in ("ptq: top-1 0.300 of 0.900", "60.0 points lost (95%: 57.0 to 63.0)", "one class only"):
        assert words in said
    assert "first degrades in third (conv): 4.2 dB, what it reads has 31.5 dB" in said
    assert "--quantize qat" in said and "--quantize auto" in said


@pytest.mark.parametrize(("scheme", "mend"), [("qat", "--quantize auto"), ("auto", "--quantize none")])
def test_each_scheme_has_a_next_one(scheme: str, mend: str) -> None:
    tried = [attempt("qat", 0.2, 210)]
    assert mend in collapse(scheme, tried, tried[0], SIGNALS[:2]).fix


def test_where_no_tensor_stands_out_none_is_named() -> None:
    tried = [attempt("qat", 0.2, 210)]
    assert "no tensor stands out" in str(collapse("qat", tried, tried[0], SIGNALS[:2]))


def test_a_layer_left_in_float_keeps_the_bias_that_was_not_corrected() -> None:
    """Its kernel is not rounded, so there is nothing to correct: with the corrected bias it was worse than rounded."""
    kernel = np.ones((1, 1, 2, 2), np.float32)
    attributes = {"strides": [1, 1], "padding": "valid", "activation": "none"}
    student = Graph(
        (
            Node("x", "input", shape=(1, 4, 4, 2)),
            Node("first", "conv", ("x",), attributes, (1, 4, 4, 2), kernel, np.zeros(2, np.float32)),
            Node("second", "conv", ("first",), attributes, (1, 4, 4, 2), kernel, np.zeros(2, np.float32)),
        )
    )
    shifted = student.with_weights({name: (kernel, np.full(2, 0.5, np.float32)) for name in ("first", "second")})
    work = object.__new__(_Workshop)
    work._start, work._stands_for = QuantizedNet(shifted, {}), [(shifted, student)]
    work._most_sensitive = ["second", "first"]
    net = work.mixed(1)
    assert net.float_nodes == ("second",)
    np.testing.assert_array_equal(net.graph.node("second").bias, [0.0, 0.0])
    np.testing.assert_array_equal(net.graph.node("first").bias, [0.5, 0.5])
    assert work.exact(net.graph) is student, "the report measures against the student"


def test_sixteen_bits_are_not_corrected_for_what_eight_do_to_the_constants(monkeypatch: pytest.MonkeyPatch) -> None:
    kernel, nothing = np.ones((1, 1, 2, 2), np.float32), np.zeros(2, np.float32)
    attributes = {"strides": [1, 1], "padding": "valid", "activation": "none"}
    student = Graph(
        (
            Node("x", "input", shape=(1, 4, 4, 2)),
            Node("first", "conv", ("x",), attributes, (1, 4, 4, 2), kernel, nothing),
            Node("shift", "shift", ("first",), {"activation": "relu"}, (1, 4, 4, 2), None, np.float32([-40.0, 0.08])),
            Node("second", "conv", ("shift",), attributes, (1, 4, 4, 2), kernel, nothing),
        )
    )
    images = np.random.default_rng(0).uniform(0, 30, (4, 4, 4, 2)).astype(np.float32)
    tensors = all_tensors(student)
    ranges = {"x": (0.0, 30.0), "first": (0.0, 60.0), "shift": (0.0, 60.0), "second": (0.0, 90.0)}
    work = object.__new__(_Workshop)
    work.context, work.calibration, work.batch = (
        SimpleNamespace(progress=SimpleNamespace(begin=lambda *_, **__: None)),
        [0],
        1,
    )
    monkeypatch.setattr(work, "_outputs_of", lambda graph: lambda batch: [tensor.numpy() for tensor in tensors(batch)])
    monkeypatch.setattr(work, "_calibration_batches", lambda: [images])
    work._stands_for = []
    work._start = start = work._corrected(student, QuantizedNet(student, ranges))
    eight, sixteen = start.graph.node("second").bias, work.wide().graph.node("second").bias
    assert eight is not None and np.abs(eight).max() > 0.02
    assert sixteen is not None and np.abs(sixteen).max() < 0.005
