"""What reading a bundle back gives, as types. Light."""

from __future__ import annotations

from typing import TypedDict


class GoldenReplay(TypedDict):
    """golden/ made again here. differing: of so many values of the input tensors. files: version -> largest difference of a probability."""

    photos: int
    values: int
    differing: int
    files: dict[str, float | None]
