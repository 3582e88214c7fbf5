"""What `edgetl inspect` finds, as types of the JSON that it prints. Light."""

from __future__ import annotations

from typing import TypedDict

from edgetl.formats.read.records import Examined


class RooflineRow(TypedDict):
    """latency.roofline.Roofline, with its target's name."""

    target: str
    total_ms: float | None
    compute_ms: float | None
    memory_ms: float | None
    lacking: tuple[str, ...]


class ReadError(TypedDict):
    """Why a file of a bundle could not be read."""

    what: str
    why: str


class InspectedModel(Examined, total=False):
    """One file. as_built: compared with its bundle's report (bundle.files.as_built). A file with `error` has only that, `file` and `as_built`."""

    as_built: str
    roofline: RooflineRow
    error: ReadError


class InspectedBundle(TypedDict):
    """report: whether the folder has a report.json. missing: files of the report that are not in the folder."""

    folder: str
    report: bool
    missing: list[str]


class Inspection(TypedDict):
    """A model file, or the files of a bundle."""

    bundle: InspectedBundle | None
    models: list[InspectedModel]
