"""Types of the results of reading a bundle. Light."""

from __future__ import annotations

from typing import TypedDict


class GoldenReplay(TypedDict):
    """golden/ replayed here. differing: how many of the `values` of all input tensors differ. files: version -> largest
    difference of a probability."""

    photos: int
    values: int
    differing: int
    files: dict[str, float | None]
