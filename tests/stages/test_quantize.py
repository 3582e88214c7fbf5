"""The quantize stage on a small net, and the message for a net that collapsed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, get_type_hints

import pytest

from edgetl.core.errors import EXIT_ACCURACY, CollapseError
from edgetl.quantization.attempts import Attempt
from edgetl.quantization.records import AttemptRow, RewriteRow, SensitivityRow, SignalRow
from edgetl.quantization.signal import Signal
from edgetl.stages import finetune, quantize
from edgetl.stages.quantize import collapse
from edgetl.training.records import QuantizeHistory
from tests.stages.tiny import TRAINING, Tiny, patched, same


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


# --- the stage on a small net --------------------------------------------------------------------------------------

OPTIONS: dict[str, Any] = {
    "per_channel": True,
    "ships_integers": False,
    "beyond_int8": True,
    "budget_drop_pp": -101.0,  # which no attempt can meet
    "calibration": {"photos": 16, "estimator": "mse"},
}
QAT: dict[str, Any] = {
    **TRAINING,
    "epochs": 1,
    "guide": "student",
    "train_ranges": True,
    "temperature": 4.0,
    "label_weight": 0.0,
}
AUTO: dict[str, Any] = {**OPTIONS, **QAT, "scheme": "auto"}
RUNGS = ["ptq", "ptq, biases corrected", "qat", "int16 activations", *(f"{n} in float" for n in (1, 2, 4, 8))]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tiny]:
    """With a trained student in the folder "student"."""
    with pytest.MonkeyPatch.context() as patch:
        patched(patch)
        found = Tiny(tmp_path_factory.mktemp("quantize"))
        found.weights("first", seed=None)
        how = {"backbone": "vgg16", **TRAINING, "epochs": 6, "head_epochs": 1, "label_smoothing": 0.0}
        found.run(finetune, how, "student", weights="first")
        yield found


def run(tiny: Tiny, out: str, options: dict[str, Any]) -> Any:
    tiny.run(quantize, options, out, student="student", teacher="student")
    return tiny.json(out, "history.json")


def test_auto_climbs_every_rung_and_records_each(tiny: Tiny) -> None:
    history = run(tiny, "auto", AUTO)
    assert list(history) == [
        "epochs", "best_epoch", "stopped_early", "before_training", "fold_error", "n_calibrate", "estimator", "scheme",
        "preflight", "attempts", "signal", "sensitivity",
    ]  # fmt: skip
    assert set(history) == set(get_type_hints(QuantizeHistory))
    assert [row["name"] for row in history["attempts"]] == RUNGS
    assert sum(row["chosen"] for row in history["attempts"]) == 1
    assert list(history["attempts"][0]) == list(get_type_hints(AttemptRow))
    assert list(history["signal"][0]) == list(get_type_hints(SignalRow))
    assert list(history["sensitivity"][0]) == list(get_type_hints(SensitivityRow))
    assert list(history["preflight"][0]) == list(get_type_hints(RewriteRow))
    assert history["estimator"] in ("minmax", "mse", "percentile", "entropy"), "the one that auto has chosen"
    assert history["fold_error"] < 1e-5 and history["n_calibrate"] == 16
    assert len(history["epochs"]) == 1 and history["before_training"] is not None
    by_name = {row["name"]: row for row in history["attempts"]}
    # 16 bits are finer than 8, and a net in float is the student itself.
    assert by_name["int16 activations"]["divergence"] < by_name["ptq"]["divergence"]
    assert by_name["ptq, biases corrected"]["top1"] > 0.9, "the case is a net that learned something"


def test_the_same_seed_gives_the_same_net(tiny: Tiny) -> None:
    qat = {**OPTIONS, **QAT, "scheme": "qat"}
    for out, seed in (("a", 5), ("b", 5), ("c", 6)):
        run(tiny, out, {**qat, "seed": seed})
    assert same(tiny.arrays("a", "graph.npz"), tiny.arrays("b", "graph.npz"))
    assert tiny.json("a", "quantized.json") == tiny.json("b", "quantized.json")
    assert not same(tiny.arrays("a", "graph.npz"), tiny.arrays("c", "graph.npz"))


def test_qat_moves_weights_and_only_then_ranges(tiny: Tiny) -> None:
    qat = {**OPTIONS, **QAT, "scheme": "qat", "learning_rate": 1e-3}
    for out, trained in (("moved", True), ("fixed", False)):
        run(tiny, out, {**qat, "train_ranges": trained})
    run(tiny, "ptq", {**OPTIONS, "scheme": "ptq"})
    assert tiny.json("moved", "quantized.json")["ranges"] != tiny.json("fixed", "quantized.json")["ranges"]
    assert not same(tiny.arrays("fixed", "graph.npz"), tiny.arrays("ptq", "graph.npz"))


def test_ptq_trains_nothing_and_needs_no_options_of_training(tiny: Tiny) -> None:
    history = run(tiny, "untrained", {**OPTIONS, "scheme": "ptq"})
    assert history["epochs"] == [] and history["before_training"] is None and history["best_epoch"] == -1
    assert [row["name"] for row in history["attempts"]] == ["ptq", "ptq, biases corrected"]
    assert history["estimator"] == "mse"


@pytest.mark.parametrize(("ships", "raises"), [(True, True), (False, False)])
def test_a_collapse_stops_the_build_only_where_the_file_ships(
    ships: bool, raises: bool, tiny: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Attempt, "collapsed", lambda self, budget_pp: True)
    out, options = f"collapse-{ships}", {**OPTIONS, "scheme": "ptq", "ships_integers": ships}
    if not raises:
        run(tiny, out, options)
        return
    with pytest.raises(CollapseError, match="lost its accuracy on the 24 validation photos"):
        run(tiny, out, options)
    assert not list((tiny.folder / out).iterdir())
