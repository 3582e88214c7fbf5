"""Plan: recipe + target + the photos' fingerprint -> the steps to run, each with its cache key. Pure.

A key is the sha256 of all that decides a step's result: stage and version, options, the keys of its inputs, the
photos, the seed, the versions of the libraries the stage uses, the instruction set where that changes the last bits.
The store adds the digests of the inputs themselves (Store.find).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from edgetl import machine
from edgetl.recipe import Recipe, TrainingOptions
from edgetl.target import Target


@dataclass(frozen=True)
class Stage:
    """What the light zone knows of a stage without importing it. `version` goes up when its results change."""

    module: str
    kind: str
    version: int
    libraries: tuple[str, ...]
    machine: str = ""  # "kernels": results depend on the instruction set; "timing": on the very machine


_TRAINING = ("tensorflow", "tf-keras", "numpy", "pillow")
STAGES: dict[str, Stage] = {
    "split": Stage("edgetl.stages.split", "dataset", 1, ("pillow",)),
    "weights": Stage("edgetl.stages.weights", "weights", 1, ("numpy",)),
    "finetune": Stage("edgetl.stages.finetune", "keras-model", 1, _TRAINING, "kernels"),
    "distill": Stage("edgetl.stages.distill", "keras-model", 1, _TRAINING, "kernels"),
    "quantize": Stage(
        "edgetl.stages.quantize",
        "quantized-graph",
        7,
        (*_TRAINING, "tensorflow-model-optimization", "ai-edge-litert"),
        "kernels",
    ),
    "export": Stage(
        "edgetl.stages.export",
        "model-files",
        5,
        ("tensorflow", "tf-keras", "tf2onnx", "onnx", "ai-edge-litert", "numpy"),
    ),
    "verify": Stage(
        "edgetl.stages.verify",
        "measurements",
        4,
        (
            "ai-edge-litert",
            "onnxruntime-gpu",
            "onnxruntime",
            "tensorflow",
            "tf-keras",
            "tensorflow-model-optimization",
            "numpy",
            "pillow",
        ),
        "timing",
    ),
}


@dataclass(frozen=True)
class Step:
    """One stage with its options; `inputs` maps the name the stage knows to the name of the step that makes it."""

    name: str
    stage: str
    options: Mapping[str, Any]
    inputs: Mapping[str, str] = field(default_factory=dict)
    key: str = ""


@dataclass(frozen=True)
class Plan:
    """What a build does, in order. Printable data."""

    target: Target
    recipe: Recipe
    steps: tuple[Step, ...]


def cache_key(step: Step, input_keys: Mapping[str, str], fingerprint: str, seed: int) -> str:
    """Hex sha256 of everything that decides the step's result."""
    stage = STAGES[step.stage]
    parts = {
        "stage": step.stage,
        "version": stage.version,
        "options": dict(step.options),
        "inputs": dict(input_keys),
        "dataset": fingerprint,
        "seed": seed,
        "libraries": {package: machine.installed_version(package) for package in stage.libraries},
        "machine": {"": "", "kernels": ",".join(machine.instruction_set()), "timing": machine.fingerprint()}[
            stage.machine
        ],
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def make_plan(recipe: Recipe, target: Target, *, fingerprint: str, weights: Mapping[str, Mapping[str, Any]]) -> Plan:
    """The steps of a build.

    fingerprint: digest of the photos with their labels and given splits (dataset.scan).
    weights: for "teacher" and "student", where first weights come from as far as this machine can tell without
    touching the network (backbones.weights.look): part of the key, so that a file put in place later is used.
    Of the target only what quantization goes by is part of a key: the accuracy budget, how weights are scaled, whether
    its runtimes take more than int8. All else only judges.
    """
    size = recipe.dataset.input_size_px
    dataset = recipe.dataset.model_dump()
    teacher, student = recipe.teacher.backbone, recipe.student.backbone
    images = {key: dataset[key] for key in ("input_size_px", "resize", "centre_fraction")}
    drafts = [
        Step("split", "split", dataset),
        Step(
            "teacher-weights",
            "weights",
            {"backbone": teacher, "input_size_px": size, "needed": True, **weights["teacher"]},
        ),
        Step(
            "student-weights",
            "weights",
            {"backbone": student, "input_size_px": size, "needed": False, **weights["student"]},
        ),
        Step(
            "finetune",
            "finetune",
            {"backbone": teacher, **images, **recipe.finetune.model_dump()},
            {"dataset": "split", "weights": "teacher-weights"},
        ),
        Step(
            "distill",
            "distill",
            {"backbone": student, **images, **recipe.distill.model_dump()},
            {"dataset": "split", "teacher": "finetune", "weights": "student-weights"},
        ),
    ]
    quantized: dict[str, str] = {}
    if recipe.quantize.scheme != "none":
        quantized = {"quantized": "quantize"}
        options = {**images, **_options_of_the_scheme(recipe)}
        drafts.append(
            Step(
                "quantize",
                "quantize",
                {**options, **_quantization_limits(target, recipe.quantize.scheme)},
                {"dataset": "split", "teacher": "finetune", "student": "distill"},
            )
        )
    models = {"dataset": "split", "teacher": "finetune", "student": "distill", **quantized}
    drafts.append(Step("export", "export", recipe.export.model_dump(), models))
    drafts.append(Step("verify", "verify", {**images, **recipe.verify.model_dump()}, {**models, "models": "export"}))
    keys: dict[str, str] = {}
    steps = []
    for draft in drafts:
        # Only the split looks at the photos as the user gave them; everything after goes by the split's own key.
        own_fingerprint = fingerprint if draft.stage == "split" else ""
        seed = 0 if draft.stage in ("weights", "export") else recipe.seed
        keys[draft.name] = cache_key(
            draft, {name: keys[step] for name, step in draft.inputs.items()}, own_fingerprint, seed
        )
        steps.append(Step(draft.name, draft.stage, {**draft.options, "seed": seed}, draft.inputs, keys[draft.name]))
    return Plan(target, recipe, tuple(steps))


# What `[quantize]` says of training, which post-training quantization does none of.
_OF_QAT = frozenset(TrainingOptions.model_fields) | {"guide", "train_ranges", "temperature", "label_weight"}


def _options_of_the_scheme(recipe: Recipe) -> dict[str, Any]:
    """What a recipe says of quantizing, without what its scheme does not read: that decides nothing."""
    scheme = recipe.quantize.scheme
    options = recipe.quantize.model_dump(exclude=set(_OF_QAT) if scheme == "ptq" else None)
    # auto compares all estimators, whichever the recipe names.
    calibration = recipe.calibration.model_dump(exclude={"estimator"} if scheme == "auto" else None)
    return {**options, "calibration": calibration}


# Runtimes that take 8-bit activations only.
_INT8_ONLY = ("edgetpu", "stm32cube-ai", "rknn", "litert-npu")


def _quantization_limits(target: Target, scheme: str) -> dict[str, Any]:
    """What of a target decides how the student is quantized, or whether it has collapsed.

    ships_integers: the target judges by them; a float target is not stopped by a file that it does not ship.
    """
    ships_integers = target.precision == "int8"
    any_width = not any(runtime in _INT8_ONLY for runtime in target.runtimes)
    return {
        "budget_drop_pp": target.budget.top1_drop_pp if ships_integers else 100.0,
        "ships_integers": ships_integers,
        "per_channel": target.weights == "per-channel",
        "beyond_int8": scheme == "auto" and ships_integers and any_width,
    }
