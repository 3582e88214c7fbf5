"""Every usual mistake planted in a net that was fitted to photos prepared so, and named; and what cannot be named."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from edgetl.bundle.model_files import of_paths
from edgetl.commands.verify.diagnosis import Scores, against, as_recorded, stratified
from edgetl.commands.verify.explain import explain_accuracy
from edgetl.commands.verify.photos import Photos
from edgetl.commands.verify.run import Asked, verify_models
from edgetl.console.progress import PlainDisplay
from edgetl.core.progress import Progress
from edgetl.core.store import Store
from edgetl.tasks.photos.contract import Normalization, View
from edgetl.tasks.photos.mistakes import Mistake, Way, wrong_pairs, wrong_ways

RIGHT = Way.of(Normalization((127.5,) * 3, (127.5,) * 3), View(16, "stretch", 1.0))
BYTES = {"dtype": "uint8", "scale": 1 / 127.5, "zero_point": 128}
RIGHT_OF_BYTES = replace(RIGHT, normalization=Normalization((128.0,) * 3, (127.5,) * 3))
FLOATS = {mistake.name: mistake for mistake in wrong_ways(RIGHT, {"dtype": "float32"})}
# A net that averages over a tile answers the same whatever the filter, and sees tiles a little larger as the same tiles:
# those have tests of their own below.
UNSEEN = {mistake.name for mistake in FLOATS.values() if mistake.fields == ("filter",)} | {
    "stretch: 0.875 of the photo"
}
# Of the middle square these nets know the middle as well; tiles of seven kinds have nearly the same mean.
CROPS = {"crop: all of the middle square", "crop: 0.875 of the middle square"}
OWN_MEAN = "each photo's own mean/std"
ALIKE = {**dict.fromkeys(CROPS, CROPS), OWN_MEAN: {OWN_MEAN, "ImageNet mean/std"}}


class Silent:
    """Progress that nobody sees."""

    def begin(self, total: int, *, done: int = 0, unit: str = "steps") -> None: ...

    def advance(self, count: int, detail: str = "") -> None: ...

    def note(self, text: str) -> None: ...


def explain(planted: SimpleNamespace, photos: Path, file: Path, *, expected: float | None = 1.0) -> dict[str, Any]:
    (model,) = of_paths([file])
    paths, labels = planted.listed(photos)
    progress: Progress = Silent()
    names = [planted.CLASSES[label] for label in labels]
    listed = Photos(paths, names, [path.as_posix() for path in paths], photos, {})
    return explain_accuracy(
        model,
        "ort-cpu",
        listed,
        planted.CLASSES,
        progress,
        expected=None if expected is None else {"top1": expected, "n": len(paths), "by": "the test"},
        golden=None,
    )


def plant(planted: SimpleNamespace, photos: Path, folder: Path, way: Way, grid: Any = None) -> Path:
    grid = grid or planted.FLOAT
    return planted.write_net(folder / "net.onnx", planted.fit(photos, way, grid), grid=grid)


def test_a_net_that_gets_what_it_was_made_for_needs_no_explanation(planted, photos, tmp_path):
    found = explain(planted, photos, plant(planted, photos, tmp_path, RIGHT))
    assert (found["outcome"], found["names"], found["pairs_tried"]) == ("as it should be", [], 0)
    assert found["right"]["share"] == 1.0


@pytest.mark.parametrize("name", [name for name in FLOATS if name not in UNSEEN])
def test_each_mistake_is_named(name, planted, photos, tmp_path):
    found = explain(planted, photos, plant(planted, photos, tmp_path, FLOATS[name].way))
    assert found["right"]["share"] < 0.9, found["names"]
    assert found["outcome"] == "named"
    assert {name} <= set(found["names"]) <= ALIKE.get(name, {name})
    assert found["best"]["share"] == 1.0


@pytest.mark.parametrize("wraps", [True, False], ids=["wrapped", "clipped"])
def test_a_forgotten_zero_point_is_named(wraps, planted, photos, tmp_path):
    (mistake,) = (
        one for one in wrong_ways(RIGHT_OF_BYTES, BYTES) if one.fields == ("integers",) and one.way.wraps == wraps
    )
    found = explain(planted, photos, plant(planted, photos, tmp_path, mistake.way, BYTES))
    assert found["names"] == [mistake.name]
    assert found["names"][0].startswith("forgotten zero point")
    assert found["mends"] == ["q = round(x / 0.00784313725) + 128, clipped to uint8"]


def test_two_mistakes_at_once_are_named_where_one_does_not_explain_it(planted, photos, tmp_path):
    pair = next(one for one in wrong_pairs(list(FLOATS.values())) if one.name == "BGR and 0..1")
    found = explain(planted, photos, plant(planted, photos, tmp_path, pair.way))
    assert (found["outcome"], found["names"]) == ("named", ["BGR and 0..1"])
    assert found["pairs_tried"] > 50


def test_what_no_mistake_of_the_list_explains_is_not_named(planted, photos, tmp_path):
    matrix, bias = planted.fit(photos, RIGHT)
    stuck = planted.write_net(tmp_path / "net.onnx", (0 * matrix, np.eye(len(bias), dtype=np.float32)[0]))
    found = explain(planted, photos, stuck)
    assert found["right"]["share"] == pytest.approx(1 / 7)
    assert (found["outcome"], found["names"], found["best"]) == ("none", [], None)
    assert found["singles_tried"] == len(FLOATS)
    assert found["pairs_tried"] > 50


def test_a_part_of_it_is_told_as_a_part(planted, photos, tmp_path):
    # BGR, and two of the seven classes for each other on top of it.
    matrix, bias = planted.fit(photos, FLOATS["BGR"].way)
    order = [0, 1, 2, 4, 3, 5, 6]
    found = explain(planted, photos, planted.write_net(tmp_path / "net.onnx", (matrix[:, order], bias[order])))
    assert (found["outcome"], found["names"]) == ("partly", ["BGR"])
    assert found["best"]["share"] == pytest.approx(5 / 7)


@pytest.fixture(scope="module")
def fine_photos(planted, tmp_path_factory) -> Path:
    """Of what each class is, only every ninth pixel speaks: the middle ones of 3 x 3, and the eight around say the opposite,
    so that an average says nothing. None is on its side."""
    folder = tmp_path_factory.mktemp("fine") / "photos"
    random = np.random.default_rng(1)
    stencil = np.full((3, 3, 1), -1 / 4)
    stencil[1, 1] = 1.0
    for label in planted.CLASSES:
        (folder / label).mkdir(parents=True)
        signs = random.choice([-60.0, 60.0], size=(16, 16, 3))
        for i in range(12):
            pixels = 128 + np.kron(signs, stencil) + random.normal(0, 12, (48, 48, 3))
            planted.save(pixels.clip(0, 255).astype(np.uint8), folder / label / f"{i}.png", on_its_side=False)
    return folder


def test_two_filters_that_see_the_same_pixels_cannot_be_told_apart(planted, fine_photos, tmp_path):
    found = explain(
        planted, fine_photos, plant(planted, fine_photos, tmp_path, FLOATS["resized to the nearest pixel"].way)
    )
    # Three to one, the four pixels that bilinear looks at are the middle one alone.
    assert set(found["names"]) == {"resized to the nearest pixel", "resized bilinear without antialiasing"}
    assert found["outcome"] == "named"


def test_a_mistake_that_changes_no_photo_is_said_not_to_show(planted, fine_photos, photos, tmp_path):
    file = plant(planted, fine_photos, tmp_path, RIGHT)
    same = explain(planted, fine_photos, file)["same_here"]
    assert "no EXIF rotation" in same
    assert "crop: all of the middle square" in same, "the photos are square"
    assert explain(planted, photos, file)["same_here"] == []


# --- when it is tried --------------------------------------------------------------------------------------------------


def verify(file: Path, photos: Path, tmp_path: Path, **more: Any) -> dict[str, Any]:
    return verify_models([file], Asked(str(photos), **more), Store(tmp_path / "cache"), PlainDisplay())


def test_a_file_no_better_than_one_answer_for_all_fails_and_is_diagnosed(planted, photos, tmp_path):
    file = plant(planted, photos, tmp_path, FLOATS["0..255"].way)
    found = verify(file, photos, tmp_path)
    (check,) = found["checks"]
    assert (check["metric"], check["status"]) == ("top1_error_up_to", "fail")
    assert [row["names"] for row in found["diagnoses"]] == [["0..255"]]
    assert verify(file, photos, tmp_path, diagnose=False)["diagnoses"] == []


def test_a_file_that_is_right_is_diagnosed_only_when_asked(planted, photos, tmp_path):
    file = plant(planted, photos, tmp_path, RIGHT)
    assert verify(file, photos, tmp_path)["diagnoses"] == []
    (row,) = verify(file, photos, tmp_path, diagnose=True)["diagnoses"]
    # Nobody says how right it should be.
    assert (row["outcome"], row["names"], row["expected"]) == ("none", [], None)


def test_a_file_far_below_the_one_beside_it_is_diagnosed_against_that(planted, photos, tmp_path):
    plant(planted, photos, tmp_path, RIGHT).rename(tmp_path / "good.onnx")
    plant(planted, photos, tmp_path, FLOATS["BGR"].way).rename(tmp_path / "other.onnx")
    found = verify_models(
        [tmp_path / "good.onnx", tmp_path / "other.onnx"], Asked(str(photos)), Store(tmp_path / "cache"), PlainDisplay()
    )
    (row,) = found["diagnoses"]
    assert (row["file"], row["names"]) == ("other.onnx", ["BGR"])
    assert row["expected"]["by"] == "good.onnx@ort-cpu on these photos"


# --- parts ---------------------------------------------------------------------------------------------------------------


def test_photos_are_taken_of_each_class_in_turn():
    labels = [0] * 50 + [1] * 3
    chosen = stratified(labels, [f"{i:03}" for i in range(53)], 10)
    assert [labels[i] for i in chosen] == [0, 1, 0, 1, 0, 1, 0, 0, 0, 0]
    assert sorted(stratified(labels, [str(i) for i in range(53)], 100)) == list(range(53))


def test_two_ways_are_compared_photo_by_photo():
    a = Scores(np.array([True, True, False, False]), np.array([1.0, 1.0, 0.0, 0.0]))
    b = Scores(np.array([True, False, True, True]), np.array([1.0, 0.0, 1.0, 1.0]))
    assert against(a, b) == (2, 1, 1.0)
    assert against(a, Scores(a.right, a.score + 1e-7))[:2] == (0, 0), "sums in another order"


def test_recovered_is_not_significantly_below_what_was_recorded():
    def of(hits: int) -> Scores:
        right = np.arange(100) < hits
        return Scores(right, right.astype(float))

    enough = as_recorded(0.9, 300)
    assert enough(of(88))
    assert not enough(of(70))


def test_names_of_mistakes_are_all_different():
    singles: list[Mistake] = wrong_ways(RIGHT_OF_BYTES, {"dtype": "int8", "scale": 0.1, "zero_point": -14})
    pairs = wrong_pairs(singles)
    names = [mistake.name for mistake in [*singles, *pairs]]
    assert len(set(names)) == len(names)
    assert len({mistake.way for mistake in [*singles, *pairs]}) == len(names)
    assert all(len(mistake.fields) == 2 and mistake.fields[0] != mistake.fields[1] for mistake in pairs)
