"""The teacher of a small backbone: from a weight file, and from random weights."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_type_hints

import pytest

from edgetl.backbones.models import load_model
from edgetl.stages import finetune
from edgetl.training.records import EpochRow, HistoryJson
from tests.stages.tiny import TRAINING, Tiny, patched, same

OPTIONS: dict[str, Any] = {"backbone": "vgg16", **TRAINING, "head_epochs": 5, "label_smoothing": 0.1}


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Tiny]:
    patched(monkeypatch)
    yield Tiny(tmp_path)


def weights_of(tiny: Tiny, out: str, layer: str) -> list[Any]:
    return list(load_model(tiny.folder / out)[1].get_layer(layer).get_weights())


def test_from_a_weight_file_the_layers_below_the_top_blocks_stay(tiny: Tiny) -> None:
    tiny.weights("first", seed=1)
    tiny.run(finetune, OPTIONS, "out", weights="first")
    arrays = tiny.arrays("first")
    bottom, top = arrays[:2], arrays[2:4]
    assert same(weights_of(tiny, "out", "block1_conv1"), bottom)
    assert not same(weights_of(tiny, "out", "block5_conv1"), top)
    assert tiny.json("out", "model.json")["weights_source"] == {"weights": "file", "file": "mine.h5"}


def test_batch_norm_keeps_the_statistics_of_the_weight_file(tiny: Tiny) -> None:
    tiny.weights("first", seed=1)
    tiny.run(finetune, OPTIONS, "out", weights="first")
    assert same(weights_of(tiny, "out", "norm")[2:], tiny.arrays("first")[6:8])


def test_from_random_weights_everything_is_trained(tiny: Tiny) -> None:
    tiny.weights("first", seed=None)
    tiny.run(finetune, {**OPTIONS, "epochs": 1}, "short", weights="first")
    tiny.run(finetune, {**OPTIONS, "epochs": 2}, "long", weights="first")
    for layer in ("block1_conv1", "block5_conv1", "norm", "logits"):
        assert not same(weights_of(tiny, "short", layer), weights_of(tiny, "long", layer)), layer


def test_the_same_seed_gives_the_same_teacher(tiny: Tiny) -> None:
    tiny.weights("first", seed=1)
    for out, seed in (("a", 5), ("b", 5), ("c", 6)):
        tiny.run(finetune, {**OPTIONS, "seed": seed}, out, weights="first")
    assert same(tiny.arrays("a"), tiny.arrays("b"))
    assert not same(tiny.arrays("a"), tiny.arrays("c"))


def test_history_json_has_the_keys_of_its_type(tiny: Tiny) -> None:
    tiny.weights("first", seed=1)
    tiny.run(finetune, OPTIONS, "out", weights="first")
    history = tiny.json("out", "history.json")
    assert list(history) == list(get_type_hints(HistoryJson))
    assert len(history["epochs"]) == 3
    assert list(history["epochs"][0]) == list(get_type_hints(EpochRow))
