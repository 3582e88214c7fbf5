"""Build: find the photos, run the plan's steps over the store, judge, report, and lay out one bundle per target."""

from __future__ import annotations

import importlib
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from edgetl.backbones.local_weights import look
from edgetl.commands.build.judge import judge
from edgetl.commands.build.layout import check_place, lay_out, read_json
from edgetl.commands.build.student import Auto, StudentChoice, choose_student, with_student
from edgetl.commands.estimate.run import estimate_built
from edgetl.core.errors import CollapseError, UsageError
from edgetl.core.progress import Display, Progress
from edgetl.core.store import Artifact, Store
from edgetl.report.data import BuildRecords, make_report
from edgetl.report.records import Report, StageRow
from edgetl.stages.catalogue import STAGES, describe_step, require_build_extra
from edgetl.stages.context import Context
from edgetl.stages.plan import Plan, Step, make_plan
from edgetl.stages.recipe import Recipe
from edgetl.targets.target import Target
from edgetl.verdicts.check import exit_code

if TYPE_CHECKING:
    from edgetl.dataset.scan import Listing


@dataclass(frozen=True)
class Source:
    """The photos as found, and the local files that first weights would come from.

    weights: role -> what goes into the cache key (local_weights.look). local_files: step -> the file, None where there is none.
    """

    listing: Listing
    weights: Mapping[str, Mapping[str, Any]]
    local_files: Mapping[str, Path | None]


@dataclass(frozen=True)
class Order:
    """What to build. auto: the student has yet to be chosen. accept_estimates: an estimated latency may decide where none
    can be measured."""

    recipe: Recipe
    targets: Sequence[Target]
    out: Path
    overwrite: bool = False
    strict: bool = False
    auto: Auto | None = None
    accept_estimates: bool = False


@dataclass(frozen=True)
class Built:
    """One target's result.

    failure: why there is no bundle, "" where there is one. Only with several targets: the quantized net of one collapsed,
    the others are built. report is empty then.
    """

    target: Target
    out: Path
    report: Report
    exit_code: int
    failure: str = ""

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

    fetch: download a named data set that is missing; otherwise it raises MissingError. Raises DataError.
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


def source_of(listing: Listing, recipe: Recipe) -> Source:
    """The listed photos, with the local weight files that the recipe's nets would start from."""
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
    """The recipe and its source with one student chosen for all targets; unchanged where auto is None.

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
    """Step name -> whether its result is cached, according to the records alone: no file is hashed."""
    known: dict[str, str] = {}
    result = {}
    for step in plan.steps:
        record = store.record(step.key)
        parents = {name: known.get(source, "") for name, source in step.inputs.items()}
        result[step.name] = record is not None and record["parents"] == parents
        if result[step.name] and record is not None:
            known[step.name] = record["sha256"]
    return result


def run_plan(plan: Plan, source: Source, store: Store, display: Display) -> tuple[dict[str, Artifact], list[StageRow]]:
    """Run each step that is not cached; return its artifact by step name, and one timing row per step."""
    artifacts: dict[str, Artifact] = {}
    rows: list[StageRow] = []
    paths = source.listing.path_of()
    for position, step in enumerate(plan.steps, 1):
        parents = {name: artifacts[source_step].sha256 for name, source_step in step.inputs.items()}
        begun = time.monotonic()
        found = store.find(step.key, parents)
        if found is not None:
            display.cached(position, len(plan.steps), describe_step(step.name))
            artifacts[step.name], cached = found, True
        else:
            with display.stage(position, len(plan.steps), describe_step(step.name)) as progress:
                artifacts[step.name], cached = _run_step(step, artifacts, parents, source, store, paths, progress)
        rows.append(
            {
                "name": step.name,
                "seconds": round(time.monotonic() - begun, 2),
                "cached": cached,
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
    """The step's artifact, and whether another build made it meanwhile."""
    # TFMOT works on Keras 2 only; TensorFlow reads this once, when it is first imported.
    os.environ["TF_USE_LEGACY_KERAS"] = "1"
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

    def work(out: Path, scratch: Path) -> None:
        module = importlib.import_module(STAGES[step.stage].module)
        inputs = {name: artifacts[source_step] for name, source_step in step.inputs.items()}
        module.run(
            step.options,
            inputs,
            Context(out, scratch, progress, paths, store.root, source.listing, source.local_files.get(step.name)),
        )

    def on_wait() -> None:
        progress.note("another build is computing this; waiting for it")

    return store.make(step.key, STAGES[step.stage].kind, parents, work, on_wait, step.options)


def build(photos: str, order: Order, store: Store, display: Display) -> list[Built]:
    """Build for every target; one bundle each: in `order.out` for one target, in `order.out`/NAME for several.

    photos: a path, or the name of a known data set. Raises EdgetlError for what a user can fix. Verdicts do not raise: they
    are in the exit codes of the results.
    """
    recipe, targets, out = order.recipe, order.targets, order.out
    require_build_extra()
    places = {target.name: out if len(targets) == 1 else out / target.name for target in targets}
    if len(places) != len(targets):
        raise UsageError("The same target is given twice.")
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
            results.append(Built(target, places[target.name], cast(Report, {}), error.exit_code, str(error)))
            continue
        records = _read_records(plan, artifacts, stages, choice, order.accept_estimates)
        checks = judge(
            target,
            records.models,
            records.measurements,
            estimates=records.estimates,
            accept_estimates=records.estimates_accepted,
        )
        report = make_report(target, records, checks)
        lay_out(places[target.name], plan, artifacts, report, order.overwrite)
        results.append(Built(target, places[target.name], report, exit_code(checks, strict=order.strict)))
    return results


def _read_records(
    plan: Plan,
    artifacts: Mapping[str, Artifact],
    stages: Sequence[StageRow],
    choice: StudentChoice | None,
    accept_estimates: bool,
) -> BuildRecords:
    trained = [step.name for step in plan.steps if STAGES[step.stage].history]
    models = read_json(artifacts["export"], "models.json")
    return BuildRecords(
        recipe=plan.recipe.model_dump(mode="json"),
        dataset=read_json(artifacts["split"], "dataset.json"),
        stages=stages,
        models=models,
        measurements=read_json(artifacts["verify"], "measurements.json"),
        histories={name: read_json(artifacts[name], "history.json") for name in trained},
        weights={
            "teacher": read_json(artifacts["finetune"], "model.json")["weights_source"],
            "student": read_json(artifacts["distill"], "model.json")["weights_source"],
        },
        flips=read_json(artifacts["verify"], "flips/flips.json"),
        estimates=estimate_built(artifacts["export"].path, models, plan.target),
        estimates_accepted=accept_estimates,
        student_choice=choice.to_row() if choice else None,
    )
