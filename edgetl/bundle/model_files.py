"""A model file as verify runs it: the type of its input, the preprocessing of photos, the classes of its outputs.

For the files of a bundle, contract.json states all of this. For a file without a bundle it comes from the file's metadata,
labels beside it, or a guess; every guess is a note that the user reads.
"""

from __future__ import annotations

import hashlib
import json
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from edgetl.bundle.read import Bundle
from edgetl.core.errors import DataError
from edgetl.core.words import printable
from edgetl.formats.read.records import InputGrid
from edgetl.formats.read.signature import Signature, read_signature
from edgetl.measure.accuracy import probabilities_of
from edgetl.tasks.photos.contract import Normalization, View, read_input
from edgetl.tasks.photos.mistakes import Way, describe

_MINUS_ONE_TO_ONE = Normalization((127.5,) * 3, (127.5,) * 3)
# A softmax is within [0, 1], or within [-0.5, 1.5] if its integers are misread; the logits of many photos are not.
_MOST_PROBABILITY = 1.51


@dataclass(frozen=True)
class ModelFile:
    """name: as it is displayed, and the first part of its versions' names. way: the preprocessing of its photos. grid: of
    its input: {dtype, and for integers scale and zero_point}. planes: whether it takes NCHW. classes: in the order of its
    outputs; None if no source names them. origins: for a file without a bundle, where each of these facts comes from.
    """

    name: str
    path: Path
    way: Way
    grid: InputGrid
    classes: tuple[str, ...] | None
    planes: bool = False
    origins: Mapping[str, str] | None = None

    @property
    def view(self) -> View:
        """How a photo is cut and resized to the square input."""
        return View(self.way.size_px, self.way.cut, self.way.centre_fraction)

    def answers(self, session: Any, images: Any, classes: Sequence[str]) -> Any:
        """The outputs for each of `classes`, float [n, classes]. images: float32 [n, h, w, 3], preprocessed.

        classes: those of all files, in one order, which may differ from the file's own order. Raises DataError.
        """
        shaped = np.ascontiguousarray(images.transpose(0, 3, 1, 2)) if self.planes else images
        found = probabilities_of(self.name, session, shaped, len(classes))
        if self.classes is None or self.classes == tuple(classes):
            return found
        return found[:, [self.classes.index(label) for label in classes]]


def of_bundle(bundle: Bundle) -> list[ModelFile]:
    """The student's files in a bundle, float32 first. Raises DataError for a contract that edgetl did not write."""
    way = Way.of(*read_input(bundle.input))
    return [
        ModelFile(f"models/{file.name}", bundle.folder / "models" / file.name, way, file.input, bundle.classes)
        for file in bundle.student_files
    ]


def of_paths(paths: Sequence[Path]) -> list[ModelFile]:
    """Model files without a bundle. Raises DataError for one that is not a classifier, or for two with different classes."""
    names = [path.name for path in dict.fromkeys(paths)]
    found = [
        _alone(path, printable(path.name if names.count(path.name) == 1 else str(path), 4096))
        for path in dict.fromkeys(paths)
    ]
    known = [file for file in found if file.classes is not None]
    for file in known[1:]:
        if sorted(file.classes or ()) != sorted(known[0].classes or ()):
            raise DataError(
                f"{file.name} and {known[0].name} have different classes.",
                why=f"{file.name} has {_few(file.classes or ())}; {known[0].name} has {_few(known[0].classes or ())}",
                fix="verify them one after the other",
            )
    return found


def with_classes(file: ModelFile, names: Sequence[str], other: str | None) -> ModelFile:
    """The file with classes, if no source of its own names them.

    names: with `other`, the classes of that other file, in the order of its outputs; otherwise the photos' classes, sorted,
    which is the order that most training code uses. Raises DataError if the number of the file's outputs is different.
    """
    if file.classes is not None:
        return file
    outputs = read_signature(file.path).outputs
    if outputs != len(names):
        raise DataError(
            f"{file.name} has {outputs} outputs per photo.",
            why=f"the photos have {len(names)} classes, {_few(names)}, and the file came without labels",
            fix="put its labels into labels.txt beside it, one per line in the order of its outputs, or give photos of its classes",
        )
    origin = (
        f"those of {other}, in its order: the file came without labels"
        if other
        else "the photos' folders, sorted by name: the file came without labels, so if every answer is wrong, the order may be"
    )
    return replace(file, classes=tuple(names), origins={**(file.origins or {}), "classes": origin})


def _few(names: Sequence[str]) -> str:
    more = f" and {len(names) - 6} more" if len(names) > 6 else ""
    return ", ".join(printable(name) for name in names[:6]) + more


def _alone(path: Path, name: str) -> ModelFile:
    found = read_signature(path)
    labels: tuple[str, ...] | None
    contract = _contract_of(path)
    if contract is not None:
        normalization, view = read_input(contract["input"])
        labels = tuple((path.parents[1] / "labels.txt").read_text(encoding="utf-8").removesuffix("\n").split("\n"))
        origins = {"preprocessing": "contract.json of its bundle", "classes": "labels.txt of its bundle"}
        way = Way.of(normalization, view)
    else:
        labels, where = _labels(path, found)
        normalization, origin = _normalization(found)
        way = Way.of(normalization, View(found.size_px, "stretch", 1.0))
        origins = {
            "preprocessing": f"{describe(way)}: {origin}; how photos are cut and resized is a guess",
            "classes": where,
        }
    if labels is not None:
        # The same Unicode form as the names of photos' folders, which may encode accents differently.
        labels = tuple(unicodedata.normalize("NFC", label) for label in labels)
    if labels is not None and len(labels) != found.outputs:
        raise DataError(
            f"{name} has {found.outputs} outputs per photo.",
            why=f"it has {len(labels)} labels, from {origins['classes']}",
            fix="give it the labels it was trained with, one per line in the order of its outputs",
        )
    if labels is not None and len(set(labels)) != len(labels):
        raise DataError(f"The labels of {name} are not all different.", fix="name each class once")
    return ModelFile(name, path, way, found.grid, labels, found.planes, origins)


def _contract_of(path: Path) -> Any:
    """contract.json of the bundle that the file is in, if it records exactly these bytes; otherwise None."""
    place = path.resolve().parent
    file = place.parent / "contract.json"
    if place.name != "models" or not file.is_file() or not (place.parent / "labels.txt").is_file():
        return None
    try:
        contract = json.loads(file.read_text(encoding="utf-8"))
        recorded = contract["files"][f"models/{path.name}"]["sha256"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return contract if recorded == hashlib.sha256(path.read_bytes()).hexdigest() else None


def _labels(path: Path, found: Signature) -> tuple[tuple[str, ...] | None, str]:
    for beside in (path.with_suffix(".txt"), path.with_suffix(".labels.txt"), path.parent / "labels.txt"):
        if beside.is_file():
            text = beside.read_text(encoding="utf-8-sig", errors="replace")
            return tuple(line.strip() for line in text.strip().splitlines()), f"{printable(beside.name)} beside it"
    return found.labels, "the file's own metadata" if found.labels is not None else ""


def _normalization(found: Signature) -> tuple[Normalization, str]:
    """(normalization, where it comes from) for a file without a bundle."""
    if found.normalization is not None:
        return found.normalization, "the file's own metadata"
    if found.grid["dtype"] == "float32":
        return _MINUS_ONE_TO_ONE, "a guess, because the file takes floats and does not state it"
    if not found.grid["scale"]:
        return Normalization((0.0,) * 3, (1.0,) * 3), "a guess, because the file takes bytes and states no grid"
    # Pixel bytes over the whole range of the integers: real = (q - zero_point) * scale, q = pixel + the smallest.
    smallest = -128 if found.grid["dtype"] == "int8" else 0
    mean = float(found.grid["zero_point"] - smallest)
    return Normalization((mean,) * 3, (1.0 / found.grid["scale"],) * 3), "pixel bytes are its input's integers"


def are_logits(found: Any) -> bool:
    """Whether outputs [n, classes] are logits: some exporters leave out the softmax.

    >>> are_logits(np.array([[0.1, 0.9]])), are_logits(np.array([[-3.0, 4.0]]))
    (False, True)
    """
    return bool(np.abs(found).max() > _MOST_PROBABILITY)


def softmax(found: Any) -> Any:
    """The softmax of each row, float64 [n, classes]."""
    powers = np.exp(found.astype(np.float64) - found.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)
