"""golden/: a few photos with the exact tensors in and out, for an app's unit tests, and for `edgetl verify` itself.

golden.json: {layout, photos: [{photo, label, float32, int8 (where a file takes it), probabilities: {"file@runtime": [...]}}]};
tensors are little-endian, NHWC without the batch. Written by a build, replayed where the bundle is used.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edgetl.bundle.records import GoldenReplay
from edgetl.core.errors import DataError
from edgetl.measure.accuracy import probabilities_of
from edgetl.tasks.photos import decode
from edgetl.tasks.photos.contract import Normalization, View, to_grid

MOST_PHOTOS = 5
_TENSORS: dict[str, np.dtype[Any]] = {"float32": np.dtype("<f4"), "int8": np.dtype(np.int8)}


def golden_tensors(
    photo: Path, normalization: Normalization, view: View, grid: Mapping[str, Any] | None
) -> dict[str, Any]:
    """What the contract makes of a photo file: "float32" [h, w, 3] normalized, and with a grid "int8", the same on it."""
    image = np.asarray(normalization.apply(decode.load_view(photo, view).astype(np.float32)), _TENSORS["float32"])
    if grid is None:
        return {"float32": image}
    return {"float32": image, "int8": to_grid(image, _TENSORS["int8"], grid["scale"], grid["zero_point"])}


def int8_grid(inputs: Sequence[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """The grid of the files that take int8: {dtype, scale, zero_point}; None when no file does. All of them share one."""
    return next((grid for grid in inputs if grid["dtype"] == "int8"), None)


def write_golden(
    folder: Path,
    chosen: Sequence[tuple[Path, str]],
    normalization: Normalization,
    view: View,
    *,
    grid: Mapping[str, Any] | None,
    sessions: Mapping[str, Any],
) -> None:
    """Makes the folder. chosen: photo files with their labels; sessions: "file@runtime" -> what its probabilities come from."""
    folder.mkdir()
    index = []
    for i, (path, label) in enumerate(chosen):
        photo = f"{i}{path.suffix.lower()}"
        shutil.copyfile(path, folder / photo)
        tensors = golden_tensors(path, normalization, view, grid)
        names = {kind: f"{i}.image.{kind}.bin" for kind in tensors}
        for kind, tensor in tensors.items():
            tensor.tofile(folder / names[kind])
        outputs = {
            name: [float(p) for p in session.run(tensors["float32"][None])[0]] for name, session in sessions.items()
        }
        index.append({"photo": photo, "label": label, **names, "probabilities": outputs})
    (folder / "golden.json").write_text(
        json.dumps({"layout": "NHWC without the batch, row by row, RGB; little-endian", "photos": index}, indent=1)
    )


def replay_golden(
    folder: Path,
    normalization: Normalization,
    view: View,
    *,
    grid: Mapping[str, Any] | None,
    sessions: Mapping[str, Any],
    n_classes: int,
) -> GoldenReplay | None:
    """How far this machine is from what the build recorded; None if the bundle has no golden/.

    Files are run on the golden tensors themselves, so that a fault of the preprocessing and a fault of a file are seen separately. Raises
    DataError for what cannot be read.
    """
    if not (folder / "golden.json").is_file():
        return None
    try:
        index = golden_index(folder)
        values = differing = 0
        furthest: dict[str, float | None] = dict.fromkeys(sessions)
        for row in index:
            here = golden_tensors(folder / plain_name(row["photo"]), normalization, view, grid)
            written = {kind: golden_tensor(folder, row, kind, view) for kind in _TENSORS if kind in row}
            for kind in written.keys() & here.keys():
                values += written[kind].size
                differing += int((written[kind] != here[kind]).sum())
            for name, session in sessions.items():
                wanted = row["probabilities"].get(name)
                if wanted is not None:
                    found = probabilities_of(name, session, written["float32"][None], n_classes)[0]
                    apart = float(np.abs(found - np.array(wanted, np.float64)).max())
                    furthest[name] = max(furthest[name] or 0.0, apart)
    except (KeyError, TypeError, AttributeError, *decode.DECODE_ERRORS) as error:
        raise DataError(
            "golden/ cannot be replayed.",
            why=f"{type(error).__name__}: {error}"[:300],
            fix="take golden/ from the bundle as it was built",
        ) from None
    return {"photos": len(index), "values": values, "differing": differing, "files": furthest}


def golden_index(folder: Path) -> list[Mapping[str, Any]]:
    """The rows of golden.json; none without golden/."""
    if not (folder / "golden.json").is_file():
        return []
    found: list[Mapping[str, Any]] = json.loads((folder / "golden.json").read_text(encoding="utf-8"))["photos"]
    return found


def plain_name(name: str) -> str:
    """The name of a file in golden/. Raises ValueError for a path that leads elsewhere."""
    if Path(name).name != name:
        raise ValueError(f"{name!r} is not the name of a file in golden/")
    return name


def golden_tensor(folder: Path, row: Mapping[str, Any], kind: str, view: View) -> Any:
    """A stored input tensor, float32 or int8 [h, w, 3]."""
    return np.fromfile(folder / plain_name(row[kind]), _TENSORS[kind]).reshape(view.size_px, view.size_px, 3)
