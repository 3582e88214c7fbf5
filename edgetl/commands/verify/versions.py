"""Model files with the same classes on the requested runtimes: their answers for photos, and for golden vectors."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from edgetl.bundle.golden import int8_grid, replay_golden
from edgetl.bundle.model_files import ModelFile, are_logits, softmax
from edgetl.bundle.records import GoldenReplay
from edgetl.commands.verify.photos import Photos
from edgetl.commands.verify.result import Measured, VersionRow
from edgetl.core import machine
from edgetl.core.errors import MissingError
from edgetl.core.progress import Progress
from edgetl.measure.accuracy import accuracy, confusion
from edgetl.measure.by_class import by_class
from edgetl.measure.calibration import calibration
from edgetl.measure.parity import ID_DIGITS, parity_matrix
from edgetl.runtimes import open_sessions, runtimes_for, unavailable
from edgetl.tasks.photos import decode
from edgetl.tasks.photos.contract import View

_BATCH = 32
# The default of a build. Nets this small gain nothing from more: 200 photos on six files of MobileNetV2
# 1.0 at 192 px took 4.2 s on one thread each and 8.5 s on two, on a busy machine of two cores.
THREADS = 1


def views(paths: Sequence[Path], view: View) -> Iterator[np.ndarray]:
    """The photos in order as float32 [n, size_px, size_px, 3] in 0..255, n at most 32: the same as tasks.photos.batches, without
    TensorFlow. Raises DataError for a photo that can no longer be read."""
    with ThreadPoolExecutor(machine.cores()) as pool:
        for start in range(0, len(paths), _BATCH):
            few = paths[start : start + _BATCH]
            try:
                decoded = list(pool.map(lambda path: decode.load_view(path, view), few))
            except decode.DECODE_ERRORS as error:
                raise decode.no_longer_readable(f"{type(error).__name__}: {error}") from error
            yield np.stack(decoded).astype(np.float32)


@contextlib.contextmanager
def opened(
    files: Sequence[ModelFile], backends: Collection[str]
) -> Iterator[tuple[dict[str, tuple[ModelFile, Any]], dict[str, str]]]:
    """("file@backend" -> (file, session), backend -> why it is not available); closes the sessions.

    Raises MissingError when nothing can be opened, DataError for a file that its backend refuses.
    """
    absent = {name: reason for name in backends if (reason := unavailable(name))}
    ready = [name for name in backends if name not in absent]
    sessions: dict[str, tuple[ModelFile, Any]] = {}
    try:
        for file in files:
            if runtimes_for(file.path, ready):
                found, _ = open_sessions(file.path.parent, [file.path.name], threads=THREADS, backends=ready)
                sessions |= {
                    f"{file.name}@{name.rsplit('@', 1)[1]}": (file, session) for name, session in found.items()
                }
        if not sessions:
            raise MissingError(
                "No runtime here opens any of the files.",
                why="; ".join(absent.values()) or f"{', '.join(ready)} do not open such files",
                fix="`edgetl doctor` shows what is missing",
            )
        yield sessions, absent
    finally:
        for _, session in sessions.values():
            session.close()


def measure_versions(
    files: Sequence[ModelFile],
    photos: Photos,
    progress: Progress,
    *,
    classes: Sequence[str],
    backends: Collection[str],
    golden: Path | None = None,
) -> Measured:
    """Every file on every backend that opens it, on all photos.

    golden: the folder of golden vectors to replay; files are named there as the versions are. Raises DataError and MissingError.
    """
    truth = np.array(photos.numbers(classes), np.int32)
    with opened(files, backends) as (sessions, absent):
        replayed = None if golden is None else _replay(golden, files, sessions, len(classes))
        figures = _answer(files, sessions, photos.paths, classes, progress)
        with_softmax = {name for name, found in figures.items() if are_logits(found)}
        figures |= {name: softmax(figures[name]) for name in with_softmax}
        versions = {
            name: _version_row(figures[name], truth, classes, session, softmax_applied=name in with_softmax)
            for name, (_, session) in sessions.items()
        }
    # After a softmax of our own the logits' grid is no unit for differences.
    steps = {name: 0.0 if row["softmax_applied"] else row["output_step"] for name, row in versions.items()}
    ids = [digest[:ID_DIGITS] for digest in photos.digests]
    return {
        "runtimes": {name: absent.get(name) or "ready" for name in backends},
        "versions": versions,
        "parity_matrix": parity_matrix(figures, truth, ids, steps=steps),
        "golden": replayed,
    }


def _answer(
    files: Sequence[ModelFile],
    sessions: Mapping[str, tuple[ModelFile, Any]],
    paths: Sequence[Path],
    classes: Sequence[str],
    progress: Progress,
) -> dict[str, Any]:
    """Version -> figures for all photos, float [n, classes]. A photo is decoded once per view and normalized once per contract."""
    parts: dict[str, list[Any]] = {name: [] for name in sessions}
    progress.begin(len(paths) * len({file.view for file in files}), unit="photos")
    for view in dict.fromkeys(file.view for file in files):
        for pixels in views(paths, view):
            prepared: dict[Any, Any] = {}
            for name, (file, session) in sessions.items():
                normalization = file.way.normalization
                if file.view == view and normalization is not None:
                    if normalization not in prepared:
                        prepared[normalization] = np.asarray(normalization.apply(pixels), np.float32)
                    parts[name].append(file.answers(session, prepared[normalization], classes))
            progress.advance(len(pixels), "every file on every runtime")
    return {name: np.concatenate(found) for name, found in parts.items()}


def _version_row(
    probabilities: Any, truth: Any, classes: Sequence[str], session: Any, *, softmax_applied: bool
) -> VersionRow:
    counts = confusion(probabilities, truth)
    return {
        "accuracy": accuracy(probabilities, truth),
        "confusion": counts,
        "by_class": by_class(counts, classes),
        "calibration": calibration(probabilities, truth),
        "softmax_applied": softmax_applied,
        "placement": dict(session.placement().ops),
        "output_step": session.output_step,
    }


def _replay(folder: Path, files: Sequence[ModelFile], sessions: Any, n_classes: int) -> GoldenReplay | None:
    """replay_golden for the files of a bundle, which share one preprocessing."""
    way = files[0].way
    assert way.normalization is not None  # a contract has numbers
    replayed = replay_golden(
        folder,
        way.normalization,
        files[0].view,
        grid=int8_grid([file.grid for file in files]),
        sessions={name.removeprefix("models/"): session for name, (_, session) in sessions.items()},
        n_classes=n_classes,
    )
    if replayed is not None:
        replayed["files"] = {f"models/{name}": apart for name, apart in replayed["files"].items()}
    return replayed
