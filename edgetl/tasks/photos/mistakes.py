"""Ways to prepare a photo for a net's input: the contract's, and the usual mistakes.

A way is six choices (`Way`); a mistake is another choice in one of them, or in two. `wrong_ways` lists the single mistakes,
`wrong_pairs` the pairs. `image_of` returns a prepared photo as a session expects it (runtimes.Session): mistakes made on the
integers after that are converted back to the real numbers that give the same integers.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from edgetl.tasks.photos.contract import Normalization, View, to_grid
from edgetl.tasks.photos.decode import FORMATS, load_rgb, square, to_rgb

BILINEAR = "bilinear, antialiased"
# Fields of a Way in which a mistake is made, in the order in which a photo passes them.
FIELDS = ("upright", "cut", "filter", "colours", "numbers", "integers")
_CUTS = ("stretch", "crop")
_FRACTIONS = (1.0, 0.875)
_PILLOW_FILTERS = {
    "nearest": Image.Resampling.NEAREST,
    BILINEAR: Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "area average": Image.Resampling.BOX,
}
_FILTERS = {
    "nearest": "resized to the nearest pixel",
    "bilinear, not antialiased": "resized bilinear without antialiasing",
    "bicubic": "resized bicubic",
    "area average": "resized by area average",
}
# In pixel units: tf.keras.applications' modes "tf", "torch" and "caffe" (there with BGR), and none.
_NUMBERS: dict[str, Normalization] = {
    "0..1": Normalization((0.0,) * 3, (255.0,) * 3),
    "0..255": Normalization((0.0,) * 3, (1.0,) * 3),
    "-1..1": Normalization((127.5,) * 3, (127.5,) * 3),
    "ImageNet mean/std": Normalization((123.675, 116.28, 103.53), (58.395, 57.12, 57.375)),
    "minus ImageNet mean": Normalization((123.68, 116.779, 103.939), (1.0,) * 3),
}
OWN_MEAN = "each photo's own mean/std"
# A hundredth of the range: 127.5 instead of 128 changes no answer, and is the contract's own.
_SAME_NUMBERS = 0.01


@dataclass(frozen=True)
class Way:
    """cut: "stretch", "crop" (of both the middle centre_fraction is kept) or "letterbox". normalization: None for a photo's
    own mean and deviation. upright: EXIF rotation applied. colours: "RGB", "BGR", or "planes": RGB plane by plane, in a
    buffer that is read pixel by pixel. shift: wrongly added to the integers of an integer input; wraps: whether values
    that leave the range wrap around, instead of being clipped."""

    size_px: int
    cut: str
    centre_fraction: float
    normalization: Normalization | None
    upright: bool = True
    filter: str = BILINEAR
    colours: str = "RGB"
    shift: int = 0
    wraps: bool = True

    @staticmethod
    def of(normalization: Normalization, view: View) -> Way:
        """The way that a contract asks for."""
        return Way(view.size_px, view.resize, view.centre_fraction, normalization)


@dataclass(frozen=True)
class Mistake:
    """name: for people. fields: which of FIELDS it gets wrong. fix: what the app has to do instead. parts: the names of the two mistakes that a
    pair consists of."""

    name: str
    fields: tuple[str, ...]
    way: Way
    fix: str
    parts: tuple[str, ...] = ()


def wrong_ways(right: Way, grid: Mapping[str, Any]) -> list[Mistake]:
    """Every usual way that differs from the right one in a single choice. grid: of the file's input: {dtype, and for
    integers scale and zero_point}."""
    made = [
        Mistake(
            "no EXIF rotation",
            ("upright",),
            replace(right, upright=False),
            "turn the photo as its EXIF orientation says before anything else (ImageOps.exif_transpose; ExifInterface)",
        )
    ]
    made += [
        Mistake(name, ("cut",), replace(right, cut=cut, centre_fraction=fraction), f"give it {_cut_words(right)}")
        for name, cut, fraction in _cuts(right)
    ]
    made += [
        Mistake(
            label,
            ("filter",),
            replace(right, filter=name),
            f"resize {BILINEAR}: shrinking has to average all pixels (Pillow BILINEAR; tf.image.resize antialias=True)",
        )
        for name, label in _FILTERS.items()
    ]
    made += [
        Mistake("BGR", ("colours",), replace(right, colours="BGR"), "give it red first (cv2.COLOR_BGR2RGB)"),
        Mistake(
            "colour planes one after the other",
            ("colours",),
            replace(right, colours="planes"),
            "lay out the input NHWC: red, green and blue of a pixel beside each other",
        ),
    ]
    made += [
        Mistake(name, ("numbers",), replace(right, normalization=numbers), f"give it {_number_words(right)}")
        for name, numbers in _other_numbers(right)
    ]
    made += [
        Mistake(
            name,
            ("integers",),
            replace(right, shift=shift, wraps=wraps),
            f"q = round(x / {float(grid['scale']):.9g}) + {int(grid['zero_point'])}, clipped to {grid['dtype']}",
        )
        for name, shift, wraps in _shifts(grid)
    ]
    return made


def wrong_pairs(singles: Sequence[Mistake]) -> list[Mistake]:
    """Two mistakes at once, in two different choices."""
    return [
        Mistake(
            f"{a.name} and {b.name}",
            a.fields + b.fields,
            _joined(a.way, b),
            f"{a.fix}; {b.fix}",
            (a.name, b.name),
        )
        for a, b in itertools.combinations(singles, 2)
        if a.fields != b.fields
    ]


def _joined(way: Way, other: Mistake) -> Way:
    keys = {
        "upright": ("upright",),
        "cut": ("cut", "centre_fraction"),
        "filter": ("filter",),
        "colours": ("colours",),
        "numbers": ("normalization",),
        "integers": ("shift", "wraps"),
    }
    return replace(way, **{key: getattr(other.way, key) for field in other.fields for key in keys[field]})


def _cuts(right: Way) -> list[tuple[str, str, float]]:
    """(name, cut, centre_fraction) of every other way to make a square."""
    fractions = dict.fromkeys((right.centre_fraction, *_FRACTIONS))
    found = [
        (_cut_words(replace(right, cut=cut, centre_fraction=fraction)), cut, fraction)
        for cut in _CUTS
        for fraction in fractions
        if (cut, fraction) != (right.cut, right.centre_fraction)
    ]
    return [*found, ("letterbox: the whole photo with black bars", "letterbox", 1.0)]


def _cut_words(way: Way) -> str:
    part = "" if way.centre_fraction == 1.0 else f" {way.centre_fraction:g} of"
    if way.cut == "crop":
        return f"crop:{part or ' all of'} the middle square"
    return f"stretch:{part or ' all of'} the photo" if way.cut == "stretch" else "letterbox"


def _number_words(way: Way) -> str:
    normalization = way.normalization
    if normalization is None:
        return OWN_MEAN
    mean, scale = (_brief(values) for values in (normalization.mean, normalization.scale))
    return f"(pixel - {mean}) / {scale}"


def _brief(values: Sequence[float]) -> str:
    """Three numbers; one where they are the same."""
    return f"{values[0]:g}" if len(set(values)) == 1 else f"({', '.join(f'{value:g}' for value in values)})"


def describe(way: Way) -> str:
    """A way in one line; what all contracts have in common is named only where it differs."""
    colours = {"planes": "RGB plane by plane"}.get(way.colours, way.colours)
    parts = [colours, _number_words(way), _cut_words(way)]
    if way.filter != BILINEAR:
        parts.append(_FILTERS[way.filter])
    if not way.upright:
        parts.append("no EXIF rotation")
    if way.shift:
        parts.append(f"integers {way.shift:+} ({'wrapped' if way.wraps else 'clipped'})")
    return ", ".join(parts)


def _other_numbers(right: Way) -> list[tuple[str, Normalization | None]]:
    named: list[tuple[str, Normalization | None]] = [
        (name, numbers) for name, numbers in _NUMBERS.items() if not same_numbers(numbers, right.normalization)
    ]
    return [*named, (OWN_MEAN, None)]


def same_numbers(a: Normalization | None, b: Normalization | None) -> bool:
    """Whether two give nearly the same values for black and for white: less than a hundredth of the range apart.

    >>> same_numbers(Normalization((128.0,) * 3, (127.5,) * 3), Normalization((127.5,) * 3, (127.5,) * 3))
    True
    """
    if a is None or b is None:
        return a is b
    ends = [np.stack([numbers.apply(np.full(3, pixel, np.float32)) for pixel in (0, 255)]) for numbers in (a, b)]
    return bool((np.abs(ends[0] - ends[1]) <= _SAME_NUMBERS * (ends[0][1] - ends[0][0])).all())


def _shifts(grid: Mapping[str, Any]) -> list[tuple[str, int, bool]]:
    """(name, what is added to the integers, whether they wrap) for forgotten zero points; none for a float input.

    Quantizing without the zero point is off by it. Pixel bytes in an int8 input, or int8 values in a uint8 input, are 128 off
    for every grid.
    """
    if grid["dtype"] not in ("int8", "uint8") or not grid.get("scale"):
        return []
    bytes_off = 128 if grid["dtype"] == "int8" else -128
    shifts = {bytes_off: "forgotten zero point (integers 128 off"}
    if grid["zero_point"] not in (0, -bytes_off):
        shifts[-int(grid["zero_point"])] = f"forgotten zero point (integers {abs(int(grid['zero_point']))} off"
    return [
        (f"{name}, {'wrapped' if wraps else 'clipped'})", shift, wraps)
        for shift, name in shifts.items()
        for wraps in (True, False)
    ]


def decode(path: Path, *, upright: bool) -> Image.Image:
    """The photo in RGB, turned as its EXIF orientation says or left as it is stored."""
    if upright:
        return load_rgb(path)
    with Image.open(path, formats=FORMATS) as image:
        image.load()
        return to_rgb(image.copy())


def pixels_of(image: Image.Image, way: Way) -> np.ndarray:
    """uint8 [size_px, size_px, 3], RGB: everything that a way does before normalization."""
    size = way.size_px
    if way.filter == BILINEAR and way.cut in _CUTS:
        return square(image, size, way.cut, way.centre_fraction)
    if way.cut == "letterbox":
        ratio = size / max(image.size)
        width, height = (max(1, round(side * ratio)) for side in image.size)
        whole = np.zeros((size, size, 3), np.uint8)
        left, top = (size - width) // 2, (size - height) // 2
        box = (0.0, 0.0, float(image.width), float(image.height))
        whole[top : top + height, left : left + width] = _resized(image, (width, height), box, way.filter)
        return whole
    seen = (min(image.size),) * 2 if way.cut == "crop" else image.size
    across, down = seen[0] * way.centre_fraction, seen[1] * way.centre_fraction
    corner = (image.width - across) / 2, (image.height - down) / 2
    return _resized(image, (size, size), (*corner, corner[0] + across, corner[1] + down), way.filter)


def _resized(
    image: Image.Image, size: tuple[int, int], box: tuple[float, float, float, float], name: str
) -> np.ndarray:
    """The box of an image at a size (width, height), uint8 [height, width, 3]."""
    if name in _PILLOW_FILTERS:
        return np.asarray(image.resize(size, _PILLOW_FILTERS[name], box=box))
    # From the four pixels nearest to each new one, however many are skipped between: OpenCV's INTER_LINEAR, and the default of
    # tf.image.resize.
    values = np.asarray(image).astype(np.float32)
    for axis, count, low, high in ((0, size[1], box[1], box[3]), (1, size[0], box[0], box[2])):
        places = np.clip(low + (np.arange(count) + 0.5) * (high - low) / count - 0.5, 0, values.shape[axis] - 1)
        before = np.floor(places).astype(int)
        after = np.minimum(before + 1, values.shape[axis] - 1)
        share = (places - before).astype(np.float32)
        share = share[:, None, None] if axis == 0 else share[None, :, None]
        values = np.take(values, before, axis) * (1 - share) + np.take(values, after, axis) * share
    return np.round(values).astype(np.uint8)


def image_of(pixels: np.ndarray, way: Way, grid: Mapping[str, Any]) -> np.ndarray:
    """A session's input: float32 [size_px, size_px, 3]. pixels: from pixels_of."""
    values = pixels.astype(np.float32)
    if way.colours == "BGR":
        values = values[..., ::-1]
    elif way.colours == "planes":
        values = values.transpose(2, 0, 1).reshape(values.shape)
    if way.normalization is None:
        # As tf.image.per_image_standardization: a photo of a single grey is not divided by zero.
        made = (values - values.mean()) / max(float(values.std()), values.size**-0.5)
    else:
        made = way.normalization.apply(values)
    image = np.ascontiguousarray(made, np.float32)
    if not way.shift:
        return image
    dtype, scale, zero_point = np.dtype(grid["dtype"]), float(grid["scale"]), int(grid["zero_point"])
    limits = np.iinfo(dtype)
    integers = to_grid(image, dtype, scale, zero_point).astype(np.int32) + way.shift
    # A conversion of integers keeps their lowest 8 bits; a saturating one stops at the ends.
    integers = integers.astype(dtype) if way.wraps else integers.clip(limits.min, limits.max)
    shifted: np.ndarray = ((integers.astype(np.float32) - zero_point) * np.float32(scale)).astype(np.float32)
    return shifted
