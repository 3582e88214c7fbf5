"""What is verified: the files of a bundle, or single files. They differ in what is known of them beforehand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from edgetl.bundle.read import Bundle, open_bundle
from edgetl.commands.verify.checks import (
    FLOAT32,
    Judged,
    against_first,
    against_float,
    expected_of,
    first_measured,
    judge_bundle,
    judge_models,
    largest_share,
    off_alone,
    off_in_bundle,
)
from edgetl.commands.verify.photos import Photos
from edgetl.core.words import composed, printable
from edgetl.formats.files import FORMATS
from edgetl.verdicts.check import Check

if TYPE_CHECKING:
    from edgetl.bundle.model_files import ModelFile
    from edgetl.commands.verify.result import BundleRow, Expected, Measured
    from edgetl.measure.records import ParityPair


@dataclass(frozen=True)
class Judgement:
    """checks: in the order shown. max_drop_pp: the limit that was used. reference: the version that the others are compared with, of files
    alone. drops: version -> its comparison with the reference. off: (file, backend) that are not as accurate as they should be; expected: how
    accurate each of them should be, where somebody measured it."""

    checks: Sequence[Check]
    max_drop_pp: float | None
    reference: str | None
    drops: Mapping[str, ParityPair]
    off: Sequence[tuple[str, str]]
    expected: Mapping[str, Expected | None]


@dataclass(frozen=True)
class OfBundle:
    """The student's files of a bundle: what it was built from and what the build measured are known."""

    folder: Path
    bundle: Bundle
    models: Sequence[ModelFile]
    owner: str = "the bundle"

    @classmethod
    def open(cls, folder: Path) -> OfBundle:
        """Raises DataError for a bundle that is not as it was built."""
        from edgetl.bundle.model_files import of_bundle

        bundle = open_bundle(folder)
        return cls(folder, bundle, of_bundle(bundle))

    @property
    def known_classes(self) -> tuple[str, ...] | None:
        """Class names in the order of the outputs."""
        return self.bundle.classes

    @property
    def fingerprint(self) -> str:
        """The fingerprint of the photos that the bundle was built from."""
        return self.bundle.fingerprint

    @property
    def golden(self) -> Path | None:
        """The folder of golden vectors."""
        return self.folder / "golden"

    def with_photos(self, photos: Photos) -> tuple[Sequence[ModelFile], tuple[str, ...]]:
        """(the files in the order to measure, the classes)."""
        return self.models, self.bundle.classes

    def judged(self, models: Sequence[ModelFile], backends: Sequence[str]) -> list[Judged]:
        """The files as the checks need them."""
        known = {f"models/{file.name}": file for file in self.bundle.files}
        rows = []
        for model in models:
            row = known[model.name]
            rows.append(_judged(model, backends, row.precision, row.ships, row.recorded))
        return rows

    def judge(
        self, files: Sequence[Judged], measured: Measured, photos: Photos, max_drop_pp: float | None, always: bool
    ) -> Judgement:
        """max_drop_pp: None for the target's budget. always: some file is diagnosed even if none is off."""
        limit = self.bundle.top1_drop_pp if max_drop_pp is None else max_drop_pp
        checks = judge_bundle(files, measured, max_drop_pp=limit, model_bytes=self.bundle.model_bytes)
        off = off_in_bundle(files, measured["versions"], checks)
        if always and not off:
            off = first_measured(files, measured["versions"])
        by_name = {file.name: file for file in files}
        expected = {name: _recorded(by_name[name], backend) for name, backend in off}
        return Judgement(checks, limit, None, against_float(files, measured), off, expected)

    def app_runs(self, files: Sequence[Judged], measured: Measured) -> list[tuple[str, str]]:
        """(file, backend) that an app's answers are compared with: an app runs what ships."""
        shipping = [file for file in files if file.ships] or list(files)
        return first_measured([*shipping, *files], measured["versions"])

    def row(self) -> BundleRow | None:
        """The bundle in the result."""
        return {
            "folder": printable(str(self.folder), 4096),
            "target": self.bundle.target,
            "classes": list(self.bundle.classes),
            "files": [asdict(file) for file in self.bundle.files],
        }

    def notes(self, models: Sequence[ModelFile]) -> list[str]:
        """What a person should know; nothing was guessed."""
        return []


@dataclass(frozen=True)
class OfFiles:
    """Files without a bundle. Their classes and preprocessing are read from what lies beside them or inside them
    (bundle.model_files); the others are compared with the first that takes floats."""

    models: Sequence[ModelFile]
    owner: str = "the model"
    fingerprint: str = ""
    golden: Path | None = None
    # In the order in which they were given: the first is the one that an app runs.
    given: Sequence[str] = field(default_factory=tuple)

    @classmethod
    def open(cls, paths: Sequence[Path]) -> OfFiles:
        """Raises DataError for files that cannot be read, or do not fit each other."""
        from edgetl.bundle.model_files import of_paths

        models = of_paths(paths)
        return cls(models, given=tuple(model.name for model in models))

    @property
    def _naming(self) -> ModelFile | None:
        """The first file that names classes."""
        return next((model for model in self.models if model.classes is not None), None)

    @property
    def known_classes(self) -> tuple[str, ...] | None:
        """Class names in the order of the outputs; None where no file names them."""
        return None if self._naming is None else self._naming.classes

    def with_photos(self, photos: Photos) -> tuple[Sequence[ModelFile], tuple[str, ...]]:
        """(the files in the order to measure, the classes): those of the photos where no file names its own."""
        from edgetl.bundle.model_files import with_classes

        classes = self.known_classes or tuple(sorted({composed(label) for label in photos.labels}))
        naming = None if self._naming is None else self._naming.name
        models = [with_classes(model, classes, naming) for model in self.models]
        first = next((model for model in models if model.grid["dtype"] == FLOAT32), None)
        # The reference comes first: the pairs of the matrix are counted from it.
        return sorted(models, key=lambda model: model is not first), classes

    def judged(self, models: Sequence[ModelFile], backends: Sequence[str]) -> list[Judged]:
        """The files as the checks need them: their precision is not known."""
        return [_judged(model, backends, "", False, {}) for model in models]

    def judge(
        self, files: Sequence[Judged], measured: Measured, photos: Photos, max_drop_pp: float | None, always: bool
    ) -> Judgement:
        """max_drop_pp: None for no limit. always: every file is diagnosed, also one that is not off."""
        versions = measured["versions"]
        takes_floats = any(model.name == files[0].name and model.grid["dtype"] == FLOAT32 for model in self.models)
        reference = next((name for _, name in files[0].versions() if name in versions), None) if takes_floats else None
        drops = {} if reference is None else against_first(reference, measured)
        checks = judge_models(
            files,
            measured,
            reference=reference,
            max_drop_pp=max_drop_pp,
            largest_class=largest_share(photos.data["per_class"]),
        )
        off = off_alone(files, checks, drops)
        if always:
            named = {name for name, _ in off}
            off += [one for file in files if file.name not in named for one in first_measured([file], versions)]
        expected: Expected | None = None
        if reference is not None and reference.rsplit("@", 1)[0] not in {name for name, _ in off}:
            top1 = versions[reference]["accuracy"]["top1"]
            expected = {"top1": top1, "n": len(photos.paths), "by": f"{reference} on these photos"}
        return Judgement(checks, max_drop_pp, reference, drops, off, {name: expected for name, _ in off})

    def app_runs(self, files: Sequence[Judged], measured: Measured) -> list[tuple[str, str]]:
        """(file, backend) that an app's answers are compared with: the file that was given first."""
        return first_measured(sorted(files, key=lambda file: self.given.index(file.name)), measured["versions"])

    def row(self) -> BundleRow | None:
        """There is no bundle."""
        return None

    def notes(self, models: Sequence[ModelFile]) -> list[str]:
        """For each setting that was not known, where it was read."""
        return [
            f"{model.name}: {what}: {source}."
            for model in models
            for what, source in (model.origins or {}).items()
            if source
        ]


Subject = OfBundle | OfFiles


def _judged(
    model: ModelFile, backends: Sequence[str], precision: str, ships: bool, recorded: Mapping[str, tuple[float, int]]
) -> Judged:
    from edgetl.runtimes import runtimes_for

    return Judged(
        model.name,
        FORMATS[model.path.suffix].lower(),
        precision,
        ships,
        model.path.stat().st_size,
        tuple(runtimes_for(model.path, backends)),
        recorded,
    )


def _recorded(file: Judged, backend: str) -> Expected | None:
    found = expected_of(file, backend)
    return None if found is None else {"top1": found[0], "n": found[1], "by": "the build on its test photos"}
