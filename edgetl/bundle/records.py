"""Types of the results of reading a bundle. Light."""

from __future__ import annotations

from typing import Literal, NotRequired, TypedDict

from edgetl.formats.read.records import InputGrid


class BundleInput(InputGrid):
    """The input of a bundle's file. name: of the tensor."""

    name: NotRequired[str]


TensorKind = Literal["float32", "int8"]


class GoldenRow(TypedDict):
    """One photo of golden.json: names of files in golden/. int8: if a model file has int8 input. probabilities:
    "file@runtime" -> one number per class."""

    photo: str
    label: str
    float32: str
    int8: NotRequired[str]
    probabilities: dict[str, list[float]]


class GoldenReplay(TypedDict):
    """golden/ replayed here. differing: how many of the `values` of all input tensors differ. files: version -> largest
    difference of a probability."""

    photos: int
    values: int
    differing: int
    files: dict[str, float | None]
