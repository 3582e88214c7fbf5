"""What `edgetl bench` is to run: files and bundles, each on the backends that open it."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgetl.commands.bench.rows import About, Job
from edgetl.core.errors import DataError, UsageError
from edgetl.core.store import Store, file_sha256
from edgetl.core.words import printable
from edgetl.runtimes import runtimes_for
from edgetl.runtimes.catalogue import BACKENDS, default_backends

if TYPE_CHECKING:
    from edgetl.bundle.read import Bundle

# Of the formats that backends open; a "keras" model is a folder.
_FILE_SUFFIXES = {f".{backend.format}" for backend in BACKENDS.values()} - {".keras"}
_PHOTO_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp"}
# Latency hardly depends on a photo's content; a few photos keep one input from staying in the caches.
_MOST_PHOTOS = 8


def find_jobs(
    paths: Sequence[Path], backends: Collection[str], threads: Sequence[int], *, images: str, store: Store | None
) -> list[Job]:
    """One job per file, backend that opens it, and number of threads.

    images: "" (a bundle's golden photos, else random numbers), "random", or a folder of photos. store: where to find the
    Keras model a bundle was exported from. Raises DataError and UsageError.
    """
    jobs: list[Job] = []
    for path in paths:
        before = len(jobs)
        found = _of_bundle(path, images, store) if _is_bundle(path) else [_of_file(path, images)]
        for job in found:
            opened_by = [name for name in runtimes_for(job.model, backends) if _opens(name, job)]
            jobs += [
                Job(job.model, name, count, job.shown, _about(job, name), job.images)
                for name in opened_by
                # A GPU has no use for the processor's threads.
                for count in (threads if BACKENDS[name].device == "cpu" else threads[:1])
            ]
        if len(jobs) == before:
            raise UsageError(
                f"No backend opens {printable(str(path), 4096)}.",
                why=f"the backends are {', '.join(backends)}",
                fix="LiteRT opens .tflite, ONNX Runtime .onnx; omit --backend to use all installed ones",
            )
    return _distinct(jobs)


def _distinct(jobs: list[Job]) -> list[Job]:
    """Prefix files of the same name with as many folders as distinguish them."""
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


def _opens(backend: str, job: Job) -> bool:
    return (BACKENDS[backend].format == "keras") == job.model.is_dir()


def _about(job: Job, backend: str) -> About:
    """Facts about the file, with the accuracy of this backend only."""
    about = job.about.copy()
    accuracy = about.pop("accuracy", {})
    # Backends of one format differ only by rounding: the default one's accuracy stands for all of them.
    usual = next((name for name in default_backends() if BACKENDS[name].format == BACKENDS[backend].format), backend)
    about["top1"] = accuracy.get(backend, accuracy.get(usual))
    return about


def _of_file(path: Path, images: str) -> Job:
    if path.is_dir():
        return Job(path, "", 1, path.name, {"precision": "float32"}, _images(images, None, None))
    name = printable(str(path), 4096)
    if path.suffix not in _FILE_SUFFIXES:
        raise UsageError(
            f"{name} is not a model that an installed backend opens.",
            why=f"its name ends with {printable(path.suffix) or 'nothing'}",
            fix="give .tflite or .onnx files, or a folder written by `edgetl build`",
        )
    try:
        about: About = {"bytes": path.stat().st_size, "sha256": file_sha256(path)}
    except OSError as error:
        raise DataError(f"{name} cannot be read.", why=str(error), fix="check the path") from None
    return Job(path, "", 1, path.name, about, _images(images, None, None))


def _of_bundle(folder: Path, images: str, store: Store | None) -> list[Job]:
    # This import is half of a command's start-up time, and a single file does not need it.
    from edgetl.bundle.read import open_bundle

    bundle = open_bundle(folder)
    report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    rows = {str(row["file"]).removeprefix("models/"): row for row in report["models"]}
    source = _images(images, bundle, folder)
    jobs = []
    for file in bundle.student_files:
        row = rows[file.name]
        accuracy = {name: found["top1"] for name, found in row.get("accuracy", {}).items()}
        about: About = {
            "bytes": row["bytes"],
            "sha256": row["sha256"],
            "precision": file.precision,
            "accuracy": accuracy,
            "target": bundle.target,
        }
        jobs.append(Job(folder / "models" / file.name, "", 1, file.name, about, source))
    keras = _keras_model(folder, store)
    if keras is not None:
        jobs.append(Job(keras, "", 1, "Keras student", {"precision": "float32"}, source))
    return jobs


def _keras_model(folder: Path, store: Store | None) -> Path | None:
    """The float student that the bundle was exported from, where the cache still has it."""
    if store is None:
        return None
    try:
        stage = json.loads((folder / "lock.json").read_text(encoding="utf-8"))["stages"]["distill"]
        # A bundle is passed around: its lock file must not name folders elsewhere.
        key = str(stage["key"]) if re.fullmatch(r"[0-9a-f]{64}", str(stage["key"])) else ""
        record = store.record(key) if key else None
        found = store.find(key, record["parents"]) if record else None
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return found.path if found is not None and found.sha256 == stage["sha256"] else None


def _images(asked: str, bundle: Bundle | None, folder: Path | None) -> Mapping[str, Any]:
    if asked == "random":
        return {"kind": "random", "seed": 0}
    contract = dict(bundle.input) if bundle else None
    if asked:
        source = Path(asked)
        if not source.is_dir():
            raise DataError(
                f"{printable(asked, 4096)} is not a folder of photos.",
                fix="give a folder with .jpg, .png, .webp or .bmp files, or --input random",
            )
        photos = sorted(file for file in source.rglob("*") if file.suffix.lower() in _PHOTO_SUFFIXES)
        if not photos:
            raise DataError(f"No photo in {printable(asked, 4096)}.", fix="give another folder to --input")
        step = max(1, len(photos) // _MOST_PHOTOS)
        photos = photos[::step][:_MOST_PHOTOS]
    else:
        photos = sorted((folder / "golden").glob("*.jpg")) if folder else []
        if not photos:
            return {"kind": "random", "seed": 0}
    return {"kind": "photos", "paths": [str(photo.resolve()) for photo in photos], "contract": contract}
