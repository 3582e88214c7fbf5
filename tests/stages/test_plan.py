"""Plans and cache keys: everything that decides a result is in its key, and nothing else is."""

from __future__ import annotations

import dataclasses
import json
from graphlib import TopologicalSorter

import pytest

from edgetl.backbones.local_weights import look
from edgetl.core import machine
from edgetl.stages.catalogue import STAGES
from edgetl.stages.plan import Step, cache_key, make_plan
from edgetl.stages.recipe import CalibrationOptions, QuantizeOptions, make_recipe, merge
from edgetl.targets.target import load_target

TARGET = load_target("raspberry-pi-4")
NO_WEIGHTS = {"teacher": {"weights": "none"}, "student": {"weights": "none"}}
TRAINING = {"finetune", "distill", "quantize"}
EVERYTHING_AFTER_THE_SPLIT = TRAINING | {"export", "verify"}


def keys(recipe=None, *, target=TARGET, fingerprint="f" * 64, weights=NO_WEIGHTS) -> dict[str, str]:
    made = make_plan(make_recipe(recipe or {}), target, fingerprint=fingerprint, weights=weights)
    return {step.name: step.key for step in made.steps}


def changed(**other) -> set[str]:
    """The steps whose keys differ from those of the default."""
    before, after = keys(), keys(**other)
    assert before.keys() == after.keys()
    return {name for name in before if before[name] != after[name]}


def test_the_same_arguments_give_the_same_plan():
    assert keys() == keys()
    assert len(set(keys().values())) == len(keys()), "no two steps share a key"
    assert all(len(key) == 64 for key in keys().values())


# Values that are not defaults, and will hardly become defaults.
OPTIONS = {
    "how latency is measured": ({"verify": {"runs": 77}}, {"verify"}),
    "calibration photos": ({"calibration": {"photos": 9}}, {"quantize", "export", "verify"}),
    "the range estimator": ({"calibration": {"estimator": "minmax"}}, {"quantize", "export", "verify"}),
    "quantization-aware epochs": ({"quantize": {"epochs": 9}}, {"quantize", "export", "verify"}),
    "distillation": ({"distill": {"temperature": 2.71}}, {"distill", "quantize", "export", "verify"}),
    "one augmentation": (
        {"distill": {"augment": {"rotate_degrees": 44.0}}},
        {"distill", "quantize", "export", "verify"},
    ),
    "the teacher's rate": ({"finetune": {"learning_rate": 1.23e-4}}, EVERYTHING_AFTER_THE_SPLIT),
    "the teacher's net": ({"teacher": {"backbone": "densenet121"}}, EVERYTHING_AFTER_THE_SPLIT | {"teacher-weights"}),
    "the student's net": (
        {"student": {"backbone": "mobilenetv2-0.77"}},
        {"student-weights", "distill", "quantize", "export", "verify"},
    ),
    "the test fraction": ({"dataset": {"test_fraction": 0.23}}, EVERYTHING_AFTER_THE_SPLIT | {"split"}),
    "the way to resize": ({"dataset": {"resize": "crop"}}, EVERYTHING_AFTER_THE_SPLIT | {"split"}),
    "the input size": (
        {"dataset": {"input_size_px": 416}},
        EVERYTHING_AFTER_THE_SPLIT | {"split", "teacher-weights", "student-weights"},
    ),
}


@pytest.mark.parametrize("option", OPTIONS)
def test_an_option_changes_the_keys_of_its_stage_and_of_what_follows(option):
    recipe, expected = OPTIONS[option]
    assert changed(recipe=recipe) == expected


# Every option of [quantize] and [calibration], with a value other than its default, and the schemes that read it.
_TRAINED, _ALL = {"qat", "auto"}, {"ptq", "qat", "auto"}
READ = {
    ("quantize", "epochs"): (9, _TRAINED),
    ("quantize", "batch_size"): (9, _TRAINED),
    ("quantize", "learning_rate"): (1.23e-4, _TRAINED),
    ("quantize", "warmup_epochs"): (0.7, _TRAINED),
    ("quantize", "patience"): (9, _TRAINED),
    ("quantize", "augment"): ({"colour": 0.71}, _TRAINED),
    ("quantize", "guide"): ("teacher", _TRAINED),
    ("quantize", "train_ranges"): (False, _TRAINED),
    ("quantize", "temperature"): (2.71, _TRAINED),
    ("quantize", "label_weight"): (0.71, _TRAINED),
    ("calibration", "photos"): (9, _ALL),
    ("calibration", "estimator"): ("minmax", {"ptq", "qat"}),
}


@pytest.mark.parametrize(("table", "option"), READ)
def test_the_key_of_quantizing_has_only_the_options_that_its_scheme_reads(table, option):
    value, readers = READ[table, option]
    moved = set()
    for scheme in _ALL:
        chosen = {"quantize": {"scheme": scheme}}
        if keys(chosen)["quantize"] != keys(merge(chosen, {table: {option: value}}))["quantize"]:
            moved.add(scheme)
    assert moved == readers


def test_every_option_of_quantizing_is_listed_as_read_by_some_scheme():
    names = {"quantize": QuantizeOptions.model_fields, "calibration": CalibrationOptions.model_fields}
    found = {(table, name) for table, fields in names.items() for name in fields}
    assert found == READ.keys() | {("quantize", "scheme")}


def test_verify_options_do_not_retrain():
    assert not changed(recipe={"verify": {"runs": 77, "threads": 2, "warmup_runs": 3}}) & TRAINING


def test_the_seed_changes_everything_that_is_random():
    assert changed(recipe={"seed": 1}) == EVERYTHING_AFTER_THE_SPLIT | {"split"}


def test_the_photos_change_everything_except_the_first_weights():
    assert changed(fingerprint="e" * 64) == EVERYTHING_AFTER_THE_SPLIT | {"split"}


@pytest.mark.parametrize(
    ("role", "expected"),
    [("teacher", EVERYTHING_AFTER_THE_SPLIT), ("student", {"distill", "quantize", "export", "verify"})],
)
def test_the_digest_of_the_first_weights_changes_what_starts_from_them(role, expected):
    def found(digest: str) -> dict[str, dict[str, str]]:
        return {**NO_WEIGHTS, role: {"weights": "imagenet", "local": "net.h5", "sha256": digest}}

    one, other = keys(weights=found("1" * 64)), keys(weights=found("2" * 64))
    assert {name for name in one if one[name] != other[name]} == expected | {f"{role}-weights"}


def test_one_byte_of_a_weight_file_changes_the_keys(tmp_path):
    file = tmp_path / "net.h5"
    recipe = make_recipe({"teacher": {"weights": str(file)}})
    found = []
    for data in (b"weights", b"weightz"):
        file.write_bytes(data)
        found.append(
            keys(
                {"teacher": {"weights": str(file)}},
                weights={**NO_WEIGHTS, "teacher": look(recipe.teacher.backbone, recipe.teacher.weights, 160)[0]},
            )
        )
    assert found[0]["finetune"] != found[1]["finetune"]
    (tmp_path / "sub").mkdir()
    file.rename(tmp_path / "sub" / "net.h5")
    moved = make_recipe({"teacher": {"weights": str(tmp_path / "sub" / "net.h5")}})
    assert (
        keys(weights={**NO_WEIGHTS, "teacher": look(moved.teacher.backbone, moved.teacher.weights, 160)[0]}) == found[1]
    ), "where it lies does not matter"


def test_limits_that_only_judge_are_in_no_key():
    budget = TARGET.budget.model_copy(update={"model_bytes": 1, "latency_p90_ms": 0.1})
    assert changed(target=TARGET.model_copy(update={"budget": budget})) == set()


@pytest.mark.parametrize(
    "target",
    [
        TARGET.model_copy(update={"budget": TARGET.budget.model_copy(update={"top1_drop_pp": 0.1})}),
        TARGET.model_copy(update={"weights": "per-tensor"}),
        TARGET.model_copy(update={"precision": "float32"}),
    ],
    ids=["accuracy budget", "per-tensor weights", "a precision that int8 files do not serve"],
)
def test_what_quantization_depends_on_changes_its_key_and_the_keys_that_follow(target):
    assert changed(target=target) == {"quantize", "export", "verify"}


def test_a_runtime_that_accepts_only_int8_matters_only_to_auto():
    coral = TARGET.model_copy(update={"runtimes": ("edgetpu",)})
    assert changed(target=coral) == set()
    auto = {"quantize": {"scheme": "auto"}}
    assert keys(auto)["quantize"] != keys(auto, target=coral)["quantize"]


def test_without_quantization_there_is_no_such_step():
    made = make_plan(make_recipe({"quantize": {"scheme": "none"}}), TARGET, fingerprint="f", weights=NO_WEIGHTS)
    assert "quantize" not in {step.name for step in made.steps}
    assert "quantized" not in made.steps[-1].inputs


def test_a_stages_version_changes_its_key_and_those_that_follow(monkeypatch):
    before = keys()
    monkeypatch.setitem(
        STAGES, "distill", dataclasses.replace(STAGES["distill"], version=STAGES["distill"].version + 1)
    )
    after = keys()
    assert {name for name in before if before[name] != after[name]} == {"distill", "quantize", "export", "verify"}


def test_a_librarys_version_changes_the_keys_of_the_stages_that_use_it(monkeypatch):
    before = keys()
    real = machine.installed_version
    monkeypatch.setattr(machine, "installed_version", lambda package: "0.0" if package == "tf2onnx" else real(package))
    after = keys()
    assert {name for name in before if before[name] != after[name]} == {"export", "verify"}


def test_the_instruction_set_changes_what_is_trained_and_not_the_split(monkeypatch):
    before = keys()
    monkeypatch.setattr(machine, "instruction_set", lambda: ("x86_64", "sse4_2"))
    after = keys()
    assert {name for name in before if before[name] != after[name]} == EVERYTHING_AFTER_THE_SPLIT


def test_another_machine_measures_again_and_reuses_the_rest(monkeypatch):
    before = keys()
    monkeypatch.setattr(machine, "fingerprint", lambda: "another machine")
    after = keys()
    assert {name for name in before if before[name] != after[name]} == {"verify"}


def test_a_key_depends_on_every_part():
    step = Step("split", "split", {"a": 1})
    parts = [
        cache_key(step, {}, "f", 0),
        cache_key(step, {"dataset": "k"}, "f", 0),
        cache_key(step, {"teacher": "k"}, "f", 0),
        cache_key(step, {}, "g", 0),
        cache_key(step, {}, "f", 1),
        cache_key(dataclasses.replace(step, options={"a": 2}), {}, "f", 0),
        cache_key(dataclasses.replace(step, stage="weights"), {}, "f", 0),
    ]
    assert len(set(parts)) == len(parts)
    assert cache_key(dataclasses.replace(step, options={"b": 1, "a": 2}), {}, "f", 0) == cache_key(
        dataclasses.replace(step, options={"a": 2, "b": 1}), {}, "f", 0
    ), "the order of options is no difference"


def test_an_installed_package_has_a_version_and_a_missing_one_none():
    assert machine.installed_version("numpy")
    assert machine.installed_version("no-such-package-anywhere") == ""


# --- the plan as data ----------------------------------------------------------------------------------------------


def test_a_plan_is_pure_data():
    made = make_plan(make_recipe(), TARGET, fingerprint="f" * 64, weights=NO_WEIGHTS)
    again = make_plan(make_recipe(), TARGET, fingerprint="f" * 64, weights=NO_WEIGHTS)
    assert made == again
    steps = json.loads(json.dumps([dataclasses.asdict(step) for step in made.steps]))
    assert [Step(**step) for step in steps] == list(made.steps)
    with pytest.raises(dataclasses.FrozenInstanceError, match="steps"):
        made.steps = ()


def test_making_a_plan_leaves_its_arguments_alone():
    weights = {"teacher": {"weights": "none"}, "student": {"weights": "none"}}
    recipe = make_recipe(merge({}, {"seed": 5}))
    before = json.dumps([weights, recipe.model_dump()])
    make_plan(recipe, TARGET, fingerprint="f" * 64, weights=weights)
    assert json.dumps([weights, recipe.model_dump()]) == before


def test_every_step_comes_after_its_inputs_and_has_a_stage():
    steps = make_plan(make_recipe(), TARGET, fingerprint="f" * 64, weights=NO_WEIGHTS).steps
    behind: set[str] = set()
    for step in steps:
        assert set(step.inputs.values()) <= behind
        assert step.stage in STAGES
        behind.add(step.name)
    list(TopologicalSorter({step.name: step.inputs.values() for step in steps}).static_order())
    assert {step.stage for step in steps} == STAGES.keys()


def test_a_stage_gets_its_options():
    steps = {
        step.name: step
        for step in make_plan(
            make_recipe({"seed": 7, "dataset": {"input_size_px": 416}}),
            TARGET,
            fingerprint="f" * 64,
            weights=NO_WEIGHTS,
        ).steps
    }
    assert steps["distill"].options["seed"] == 7
    assert steps["distill"].options["input_size_px"] == 416
    assert steps["teacher-weights"].options["needed"] and not steps["student-weights"].options["needed"]
