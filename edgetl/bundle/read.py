"""Read a bundle that `edgetl build` wrote and check it against its own digests. Nothing here opens a model file."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgetl.bundle.files import LARGEST_REPORT_BYTES, as_built, read_report
from edgetl.bundle.records import BundleInput
from edgetl.core.errors import DataError
from edgetl.core.store import file_sha256
from edgetl.core.words import printable


@dataclass(frozen=True)
class BundleFile:
    """A model file. name: in models/. input: {dtype, and for integers scale and zero_point}; ships: whether it ships to the
    target.

    recorded: backend -> (top-1, number of photos) as the build measured it on its test split.
    """

    name: str
    role: str
    format: str
    precision: str
    ships: bool
    input: BundleInput
    recorded: Mapping[str, tuple[float, int]]


@dataclass(frozen=True)
class Bundle:
    """classes: in the order of the outputs. input: the preprocessing, as in contract.json (tasks.photos.contract.read_input).

    top1_drop_pp, model_bytes: the target's budget; model_bytes is None if the report has none. fingerprint: of the photos
    that it was built from.
    """

    folder: Path
    target: str
    top1_drop_pp: float
    model_bytes: int | None
    classes: tuple[str, ...]
    fingerprint: str
    input: Mapping[str, Any]
    files: tuple[BundleFile, ...]

    @property
    def student_files(self) -> tuple[BundleFile, ...]:
        """The files that an app would run; first float32, which the others are compared with."""
        return tuple(
            sorted(
                (file for file in self.files if file.role == "student"), key=lambda file: file.precision != "float32"
            )
        )


def open_bundle(folder: Path) -> Bundle:
    """Raises DataError for a folder that is not a bundle, and for a changed bundle, with every fault in one message."""
    digests = read_report(folder / "report.json")
    if digests is None or not (folder / "contract.json").is_file():
        raise DataError(
            f"{printable(str(folder), 4096)} is not a bundle.",
            why=f"it has no {'report' if digests is None else 'contract'}.json",
            fix="give the folder that `edgetl build` wrote",
        )
    report, contract = _read(folder / "report.json"), _read(folder / "contract.json")
    try:
        files = tuple(_file(row) for row in report["models"])
        bundle = Bundle(
            folder,
            printable(str(report["target"]["name"])),
            float(report["target"]["budget"]["top1_drop_pp"]),
            None if (most := report["target"]["budget"].get("model_bytes")) is None else int(most),
            tuple(str(label) for label in report["dataset"]["classes"]),
            str(report["dataset"]["fingerprint"]),
            dict(contract["input"]),
            files,
        )
        contracted = {
            str(name).removeprefix("models/"): str(row["sha256"]) for name, row in dict(contract["files"]).items()
        }
        labels_sha256 = str(contract["labels"]["sha256"])
        if not bundle.classes or not bundle.student_files:
            raise ValueError("it has no classes, or no files of a student")
        if not 0 <= bundle.top1_drop_pp <= 100:
            raise ValueError(f"a budget of {bundle.top1_drop_pp} points")
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DataError(
            f"{printable(str(folder), 4096)}: report.json and contract.json are not those of a build.",
            why=printable(f"{type(error).__name__}: {error}", 300),
            fix="build again with this edgetl",
        ) from None
    faults = [fault for file in files for fault in _file_faults(folder, file, digests, contracted)]
    faults += _label_faults(folder / "labels.txt", bundle.classes, labels_sha256)
    if faults:
        lines = "\n".join(f"  - {fault}" for fault in faults)
        raise DataError(
            f"{printable(str(folder), 4096)} is not as it was built:\n{lines}",
            why="the results would be those of another model",
            fix="copy the bundle whole, or build again",
        )
    return bundle


def _read(file: Path) -> Any:
    try:
        if file.stat().st_size > LARGEST_REPORT_BYTES:
            raise ValueError(f"it has {file.stat().st_size} bytes")
        return json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(
            f"{printable(str(file), 4096)} cannot be read.",
            why=printable(f"{type(error).__name__}: {error}", 300),
            fix="take it from the bundle as it was built",
        ) from None


def _file(row: Mapping[str, Any]) -> BundleFile:
    name = str(row["file"]).removeprefix("models/")
    # Bundles come from other people: a report must not name files elsewhere or send control characters to the terminal.
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._-]*", name):
        raise ValueError(f"{name!r} is not the name of a file in models/")
    stated = row["input"]
    if stated["dtype"] not in ("float32", "int8", "uint8"):
        raise ValueError(f"{name} takes {stated['dtype']!r}")
    grid: BundleInput = {"name": printable(str(stated.get("name", ""))), "dtype": stated["dtype"]}
    if grid["dtype"] != "float32":
        grid |= {"scale": float(stated["scale"]), "zero_point": int(stated["zero_point"])}
    recorded = {
        str(backend): (float(found["top1"]), int(found["n"])) for backend, found in row.get("accuracy", {}).items()
    }
    if not all(0 <= top1 <= 1 and n > 0 for top1, n in recorded.values()):
        raise ValueError(f"{name} has an impossible accuracy")
    return BundleFile(
        name, str(row["role"]), str(row["format"]), str(row["precision"]), bool(row.get("ships", False)), grid, recorded
    )


def _file_faults(
    folder: Path, file: BundleFile, digests: Mapping[str, str], contracted: Mapping[str, str]
) -> list[str]:
    path = folder / "models" / file.name
    if not path.is_file():
        return [f"models/{file.name} is missing"]
    found = file_sha256(path)
    faults = []
    if as_built(file.name, found, digests) != "unchanged":
        faults.append(f"models/{file.name} was changed: its sha256 is {found[:12]}..., not report.json's")
    if file.role == "student" and contracted.get(file.name) != digests[file.name]:
        faults.append(f"models/{file.name} has different sha256 in contract.json and report.json")
    return faults


def _label_faults(file: Path, classes: tuple[str, ...], sha256: str) -> list[str]:
    if not file.is_file():
        return ["labels.txt is missing"]
    data = file.read_bytes()
    faults = []
    if hashlib.sha256(data).hexdigest() != sha256:
        faults.append("labels.txt was changed: its sha256 is not contract.json's")
    if tuple(data.decode("utf-8", "replace").removesuffix("\n").split("\n")) != classes:
        faults.append("labels.txt does not have the classes of report.json, in their order")
    return faults
