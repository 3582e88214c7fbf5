"""Run a plan over the store. The only owner of the work folder."""

from __future__ import annotations

import importlib
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgetl.backbones.local_weights import look
from edgetl.commands.build.judge import judge
from edgetl.commands.build.layout import check_place, lay_out, read_json
from edgetl.commands.build.student import Auto, StudentChoice, choose_student, with_student
from edgetl.commands.estimate.run import estimate_built
from edgetl.core.errors import CollapseError, UsageError
from edgetl.core.progress import Display, Progress
from edgetl.core.store import Artifact, Store
from edgetl.report.data import make_report
from edgetl.stages.catalogue import STAGES, describe_step, require_build_extra
from edgetl.stages.context import Context
from edgetl.stages.plan import Plan, Step, make_plan
from edgetl.stages.recipe import Recipe
from edgetl.targets.target import Target
from edgetl.verdicts.check import Check, exit_code


@dataclass(frozen=True)
class Source:
    """The photos as found, and the local files that first weights would come from."""

    listing: Any
    weights: Mapping[str, Any]
    local_files: Mapping[str, Path | None]


@dataclass(frozen=True)
class Order:
    """What to build. auto: the student is to be chosen. accept_estimates: an estimated latency may decide where none can
    be measured."""

    recipe: Recipe
    targets: Sequence[Target]
    out: Path
    overwrite: bool = False
    strict: bool = False
    auto: Auto | None = None
    accept_estimates: bool = False


@dataclass(frozen=True)
class Built:
    """One target's result."""

    target: Target
    out: Path
    report: Mapping[str, Any]
    exit_code: int
    failure: str = ""  # of several targets, one whose quantized net collapsed has no bundle

    def to_json(self) -> dict[str, Any]:
        """Plain data for `--json`."""
        return {
            "target": self.target.name,
            "out": str(self.out),
            "exit_code": self.exit_code,
            "failure": self.failure,
            "report": self.report,
        }


def find_source(photos: str, recipe: Recipe, store: Store, note: Callable[[str], None], *, fetch: bool) -> Source:
    """List and hash the photos (a path, or the name of a known data set), and look for local weight files.

    fetch: get a named data set if it is not here; else MissingError. Raises DataError.
    """
    from edgetl.dataset.catalogue import resolve
    from edgetl.dataset.index import PhotoIndex
    from edgetl.dataset.scan import list_photos

    store.prepare()
    folder = resolve(photos, store.downloads, note, fetch=fetch)
    index = PhotoIndex(store.root / "index.sqlite")
    try:
        listing = list_photos(folder, index)
    finally:
        index.close()
    return source_of(listing, recipe)


def source_of(listing: Any, recipe: Recipe) -> Source:
    """Listed photos, with the local weight files that the recipe's nets would begin from."""
    size = recipe.dataset.input_size_px
    nets = {"teacher": recipe.teacher, "student": recipe.student}
    found = {role: look(net.backbone, net.weights, size) for role, net in nets.items()}
    return Source(
        listing,
        {role: options for role, (options, _) in found.items()},
        {f"{role}-weights": file for role, (_, file) in found.items()},
    )


def with_chosen_student(
    recipe: Recipe, source: Source, targets: Sequence[Target], auto: Auto | None
) -> tuple[Recipe, Source, StudentChoice | None]:
    """The recipe and its source with the student chosen for the targets, one for all of them. auto None: as they are.

    Raises UsageError when no student fits.
    """
    if auto is None:
        return recipe, source, None
    classes = len({photo.label for photo in source.listing.photos})
    choice = choose_student(recipe, targets, classes=classes, input_size_px=auto.input_size_px)
    recipe = with_student(recipe, choice)
    return recipe, source_of(source.listing, recipe), choice


def plan_for(recipe: Recipe, target: Target, source: Source) -> Plan:
    """The plan of one target."""
    return make_plan(recipe, target, fingerprint=source.listing.fingerprint, weights=source.weights)


def cached_steps(plan: Plan, store: Store) -> dict[str, bool]:
    """Step name -> whether its result is there, by the records alone: no file is hashed."""
    known: dict[str, str] = {}
    result = {}
    for step in plan.steps:
        record = store.record(step.key)
        parents = {name: known.get(source, "") for name, source in step.inputs.items()}
        result[step.name] = record is not None and record["parents"] == parents
        if result[step.name] and record is not None:
            known[step.name] = record["sha256"]
    return result


def run_plan(
    plan: Plan, source: Source, store: Store, display: Display
) -> tuple[dict[str, Artifact], list[dict[str, Any]]]:
    """Every step's artifact, made or found; and a row a stage: {name, seconds, cached, key}."""
    artifacts: dict[str, Artifact] = {}
    rows = []
    paths = source.listing.path_of()
    for position, step in enumerate(plan.steps, 1):
        parents = {name: artifacts[made].sha256 for name, made in step.inputs.items()}
        begun = time.monotonic()
        found = store.find(step.key, parents)
        if found is not None:
            display.cached(position, len(plan.steps), describe_step(step.name))
            artifacts[step.name], was_there = found, True
        else:
            with display.stage(position, len(plan.steps), describe_step(step.name)) as progress:
                artifacts[step.name], was_there = _run_step(step, artifacts, parents, source, store, paths, progress)
        rows.append(
            {
                "name": step.name,
                "seconds": round(time.monotonic() - begun, 2),
                "cached": was_there,
                "made_in_seconds": round(artifacts[step.name].seconds, 2),
                "key": step.key,
            }
        )
    return artifacts, rows


def _run_step(
    step: Step,
    artifacts: Mapping[str, Artifact],
    parents: Mapping[str, str],
    source: Source,
    store: Store,
    paths: Mapping[str, Path],
    progress: Progress,
) -> tuple[Artifact, bool]:
    # TFMOT works on Keras 2 only; TensorFlow reads this once, when it is first imported.
    os.environ["TF_USE_LEGACY_KERAS"] = "1"
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

    def work(out: Path, scratch: Path) -> None:
        module = importlib.import_module(STAGES[step.stage].module)
        inputs = {name: artifacts[made] for name, made in step.inputs.items()}
        module.run(
            step.options,
            inputs,
            Context(out, scratch, progress, paths, store.root, source.listing, source.local_files.get(step.name)),
        )

    def on_wait() -> None:
        progress.note("another build is making this; waiting for it")

    return store.make(step.key, STAGES[step.stage].kind, parents, work, on_wait, step.options)


def build(photos: str, order: Order, store: Store, display: Display) -> list[Built]:
    """Build for every target; one bundle each: `order.out` itself for one target, `order.out`/NAME for several.

    photos: a path, or the name of a known data set. Raises EdgetlError for what a user can fix. Verdicts do not raise: they
    are in the exit codes of the results.
    """
    recipe, targets, out = order.recipe, order.targets, order.out
    require_build_extra()
    places = {target.name: out if len(targets) == 1 else out / target.name for target in targets}
    if len(places) != len(targets):
        raise UsageError("A target is named twice.")
    for place in places.values():
        check_place(place, order.overwrite)
    source = find_source(photos, recipe, store, display.note, fetch=True)
    recipe, source, choice = with_chosen_student(recipe, source, targets, order.auto)
    if choice is not None:
        display.note(choice.sentence())
    results = []
    for target in targets:
        if len(targets) > 1:
            display.note(f"target {target.name}")
        plan = plan_for(recipe, target, source)
        try:
            artifacts, stages = run_plan(plan, source, store, display)
        except CollapseError as error:
            if len(targets) == 1:
                raise
            results.append(Built(target, places[target.name], {}, error.exit_code, str(error)))
            continue
        report, checks = _report(plan, artifacts, stages, choice, order.accept_estimates)
        lay_out(places[target.name], plan, artifacts, report, order.overwrite)
        results.append(Built(target, places[target.name], report, exit_code(checks, strict=order.strict)))
    return results


def _report(
    plan: Plan,
    artifacts: Mapping[str, Artifact],
    stages: Sequence[Mapping[str, Any]],
    choice: StudentChoice | None,
    accept_estimates: bool,
) -> tuple[dict[str, Any], list[Check]]:
    trained = [step.name for step in plan.steps if STAGES[step.stage].history]
    histories = {name: read_json(artifacts[name], "history.json") for name in trained}
    models = read_json(artifacts["export"], "models.json")
    measurements = read_json(artifacts["verify"], "measurements.json")
    estimates = estimate_built(artifacts["export"].path, models, plan.target)
    checks = judge(plan.target, models, measurements, estimates=estimates, accept_estimates=accept_estimates)
    report = make_report(
        plan.target,
        checks=checks,
        recipe=plan.recipe.model_dump(mode="json"),
        dataset=read_json(artifacts["split"], "dataset.json"),
        n_calibrate=histories.get("quantize", {}).get("n_calibrate", 0),
        stages=stages,
        models=models,
        measurements=measurements,
        histories=histories,
        sources={
            "teacher": read_json(artifacts["finetune"], "model.json")["weights_source"],
            "student": read_json(artifacts["distill"], "model.json")["weights_source"],
        },
        flips=read_json(artifacts["verify"], "flips/flips.json"),
        estimates=estimates,
        accept_estimates=accept_estimates,
        student_choice=None if choice is None else {**choice.as_dict(), "sentence": choice.sentence()},
    )
    return report, checks
