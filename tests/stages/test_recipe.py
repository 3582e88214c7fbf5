"""Recipes: layers merge, unknown keys are refused, what is written can be read again."""

from __future__ import annotations

import pytest

from edgetl.core.errors import EXIT_USAGE, UsageError
from edgetl.stages.recipe import EFFORTS, Recipe, make_recipe, merge, read_recipe, to_toml

UNKNOWN_KEYS = {
    "a typo": ({"distill": {"temprature": 2.0}}, r"distill\.temprature: unknown key \(did you mean temperature\?\)"),
    "a key of another stage": ({"quantize": {"head_epochs": 2}}, r"quantize\.head_epochs: unknown key"),
    "a typo in a table": (
        {"datset": {}},
        r"datset: unknown key \(did you mean dataset\?\); known keys: calibration, dataset, distill",
    ),
    "a typo two tables deep": (
        {"distill": {"augment": {"flp": True}}},
        r"distill\.augment\.flp: unknown key \(did you mean flip\?\); known keys: colour, crop_min_area",
    ),
}


@pytest.mark.parametrize("kind", UNKNOWN_KEYS)
def test_an_unknown_key_is_refused_with_the_known_ones(kind):
    data, why = UNKNOWN_KEYS[kind]
    with pytest.raises(UsageError, match=why) as caught:
        make_recipe(data)
    assert caught.value.exit_code == EXIT_USAGE == 2
    assert "known keys: " in caught.value.why


def test_all_faults_are_in_one_message():
    with pytest.raises(UsageError, match="The recipe is not valid") as caught:
        make_recipe({"distill": {"epochs": 0, "temprature": 2.0}, "sed": 1, "dataset": {"input_size_px": 100}})
    assert len(caught.value.why.splitlines()) == 4


BAD_VALUES = {
    "a size that the net cannot halve five times": (
        {"dataset": {"input_size_px": 100}},
        "dataset.input_size_px: .*multiple of 32, given 100",
    ),
    "a way to resize that is none": (
        {"dataset": {"resize": "squash"}},
        "dataset.resize: .*'stretch' or 'crop', given 'squash'",
    ),
    "a whole data set for tests": ({"dataset": {"test_fraction": 1.0}}, "dataset.test_fraction: .*less than 1"),
    "nothing left to train on": (
        {"dataset": {"test_fraction": 0.6, "validate_fraction": 0.4}},
        "dataset: .*test_fraction add up to 1: no photos are left to train on",
    ),
    "no epochs": ({"distill": {"epochs": 0}}, "distill.epochs: .*greater than or equal to 1, given 0"),
    "a rate of nothing": ({"finetune": {"learning_rate": 0}}, "finetune.learning_rate: .*greater than 0"),
    "a rate that is no number": (
        {"finetune": {"learning_rate": float("nan")}},
        "finetune.learning_rate: .*finite number",
    ),
    "an endless temperature": ({"distill": {"temperature": float("inf")}}, "distill.temperature: .*finite number"),
    "a table that is a word": ({"teacher": "densenet121"}, "teacher: Input should be a valid dictionary"),
    "a number that is a word": ({"seed": "lucky"}, "seed: .*valid integer.*given 'lucky'"),
    "a negative seed": ({"seed": -1}, "seed: .*greater than or equal to 0"),
    "a net that is none": (
        {"teacher": {"backbone": "resnet50"}},
        "teacher.backbone: .*mobilenetv2-A with A in .*densenet121.*given 'resnet50'",
    ),
    "a name with more behind it": ({"teacher": {"backbone": "densenet121 "}}, "teacher.backbone: "),
}


@pytest.mark.parametrize("kind", BAD_VALUES)
def test_a_value_that_cannot_be_is_refused(kind):
    data, why = BAD_VALUES[kind]
    with pytest.raises(UsageError, match=why):
        make_recipe(data)


@pytest.mark.parametrize("role", ["teacher", "student"])
@pytest.mark.parametrize("backbone", ["densenet121", "densenet169", "densenet201", "vgg16", "xception"])
def test_every_backbone_can_be_teacher_and_student(backbone, role):
    assert getattr(make_recipe({role: {"backbone": backbone}}), role).backbone == backbone


@pytest.mark.parametrize("role", ["teacher", "student"])
def test_xception_needs_more_pixels_than_the_others(role):
    recipe = {role: {"backbone": "xception"}, "dataset": {"input_size_px": 64}}
    with pytest.raises(UsageError, match=rf"{role}.backbone 'xception' needs an input of 96 pixels or more"):
        make_recipe(recipe)
    assert make_recipe({**recipe, "dataset": {"input_size_px": 96}})
    assert make_recipe({role: {"backbone": "vgg16"}, "dataset": {"input_size_px": 32}})


@pytest.mark.parametrize("role", ["teacher", "student"])
@pytest.mark.parametrize(
    ("alpha", "fits"), [("0", False), ("0.0", False), ("0.05", True), ("1.4", True), ("1.41", False), ("14", False)]
)
def test_the_width_multiplier_is_over_0_and_up_to_1_4(alpha, fits, role):
    recipe = {role: {"backbone": f"mobilenetv2-{alpha}"}}
    if fits:
        assert getattr(make_recipe(recipe), role).backbone == f"mobilenetv2-{float(alpha)}"
    else:
        with pytest.raises(
            UsageError,
            match=rf"{role}.backbone: the width multiplier must be in \(0, 1.4\], given 'mobilenetv2-{alpha}'",
        ):
            make_recipe(recipe)


def test_later_layers_win_key_by_key():
    recipe = make_recipe(
        {"distill": {"epochs": 2, "temperature": 2.0, "augment": {"flip": False}}, "seed": 1},
        {"distill": {"epochs": 3, "augment": {"colour": 0.1}}},
    )
    assert (recipe.distill.epochs, recipe.distill.temperature, recipe.seed) == (3, 2.0, 1)
    assert (recipe.distill.augment.flip, recipe.distill.augment.colour) == (False, 0.1)


def test_merge_alters_neither_side():
    base, change = {"a": {"x": 1}, "b": 2}, {"a": {"y": 3}, "b": {"z": 4}}
    assert merge(base, change) == {"a": {"x": 1, "y": 3}, "b": {"z": 4}}
    assert (base, change) == ({"a": {"x": 1}, "b": 2}, {"a": {"y": 3}, "b": {"z": 4}})


def test_a_table_that_only_names_weights_keeps_the_backbone():
    recipe = make_recipe({"teacher": {"weights": "none"}, "student": {"weights": "mine.h5"}})
    assert (recipe.teacher.backbone, recipe.teacher.weights) == (Recipe().teacher.backbone, "none")
    assert (recipe.student.backbone, recipe.student.weights) == (Recipe().student.backbone, "mine.h5")


def test_no_recipe_is_the_default():
    assert make_recipe() == make_recipe({}) == Recipe()


@pytest.mark.parametrize("effort", EFFORTS)
def test_every_effort_is_a_recipe(effort):
    assert (make_recipe(EFFORTS[effort]) == Recipe()) == (effort == "standard")


# A net, a path and a number that careless TOML code writes wrongly.
RECIPES = {
    "the default": {},
    "quick": EFFORTS["quick"],
    "thorough": EFFORTS["thorough"],
    "switches and small numbers": {
        "distill": {"learning_rate": 1e-7, "augment": {"flip": False, "rotate_degrees": 0.0}},
        "dataset": {"skip_bad": True},
    },
    "a path with everything in it": {"teacher": {"weights": 'C:\\nets\\"my" net\t№1\n\x7f\x01 žluť 🌹.h5'}},
    "another teacher": {"teacher": {"backbone": "densenet169"}, "seed": 2**31 - 1},
}


@pytest.mark.parametrize("kind", RECIPES)
def test_a_recipe_survives_being_written_and_read(kind, tmp_path):
    recipe = make_recipe(RECIPES[kind])
    (tmp_path / "recipe.toml").write_text(to_toml(recipe), encoding="utf-8")
    data = read_recipe(tmp_path / "recipe.toml")
    assert make_recipe(data) == recipe
    assert data.keys() == Recipe.model_fields.keys()


@pytest.mark.parametrize("content", [None, b"seed = ", b"\xff\xfe"], ids=["missing", "not TOML", "not UTF-8"])
def test_a_recipe_file_that_cannot_be_read_is_told(content, tmp_path):
    if content is not None:
        (tmp_path / "recipe.toml").write_bytes(content)
    with pytest.raises(UsageError, match=r"The recipe .*recipe\.toml cannot be read"):
        read_recipe(tmp_path / "recipe.toml")


def test_a_recipe_cannot_be_altered():
    with pytest.raises(ValueError, match="frozen"):
        make_recipe().distill.epochs = 3
