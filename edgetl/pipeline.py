"""Run a plan over the store; lay out the bundle. The only owner of the work folder."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from edgetl import __version__, machine
from edgetl.context import Context, Progress
from edgetl.errors import CollapseError, MissingError, UsageError
from edgetl.initial_weights import look
from edgetl.machine import installed_version
from edgetl.plan import STAGES, Plan, Step, make_plan
from edgetl.recipe import Recipe, to_toml
from edgetl.report import exit_code, make_report
from edgetl.store import Artifact, Store
from edgetl.target import Target

_BUILD_MODULES = (
    "tensorflow",
    "tf_keras",
    "tensorflow_model_optimization",
    "tf2onnx",
    "onnx",
    "h5py",
    "jinja2",
    "onnxruntime",
    "ai_edge_litert",
)
_NEEDS_BUILD_EXTRA = "pip install 'edgetl[build]'"


class Display(Protocol):
    """What shows a build to a person."""

    def stage(self, position: int, count: int, name: str) -> contextlib.AbstractContextManager[Progress]:
        """A stage runs inside of this."""

    def cached(self, position: int, count: int, name: str) -> None:
        """A stage's result was already there."""

    def note(self, text: str) -> None:
        """One line."""


@dataclass(frozen=True)
class Source:
    """The photos as found, and the local files that first weights would come from."""

    listing: Any
    weights: Mapping[str, Any]
    local_files: Mapping[str, Path | None]


@dataclass(frozen=True)
class Built:
    """One target's result."""

    target: Target
    out: Path
    report: Mapping[str, Any]
    exit_code: int
    failure: str = ""  # of several targets, one whose quantized net collapsed has no bundle


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
    size = recipe.dataset.input_size_px
    found = {role: look(options, size) for role, options in (("teacher", recipe.teacher), ("student", recipe.student))}
    return Source(
        listing,
        {role: options for role, (options, _) in found.items()},
        {f"{role}-weights": file for role, (_, file) in found.items()},
    )


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


def missing_build_modules() -> list[str]:
    """Those of the modules `build` needs that are not installed. Imports none of them."""
    return [name for name in _BUILD_MODULES if importlib.util.find_spec(name) is None]


def require_build_extra() -> None:
    """Raises MissingError when the packages that only `build` needs are not installed."""
    lacking = missing_build_modules()
    if lacking:
        raise MissingError(
            "This edgetl was installed without what `build` needs.",
            why=f"not installed: {', '.join(lacking)}",
            fix=_NEEDS_BUILD_EXTRA,
        )


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
            display.cached(position, len(plan.steps), step.name)
            artifacts[step.name], was_there = found, True
        else:
            with display.stage(position, len(plan.steps), step.name) as progress:
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


def build(
    photos: str,
    targets: Sequence[Target],
    recipe: Recipe,
    out: Path,
    store: Store,
    display: Display,
    *,
    overwrite: bool = False,
    strict: bool = False,
) -> list[Built]:
    """Build for every target; one bundle each: `out` itself for one target, `out`/NAME for several.

    Raises EdgetlError for what a user can mend. Verdicts do not raise: they are in the exit codes of the result.
    """
    require_build_extra()
    places = {target.name: out if len(targets) == 1 else out / target.name for target in targets}
    if len(places) != len(targets):
        raise UsageError("A target is named twice.")
    for place in places.values():
        _check_place(place, overwrite)
    source = find_source(photos, recipe, store, display.note, fetch=True)
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
        report = _report(plan, artifacts, stages)
        _lay_out(places[target.name], plan, artifacts, report, overwrite)
        results.append(Built(target, places[target.name], report, _verdict_code(report, strict)))
    return results


def _verdict_code(report: Mapping[str, Any], strict: bool) -> int:
    from edgetl.report import Check

    return exit_code([Check(**check) for check in report["checks"]], strict=strict)


def _check_place(place: Path, overwrite: bool) -> None:
    if place.resolve() == Path.cwd():
        raise UsageError("The bundle cannot be the folder you are in.", fix="name a folder in it: --out out")
    if place.exists() and not place.is_dir():
        raise UsageError(f"{place} is a file.", fix="name a folder with --out")
    if place.is_dir() and any(place.iterdir()):
        if not overwrite:
            raise UsageError(
                f"{place} is not empty.",
                why="a build never writes over what is there by itself",
                fix="name another folder with --out, or allow it with --overwrite",
            )
        if not all((place / name).is_file() for name in ("report.json", "contract.json", "lock.json", "recipe.toml")):
            raise UsageError(
                f"{place} was not made by edgetl.",
                why="--overwrite replaces bundles, and nothing else",
                fix="name another folder with --out",
            )
    try:
        place.resolve().parent.mkdir(parents=True, exist_ok=True)
        with _temporary_beside(place.resolve()):
            pass
    except OSError as error:
        raise UsageError(
            f"The bundle cannot be put at {place}.", why=str(error), fix="name another folder with --out"
        ) from None
    if os.path.ismount(place):
        raise UsageError(
            f"{place} is a mount point.",
            why="a bundle is moved into place whole",
            fix=f"name a folder in it: --out {place / 'bundle'}",
        )


def _read(artifact: Artifact, name: str) -> Any:
    return json.loads((artifact.path / name).read_text())


def _report(plan: Plan, artifacts: Mapping[str, Artifact], stages: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    trained = [name for name in ("finetune", "distill", "quantize") if name in artifacts]
    histories = {name: _read(artifacts[name], "history.json") for name in trained}
    return make_report(
        plan.target,
        recipe=plan.recipe.model_dump(mode="json"),
        dataset=_read(artifacts["split"], "dataset.json"),
        n_calibrate=histories.get("quantize", {}).get("n_calibrate", 0),
        stages=stages,
        models=_read(artifacts["export"], "models.json"),
        measurements=_read(artifacts["verify"], "measurements.json"),
        histories=histories,
        sources={
            "teacher": _read(artifacts["finetune"], "model.json")["weights_source"],
            "student": _read(artifacts["distill"], "model.json")["weights_source"],
        },
        flips=_read(artifacts["verify"], "flips/flips.json"),
    )


def _lay_out(
    place: Path, plan: Plan, artifacts: Mapping[str, Artifact], report: Mapping[str, Any], overwrite: bool
) -> None:
    """Write the bundle beside its place and move it there whole."""
    from edgetl.report_html import render_html

    place = place.resolve()
    place.parent.mkdir(parents=True, exist_ok=True)
    with _temporary_beside(place) as folder:
        models = folder / "models"
        models.mkdir()
        for row in report["models"]:
            shutil.copyfile(artifacts["export"].path / Path(row["file"]).name, folder / row["file"])
        for name in ("golden", "flips"):
            shutil.copytree(artifacts["verify"].path / name, folder / name)
        labels = "\n".join(report["dataset"]["classes"]) + "\n"
        (folder / "labels.txt").write_text(labels, encoding="utf-8")
        (folder / "contract.json").write_text(json.dumps(_contract(artifacts, report, labels), indent=1))
        (folder / "recipe.toml").write_text(to_toml(plan.recipe), encoding="utf-8")
        (folder / "lock.json").write_text(json.dumps(_lock(plan, artifacts, report), indent=1))
        (folder / "report.json").write_text(json.dumps(report, indent=1))
        (folder / "report.html").write_text(render_html(report, _thumbnails(folder / "flips")), encoding="utf-8")
        if place.is_dir() and not overwrite:
            place.rmdir()  # empty, or somebody else's by now: then this fails and nothing is lost
        aside = folder.with_name(f"{folder.name}-old")
        if place.is_dir():
            os.replace(place, aside)  # the old bundle is gone only when the new one is there
        os.replace(folder, place)
        shutil.rmtree(aside, ignore_errors=True)


def _thumbnails(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.glob("*.jpg"))}


@contextlib.contextmanager
def _temporary_beside(place: Path) -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(dir=place.parent, prefix=f".{place.name}-"))
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _contract(artifacts: Mapping[str, Artifact], report: Mapping[str, Any], labels: str) -> dict[str, Any]:
    import hashlib

    files = {
        row["file"]: {
            "input": row["input"],
            "output": row["output"],
            "sha256": row["sha256"],
            "smallest_runtime": row["runtime"],
        }
        for row in report["models"]
        if row["role"] == "student"
    }
    return {
        "schema_version": 1,
        "input": _read(artifacts["verify"], "input.json"),
        "output": {"kind": "softmax probabilities, one a class, in the order of labels.txt"},
        "labels": {
            "file": "labels.txt",
            "count": len(report["dataset"]["classes"]),
            "sha256": hashlib.sha256(labels.encode()).hexdigest(),
        },
        "files": files,
    }


def _lock(plan: Plan, artifacts: Mapping[str, Artifact], report: Mapping[str, Any]) -> dict[str, Any]:
    packages = sorted({package for stage in STAGES.values() for package in stage.libraries})
    return {
        "schema_version": 1,
        "edgetl": __version__,
        "python": report["machine"]["python"],
        "versions": {package: version for package in packages if (version := installed_version(package))},
        "dataset": report["dataset"]["fingerprint"],
        "seed": plan.recipe.seed,
        "weights": report["weights"],
        "instruction_set": list(machine.instruction_set()),
        "stages": {step.name: {"key": step.key, "sha256": artifacts[step.name].sha256} for step in plan.steps},
    }
