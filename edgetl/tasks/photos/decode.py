"""One photo: checked, decoded to RGB, brought to the net's square.

What becomes of what: EXIF rotation is applied; grey, palette and CMYK become RGB; transparency is laid over white;
16-bit grey is scaled to 8 bits (not clipped); 16-bit colour is read at its upper 8 bits. Animations give their first frame.
"""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import PIL
from PIL import Image, ImageOps, UnidentifiedImageError

from edgetl.core.errors import DataError
from edgetl.tasks.photos.contract import View

FORMATS = ("JPEG", "PNG", "WEBP", "BMP")
# 100 million pixels decode to 300 MB; the largest phone cameras make more, and scale down on request.
MAX_PIXELS = 100_000_000
# Goes up when a photo that passed would now be refused, or the other way round.
_CHECKS = 1
# What an older Pillow could not read, a newer one may.
CHECKER_VERSION = f"{_CHECKS} with Pillow {PIL.__version__}"
_READ_FORMATS = "JPEG, PNG, WebP and BMP are read"
# What Pillow raises for a file that is damaged, or gone.
DECODE_ERRORS = (
    OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error, Image.DecompressionBombError,
)  # fmt: skip
Image.MAX_IMAGE_PIXELS = None  # our own limit is checked from the header, before anything is decoded


def why_refused(path: Path) -> str:
    """Why this file cannot be used as a photo; "" when it can. Reads and decodes it in full once.

    Raises OSError when the file cannot be read at all: that says nothing of what is in it.
    """
    try:
        if path.stat().st_size == 0:
            return "zero bytes"
        with Image.open(path, formats=FORMATS) as image:
            pixels = image.width * image.height
            if pixels > MAX_PIXELS:
                return f"{image.width} x {image.height} pixels by its header; at most {MAX_PIXELS // 1_000_000} million are decoded"
            if min(image.size) < 8:
                return f"{image.width} x {image.height} pixels; at least 8 x 8 are needed"
            image.load()
    except UnidentifiedImageError:
        return f"not an image this tool reads{_what_it_is(path)}; {_READ_FORMATS}"
    except DECODE_ERRORS as error:
        if isinstance(error, OSError) and error.errno is not None:  # the system's; Pillow's own carry no number
            raise
        text = str(error) or type(error).__name__
        return f"truncated or damaged ({text})"
    return ""


def _what_it_is(path: Path) -> str:
    """What other format the first bytes speak of, for the message."""
    signatures = {
        b"II*\0": "TIFF",
        b"MM\0*": "TIFF",
        b"GIF8": "GIF",
        b"%PDF": "PDF",
        b"PK\3\4": "a zip archive",
        b"<svg": "SVG",
        b"<?xm": "XML",
    }
    with path.open("rb") as stream:
        head = stream.read(32)
    if head[4:8] == b"ftyp" and head[8:12] in (b"heic", b"heix", b"mif1", b"avif"):
        return f" (the file says it is {'AVIF' if head[8:12] == b'avif' else 'HEIC'})"
    return next((f" (the file says it is {name})" for start, name in signatures.items() if head.startswith(start)), "")


def load_rgb(source: Path | bytes, *, at_least_px: int | None = None) -> Image.Image:
    """The photo upright, in RGB.

    at_least_px: allow JPEG to be decoded at 1/2, 1/4 or 1/8 scale as long as both sides keep this many pixels. Faster,
    and slightly another picture: for training views only.
    """
    stream = io.BytesIO(source) if isinstance(source, bytes) else source
    with Image.open(stream, formats=FORMATS) as image:
        if at_least_px is not None:
            image.draft("RGB", (at_least_px, at_least_px))
        image.load()
        upright = ImageOps.exif_transpose(image)
    return to_rgb(upright)


def to_rgb(image: Image.Image) -> Image.Image:
    """A decoded photo in RGB; other modes are converted as described at the top."""
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if image.mode in ("I;16", "I;16B", "I;16L", "I"):
        levels = np.asarray(image, dtype=np.uint32).clip(0, 65535)
        return Image.fromarray(((levels * 255 + 32767) // 65535).astype(np.uint8)).convert("RGB")
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        clear = image.convert("RGBA")
        ground = Image.new("RGBA", clear.size, "white")
        return Image.alpha_composite(ground, clear).convert("RGB")
    return image.convert("RGB")


def square(image: Image.Image, size_px: int, resize: str, centre_fraction: float = 1.0) -> np.ndarray:
    """The net's view of a photo: uint8 [size_px, size_px, 3].

    resize: "stretch" takes the whole photo, "crop" its middle square; of that, the middle centre_fraction of each side.
    Bilinear with support scaled by the reduction (Pillow's BILINEAR): shrinking averages, it does not skip pixels.
    """
    seen = (min(image.size),) * 2 if resize == "crop" else image.size
    width, height = seen[0] * centre_fraction, seen[1] * centre_fraction
    left, top = (image.width - width) / 2, (image.height - height) / 2
    box = (left, top, left + width, top + height)
    return np.asarray(image.resize((size_px, size_px), Image.Resampling.BILINEAR, box=box))


def load_view(path: Path, view: View) -> np.ndarray:
    """What the net sees of a photo file, by the contract: uint8 [size_px, size_px, 3]. The one road from file to pixels."""
    return square(load_rgb(path), view.size_px, view.resize, view.centre_fraction)


def no_longer_readable(why: str) -> DataError:
    """For a photo that was good when it was checked."""
    return DataError(
        "A photo that was good when it was checked cannot be read any more.",
        why=why,
        fix="do not move or change photos while edgetl runs; run it again to go on",
    )


def random_square(
    image: Image.Image, size_px: int, resize: str, min_area: float, random: np.random.Generator
) -> np.ndarray:
    """A random crop of a photo brought to the net's square: uint8 [size_px, size_px, 3].

    Area drawn from [min_area, 1] of the whole photo, or of its middle square, aspect ratio log-uniform in [3/4, 4/3] of its own.
    """
    if resize == "crop":
        whole_width = whole_height = float(min(image.size))
    else:
        whole_width, whole_height = float(image.width), float(image.height)
    area = random.uniform(min_area, 1.0)
    aspect = float(np.exp(random.uniform(np.log(3 / 4), np.log(4 / 3))))
    width = min(whole_width, whole_width * np.sqrt(area * aspect))
    height = min(whole_height, whole_height * np.sqrt(area / aspect))
    left = random.uniform(0.0, image.width - width)
    top = random.uniform(0.0, image.height - height)
    # Rounding must not carry the box past the edge by one unit in the last place.
    box = (left, top, min(left + width, image.width), min(top + height, image.height))
    return np.asarray(image.resize((size_px, size_px), Image.Resampling.BILINEAR, box=box))
