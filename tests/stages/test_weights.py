"""The last stage before anything is trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tf_keras import Model, layers

from edgetl.backbones import vgg16
from edgetl.core.errors import TrainingError
from edgetl.stages import weights
from edgetl.stages.context import Context


class Silent:
    def begin(self, total: int, *, done: int = 0, unit: str = "steps") -> None: ...
    def advance(self, count: int, detail: str = "") -> None: ...
    def note(self, text: str) -> None: ...


def enlarging(backbone: str, input_size_px: int) -> Any:
    """A backbone with a layer that has no int8 form here."""
    image = layers.Input((input_size_px, input_size_px, 3))
    return Model(image, layers.UpSampling2D(name="larger")(layers.Conv2D(4, 3, name="first")(image)))


@pytest.mark.parametrize("role", ["student", "teacher"])
def test_a_student_that_cannot_be_quantized_is_refused_before_training(
    role: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vgg16, "build", enlarging)
    context = Context(tmp_path, tmp_path, Silent(), {}, tmp_path)
    options = {"backbone": "vgg16", "input_size_px": 32, "weights": "none", "needed": role == "teacher"}
    if role == "teacher":
        weights.run(options, {}, context)  # a teacher stays in float
        assert (tmp_path / "source.json").is_file()
        return
    with pytest.raises(TrainingError, match="larger") as caught:
        weights.run(options, {}, context)
    assert "UpSampling2D" in str(caught.value)
    assert not (tmp_path / "source.json").exists()
