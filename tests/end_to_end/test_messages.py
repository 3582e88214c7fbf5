"""Messages and exit codes for faults. Runs the real command line."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image


def edgetl(*arguments: str, cache: Path) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "EDGETL_CACHE": str(cache), "NO_COLOR": "1", "COLUMNS": "80"}
    return subprocess.run(
        [sys.executable, "-m", "edgetl", *arguments], env=env, capture_output=True, text=True, check=False
    )


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    random = np.random.default_rng(0)
    for label in ("cats", "dogs"):
        (tmp_path / "photos" / label).mkdir(parents=True)
        for i in range(12):
            Image.fromarray(random.integers(0, 255, (40, 40, 3), np.uint8)).save(
                tmp_path / "photos" / label / f"{i}.png"
            )
    return tmp_path / "photos"


def test_every_bad_photo_is_in_one_message_and_none_is_lost(photos: Path, tmp_path: Path) -> None:
    (photos / "cats" / "empty.jpg").touch()
    (photos / "cats" / "text.jpg").write_text("hello")
    (photos / "dogs" / "half.png").write_bytes((photos / "dogs" / "0.png").read_bytes()[:900])
    for command in (
        ["build", str(photos), "--target", "raspberry-pi-4", "--out", str(tmp_path / "out")],
        ["data", "check", str(photos)],
    ):
        done = edgetl(*command, cache=tmp_path / "cache")
        assert done.returncode == 4
        for name, why in (("empty.jpg", "zero bytes"), ("text.jpg", "not an image"), ("half.png", "truncated")):
            assert name in done.stderr
            assert why in done.stderr
        assert "--skip-bad" in done.stderr
        assert "Traceback" not in done.stderr
    skipped = edgetl("data", "check", str(photos), "--skip-bad", "--json", cache=tmp_path / "cache")
    assert skipped.returncode == 0
    assert '"photos": 24' in skipped.stdout


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        pytest.param(
            ["build", "{photos}", "--target", "raspbery-pi-4"],
            2,
            "did you mean raspberry-pi-4",
            id="a misspelt target",
        ),
        pytest.param(
            ["build", "{photos}", "--target", "{tmp}/typo.toml"],
            2,
            "did you mean model_bytes",
            id="a misspelt key of a target",
        ),
        pytest.param(
            ["build", "{photos}", "--target", "pixel-3", "--recipe", "{tmp}/typo-recipe.toml"],
            2,
            "known keys",
            id="a misspelt key of a recipe",
        ),
        pytest.param(
            ["build", "{photos}", "--target", "pixel-3", "--student", "resnet50"],
            2,
            "there is no such backbone",
            id="an unknown student",
        ),
        pytest.param(
            ["build", "{photos}", "--target", "pixel-3", "--weights", "{tmp}/none.h5"],
            3,
            "There is no weight file",
            id="a missing weight file",
        ),
        pytest.param(["build", "{tmp}/nowhere", "--target", "pixel-3"], 4, "There is no", id="missing photos"),
        pytest.param(
            ["build", "{photos}/cats", "--target", "pixel-3"], 4, "no photos", id="a folder without class folders"
        ),
        pytest.param(
            ["plan", "traffic-lights", "--target", "pixel-3"],
            3,
            "edgetl data fetch",
            id="a plan for photos not fetched",
        ),
        pytest.param(["build", "{photos}"], 2, "--target", id="no target"),
    ],
)
def test_a_fault_is_reported_with_its_exit_code(
    arguments: list[str], code: int, message: str, photos: Path, tmp_path: Path
) -> None:
    shown = edgetl("targets", "show", "pixel-3", "--toml", cache=tmp_path / "cache").stdout
    (tmp_path / "typo.toml").write_text(shown.replace('"pixel-3"', '"typo"', 1).replace("model_bytes", "model_byte", 1))
    (tmp_path / "typo-recipe.toml").write_text("[finetune]\nepoch = 3\n")
    done = edgetl(*[argument.format(photos=photos, tmp=tmp_path) for argument in arguments], cache=tmp_path / "cache")
    assert done.returncode == code, done.stderr
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_help_loads_nothing_heavy() -> None:
    probe = "import sys; sys.argv = ['edgetl', '--help']\ntry:\n    from edgetl.commands.app import main; main()\nfinally:\n    print(sorted({'tensorflow', 'numpy', 'onnxruntime', 'PIL', 'tf_keras'} & set(sys.modules)), file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert done.stderr.strip() == "[]"


def test_a_plan_of_many_photos_does_nothing(photos: Path, tmp_path: Path) -> None:
    done = edgetl("plan", str(photos), "--target", "pixel-3", cache=tmp_path / "cache")
    assert done.returncode == 0
    assert "to run" in done.stdout
    assert not any((tmp_path / "cache" / "artifacts").iterdir())
