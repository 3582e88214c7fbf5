"""Every file of a bundle's student on every runtime here: what they say of photos, and of golden/'s."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from edgetl import machine
from edgetl.bundle import Bundle
from edgetl.context import Progress
from edgetl.dataset import photos
from edgetl.dataset.contract import View, read_input
from edgetl.measure.accuracy import accuracy, confusion, probabilities_of
from edgetl.measure.golden import int8_grid, replay_golden
from edgetl.measure.parity import ID_DIGITS, parity_matrix
from edgetl.runtimes import everyday, open_sessions

_BATCH = 32
# As a build has it unless told otherwise. Nets this small gain nothing from more: 200 photos on six files of MobileNetV2
# 1.0 at 192 px took 4.2 s on one thread each and 8.5 s on two, on a busy machine of two cores.
_THREADS = 1


def views(paths: Sequence[Path], view: View) -> Iterator[np.ndarray]:
    """The photos in order as float32 [n, size_px, size_px, 3] in 0..255, n at most 32: what dataset.batches gives, without
    TensorFlow. Raises DataError for a photo that cannot be read any more."""
    with ThreadPoolExecutor(machine.cores()) as pool:
        for start in range(0, len(paths), _BATCH):
            few = paths[start : start + _BATCH]
            try:
                decoded = list(pool.map(lambda path: photos.load_view(path, view), few))
            except photos.DECODE_ERRORS as error:
                raise photos.no_longer_readable(f"{type(error).__name__}: {error}") from error
            yield np.stack(decoded).astype(np.float32)


def measure_versions(
    bundle: Bundle, paths: Sequence[Path], labels: Sequence[int], digests: Sequence[str], progress: Progress
) -> dict[str, Any]:
    """{runtimes, versions: {"models/file@runtime": {accuracy, confusion, placement, output_step}}, parity_matrix, golden}.

    paths, labels, digests: of the photos, beside each other. golden: see measure.golden.replay_golden; its files are
    named as the versions are. Raises DataError and MissingError.
    """
    normalization, view = read_input(bundle.input)
    truth, n_classes = np.array(labels, np.int32), len(bundle.classes)
    opened, absent = open_sessions(
        bundle.folder / "models", [file.name for file in bundle.student_files], threads=_THREADS
    )
    try:
        golden = replay_golden(
            bundle.folder / "golden",
            normalization,
            view,
            grid=int8_grid([file.input for file in bundle.student_files]),
            sessions=opened,
            n_classes=n_classes,
        )
        parts: dict[str, list[Any]] = {name: [] for name in opened}
        progress.begin(len(paths), unit="photos")
        for pixels in views(paths, view):
            images = np.asarray(normalization.apply(pixels), np.float32)
            for name, session in opened.items():
                parts[name].append(probabilities_of(name, session, images, n_classes))
            progress.advance(len(pixels), "every file on every runtime")
        whole = {f"models/{name}": np.concatenate(found) for name, found in parts.items()}
        versions = {
            f"models/{name}": {
                "accuracy": accuracy(whole[f"models/{name}"], truth),
                "confusion": confusion(whole[f"models/{name}"], truth),
                "placement": dict(session.placement().ops),
                "output_step": session.output_step,
            }
            for name, session in opened.items()
        }
    finally:
        for session in opened.values():
            session.close()
    steps = {name: row["output_step"] for name, row in versions.items()}
    if golden is not None:
        golden["files"] = {f"models/{name}": apart for name, apart in golden["files"].items()}
    return {
        "runtimes": {name: absent.get(name) or "ready" for name in everyday()},
        "versions": versions,
        "parity_matrix": parity_matrix(whole, truth, [digest[:ID_DIGITS] for digest in digests], steps=steps),
        "golden": golden,
    }
