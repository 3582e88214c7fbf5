"""The preprocessing contract: what an app must do to a photo before the net sees it, in plain numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypedDict

import numpy as np

from edgetl.core.errors import DataError

_MEANINGS = {
    "stretch": "the middle centre_fraction of the width and of the height, stretched to the square",
    "crop": "the middle square of centre_fraction times the shorter side, brought to the size",
}


class ResizeContract(TypedDict):
    """mode, centre_fraction: View's. meaning and filter explain them to a person."""

    mode: str
    centre_fraction: float
    meaning: str
    filter: str


class NormalizationContract(TypedDict):
    """mean, scale: Normalization's, in pixel units 0..255. formula explains them to a person."""

    mean: Sequence[float]
    scale: Sequence[float]
    formula: str


class InputContract(TypedDict):
    """The input part of contract.json. shape: [1, size_px, size_px, 3]."""

    shape: list[int]
    layout: str
    colour_order: str
    orientation: str
    transparency: str
    resize: ResizeContract
    normalization: NormalizationContract


@dataclass(frozen=True)
class Normalization:
    """net input = (pixel - mean) / scale, per channel in RGB order; mean and scale in pixel units 0..255."""

    mean: tuple[float, float, float]
    scale: tuple[float, float, float]

    def apply(self, pixels: Any) -> Any:
        """pixels: [..., 3] in 0..255 (numpy or TensorFlow); the same shape out, float32."""
        return (pixels - np.array(self.mean, np.float32)) * (np.float32(1.0) / np.array(self.scale, np.float32))

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> Normalization:
        """The inverse of dataclasses.asdict."""
        return Normalization(tuple(data["mean"]), tuple(data["scale"]))


@dataclass(frozen=True)
class View:
    """How a photo of any shape becomes the net's square.

    resize: "stretch" uses the whole photo, "crop" its middle square. centre_fraction: the middle part of each side that is
    kept (0.875: a sixteenth is cut off at each edge).
    """

    size_px: int
    resize: str
    centre_fraction: float

    @staticmethod
    def of(options: Mapping[str, Any]) -> View:
        """From a step's options."""
        return View(options["input_size_px"], options["resize"], options["centre_fraction"])


def describe_input(normalization: Normalization, view: View) -> InputContract:
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
        "normalization": {
            "mean": normalization.mean,
            "scale": normalization.scale,
            "formula": "x = (pixel - mean) / scale, pixel in 0..255",
        },
    }


def read_input(data: Mapping[str, Any]) -> tuple[Normalization, View]:
    """The inverse of describe_input, for parsed JSON. Raises DataError for anything describe_input never writes: nothing is
    guessed."""
    try:
        resize, normalization = data["resize"], Normalization.from_json(data["normalization"])
        view = View(data["shape"][1], resize["mode"], resize["centre_fraction"])
        expected: Mapping[str, Any] = describe_input(normalization, view)
        # Another version may word the explanations differently; what decides the pixels must be the same.
        kept = {
            key: expected[key] == data[key]
            for key in ("shape", "layout", "colour_order", "orientation", "transparency")
        }
        numbers = [*normalization.mean, *normalization.scale, view.centre_fraction, view.size_px]
        if not all(isinstance(number, int | float) and np.isfinite(number) for number in numbers):
            raise ValueError("a value that should be a number is not one")
        if len(normalization.mean) != 3 or len(normalization.scale) != 3 or 0 in normalization.scale:
            raise ValueError("mean and scale must be three numbers each, and the scale's not zero")
        if view.size_px < 1 or not 0 < view.centre_fraction <= 1:
            raise ValueError("the size must be at least one pixel, and centre_fraction in (0, 1]")
        if not all(kept.values()):
            raise ValueError(
                f"{', '.join(key for key, same in kept.items() if not same)}: different from what edgetl writes"
            )
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise DataError(
            "The input part of contract.json is not one that edgetl writes.",
            why=f"{type(error).__name__}: {error}",
            fix="use contract.json from the bundle as it was built",
        ) from None
    return normalization, view


def to_grid(image: Any, dtype: Any, scale: float, zero_point: int) -> Any:
    """A normalized image, quantized to the input's grid; unchanged for a float input (scale 0)."""
    if not scale:
        return image.astype(dtype)
    limits = np.iinfo(dtype)
    return np.clip(np.round(image / np.float32(scale)) + zero_point, limits.min, limits.max).astype(dtype)
