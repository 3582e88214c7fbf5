"""The rungs of the ladder: which there are, and what each gives to the next."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from edgetl.graph.graph import Graph, Node
from edgetl.quantization.attempts import judge_attempt
from edgetl.quantization.net import QuantizedNet
from edgetl.stages import ladder
from edgetl.stages.ladder import Rung, climb, mixed, rungs, wide
from edgetl.stages.workbench import Known, LadderOptions, Work, input_range
from edgetl.tasks.photos.contract import Normalization

NOTHING = np.zeros(2, np.float32)
CONV = {"strides": [1, 1], "padding": "valid", "activation": "none"}
TRAINING = {"epochs": 3, "batch_size": 8, "learning_rate": 1e-3, "warmup_epochs": 1.0, "patience": 2, "augment": {}}
QAT = {**TRAINING, "guide": "student", "train_ranges": True, "temperature": 4.0, "label_weight": 0.0}


def conv(name: str, source: str) -> Node:
    return Node(name, "conv", (source,), CONV, (1, 4, 4, 2), np.ones((1, 1, 2, 2), np.float32), NOTHING)


def depthwise(name: str, source: str, size: int) -> Node:
    kernel = np.ones((size, size, 2, 1), np.float32)
    return Node(name, "depthwise", (source,), CONV, (1, 4, 4, 2), kernel, NOTHING)


IMAGE = Node("x", "input", shape=(1, 4, 4, 2))
STUDENT = Graph((IMAGE, conv("first", "x"), conv("second", "first")))


class Recorder:
    def __init__(self) -> None:
        self.notes: list[str] = []

    def begin(self, total: int, *, done: int = 0, unit: str = "steps") -> None: ...
    def advance(self, count: int, detail: str = "") -> None: ...
    def note(self, text: str) -> None:
        self.notes.append(text)


def options_of(scheme: str, *, beyond_int8: bool = False, budget_drop_pp: float = 1.0) -> LadderOptions:
    """As a plan gives them: ptq has none of training, auto no estimator."""
    calibration = {"photos": 64} | ({} if scheme == "auto" else {"estimator": "mse"})
    given = {"scheme": scheme, "seed": 0, "calibration": calibration, "budget_drop_pp": budget_drop_pp}
    given |= {"ships_integers": True, "per_channel": True, "beyond_int8": beyond_int8}
    return LadderOptions.of(given if scheme == "ptq" else {**given, **QAT})


def work_on(graph: Graph, options: LadderOptions, **known: Any) -> Work:
    """What rungs work with, without photos and files."""
    fitting: Any = SimpleNamespace(progress=Recorder(), data=None)
    nothing: Any = None
    return Work(
        options=options,
        fitting=fitting,
        student=nothing,
        teacher_folder=Path(),
        input_range=(0.0, 30.0),
        graph=graph,
        rewrites=(),
        fold_error=0.0,
        calibration=nothing,
        batch_size=1,
        signal_photos=2,
        probabilities_of=nothing,
        known=Known(options.estimator, **known),
    )


INT8 = ["ptq", "ptq, biases corrected"]
BEYOND = ["int16 activations", "1 in float", "2 in float", "4 in float", "8 in float"]


@pytest.mark.parametrize(
    ("scheme", "beyond_int8", "names"),
    [
        ("ptq", False, INT8),
        ("qat", False, ["ptq", "qat"]),
        ("auto", False, [*INT8, "qat"]),
        ("auto", True, [*INT8, "qat", *BEYOND]),
    ],
)
def test_a_scheme_has_its_rungs_in_order_of_cost(scheme: str, beyond_int8: bool, names: list[str]) -> None:
    found = list(rungs(work_on(STUDENT, options_of(scheme, beyond_int8=beyond_int8))))
    assert [rung.name for rung in found] == names


@pytest.mark.parametrize(("size", "equalizes"), [(3, True), (1, False)])
def test_channels_are_equalized_where_the_net_has_depthwise_convolutions(size: int, equalizes: bool) -> None:
    """Of 1 x 1 there are only BatchNorms: preactivation has brought their channels to one size already."""
    graph = Graph((IMAGE, conv("first", "x"), depthwise("deep", "first", size)))
    assert ("ptq, equalized" in [rung.name for rung in rungs(work_on(graph, options_of("ptq")))]) is equalizes


def test_the_words_of_a_rung_count_its_layers_and_epochs() -> None:
    words = {rung.name: rung.what for rung in rungs(work_on(STUDENT, options_of("auto", beyond_int8=True)))}
    assert words["ptq"] == "ranges by best"
    assert words["qat"] == "trained 3 epochs with the grids in place"
    assert words["1 in float"] == "the most sensitive layer stays in float32"
    assert words["2 in float"] == "the 2 most sensitive layers stay in float32"


@pytest.mark.parametrize(
    ("scheme", "right", "tried"),
    [
        ("auto", [9, 10, 10], 2),  # the first within the budget
        ("auto", [9, 9, 9], 3),
        ("ptq", [10, 10, 10], 2),  # the corrections in any case: which is nearer to float decides
        ("ptq", [9, 9, 9], 3),
        ("qat", [10, 10, 10], 3),  # qat is what was asked for
    ],
)
def test_climbing_stops_where_the_scheme_says(
    scheme: str, right: list[int], tried: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = work_on(STUDENT, options_of(scheme))
    net = QuantizedNet(STUDENT, {})
    labels = np.arange(10) % 2
    correct = np.eye(2)[labels]

    def judged(work: Work, rung: Rung, net: QuantizedNet, begun: float) -> Any:
        got = correct.copy()
        got[int(rung.name) :] = got[int(rung.name) :, ::-1]
        return judge_attempt(rung.name, "", correct, got, labels, budget_pp=1.0, size=1, seconds=0.0)

    made = [Rung(str(count), "", lambda work: net) for count in right]
    monkeypatch.setattr(ladder, "rungs", lambda work: iter(made))
    monkeypatch.setattr(ladder, "_judge", judged)
    climbed = climb(work)
    assert len(climbed) == tried
    notes = work.fitting.progress.notes  # type: ignore[attr-defined]
    assert len(notes) == tried and "on 10 validation photos" in notes[0]


def test_a_layer_left_in_float_keeps_the_bias_that_was_not_corrected() -> None:
    """Its kernel is not rounded, so there is nothing to correct: with the corrected bias it was worse than rounded."""
    kernel = np.ones((1, 1, 2, 2), np.float32)
    shifted = STUDENT.with_weights({name: (kernel, np.full(2, 0.5, np.float32)) for name in ("first", "second")})
    work = work_on(
        STUDENT,
        options_of("auto"),
        start=QuantizedNet(shifted, {}),
        stands_for=[(shifted, STUDENT)],
        most_sensitive=["second", "first"],
    )
    net = mixed(work, 1)
    assert net.float_nodes == ("second",)
    np.testing.assert_array_equal(net.graph.node("second").bias, [0.0, 0.0])
    np.testing.assert_array_equal(net.graph.node("first").bias, [0.5, 0.5])
    assert work.exact(net.graph) is STUDENT, "the report measures against the student"


def test_sixteen_bits_are_not_corrected_for_what_eight_do_to_the_constants(monkeypatch: pytest.MonkeyPatch) -> None:
    shift = Node("shift", "shift", ("first",), {"activation": "relu"}, (1, 4, 4, 2), None, np.float32([-40.0, 0.08]))
    student = Graph((IMAGE, conv("first", "x"), shift, conv("second", "shift")))
    images = np.random.default_rng(0).uniform(0, 30, (4, 4, 4, 2)).astype(np.float32)
    ranges = {"x": (0.0, 30.0), "first": (0.0, 60.0), "shift": (0.0, 60.0), "second": (0.0, 90.0)}
    monkeypatch.setattr(Work, "calibration_batches", lambda self: [images])
    work = dataclasses.replace(work_on(student, options_of("auto")), calibration=[0])
    work.known.start = start = ladder._corrected(work, student, QuantizedNet(student, ranges))
    eight, sixteen = start.graph.node("second").bias, wide(work).graph.node("second").bias
    assert eight is not None and np.abs(eight).max() > 0.02
    assert sixteen is not None and np.abs(sixteen).max() < 0.005


def test_costlier_rungs_share_one_start(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def counted(name: str) -> Callable[[Work], QuantizedNet]:
        return lambda work: calls.append(name) or QuantizedNet(STUDENT, {})  # type: ignore[func-returns-value]

    monkeypatch.setattr(ladder, "corrected", counted("corrected"))
    monkeypatch.setattr(ladder, "equalized", counted("equalized"))
    work = work_on(STUDENT, options_of("auto"))
    assert ladder.start(work) is ladder.start(work)
    per_tensor = dataclasses.replace(options_of("auto"), per_channel=False)
    ladder.start(work_on(STUDENT, per_tensor))
    assert calls == ["corrected", "equalized"], "one scale for all channels needs them equalized"


def test_the_range_of_the_input_is_that_of_the_widest_channel() -> None:
    normalization = Normalization((128.0, 100.0, 128.0), (127.5, 127.5, 51.0))
    low, high = input_range(normalization)
    assert low == pytest.approx(-128 / 51) and high == pytest.approx(127 / 51)
