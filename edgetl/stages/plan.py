"""Plan: recipe + target + the photos' fingerprint -> the steps to run, each with its cache key. Pure.

A key is the sha256 of everything that decides a step's result: stage and version, options, the keys of its inputs, the
photos, the seed, the versions of the libraries the stage uses, the instruction set where that changes the last bits.
The store adds the digests of the inputs themselves (Store.find).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from edgetl.core import machine
from edgetl.runtimes.catalogue import BACKENDS
from edgetl.stages.catalogue import STAGES
from edgetl.stages.recipe import Recipe, TrainingOptions
from edgetl.targets.target import Target


@dataclass(frozen=True)
class Step:
    """One stage with its options. inputs: the name that the stage uses -> the step that makes it."""

    name: str
    stage: str
    options: Mapping[str, Any]
    inputs: Mapping[str, str] = field(default_factory=dict)
    key: str = ""


@dataclass(frozen=True)
class Plan:
    """The steps of a build, in order."""

    target: Target
    recipe: Recipe
    steps: tuple[Step, ...]

    def to_json(self, cached: Mapping[str, bool]) -> dict[str, Any]:
        """Plain data for `--json`. cached: step -> whether its result is in the cache."""
        steps = [
            {
                "name": step.name,
                "stage": step.stage,
                "key": step.key,
                "options": dict(step.options),
                "inputs": dict(step.inputs),
                "cached": cached[step.name],
            }
            for step in self.steps
        ]
        return {"target": self.target.name, "steps": steps}


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
    weights: for "teacher" and "student", where the first weights come from, as far as this machine knows without using
    the network (backbones.local_weights.look): part of the key, so that a file put in place later is used.
    The only parts of the target in a key are those that quantization depends on: the accuracy budget, how weights are
    scaled, whether its runtimes accept more than int8. The rest of it only judges.
    """
    drafts: list[Step] = []
    for name, stage in STAGES.items():
        for use in stage.uses:
            options = _options(name, use.name, recipe, target, weights)
            if options is not None:
                planned = {step.name for step in drafts}
                inputs = {known: source for known, source in use.inputs.items() if source in planned}
                drafts.append(Step(use.name, name, options, inputs))
    keys: dict[str, str] = {}
    steps = []
    for draft in drafts:
        # Only the split reads the photos as the user gave them; later stages depend on the split's own key.
        own_fingerprint = fingerprint if draft.stage == "split" else ""
        seed = recipe.seed if STAGES[draft.stage].seeded else 0
        keys[draft.name] = cache_key(
            draft, {name: keys[step] for name, step in draft.inputs.items()}, own_fingerprint, seed
        )
        steps.append(Step(draft.name, draft.stage, {**draft.options, "seed": seed}, draft.inputs, keys[draft.name]))
    return Plan(target, recipe, tuple(steps))


def _options(
    stage: str, step: str, recipe: Recipe, target: Target, weights: Mapping[str, Mapping[str, Any]]
) -> dict[str, Any] | None:
    """The options of a step; None for a step that this recipe does not need."""
    about = STAGES[stage]
    dataset = recipe.dataset.model_dump()
    images = {key: dataset[key] for key in ("input_size_px", "resize", "centre_fraction")} if about.sees_photos else {}
    table = getattr(recipe, about.table).model_dump() if about.table else {}
    if stage == "weights":
        role = step.removesuffix("-weights")
        net = recipe.teacher if role == "teacher" else recipe.student
        needed = {"backbone": net.backbone, "input_size_px": dataset["input_size_px"], "needed": role == "teacher"}
        return {**needed, **weights[role]}
    if stage == "finetune":
        return {"backbone": recipe.teacher.backbone, **images, **table}
    if stage == "distill":
        return {"backbone": recipe.student.backbone, **images, **table}
    if stage == "quantize":
        scheme = recipe.quantize.scheme
        if scheme == "none":
            return None
        return {**images, **_options_of_the_scheme(recipe), **_quantization_limits(target, scheme)}
    return {**images, **table}


# The keys of `[quantize]` that are about training: post-training quantization uses none of them.
_OF_QAT = frozenset(TrainingOptions.model_fields) | {"guide", "train_ranges", "temperature", "label_weight"}


def _options_of_the_scheme(recipe: Recipe) -> dict[str, Any]:
    """The recipe's options of quantizing, without those that its scheme does not read."""
    scheme = recipe.quantize.scheme
    options = recipe.quantize.model_dump(exclude=set(_OF_QAT) if scheme == "ptq" else None)
    # auto compares all estimators, whatever the recipe names.
    calibration = recipe.calibration.model_dump(exclude={"estimator"} if scheme == "auto" else None)
    return {**options, "calibration": calibration}


def _quantization_limits(target: Target, scheme: str) -> dict[str, Any]:
    """The parts of a target that decide how the student is quantized, or whether it has collapsed.

    ships_integers: the target judges the integer files; a float target does not fail because of a file that it does not
    ship.
    """
    ships_integers = target.precision == "int8"
    any_width = all(BACKENDS[runtime].int16 for runtime in target.runtimes)
    return {
        "budget_drop_pp": target.budget.top1_drop_pp if ships_integers else 100.0,
        "ships_integers": ships_integers,
        "per_channel": target.weights == "per-channel",
        "beyond_int8": scheme == "auto" and ships_integers and any_width,
    }
