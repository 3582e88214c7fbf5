"""`edgetl verify`: a bundle's files, or single files, on the user's photos, judged as a build judges them on its test
photos; and what explains wrong answers. Light: photos and model files are opened by the modules that it imports late."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from edgetl.commands.verify.checks import Judged, app_check, app_mistake_check, short
from edgetl.commands.verify.photos import Photos, find_photos
from edgetl.commands.verify.subject import Judgement, OfBundle, OfFiles, Subject
from edgetl.core import machine
from edgetl.core.errors import MissingError, UsageError
from edgetl.core.store import Store
from edgetl.core.words import printable
from edgetl.formats.files import check_there
from edgetl.runtimes.catalogue import BACKENDS, default_backends
from edgetl.verdicts.check import Check

if TYPE_CHECKING:
    from edgetl.bundle.model_files import ModelFile
    from edgetl.commands.verify.result import Diagnosis, FileRow, Measured, Verification
    from edgetl.core.progress import Display


@dataclass(frozen=True)
class Asked:
    """What the user wants to have verified, and how.

    photos: as for a build. backends: besides the default ones. max_drop_pp: None for the target's budget of a bundle, and for no
    limit of files alone. diagnose: None: only where accuracy is too low. answers: a CSV with an app's answers (commands/verify/answers.py).
    """

    photos: str
    backends: Sequence[str] = ()
    max_drop_pp: float | None = None
    skip_bad: bool = False
    diagnose: bool | None = None
    answers: Path | None = None


def verify_paths(paths: Sequence[Path], asked: Asked, store: Store, display: Display) -> Verification:
    """One bundle's folder, or model files. Raises UsageError for a mixture, and as verify_bundle and verify_models do."""
    for path in paths:
        check_there(path, printable(str(path), 4096))
    folders = [path for path in paths if path.is_dir()]
    if folders and len(paths) > 1:
        raise UsageError(
            "A bundle is verified alone.",
            why=f"{printable(str(folders[0]), 4096)} is a folder, and {len(paths) - 1} more were given",
            fix="give one bundle, or model files only",
        )
    return verify_bundle(paths[0], asked, store, display) if folders else verify_models(paths, asked, store, display)


def verify_bundle(folder: Path, asked: Asked, store: Store, display: Display) -> Verification:
    """A bundle. store: where facts about photos are kept.

    Raises DataError for a bundle that is not as it was built, or photos of other classes; MissingError without a runtime, or
    without one that was asked for; UsageError for an invalid limit.
    """
    backends = _backends(asked)
    return _verify(OfBundle.open(folder), asked, backends, store, display)


def verify_models(paths: Sequence[Path], asked: Asked, store: Store, display: Display) -> Verification:
    """Model files without a bundle. `notes` says where their classes and preprocessing were read. Raises as verify_bundle does."""
    backends = _backends(asked)
    return _verify(OfFiles.open(paths), asked, backends, store, display)


def _verify(subject: Subject, asked: Asked, backends: Sequence[str], store: Store, display: Display) -> Verification:
    _check_openable(backends, asked.backends, subject.models)
    with display.stage(1, 2, "check the photos") as progress:
        photos = find_photos(
            subject.known_classes,
            subject.fingerprint,
            subject.owner,
            asked.photos,
            store,
            progress,
            asked.skip_bad,
        )
    models, classes = subject.with_photos(photos)
    measured = _measure(models, photos, classes, backends, subject.golden, display)
    files = subject.judged(models, backends)
    judgement = subject.judge(files, measured, photos, asked.max_drop_pp, bool(asked.diagnose))
    for name, row in measured["versions"].items():
        row["against_float"] = judgement.drops.get(name)
    app = subject.app_runs(files, measured) if asked.answers is not None else []
    cause = _Cause(models, photos, classes, subject.golden, display)
    diagnoses, more = cause.find(judgement, asked, app)
    return {
        "bundle": subject.row(),
        "files": [_file_row(file, model) for file, model in zip(files, models, strict=True)],
        "notes": subject.notes(models),
        "data": photos.data if isinstance(subject, OfBundle) else {**photos.data, "classes": list(classes)},
        "max_drop_pp": judgement.max_drop_pp,
        "reference": judgement.reference,
        "machine": machine.describe(),
        **measured,
        "diagnoses": diagnoses,
        "checks": [check.to_json() for check in [*judgement.checks, *more]],
    }


def _backends(asked: Asked) -> list[str]:
    """The default backends and those asked for. Raises UsageError for an unknown one, MissingError for one that is not ready."""
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
    return list(dict.fromkeys([*default_backends(), *asked.backends]))


def _check_openable(backends: Sequence[str], asked: Sequence[str], models: Sequence[ModelFile]) -> None:
    """Raises UsageError for a backend that was asked for and opens none of the files: nothing would be measured on it."""
    for name in asked:
        if not any(model.path.suffix == BACKENDS[name].suffix for model in models):
            raise UsageError(
                f"{name} opens none of the files.",
                why=f"it opens {BACKENDS[name].suffix}",
                fix="leave out --backend, or give a file of that kind",
            )


def _measure(
    models: Sequence[ModelFile],
    photos: Photos,
    classes: Sequence[str],
    backends: Sequence[str],
    golden: Path | None,
    display: Display,
) -> Measured:
    from edgetl.commands.verify.versions import measure_versions

    with display.stage(2, 2, "verify") as progress:
        return measure_versions(models, photos, progress, classes=classes, backends=backends, golden=golden)


def _file_row(file: Judged, model: ModelFile) -> FileRow:
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


@dataclass(frozen=True)
class _Cause:
    """Looks for what explains wrong answers. golden: the bundle's golden vectors."""

    models: Sequence[ModelFile]
    photos: Photos
    classes: Sequence[str]
    golden: Path | None
    display: Display

    def find(
        self, judgement: Judgement, asked: Asked, app: Sequence[tuple[str, str]]
    ) -> tuple[list[Diagnosis], list[Check]]:
        """(diagnoses of files that are not accurate enough, and of the app; checks of the app). app: (file, backend) that it is compared with."""
        off = [] if asked.diagnose is False else judgement.off
        if not off and asked.answers is None:
            return [], []
        from edgetl.commands.verify.answers import MOST_DISAGREEMENT, read_answers
        from edgetl.commands.verify.explain import explain_accuracy, explain_answers

        by_name = {model.name: model for model in self.models}
        answers = (
            None
            if asked.answers is None
            else read_answers(asked.answers, self.photos.paths, self.photos.source, self.classes)
        )
        found: list[Diagnosis] = []
        checks: list[Check] = []
        with self.display.stage(3, 3, "look for the cause") as progress:
            for name, backend in off:
                progress.note(f"trying the usual preprocessing mistakes on {name}, {backend}")
                expected = judgement.expected[name]
                subject = by_name[name], backend, self.photos, self.classes
                replayed = [
                    check for check in judgement.checks if check.metric == "golden" and check.measured is not None
                ]
                own = [check for check in replayed if check.subject == f"{short(name)}@{backend}"]
                found.append(
                    explain_accuracy(
                        *subject,
                        progress,
                        expected=expected,
                        golden=self.golden,
                        replays_golden=bool(own) and all(check.status == "pass" for check in own),
                    )
                )
            for name, backend in app if answers is not None else ():
                progress.note(f"trying the usual mistakes on {name}, {backend}, for the app's answers")
                assert answers is not None
                row = explain_answers(by_name[name], backend, self.photos, self.classes, progress, answers=answers)
                found.append(row)
                checks += [app_check(row, MOST_DISAGREEMENT), *app_mistake_check(row)]
        return found, checks
