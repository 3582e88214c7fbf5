"""Photos that a file of the student takes for another class than the float student does: to look at, with thumbnails."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from edgetl.tasks.photos.decode import load_rgb

MOST = 24
_LONGER_SIDE_PX = 128
_JPEG_QUALITY = 75


def find_flips(predictions: Mapping[str, Any], *, reference: str, files: Sequence[str]) -> list[int]:
    """Positions of the photos on which the label of at least one of `files` is not the reference's.

    predictions: name -> probabilities [n, classes]. Those that most files answer differently come first; among equals,
    those whose probabilities moved most.
    """
    wanted = predictions[reference]
    votes = np.zeros(len(wanted), int)
    apart = np.zeros(len(wanted))
    for file in files:
        votes += predictions[file].argmax(axis=1) != wanted.argmax(axis=1)
        apart = np.maximum(apart, np.abs(predictions[file].astype(np.float64) - wanted).max(axis=1))
    return sorted(np.flatnonzero(votes).tolist(), key=lambda i: (-votes[i], -apart[i], i))


def write_flips(
    folder: Path,
    flips: Sequence[int],
    predictions: Mapping[str, Any],
    *,
    paths: Sequence[Path],
    digests: Sequence[str],
    labels: Any,
    classes: Sequence[str],
    source: Path | None,
) -> None:
    """Writes flips.json {n, photos: [{thumbnail, name, sha256, label, says}]} and a thumbnail for each of the first 24.

    flips: as find_flips gives them; says: version -> {label, probability}. name: the photo's path below `source`, the
    folder or the CSV file it was listed from; its file's name where it does not lie below.
    """
    folder.mkdir()
    rows = []
    for position, i in enumerate(flips[:MOST]):
        name = f"{position:02}.jpg"
        thumbnail(paths[i]).save(folder / name, "JPEG", quality=_JPEG_QUALITY)
        says = {}
        for version, probabilities in predictions.items():
            winner = int(probabilities[i].argmax())
            says[version] = {"label": classes[winner], "probability": float(probabilities[i, winner])}
        rows.append(
            {
                "thumbnail": name,
                "name": _name(paths[i], source),
                "sha256": digests[i],
                "label": classes[int(labels[i])],
                "says": says,
            }
        )
    (folder / "flips.json").write_text(json.dumps({"n": len(flips), "photos": rows}, indent=1))


def thumbnail(photo: Path) -> Image.Image:
    """The photo upright, its longer side at most 128 px, and nothing else of the file."""
    image = load_rgb(photo, at_least_px=_LONGER_SIDE_PX)
    image.thumbnail((_LONGER_SIDE_PX, _LONGER_SIDE_PX))
    # A comment that the file carries would be saved along, and a report is passed around: pixels alone.
    return Image.fromarray(np.asarray(image))


def _name(path: Path, source: Path | None) -> str:
    if source is not None:
        root = source.parent if source.suffix.lower() == ".csv" else source
        if path.is_relative_to(root):
            return path.relative_to(root).as_posix()
    return path.name
