"""The one preprocessing contract: what an app must do to a photo before the net sees it, in plain numbers."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np


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


def describe_input(normalization: Normalization, *, size_px: int, resize: str) -> dict[str, Any]:
    """The preprocessing part of contract.json."""
    return {
        "shape": [1, size_px, size_px, 3],
        "layout": "NHWC",
        "colour_order": "RGB",
        "orientation": "EXIF rotation applied first",
        "transparency": "laid over white",
        "resize": {
            "mode": resize,
            "meaning": {
                "stretch": "the whole photo to the square, proportions not kept",
                "crop": "the middle square, then to the size",
            }[resize],
            "filter": "bilinear, antialiased: the triangle is widened by the reduction factor (Pillow BILINEAR; tf.image.resize antialias=True)",
        },
        "normalization": {**asdict(normalization), "formula": "x = (pixel - mean) / scale, pixel in 0..255"},
    }
