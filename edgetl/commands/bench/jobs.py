"""Find what `edgetl bench` is to run: files and bundles, each on the backends that open it."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from edgetl.commands.bench.protocol import Images
from edgetl.commands.bench.rows import About, Job
from edgetl.core.errors import DataError, UsageError
from edgetl.core.store import Store, file_sha256
from edgetl.core.words import printable
from edgetl.runtimes import runtimes_for
from edgetl.runtimes.catalogue import BACKENDS, default_backends, runnable

if TYPE_CHECKING:
    from edgetl.bundle.read import Bundle

_PHOTO_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp"}
# Latency hardly depends on the photo; a few different ones keep caches and branch predictors from learning a single one.
_MOST_PHOTOS = 8


@dataclass(frozen=True)
class _Model:
    """A model to measure. path, shown, images: as in Job. accuracy: top-1 on the test photos, by backend."""

    path: Path
    shown: str
    images: Images
    about: About
    accuracy: Mapping[str, float] = field(default_factory=dict)


def find_jobs(
    paths: Sequence[Path], backends: Collection[str], threads: Sequence[int], *, images: str, store: Store | None
) -> list[Job]:
    """One job per file, backend that opens it, and number of threads.

    images: "" (a bundle's golden photos, or random numbers without them), "random", or a folder of photos. store: the cache
    with the Keras model that a bundle was exported from. Raises DataError and UsageError.
    """
    jobs: list[Job] = []
    for path in paths:
        before = len(jobs)
        for model in _of_bundle(path, images, store) if _is_bundle(path) else [_of_file(path, images)]:
            opened_by = [name for name in runtimes_for(model.path, backends) if _opens(name, model.path)]
            jobs += [
                Job(model.path, name, count, model.shown, _about(model, name), model.images)
                for name in opened_by
                # An accelerator does not use the processor's threads.
                for count in (threads if BACKENDS[name].device == "cpu" else threads[:1])
            ]
        if len(jobs) == before:
            raise UsageError(
                f"No backend opens {printable(str(path), 4096)}.",
                why=f"the backends are {', '.join(backends)}",
                fix=f"{_who_opens()}; leave out --backend to use all that are ready",
            )
    return _distinguished(jobs)


def _who_opens() -> str:
    """What each kind of file is opened by, in words."""
    opened: dict[str, list[str]] = {}
    for name, backend in runnable().items():
        if backend.suffix:
            opened.setdefault(backend.suffix, []).append(name)
    return "; ".join(f"{suffix} is opened by {', '.join(names)}" for suffix, names in opened.items())


def _distinguished(jobs: list[Job]) -> list[Job]:
    """Show files of the same name with as many of their folders as are needed to distinguish them."""
    models = {job.model.resolve() for job in jobs}
    alike = {
        shown for shown in {job.shown for job in jobs} if len({j.model.resolve() for j in jobs if j.shown == shown}) > 1
    }
    if not alike:
        return jobs
    depth = next(n for n in range(2, 99) if len({model.parts[-n:] for model in models}) == len(models))
    return [
        replace(job, shown="/".join(job.model.resolve().parts[-depth:])) if job.shown in alike else job for job in jobs
    ]


def _is_bundle(path: Path) -> bool:
    return path.is_dir() and not (path / "weights.npz").is_file()


def _opens(backend: str, model: Path) -> bool:
    return (not BACKENDS[backend].suffix) == model.is_dir()


def _about(model: _Model, backend: str) -> About:
    """What is known of the model, with its accuracy on this backend."""
    # Backends of one format differ only by rounding: the default one's accuracy stands for all of them.
    usual = next((name for name in default_backends() if BACKENDS[name].format == BACKENDS[backend].format), backend)
    about = model.about.copy()
    about["top1"] = model.accuracy.get(backend, model.accuracy.get(usual))
    return about


def _of_file(path: Path, images: str) -> _Model:
    if path.is_dir():
        return _Model(path, path.name, _images(images, None, None), {"precision": "float32"})
    name = printable(str(path), 4096)
    suffixes = sorted({backend.suffix for backend in runnable().values() if backend.suffix}, reverse=True)
    if path.suffix not in suffixes:
        raise UsageError(
            f"{name} is not a model that edgetl runs.",
            why=f"its name ends in {printable(path.suffix)!r}" if path.suffix else "its name has no suffix",
            fix=f"give {' or '.join(suffixes)} files, or the folder that `edgetl build` wrote",
        )
    try:
        about: About = {"bytes": path.stat().st_size, "sha256": file_sha256(path)}
    except OSError as error:
        raise DataError(f"{name} cannot be read.", why=str(error), fix="check the path") from None
    return _Model(path, path.name, _images(images, None, None), about)


def _of_bundle(folder: Path, images: str, store: Store | None) -> list[_Model]:
    # This import is half of the command's start-up time, and single files do not need it.
    from edgetl.bundle.read import open_bundle

    bundle = open_bundle(folder)
    report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    rows = {str(row["file"]).removeprefix("models/"): row for row in report["models"]}
    source = _images(images, bundle, folder)
    models = []
    for file in bundle.student_files:
        row = rows[file.name]
        accuracy = {name: found["top1"] for name, found in row.get("accuracy", {}).items()}
        about: About = {
            "bytes": row["bytes"],
            "sha256": row["sha256"],
            "precision": file.precision,
            "target": bundle.target,
        }
        models.append(_Model(folder / "models" / file.name, file.name, source, about, accuracy))
    keras = _keras_model(folder, store)
    if keras is not None:
        models.append(_Model(keras, "Keras student", source, {"precision": "float32"}))
    return models


def _keras_model(folder: Path, store: Store | None) -> Path | None:
    """The float student that the bundle was exported from; None if it is no longer in the cache."""
    if store is None:
        return None
    try:
        stage = json.loads((folder / "lock.json").read_text(encoding="utf-8"))["stages"]["distill"]
        # Bundles come from other people: a lock file must not be able to name a folder outside the cache.
        key = str(stage["key"]) if re.fullmatch(r"[0-9a-f]{64}", str(stage["key"])) else ""
        record = store.record(key) if key else None
        found = store.find(key, record["parents"]) if record else None
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return found.path if found is not None and found.sha256 == stage["sha256"] else None


def _images(requested: str, bundle: Bundle | None, folder: Path | None) -> Images:
    if requested == "random":
        return {"kind": "random", "seed": 0}
    contract = dict(bundle.input) if bundle else None
    if requested:
        source = Path(requested)
        if not source.is_dir():
            raise DataError(
                f"{printable(requested, 4096)} is not a folder of photos.",
                fix="give a folder with .jpg, .png, .webp or .bmp files, or --input random",
            )
        photos = sorted(file for file in source.rglob("*") if file.suffix.lower() in _PHOTO_SUFFIXES)
        if not photos:
            raise DataError(
                f"There is no photo in {printable(requested, 4096)}.", fix="give another folder with --input"
            )
        step = max(1, len(photos) // _MOST_PHOTOS)
        photos = photos[::step][:_MOST_PHOTOS]
    else:
        golden = (folder / "golden").glob("*") if folder else ()
        photos = sorted(file for file in golden if file.suffix.lower() in _PHOTO_SUFFIXES)
        if not photos:
            return {"kind": "random", "seed": 0}
    return {"kind": "photos", "paths": [str(photo.resolve()) for photo in photos], "contract": contract}
