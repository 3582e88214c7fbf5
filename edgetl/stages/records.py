"""The JSON files that stages leave for later steps, as types. Light: reports and commands read them too."""

from __future__ import annotations

from typing import Literal, NotRequired, TypedDict

Role = Literal["teacher", "student"]


class TensorGrid(TypedDict):
    """An input or output of a model file. scale and zero_point: of an integer type; real = (q - zero_point) * scale."""

    name: str
    dtype: str
    scale: NotRequired[float]
    zero_point: NotRequired[int]


class ModelFile(TypedDict):
    """One row of models.json, which the export stage writes. macs: multiply-accumulates of one photo. runtime: the smallest
    that runs the file."""

    file: str
    role: Role
    format: str
    precision: str
    macs: int
    params: int
    input: TensorGrid
    output: TensorGrid
    bytes: int
    sha256: str
    runtime: str


class SplitPhoto(TypedDict):
    """One photo of dataset.json. label: its class's position."""

    sha256: str
    label: int
    split: Literal["train", "validate", "test"]


class LeftOut(TypedDict):
    """A photo that cannot be used."""

    what: str
    why: str


class SplitJson(TypedDict):
    """dataset.json, which the split stage writes. duplicates: copies that were dropped."""

    classes: list[str]
    photos: list[SplitPhoto]
    left_out: list[LeftOut]
    duplicates: int
    fingerprint: str


class Answer(TypedDict):
    """The top-1 class of one version for one photo."""

    label: str
    probability: float


class FlippedPhoto(TypedDict):
    """A test photo that some file of the student answers differently than the float student. says: version -> answer."""

    thumbnail: str
    name: str
    sha256: str
    label: str
    says: dict[str, Answer]


class FlipsJson(TypedDict):
    """flips/flips.json, which the verify stage writes. n: of all such photos; photos: the first of them."""

    n: int
    photos: list[FlippedPhoto]
