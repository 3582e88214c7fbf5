"""Verification: a bundle's files, or files that come alone, on photos that a user gives, judged as a build judges them on
its test split; and what explains it where they answer wrongly. Light: photos and model files are opened by the folders below."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgetl.bundle.read import Bundle, open_bundle
from edgetl.commands.verify.checks import (
    FLOAT32,
    Judged,
    against_first,
    against_float,
    app_check,
    app_mistake_check,
    expected_of,
    first_measured,
    judge_bundle,
    judge_models,
    largest_share,
    off_alone,
    off_in_bundle,
)
from edgetl.commands.verify.photos import Photos, find_photos
from edgetl.core import machine
from edgetl.core.errors import MissingError, UsageError
from edgetl.core.store import Store
from edgetl.core.words import composed, printable
from edgetl.formats.files import FORMATS, check_there
from edgetl.verdicts.check import Check

if TYPE_CHECKING:
    from edgetl.bundle.model_files import ModelFile
    from edgetl.core.progress import Display

# Every machine has these, and every build measured on them. Others are asked for by name.
USUAL_BACKENDS = ("litert-cpu", "ort-cpu")


@dataclass(frozen=True)
class Asked:
    """What the user wants to have verified, and how.

    photos: as for a build. backends: to use besides the usual ones. max_drop_pp: of a bundle None for the target's budget, of
    files alone None for no limit. diagnose: None where accuracy is off. answers: a CSV of an app's (measure.answers).
    """

    photos: str
    backends: Sequence[str] = ()
    max_drop_pp: float | None = None
    skip_bad: bool = False
    diagnose: bool | None = None
    answers: Path | None = None


def verify_bundle(folder: Path, asked: Asked, store: Store, display: Display) -> dict[str, Any]:
    """Plain data: {bundle, files, notes, data, max_drop_pp, machine, runtimes, versions, parity_matrix, golden, diagnoses, checks}.

    store: where what is known of photos is kept. Raises DataError for a bundle that is not as it was built, or photos of other
    classes; MissingError without a runtime, or one that was asked for; UsageError for a limit that is none.
    """
    from edgetl.bundle.model_files import of_bundle

    used = _used(asked)
    bundle = open_bundle(folder)
    with display.stage(1, 2, "check the photos") as progress:
        chosen = find_photos(
            bundle.classes, bundle.fingerprint, "the bundle", asked.photos, store, progress, asked.skip_bad
        )
    models = of_bundle(bundle)
    _check_openable(used, asked.backends, models)
    measured = _measure(models, chosen, bundle.classes, used, display, golden=folder / "golden")
    files = _judged(models, used, bundle)
    for name, row in measured["versions"].items():
        row["against_float"] = against_float(files, measured).get(name)
    limit = bundle.top1_drop_pp if asked.max_drop_pp is None else asked.max_drop_pp
    checks = judge_bundle(files, measured, max_drop_pp=limit, model_bytes=bundle.model_bytes)
    off = off_in_bundle(files, measured["versions"], checks)
    if asked.diagnose and not off:
        off = first_measured(files, measured["versions"])
    by_name = {file.name: file for file in files}
    expected = {name: _recorded(by_name[name], backend) for name, backend in off}
    # An app runs what ships.
    shipping = [file for file in files if file.ships] or files
    app = first_measured([*shipping, *files], measured["versions"]) if asked.answers is not None else []
    diagnoses, more = _diagnose(
        models,
        [] if asked.diagnose is False else off,
        expected,
        app,
        asked.answers,
        chosen,
        bundle.classes,
        display,
        folder / "golden",
    )
    return {
        "bundle": {
            "folder": printable(str(folder), 4096),
            "target": bundle.target,
            "classes": list(bundle.classes),
            "files": [asdict(file) for file in bundle.files],
        },
        "files": [_file_row(file, model) for file, model in zip(files, models, strict=True)],
        "notes": [],
        "data": chosen.data,
        "max_drop_pp": limit,
        "reference": None,
        "machine": machine.describe(),
        **measured,
        "diagnoses": diagnoses,
        "checks": [asdict(check) for check in [*checks, *more]],
    }


def verify_models(paths: Sequence[Path], asked: Asked, store: Store, display: Display) -> dict[str, Any]:
    """The same of model files without a bundle; their drop is against the first that takes floats. Classes and preprocessing
    are looked for (measure.model_files), and `notes` says what was taken from where."""
    from edgetl.bundle.model_files import of_paths, with_classes

    used = _used(asked)
    models = of_paths(paths)
    _check_openable(used, asked.backends, models)
    teller = next((model for model in models if model.classes is not None), None)
    known = None if teller is None else teller.classes
    with display.stage(1, 2, "check the photos") as progress:
        chosen = find_photos(known, "", "the model", asked.photos, store, progress, asked.skip_bad)
    classes = known or tuple(sorted({composed(label) for label in chosen.labels}))
    models = [with_classes(model, classes, None if teller is None else teller.name) for model in models]
    given = [model.name for model in models]
    first = next((model for model in models if model.grid["dtype"] == FLOAT32), None)
    # The reference comes first: pairs of the matrix are told from it.
    models.sort(key=lambda model: model is not first)
    measured = _measure(models, chosen, classes, used, display, golden=None)
    files = _judged(models, used, None)
    found = (
        None if first is None else next((name for _, name in files[0].versions() if name in measured["versions"]), None)
    )
    drops = {} if found is None else against_first(found, measured)
    for name, row in measured["versions"].items():
        row["against_float"] = drops.get(name)
    checks = judge_models(
        files,
        measured,
        reference=found,
        max_drop_pp=asked.max_drop_pp,
        largest_class=largest_share(chosen.data["per_class"]),
    )
    off = off_alone(files, checks, drops)
    if asked.diagnose:
        named = {name for name, _ in off}
        off += [one for file in files if file.name not in named for one in first_measured([file], measured["versions"])]
    top1 = None if found is None else measured["versions"][found]["accuracy"]["top1"]
    reference_is_off = found is not None and found.rsplit("@", 1)[0] in {name for name, _ in off}
    expected = {
        name: None
        if top1 is None or reference_is_off
        else {"top1": top1, "n": len(chosen.paths), "by": f"{found} on these photos"}
        for name, _ in off
    }
    # An app is held against the file that is given first.
    in_order = sorted(files, key=lambda file: given.index(file.name))
    app = first_measured(in_order, measured["versions"]) if asked.answers is not None else []
    diagnoses, more = _diagnose(
        models, [] if asked.diagnose is False else off, expected, app, asked.answers, chosen, classes, display, None
    )
    return {
        "bundle": None,
        "files": [_file_row(file, model) for file, model in zip(files, models, strict=True)],
        "notes": [
            f"{model.name}: {what}: {told}." for model in models for what, told in (model.origins or {}).items() if told
        ],
        "data": {**chosen.data, "classes": list(classes)},
        "max_drop_pp": asked.max_drop_pp,
        "reference": found,
        "machine": machine.describe(),
        **measured,
        "diagnoses": diagnoses,
        "checks": [asdict(check) for check in [*checks, *more]],
    }


def verify_paths(paths: Sequence[Path], asked: Asked, store: Store, display: Display) -> dict[str, Any]:
    """One bundle's folder, or model files: verify_bundle or verify_models. Raises as they do, and UsageError for a mixture."""
    for path in paths:
        check_there(path, printable(str(path), 4096))
    folders = [path for path in paths if path.is_dir()]
    if folders and len(paths) > 1:
        raise UsageError(
            "A bundle is verified by itself.",
            why=f"{printable(str(folders[0]), 4096)} is a folder, and {len(paths) - 1} more were given",
            fix="give one bundle, or model files only",
        )
    if folders:
        return verify_bundle(paths[0], asked, store, display)
    return verify_models(paths, asked, store, display)


def _used(asked: Asked) -> list[str]:
    """The usual backends and those asked for. Raises UsageError for one that is none, MissingError for one not ready."""
    from edgetl.runtimes import unavailable
    from edgetl.runtimes.choice import check_backends

    limit = asked.max_drop_pp
    if limit is not None and not 0 <= limit <= 100:
        raise UsageError(f"A drop of {limit} points cannot be a limit.", fix="give points from 0 to 100")
    check_backends(asked.backends)
    for name in asked.backends:
        why = unavailable(name)
        if why:
            raise MissingError(
                f"The backend {name} is not ready here.",
                why=why,
                fix="`edgetl doctor` shows all of them; or leave out --backend",
            )
    return list(dict.fromkeys([*USUAL_BACKENDS, *asked.backends]))


def _check_openable(used: Sequence[str], asked: Sequence[str], models: Sequence[ModelFile]) -> None:
    """Raises UsageError for a backend that was asked for and opens none of the files: nothing would be measured on it."""
    from edgetl.runtimes.catalogue import BACKENDS

    for name in asked:
        if not any(model.path.suffix == BACKENDS[name].suffix for model in models):
            raise UsageError(
                f"{name} opens none of the files.",
                why=f"it opens {BACKENDS[name].suffix}",
                fix="leave out --backend, or give a file of that kind",
            )


def _measure(
    models: Sequence[ModelFile],
    chosen: Photos,
    classes: Sequence[str],
    used: Sequence[str],
    display: Display,
    *,
    golden: Path | None,
) -> dict[str, Any]:
    from edgetl.commands.verify.versions import measure_versions

    with display.stage(2, 2, "verify") as progress:
        return measure_versions(
            models,
            chosen.paths,
            chosen.numbers(classes),
            chosen.digests,
            progress,
            classes=classes,
            backends=used,
            golden=golden,
        )


def _judged(models: Sequence[ModelFile], used: Sequence[str], bundle: Bundle | None) -> list[Judged]:
    from edgetl.runtimes import runtimes_for

    known = {} if bundle is None else {f"models/{file.name}": file for file in bundle.files}
    found = []
    for model in models:
        row = known.get(model.name)
        found.append(
            Judged(
                model.name,
                FORMATS[model.path.suffix].lower(),
                "" if row is None else row.precision,
                row is not None and row.ships,
                model.path.stat().st_size,
                tuple(runtimes_for(model.path, used)),
                {} if row is None else row.recorded,
            )
        )
    return found


def _file_row(file: Judged, model: ModelFile) -> dict[str, Any]:
    from edgetl.tasks.photos.mistakes import describe

    return {
        "name": file.name,
        "format": file.format,
        "precision": file.precision,
        "ships": file.ships,
        "bytes": file.bytes,
        "preprocessing": describe(model.way),
        "origins": dict(model.origins or {}),
    }


def _recorded(file: Judged, backend: str) -> dict[str, Any] | None:
    found = expected_of(file, backend)
    return None if found is None else {"top1": found[0], "n": found[1], "by": "the build on its test photos"}


def _diagnose(
    models: Sequence[ModelFile],
    off: Sequence[tuple[str, str]],
    expected: Mapping[str, dict[str, Any] | None],
    app: Sequence[tuple[str, str]],
    answers: Path | None,
    chosen: Photos,
    classes: Sequence[str],
    display: Display,
    golden: Path | None,
) -> tuple[list[dict[str, Any]], list[Check]]:
    """(what explains that files are off, or an app is; checks of the app). app: (file, backend) that it is held against."""
    if not off and answers is None:
        return [], []
    from edgetl.commands.verify.answers import MOST_DISAGREEMENT, read_answers
    from edgetl.commands.verify.explain import explain_accuracy, explain_answers

    by_name = {model.name: model for model in models}
    labels = chosen.numbers(classes)
    given = None if answers is None else read_answers(answers, chosen.paths, chosen.source, classes)
    found: list[dict[str, Any]] = []
    checks: list[Check] = []
    with display.stage(3, 3, "look for the cause") as progress:
        for name, backend in off:
            progress.note(f"trying the usual wrong preprocessings on {name}, {backend}")
            found.append(
                explain_accuracy(
                    by_name[name],
                    backend,
                    chosen.paths,
                    labels,
                    chosen.digests,
                    progress,
                    classes=classes,
                    expected=expected[name],
                    golden=golden,
                )
            )
        for name, backend in app if given is not None else ():
            progress.note(f"trying the usual mistakes on {name}, {backend}, for the app's answers")
            assert given is not None
            row = explain_answers(
                by_name[name], backend, given, chosen.paths, labels, chosen.digests, progress, classes=classes
            )
            found.append(row)
            checks += [app_check(row, MOST_DISAGREEMENT), *app_mistake_check(row)]
    return found, checks
