"""golden/: a few photos with their exact input tensors and probabilities, for an app's unit tests and for `edgetl verify`.

golden.json: {layout, photos: [{photo, label, float32, int8 (if a file has int8 input), probabilities: {"file@runtime": [...]}}]};
tensors are little-endian, NHWC without the batch. A build writes it; verify replays it where
the bundle is used.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np

from edgetl.bundle.records import GoldenReplay, GoldenRow, TensorKind
from edgetl.core.errors import DataError
from edgetl.formats.read.records import InputGrid
from edgetl.measure.accuracy import probabilities_of
from edgetl.tasks.photos import decode
from edgetl.tasks.photos.contract import Normalization, View, to_grid

MOST_PHOTOS = 5
_TENSORS: dict[TensorKind, np.dtype[Any]] = {"float32": np.dtype("<f4"), "int8": np.dtype(np.int8)}


def golden_tensors(
    photo: Path, normalization: Normalization, view: View, grid: InputGrid | None
) -> dict[TensorKind, Any]:
    """A photo file preprocessed by the contract: "float32" [h, w, 3], normalized; with a grid also "int8", quantized on it."""
    image = np.asarray(normalization.apply(decode.load_view(photo, view).astype(np.float32)), _TENSORS["float32"])
    if grid is None:
        return {"float32": image}
    return {"float32": image, "int8": to_grid(image, _TENSORS["int8"], grid["scale"], grid["zero_point"])}


def int8_grid(inputs: Sequence[InputGrid]) -> InputGrid | None:
    """The input grid of the int8 files: {dtype, scale, zero_point}; None if there are none. All int8 files share one grid."""
    return next((grid for grid in inputs if grid["dtype"] == "int8"), None)


def write_golden(
    folder: Path,
    chosen: Sequence[tuple[Path, str]],
    normalization: Normalization,
    view: View,
    *,
    grid: InputGrid | None,
    sessions: Mapping[str, Any],
) -> None:
    """Create the folder. chosen: photo files with their labels; sessions: "file@runtime" -> the session that computes its
    probabilities."""
    folder.mkdir()
    index: list[GoldenRow] = []
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
        index.append(cast(GoldenRow, {"photo": photo, "label": label, **names, "probabilities": outputs}))
    (folder / "golden.json").write_text(
        json.dumps({"layout": "NHWC without the batch, row by row, RGB; little-endian", "photos": index}, indent=1)
    )


def replay_golden(
    folder: Path,
    normalization: Normalization,
    view: View,
    *,
    grid: InputGrid | None,
    sessions: Mapping[str, Any],
    n_classes: int,
) -> GoldenReplay | None:
    """How far the results of this machine are from those that the build recorded; None if the bundle has no golden/.

    Model files are run on the stored tensors, so that faults of the preprocessing and faults of a file show separately.
    Raises DataError if golden/ cannot be read.
    """
    if not (folder / "golden.json").is_file():
        return None
    try:
        index = golden_index(folder)
        values = differing = 0
        furthest: dict[str, float | None] = dict.fromkeys(sessions)
        for row in index:
            here = golden_tensors(folder / plain_name(row["photo"]), normalization, view, grid)
            stored = {kind: golden_tensor(folder, row, kind, view) for kind in _TENSORS if kind in row}
            for kind in stored.keys() & here.keys():
                values += stored[kind].size
                differing += int((stored[kind] != here[kind]).sum())
            for name, session in sessions.items():
                recorded = row["probabilities"].get(name)
                if recorded is not None:
                    found = probabilities_of(name, session, stored["float32"][None], n_classes)[0]
                    expected = np.asarray(recorded, np.float64)
                    # A comparison with NaN would pass, and NumPy would repeat a single number for every class.
                    if expected.shape != found.shape or not np.isfinite(expected).all():
                        raise ValueError(f"the probabilities of {row['photo']} are not {n_classes} finite numbers")
                    apart = float(np.abs(found - expected).max())
                    furthest[name] = max(furthest[name] or 0.0, apart)
    except (KeyError, TypeError, AttributeError, OverflowError, *decode.DECODE_ERRORS) as error:
        raise DataError(
            "golden/ cannot be replayed.",
            why=f"{type(error).__name__}: {error}"[:300],
            fix="take golden/ from the bundle as it was built",
        ) from None
    return {"photos": len(index), "values": values, "differing": differing, "files": furthest}


def golden_index(folder: Path) -> list[GoldenRow]:
    """The rows of golden.json; empty if there is no golden/."""
    if not (folder / "golden.json").is_file():
        return []
    found: list[GoldenRow] = json.loads((folder / "golden.json").read_text(encoding="utf-8"))["photos"]
    return found


def plain_name(name: str) -> str:
    """The name, if it is that of a file directly in golden/. Raises ValueError for a path that leads elsewhere."""
    if Path(name).name != name:
        raise ValueError(f"{name!r} is not the name of a file in golden/")
    return name


def golden_tensor(folder: Path, row: GoldenRow, kind: TensorKind, view: View) -> Any:
    """A stored input tensor, float32 or int8 [h, w, 3]."""
    return np.fromfile(folder / plain_name(row[kind]), _TENSORS[kind]).reshape(view.size_px, view.size_px, 3)
