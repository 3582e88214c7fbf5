"""What each way makes of a photo, against the same by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from edgetl.tasks.photos.contract import Normalization, View, to_grid
from edgetl.tasks.photos.decode import square
from edgetl.tasks.photos.mistakes import Way, decode, describe, image_of, pixels_of, same_numbers, wrong_ways

CONTRACT = Way.of(Normalization((128.0,) * 3, (127.5,) * 3), View(8, "stretch", 0.875))
FLOAT = {"dtype": "float32"}
INT8 = {"dtype": "int8", "scale": 1 / 127.5, "zero_point": 0}


@pytest.fixture
def photo() -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (24, 40, 3), dtype=np.uint8))


def test_the_contract_s_way_sees_what_a_build_sees(photo):
    np.testing.assert_array_equal(pixels_of(photo, CONTRACT), square(photo, 8, "stretch", 0.875))
    cropped = replace(CONTRACT, cut="crop", centre_fraction=1.0)
    np.testing.assert_array_equal(pixels_of(photo, cropped), square(photo, 8, "crop", 1.0))


def test_the_four_pixels_beside_a_place_are_all_that_plain_bilinear_looks_at(photo):
    pixels = np.asarray(photo).astype(float)
    found = pixels_of(photo, replace(CONTRACT, filter="bilinear, not antialiased", centre_fraction=1.0))
    # New pixel 1 of 8 lies at (1.5 * 24 / 8 - 0.5, 1.5 * 40 / 8 - 0.5) = (4, 7): on an old one.
    np.testing.assert_array_equal(found[1, 1], pixels[4, 7])
    # New pixel 0 at (1, 2), 2 at (7, 12).
    np.testing.assert_array_equal(found[2, 0], pixels[7, 2])
    half = pixels_of(photo, replace(CONTRACT, size_px=20, filter="bilinear, not antialiased", centre_fraction=1.0))
    # Columns shrink 2 to 1: half way between two. Rows 1.2 to 1: the first lies at 0.1.
    wanted = (pixels[0, :2].mean(axis=0) * 0.9) + (pixels[1, :2].mean(axis=0) * 0.1)
    np.testing.assert_array_equal(half[0, 0], np.round(wanted))


def test_nearest_takes_pixels_as_they_are(photo):
    found = pixels_of(photo, replace(CONTRACT, filter="nearest", centre_fraction=1.0))
    np.testing.assert_array_equal(found, np.asarray(photo)[1::3, 2::5])


def test_a_letterbox_keeps_the_whole_photo_between_black_bars(photo):
    found = pixels_of(photo, replace(CONTRACT, cut="letterbox"))
    # 40 x 24 becomes 8 x 5: one row above, two below.
    assert not found[0].any()
    assert not found[6:].any()
    np.testing.assert_array_equal(found[1:6], np.asarray(photo.resize((8, 5), Image.Resampling.BILINEAR)))


def test_a_photo_is_turned_or_left_as_stored(tmp_path, photo):
    exif = Image.Exif()
    exif[0x0112] = 6
    photo.save(tmp_path / "turned.png", exif=exif)
    assert decode(tmp_path / "turned.png", upright=True).size == (24, 40)
    assert decode(tmp_path / "turned.png", upright=False).size == (40, 24)


def test_colours_and_numbers():
    pixels = np.arange(8 * 8 * 3, dtype=np.uint8).reshape(8, 8, 3)
    by_hand = (pixels.astype(np.float64) - 128) / 127.5
    np.testing.assert_allclose(image_of(pixels, CONTRACT, FLOAT), by_hand, atol=1e-6)
    np.testing.assert_allclose(image_of(pixels, replace(CONTRACT, colours="BGR"), FLOAT), by_hand[..., ::-1], atol=1e-6)
    planes = image_of(pixels, replace(CONTRACT, colours="planes"), FLOAT).ravel()
    np.testing.assert_allclose(planes[:64], by_hand[..., 0].ravel(), atol=1e-6)
    own = image_of(pixels, replace(CONTRACT, normalization=None), FLOAT)
    assert own.mean() == pytest.approx(0, abs=1e-6)
    assert own.std() == pytest.approx(1, abs=1e-6)
    assert np.isfinite(image_of(0 * pixels, replace(CONTRACT, normalization=None), FLOAT)).all(), "a black photo"


@pytest.mark.parametrize("wraps", [True, False], ids=["wrapped", "clipped"])
def test_a_shift_of_the_integers_survives_the_way_through_real_numbers(wraps):
    pixels = np.arange(192, dtype=np.uint8).reshape(8, 8, 3) + 64
    image = image_of(pixels, replace(CONTRACT, shift=128, wraps=wraps), INT8)
    found = to_grid(image, np.int8, INT8["scale"], INT8["zero_point"])
    # On this grid q = pixel - 128, so 128 more are the bytes of the pixels themselves.
    wanted = pixels.view(np.int8) if wraps else pixels.clip(0, 127).astype(np.int8)
    np.testing.assert_array_equal(found, wanted)


def test_the_numbers_of_the_contract_are_no_mistake():
    named = {mistake.name for mistake in wrong_ways(CONTRACT, FLOAT)}
    assert {"0..1", "0..255", "BGR", "ImageNet mean/std"} <= named
    assert "-1..1" not in named, "127.5 against 128"
    torch = replace(CONTRACT, normalization=Normalization((123.675, 116.28, 103.53), (58.395, 57.12, 57.375)))
    assert "-1..1" in {mistake.name for mistake in wrong_ways(torch, FLOAT)}
    assert same_numbers(None, None)
    assert not same_numbers(None, CONTRACT.normalization)


@pytest.mark.parametrize(
    ("grid", "shifts"),
    [
        (FLOAT, set()),
        (INT8, {128}),
        ({"dtype": "int8", "scale": 0.1, "zero_point": -128}, {128}),
        ({"dtype": "int8", "scale": 0.1, "zero_point": -14}, {128, 14}),
        ({"dtype": "uint8", "scale": 0.1, "zero_point": 128}, {-128}),
        ({"dtype": "uint8", "scale": 0.0, "zero_point": 0}, set()),
    ],
)
def test_zero_points_are_forgotten_on_integers_alone(grid, shifts):
    assert {mistake.way.shift for mistake in wrong_ways(CONTRACT, grid)} - {0} == shifts


def test_a_way_in_a_line():
    told = "RGB, (pixel - 128) / 127.5, stretch: 0.875 of the photo"
    assert describe(CONTRACT) == told
    other = replace(CONTRACT, upright=False, filter="nearest", shift=-128)
    assert describe(other) == f"{told}, resized to the nearest pixel, no EXIF rotation, integers -128 (wrapped)"
