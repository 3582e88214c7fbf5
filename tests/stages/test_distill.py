"""The student: how it begins, and what it learns."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgetl.backbones.models import ModelSpec, build_classifier, save_model, set_seeds
from edgetl.stages import distill
from edgetl.stages.distill import begins_without_weights
from tests.stages.tiny import TRAINING, Tiny, patched, same


@pytest.mark.parametrize(
    ("student", "teacher", "begins"),
    [
        ("mobilenetv2-0.35", "mobilenetv2-1.0", "select"),
        ("mobilenetv2-1.0", "mobilenetv2-1.0", "select"),
        ("mobilenetv2-1.0", "mobilenetv2-0.35", "random"),
        ("mobilenetv2-0.35", "densenet121", "random"),
        ("densenet121", "densenet121", "copy"),
        ("densenet121", "densenet169", "random"),
        ("vgg16", "vgg16", "copy"),
        ("xception", "vgg16", "random"),
        ("densenet121", "mobilenetv2-1.0", "random"),
    ],
)
def test_a_student_begins_from_the_weights_of_its_teacher_that_fit(student: str, teacher: str, begins: str) -> None:
    assert begins_without_weights(student, teacher) == begins


OPTIONS: dict[str, Any] = {"backbone": "vgg16", **TRAINING, "head_epochs": 5, "temperature": 4.0, "label_weight": 0.3}


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Tiny:
    """With a teacher, of random weights, in the folder "teacher"."""
    patched(monkeypatch)
    found = Tiny(tmp_path)
    set_seeds(9)
    spec = ModelSpec("vgg16", 32, 3)
    (tmp_path / "teacher").mkdir()
    save_model(tmp_path / "teacher", spec, build_classifier(spec))
    return found


def test_a_student_that_is_the_teachers_net_begins_from_its_weights(tiny: Tiny) -> None:
    tiny.weights("first", seed=None)
    progress = tiny.run(distill, {**OPTIONS, "learning_rate": 1e-12}, "out", weights="first", teacher="teacher")
    # A step of Adam is at most about the rate, so nothing moves.
    for one, other in zip(tiny.arrays("out"), tiny.arrays("teacher"), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-9)
    assert progress.notes[0] == "student begins from teacher weights"
    source = tiny.json("out", "model.json")["weights_source"]
    assert source == {"weights": "teacher", "how": distill._FROM_TEACHER["copy"], "why": "asked for"}


def test_a_student_with_a_weight_file_begins_from_that(tiny: Tiny) -> None:
    tiny.weights("first", seed=1)
    progress = tiny.run(distill, {**OPTIONS, "learning_rate": 1e-12}, "out", weights="first", teacher="teacher")
    arrays, given = tiny.arrays("out"), tiny.arrays("first")
    for one, other in zip(arrays[: len(given)], given, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-9)
    assert progress.notes[0] == "student begins from file weights"


def test_a_student_comes_nearer_to_its_teacher(tiny: Tiny) -> None:
    tiny.weights("first", seed=1)
    options = {**OPTIONS, "label_weight": 0.0, "temperature": 1.0, "epochs": 8, "patience": 8}
    tiny.run(distill, options, "out", weights="first", teacher="teacher")
    losses = [row["train_loss"] for row in tiny.json("out", "history.json")["epochs"]]
    assert losses[-1] < losses[0]


def test_the_same_seed_gives_the_same_student(tiny: Tiny) -> None:
    tiny.weights("first", seed=1)
    for out, seed in (("a", 5), ("b", 5), ("c", 6)):
        tiny.run(distill, {**OPTIONS, "seed": seed}, out, weights="first", teacher="teacher")
    assert same(tiny.arrays("a"), tiny.arrays("b"))
    assert not same(tiny.arrays("a"), tiny.arrays("c"))
