"""What becomes of a photo on its way to the net."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from edgetl.tasks.photos.decode import load_rgb, random_square, square, why_refused

# Left half dark, right half bright, a red corner: its orientation can be seen.
UPRIGHT = np.zeros((40, 64, 3), np.uint8)
UPRIGHT[:, 32:] = 200
UPRIGHT[:10, :10] = (250, 0, 0)


def saved(image: Image.Image, file_format: str, **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, file_format, **options)
    return stream.getvalue()


def pixel(data: bytes, at: tuple[int, int] = (4, 4)) -> tuple[int, int, int]:
    loaded = load_rgb(data)
    assert loaded.mode == "RGB"
    return loaded.getpixel(at)


@pytest.mark.parametrize("file_format", ["PNG", "JPEG", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_rotation_is_applied(orientation, file_format):
    # What a camera stores so that a viewer, turning it as the tag says, shows UPRIGHT.
    back = {1: None, 2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}[orientation]
    stored = Image.fromarray(UPRIGHT)
    stored = stored if back is None else stored.transpose(Image.Transpose(back))
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = saved(stored, file_format, exif=exif, **({"quality": 95} if file_format != "PNG" else {}))
    shown = np.asarray(load_rgb(data)).astype(int)
    assert shown.shape == UPRIGHT.shape
    # Twelve levels: what JPEG and WebP at quality 95 lose beside the edges, on average far less.
    assert np.abs(shown - UPRIGHT).mean() < (0.01 if file_format == "PNG" else 12)


def test_an_exif_block_of_nonsense_is_no_obstacle(tmp_path):
    (tmp_path / "odd.jpg").write_bytes(saved(Image.fromarray(UPRIGHT), "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\x7f"))
    assert why_refused(tmp_path / "odd.jpg") == ""
    assert load_rgb(tmp_path / "odd.jpg").size == (64, 40)


def test_grey_becomes_three_equal_channels():
    assert pixel(saved(Image.new("L", (16, 16), 77), "PNG")) == (77, 77, 77)


def test_one_bit_becomes_black_and_white():
    assert pixel(saved(Image.new("1", (16, 16), 1), "PNG")) == (255, 255, 255)


def test_cmyk_becomes_rgb():
    assert pixel(saved(Image.new("CMYK", (16, 16), (0, 255, 255, 0)), "JPEG", quality=100)) == pytest.approx(
        (255, 0, 0), abs=4
    )


def test_a_palette_becomes_its_colours():
    image = Image.new("P", (16, 16), 1)
    image.putpalette([0, 0, 0, 10, 120, 240])
    assert pixel(saved(image, "PNG")) == (10, 120, 240)


def transparent_palette() -> bytes:
    image = Image.new("P", (16, 16), 1)
    image.putpalette([0, 0, 0, 10, 120, 240])
    return saved(image, "PNG", transparency=1)


WHITE = (255, 255, 255)
TRANSPARENCY = {
    "RGBA, clear": (saved(Image.new("RGBA", (16, 16), (200, 0, 0, 0)), "PNG"), WHITE),
    "RGBA, half": (saved(Image.new("RGBA", (16, 16), (200, 0, 0, 128)), "PNG"), (227, 127, 127)),
    "RGBA, solid": (saved(Image.new("RGBA", (16, 16), (200, 0, 0, 255)), "PNG"), (200, 0, 0)),
    "LA, clear": (saved(Image.new("LA", (16, 16), (0, 0)), "PNG"), WHITE),
    "LA, half": (saved(Image.new("LA", (16, 16), (0, 128)), "PNG"), (127, 127, 127)),
    "a palette's clear colour": (transparent_palette(), WHITE),
    "a clear grey": (saved(Image.new("L", (16, 16), 9), "PNG", transparency=9), WHITE),
    "a clear colour": (saved(Image.new("RGB", (16, 16), (9, 8, 7)), "PNG", transparency=(9, 8, 7)), WHITE),
    "another colour is clear": (saved(Image.new("RGB", (16, 16), (9, 8, 7)), "PNG", transparency=(1, 1, 1)), (9, 8, 7)),
    "WebP, clear": (saved(Image.new("RGBA", (16, 16), (200, 0, 0, 0)), "WEBP", lossless=True), WHITE),
}


@pytest.mark.parametrize("kind", TRANSPARENCY)
def test_transparency_is_laid_over_white(kind):
    data, expected = TRANSPARENCY[kind]
    assert pixel(data) == pytest.approx(expected, abs=1)


@pytest.mark.parametrize(
    ("level", "expected"), [(0, 0), (128, 0), (129, 1), (257, 1), (32768, 128), (40000, 156), (65535, 255)]
)
def test_sixteen_bit_grey_is_scaled_not_clipped(level, expected):
    data = saved(Image.fromarray(np.full((16, 16), level, np.uint16)), "PNG")
    assert pixel(data) == (expected,) * 3


def test_a_progressive_jpeg_is_the_same_picture():
    image = Image.fromarray(UPRIGHT)
    baseline, progressive = (saved(image, "JPEG", quality=90, progressive=flag) for flag in (False, True))
    assert b"\xff\xc2" in progressive and b"\xff\xc2" not in baseline
    assert np.array_equal(load_rgb(baseline), load_rgb(progressive))


def test_an_animation_gives_its_first_frame():
    frames = [Image.new("RGB", (16, 16), colour) for colour in ("red", "blue")]
    data = saved(frames[0], "WEBP", save_all=True, append_images=frames[1:], lossless=True, duration=100)
    assert pixel(data) == (255, 0, 0)


def test_a_phones_multi_picture_jpeg_is_read(tmp_path):
    image = Image.fromarray(UPRIGHT)
    (tmp_path / "phone.jpg").write_bytes(saved(image, "MPO", save_all=True, append_images=[image]))
    assert why_refused(tmp_path / "phone.jpg") == ""
    assert load_rgb(tmp_path / "phone.jpg").size == (64, 40)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"])
def test_what_is_accepted_can_be_loaded(mode, tmp_path):
    image = Image.fromarray(np.full((16, 16), 300, np.uint16)) if mode == "I;16" else Image.new(mode, (16, 16))
    image.save(tmp_path / "photo.png")
    assert why_refused(tmp_path / "photo.png") == ""
    assert load_rgb(tmp_path / "photo.png").size == (16, 16)


def test_a_disk_that_cannot_be_read_is_not_the_photos_fault(tmp_path):
    with pytest.raises(FileNotFoundError, match="gone.jpg"):
        why_refused(tmp_path / "gone.jpg")


# --- the net's square --------------------------------------------------------------------------------------------


def test_stretch_shows_the_whole_photo_and_crop_its_middle():
    image = np.zeros((32, 96, 3), np.uint8)
    image[:, :32], image[:, 32:64], image[:, 64:] = (255, 0, 0), (0, 255, 0), (0, 0, 255)
    stretched = square(Image.fromarray(image), 32, "stretch")
    cropped = square(Image.fromarray(image), 32, "crop")
    assert stretched.shape == cropped.shape == (32, 32, 3)
    assert [tuple(stretched[16, x]) for x in (2, 16, 29)] == [(255, 0, 0), (0, 255, 0), (0, 0, 255)]
    assert (cropped == (0, 255, 0)).all()


def test_shrinking_averages_and_does_not_skip_pixels():
    stripes = np.zeros((256, 256, 3), np.uint8)
    stripes[:, ::8] = 255
    small = square(Image.fromarray(stripes), 32, "stretch").astype(int)
    # One column in eight is white: every pixel of a true average is 255 / 8 = 32; skipping gives 0 or 255.
    assert np.abs(small[:, 2:-2] - 32).max() <= 3


def test_a_draft_keeps_at_least_the_pixels_asked_for():
    data = saved(Image.effect_noise((800, 600), 50).convert("RGB"), "JPEG")
    assert load_rgb(data, at_least_px=150).size == (200, 150)
    assert load_rgb(data, at_least_px=160).size == (400, 300)
    assert load_rgb(data).size == (800, 600)


@pytest.mark.parametrize("resize", ["stretch", "crop"])
@pytest.mark.parametrize("size", [(64, 40), (40, 64), (9, 300), (8, 8)], ids=str)
def test_a_random_view_follows_from_its_random_numbers_and_stays_inside(size, resize):
    image = Image.new("RGB", size, (255, 255, 255))
    for seed in range(50):
        view = random_square(image, 32, resize, 0.1, np.random.default_rng(seed))
        assert view.shape == (32, 32, 3)
        assert view.min() == 255, "a box past the edge would bring in black"
    noise = Image.effect_noise(size, 80).convert("RGB")
    one, same, other = (random_square(noise, 32, resize, 0.1, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert np.array_equal(one, same) and not np.array_equal(one, other)
