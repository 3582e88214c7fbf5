"""A net that collapsed: its message and exit code."""

from __future__ import annotations

import pytest

from edgetl.core.errors import EXIT_ACCURACY
from edgetl.quantization.attempts import Attempt
from edgetl.quantization.signal import Signal
from edgetl.stages.quantize import collapse


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
    message = str(error)
    for words in ("ptq: top-1 0.300 of 0.900", "60.0 points lost (95%: 57.0 to 63.0)", "one class only"):
        assert words in message
    assert "first degrades in third (conv): 4.2 dB, its inputs have 31.5 dB" in message
    assert "--quantize qat" in message and "--quantize auto" in message


@pytest.mark.parametrize(("scheme", "fix"), [("qat", "--quantize auto"), ("auto", "--quantize none")])
def test_each_scheme_has_a_next_one(scheme: str, fix: str) -> None:
    tried = [attempt("qat", 0.2, 210)]
    assert fix in collapse(scheme, tried, tried[0], SIGNALS[:2]).fix


def test_where_no_tensor_stands_out_none_is_named() -> None:
    tried = [attempt("qat", 0.2, 210)]
    assert "no tensor stands out" in str(collapse("qat", tried, tried[0], SIGNALS[:2]))
