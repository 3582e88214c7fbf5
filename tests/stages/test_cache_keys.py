"""Caches survive a refactoring: cache keys are the ones they were. A stage whose results change gets a new version instead.

The digests were computed by the code of commit 7a33c92, before the package was laid out in rooms.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest

from edgetl.core import machine
from edgetl.stages.catalogue import STAGES
from edgetl.stages.plan import make_plan
from edgetl.stages.recipe import make_recipe
from edgetl.targets.target import load_target

VERSIONS = {"split": 1, "weights": 1, "finetune": 1, "distill": 1, "quantize": 7, "export": 5, "verify": 4}
RECIPES: dict[str, dict[str, Any]] = {
    "default": {},
    "ptq": {"quantize": {"scheme": "ptq"}},
    "auto": {"quantize": {"scheme": "auto"}, "seed": 3},
    "none": {"quantize": {"scheme": "none"}},
    "densenet": {
        "teacher": {"backbone": "densenet121"},
        "student": {"backbone": "mobilenetv2-1"},
        "dataset": {"input_size_px": 224},
    },
}
KEYS = {
    ("coral-usb", "auto"): "5b4b857f50cc524b",
    ("coral-usb", "default"): "afd69d594f496034",
    ("coral-usb", "densenet"): "69f1d88108d9fd14",
    ("coral-usb", "none"): "8274f673ecaa8017",
    ("coral-usb", "ptq"): "810f22ba85ed8ffb",
    ("raspberry-pi-4", "auto"): "17a0b205f6623f08",
    ("raspberry-pi-4", "default"): "afd69d594f496034",
    ("raspberry-pi-4", "densenet"): "69f1d88108d9fd14",
    ("raspberry-pi-4", "none"): "8274f673ecaa8017",
    ("raspberry-pi-4", "ptq"): "810f22ba85ed8ffb",
    ("server-x86", "auto"): "17a0b205f6623f08",
    ("server-x86", "default"): "afd69d594f496034",
    ("server-x86", "densenet"): "69f1d88108d9fd14",
    ("server-x86", "none"): "8274f673ecaa8017",
    ("server-x86", "ptq"): "810f22ba85ed8ffb",
}
WEIGHTS = {"teacher": {"weights": "imagenet", "local": "", "sha256": ""}, "student": {"weights": "none"}}


@pytest.mark.parametrize(("target", "recipe"), KEYS, ids=[" ".join(pair) for pair in KEYS])
def test_keys_are_those_of_the_caches_that_users_have(
    target: str, recipe: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert {name: stage.version for name, stage in STAGES.items()} == VERSIONS, "then its keys are new ones here"
    monkeypatch.setattr(machine, "installed_version", lambda package: f"{package} 1")
    monkeypatch.setattr(machine, "instruction_set", lambda: ("avx2", "fma"))
    monkeypatch.setattr(machine, "fingerprint", lambda: "machine")
    plan = make_plan(make_recipe(RECIPES[recipe]), load_target(target), fingerprint="photos", weights=WEIGHTS)
    keys = json.dumps({step.name: step.key for step in plan.steps}, sort_keys=True)
    assert hashlib.sha256(keys.encode()).hexdigest()[:16] == KEYS[target, recipe]
