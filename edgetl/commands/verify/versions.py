"""Model files of one set of classes on the runtimes asked for: what they say of photos, and of golden/'s."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from edgetl.bundle.golden import int8_grid, replay_golden
from edgetl.bundle.model_files import ModelFile, are_logits, softmax
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
# As a build has it unless told otherwise. Nets this small gain nothing from more: 200 photos on six files of MobileNetV2
# 1.0 at 192 px took 4.2 s on one thread each and 8.5 s on two, on a busy machine of two cores.
THREADS = 1


def views(paths: Sequence[Path], view: View) -> Iterator[np.ndarray]:
    """The photos in order as float32 [n, size_px, size_px, 3] in 0..255, n at most 32: what dataset.batches gives, without
    TensorFlow. Raises DataError for a photo that cannot be read any more."""
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
    """("file@backend" -> (file, session), backend -> why it is not here); closes the sessions.

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
                why="; ".join(absent.values()) or f"{', '.join(ready)} open no such files",
                fix="`edgetl doctor` shows what is missing",
            )
        yield sessions, absent
    finally:
        for _, session in sessions.values():
            session.close()


def measure_versions(
    files: Sequence[ModelFile],
    paths: Sequence[Path],
    labels: Sequence[int],
    digests: Sequence[str],
    progress: Progress,
    *,
    classes: Sequence[str],
    backends: Collection[str],
    golden: Path | None = None,
) -> dict[str, Any]:
    """{runtimes, versions, parity_matrix, golden}: versions is {"file@runtime": {accuracy, confusion, by_class, calibration,
    softmax_applied, placement, output_step}}.

    paths, labels, digests: of the photos, beside each other. golden: the folder to replay (measure.golden.replay_golden);
    its files are named as the versions are. Raises DataError and MissingError.
    """
    truth = np.array(labels, np.int32)
    with opened(files, backends) as (sessions, absent):
        replayed = None if golden is None else _replay(golden, files, sessions, len(classes))
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
        whole = {name: np.concatenate(found) for name, found in parts.items()}
        softened = {name for name, found in whole.items() if are_logits(found)}
        whole |= {name: softmax(whole[name]) for name in softened}
        versions = {}
        for name, (_, session) in sessions.items():
            counts = confusion(whole[name], truth)
            versions[name] = {
                "accuracy": accuracy(whole[name], truth),
                "confusion": counts,
                "by_class": by_class(counts, classes),
                "calibration": calibration(whole[name], truth),
                "softmax_applied": name in softened,
                "placement": dict(session.placement().ops),
                "output_step": session.output_step,
            }
    # Of logits' grid a softmax leaves nothing to count in.
    steps = {name: 0.0 if row["softmax_applied"] else row["output_step"] for name, row in versions.items()}
    return {
        "runtimes": {name: absent.get(name) or "ready" for name in backends},
        "versions": versions,
        "parity_matrix": parity_matrix(whole, truth, [digest[:ID_DIGITS] for digest in digests], steps=steps),
        "golden": replayed,
    }


def _replay(folder: Path, files: Sequence[ModelFile], sessions: Any, n_classes: int) -> dict[str, Any] | None:
    """replay_golden of a bundle's files, which share one way."""
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
