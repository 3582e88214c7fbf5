"""How versions of one net differ, and the photos they differ on. Each defect is planted, and seen."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from PIL import ExifTags, Image

from edgetl.core.stats import mcnemar_p, paired_drop_interval
from edgetl.measure.parity import OUTPUT_STEP, bootstrap_drop_interval, pairs_among, parity, parity_matrix
from edgetl.tasks.photos.flips import MOST, find_flips, thumbnail, write_flips

LABELS = np.array([0, 0, 1, 1, 2])


def sure(*classes: int) -> np.ndarray:
    """Predictions that give these classes 0.8 and the others 0.1."""
    return np.where(np.eye(3)[list(classes)] > 0, 0.8, 0.1).astype(np.float32)


def spread(n: int, classes: int = 4, seed: int = 0) -> np.ndarray:
    """Probabilities of a net that is fairly sure, [n, classes]."""
    logits = 3 * np.random.default_rng(seed).normal(size=(n, classes))
    shares = np.exp(logits)
    return (shares / shares.sum(axis=1, keepdims=True)).astype(np.float32)


# --- two versions ----------------------------------------------------------------------------------------------------


def test_parity_tells_who_alone_is_right():
    found = parity(sure(0, 0, 1, 0, 1), sure(0, 1, 2, 1, 0), LABELS)
    assert (found["lost"], found["gained"], found["n"]) == (2, 1, 5)
    assert found["top1_agreement"] == pytest.approx(0.2)
    assert found["max_abs"] == pytest.approx(0.7)
    assert found["mean_abs"] == pytest.approx(0.8 * 0.7)
    assert found["top1_drop_pp"] == pytest.approx(20.0)


def test_a_version_beside_itself_differs_in_nothing():
    found = parity(spread(50), spread(50), np.zeros(50, int))
    exact = {key: found[key] for key in ("max_abs", "mean_abs", "max_steps", "mean_steps", "lost", "gained")}
    assert set(exact.values()) == {0}
    assert (found["top1_agreement"], found["within_2_steps"], found["mcnemar_p"]) == (1.0, 1.0, 1.0)
    assert found["cosine_min"] == pytest.approx(1.0, abs=1e-12)


@pytest.mark.parametrize(("steps", "within"), [(0.5, 1.0), (2.0, 1.0), (3.0, 0.8)], ids=str)
def test_parity_counts_in_steps_of_the_output(steps, within):
    a = sure(0, 0, 1, 1, 2)
    b = a.copy()
    b[3, 0] += steps / 256
    found = parity(a, b, LABELS)
    assert found["max_steps"] == pytest.approx(steps, rel=1e-4)
    assert found["mean_steps"] == pytest.approx(steps / 5, rel=1e-4)
    assert found["within_2_steps"] == pytest.approx(within)
    coarse = parity(a, b, LABELS, step=1 / 128)
    assert coarse["max_steps"] == pytest.approx(steps / 2, rel=1e-4)
    assert (found["output_step"], coarse["output_step"]) == (1 / 256, 1 / 128)


def test_one_flipped_photo_is_one_photo():
    a, ids = spread(200), [f"{i:04}" for i in range(200)]
    b = a.copy()
    order = b[17].argsort()
    b[17, order[-1]], b[17, order[-2]] = b[17, order[-2]], b[17, order[-1]]
    matrix = parity_matrix({"float": a, "int8": b}, a.argmax(axis=1), ids, steps={"float": 0.0, "int8": OUTPUT_STEP})
    (pair,) = matrix["pairs"]
    assert pair["flipped"] == ["0017"]
    assert pair["top1_agreement"] == pytest.approx(199 / 200)
    assert (pair["lost"], pair["gained"]) == (1, 0)


def test_a_shifted_zero_point_shows_in_steps_before_it_shows_in_answers():
    a = np.round(spread(200) * 256) / 256
    b = a + 5 / 256
    found = parity(a, b, a.argmax(axis=1))
    assert found["top1_agreement"] == 1.0
    assert (found["max_steps"], found["mean_steps"], found["within_2_steps"]) == (5.0, 5.0, 0.0)
    assert found["cosine_min"] < 0.9999


def test_swapped_classes_show_in_answers_and_in_the_angle():
    a = spread(200)
    found = parity(a, a[:, [1, 0, 2, 3]], a.argmax(axis=1))
    swapped = np.isin(a.argmax(axis=1), [0, 1]).mean()
    assert 0.3 < swapped < 0.7
    assert found["top1_agreement"] == pytest.approx(1 - swapped)
    assert found["lost"] == round(200 * swapped)
    assert found["mcnemar_p"] < 1e-20
    assert found["cosine_min"] < 0.2


def test_a_row_without_a_direction_has_no_cosine():
    assert parity(sure(0, 0, 1, 1, 2), np.zeros((5, 3), np.float32), LABELS)["cosine_min"] == 0.0


# --- all versions ----------------------------------------------------------------------------------------------------


def test_the_matrix_has_every_pair_once_in_order():
    names = ["keras:student", "models/a@x", "models/b@x", "models/b@y"]
    matrix = parity_matrix(
        {name: spread(20, seed=i) for i, name in enumerate(names)},
        np.zeros(20, int),
        [str(i) for i in range(20)],
        steps=dict.fromkeys(names, 0.0),
    )
    assert matrix["names"] == names
    assert [(names.index(pair["a"]), names.index(pair["b"])) for pair in matrix["pairs"]] == [
        (0, 1),
        (0, 2),
        (0, 3),
        (1, 2),
        (1, 3),
        (2, 3),
    ]
    assert matrix == json.loads(json.dumps(matrix))


def test_pairs_among_some_versions_are_the_matrix_s_without_the_photos():
    predictions = {name: spread(20, seed=i) for i, name in enumerate("abc")}
    labels = np.zeros(20, int)
    matrix = parity_matrix(predictions, labels, [str(i) for i in range(20)], steps={"a": 0.0, "b": 0.0, "c": 1 / 128})
    (pair,) = pairs_among(matrix, {"c", "a"})
    assert pair == {"a": "a", "b": "c", **parity(predictions["a"], predictions["c"], labels, step=1 / 128)}


# --- is it chance ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lost", "gained", "p"),
    # By hand: two tails of Pascal's triangle over 2**n.
    [
        (0, 0, 1.0),
        (1, 0, 1.0),
        (2, 0, 2 / 4),
        (5, 0, 2 / 32),
        (5, 1, 2 * (1 + 6) / 64),
        (8, 2, 2 * (1 + 10 + 45) / 1024),
        (3, 3, 1.0),
        (10, 3, 2 * (1 + 13 + 78 + 286) / 8192),
    ],
    ids=str,
)
def test_mcnemars_test_is_the_exact_binomial(lost, gained, p):
    assert mcnemar_p(lost, gained) == pytest.approx(p, rel=1e-12)
    assert mcnemar_p(gained, lost) == mcnemar_p(lost, gained)


def test_mcnemars_test_of_many_photos_neither_overflows_nor_vanishes():
    assert mcnemar_p(2000, 2000) == 1.0
    assert 0 < mcnemar_p(1200, 800) < 1e-17
    # The normal approximation with its correction for continuity, which is good at such counts.
    z = (100 - 1) / math.sqrt(1800)
    assert mcnemar_p(950, 850) == pytest.approx(math.erfc(z / math.sqrt(2)), rel=0.01)


def test_the_bootstrap_is_that_of_photos_drawn_with_replacement():
    """Drawing the counts is drawing the photos: the long way round gives the same edges."""
    lost, gained, n = 14, 5, 300
    change = np.repeat([1, -1, 0], [lost, gained, n - lost - gained])
    drawn = np.random.default_rng(5).choice(change, size=(10_000, n)).mean(axis=1)
    expected = np.quantile(drawn, [0.025, 0.975])
    # Two neighbouring drops are one photo apart: an edge of 10,000 draws is known to that.
    np.testing.assert_allclose(bootstrap_drop_interval(lost, gained, n), expected, rtol=0, atol=1.01 / n)


def test_the_bootstrap_is_the_same_on_every_run():
    assert bootstrap_drop_interval(14, 5, 300) == bootstrap_drop_interval(14, 5, 300)
    assert bootstrap_drop_interval(14, 5, 300, seed=1) != pytest.approx((0.0, 0.0))


def test_without_a_discordant_photo_the_bootstrap_is_falsely_certain_and_the_verdicts_interval_is_not():
    for n in (10, 1000):
        assert bootstrap_drop_interval(0, 0, n) == (0.0, 0.0)
    few, many = (np.diff(paired_drop_interval(0, 0, n))[0] for n in (10, 1000))
    assert few > 0.2 > 0.01 > many
    found = parity(sure(0, 0, 1, 1, 2), sure(0, 0, 1, 1, 2), LABELS)
    assert found["top1_drop_bootstrap_pp"] == [0.0, 0.0]
    assert found["top1_drop_interval_pp"] == [100 * edge for edge in paired_drop_interval(0, 0, 5)]


# --- the photos ------------------------------------------------------------------------------------------------------


def test_flips_are_those_of_files_against_float_the_most_disputed_first():
    reference = spread(30)
    one, two = reference.copy(), reference.copy()
    for predictions, photos in ((one, (3, 7)), (two, (7, 20))):
        predictions[photos, :] = predictions[photos, ::-1]
    assert all(reference[i].argmax() != one[i].argmax() for i in (3, 7))
    versions = {"keras:student": reference, "keras:quantized": spread(30, seed=9), "models/one": one, "models/two": two}
    found = find_flips(versions, reference="keras:student", files=["models/one", "models/two"])
    assert found[0] == 7
    moved = {3: np.abs(one[3] - reference[3]).max(), 20: np.abs(two[20] - reference[20]).max()}
    assert found[1:] == sorted(moved, key=lambda i: -moved[i])
    assert find_flips(versions, reference="keras:student", files=[]) == []


def test_a_flip_says_what_each_version_said(tmp_path: Path, make_photo):
    paths = [make_photo(tmp_path / "photos" / "rose" / "a.jpg"), make_photo(tmp_path / "elsewhere" / "b.png")]
    versions = {"keras:student": sure(0, 2), "models/x": sure(1, 0)}
    write_flips(
        tmp_path / "flips",
        [1, 0],
        versions,
        paths=paths,
        digests=["d0", "d1"],
        labels=np.array([0, 2]),
        classes=("rose", "tulip", "daisy"),
        source=tmp_path / "photos",
    )
    found = json.loads((tmp_path / "flips" / "flips.json").read_text())
    assert found["n"] == 2
    first, second = found["photos"]
    assert (first["name"], first["sha256"], first["label"], first["thumbnail"]) == ("b.png", "d1", "daisy", "00.jpg")
    assert (second["name"], second["label"]) == ("rose/a.jpg", "rose")
    assert second["says"]["models/x"] == {"label": "tulip", "probability": pytest.approx(0.8)}
    assert sorted(path.name for path in (tmp_path / "flips").iterdir()) == ["00.jpg", "01.jpg", "flips.json"]


def test_there_are_never_more_thumbnails_than_fit_a_page_but_all_flips_are_counted(tmp_path: Path, make_photo):
    photo = make_photo(tmp_path / "a.jpg")
    n = MOST + 9
    write_flips(
        tmp_path / "flips",
        range(n),
        {"keras:student": sure(*[0] * n)},
        paths=[photo] * n,
        digests=["d"] * n,
        labels=np.zeros(n, int),
        classes=("rose", "tulip", "daisy"),
        source=None,
    )
    found = json.loads((tmp_path / "flips" / "flips.json").read_text())
    assert (found["n"], len(found["photos"])) == (n, MOST)
    assert len(list((tmp_path / "flips").glob("*.jpg"))) == MOST


@pytest.mark.parametrize(
    ("size", "expected"),
    [((640, 480), (128, 96)), ((300, 600), (64, 128)), ((40, 30), (40, 30)), ((4000, 60), (128, 2))],
    ids=str,
)
def test_a_thumbnail_is_at_most_128_pixels_and_never_larger_than_the_photo(tmp_path: Path, make_photo, size, expected):
    assert thumbnail(make_photo(tmp_path / "a.jpg", size=size)).size == expected


def test_a_thumbnail_is_upright_and_carries_nothing_but_pixels(tmp_path: Path, make_photo):
    """Where a photo was taken must not travel with a report."""
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6  # a quarter turn
    exif.get_ifd(ExifTags.IFD.GPSInfo)[ExifTags.GPS.GPSLatitudeRef] = "N"
    photo = make_photo(tmp_path / "a.jpg", size=(400, 200), exif=exif, comment=b"taken at home")
    assert b"taken at home" in photo.read_bytes()
    small = thumbnail(photo)
    assert small.size == (64, 128)
    small.save(tmp_path / "small.jpg", "JPEG")
    written = (tmp_path / "small.jpg").read_bytes()
    assert b"taken at home" not in written and b"Exif" not in written
