"""The one preprocessing contract: what an app must do to a photo before the net sees it, in plain numbers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

_MEANINGS = {
    "stretch": "the middle centre_fraction of the width and of the height, stretched to the square",
    "crop": "the middle square of centre_fraction times the shorter side, brought to the size",
}


@dataclass(frozen=True)
class Normalization:
    """net input = (pixel - mean) / scale, per channel in RGB order; mean and scale in pixel units 0..255."""

    mean: tuple[float, float, float]
    scale: tuple[float, float, float]

    def apply(self, pixels: Any) -> Any:
        """pixels: [..., 3] in 0..255 (numpy or TensorFlow); the same shape out, float32."""
        return (pixels - np.array(self.mean, np.float32)) * (np.float32(1.0) / np.array(self.scale, np.float32))

    @staticmethod
    def from_json(data: dict[str, Any]) -> Normalization:
        """The inverse of dataclasses.asdict."""
        return Normalization(tuple(data["mean"]), tuple(data["scale"]))


@dataclass(frozen=True)
class View:
    """How a photo of any shape becomes the net's square.

    resize: "stretch" takes the whole photo, "crop" its middle square. centre_fraction: of that, the middle part of each
    side is kept (0.875: a sixteenth is cut off at each edge).
    """

    size_px: int
    resize: str
    centre_fraction: float

    @staticmethod
    def of(options: Mapping[str, Any]) -> View:
        """From a step's options."""
        return View(options["input_size_px"], options["resize"], options["centre_fraction"])


def describe_input(normalization: Normalization, view: View) -> dict[str, Any]:
    """The preprocessing part of contract.json."""
    size_px, resize = view.size_px, view.resize
    return {
        "shape": [1, size_px, size_px, 3],
        "layout": "NHWC",
        "colour_order": "RGB",
        "orientation": "EXIF rotation applied first",
        "transparency": "laid over white",
        "resize": {
            "mode": resize,
            "centre_fraction": view.centre_fraction,
            "meaning": _MEANINGS[resize],
            "filter": "bilinear, antialiased: the triangle is widened by the reduction factor (Pillow BILINEAR; tf.image.resize antialias=True)",
        },
        "normalization": {**asdict(normalization), "formula": "x = (pixel - mean) / scale, pixel in 0..255"},
    }
