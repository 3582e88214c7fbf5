"""An app's answers held against its file: the app is played by hand, with Pillow, NumPy and a matrix, and its mistake named."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps

from edgetl.commands.verify.answers import read_answers
from edgetl.commands.verify.run import Asked, verify_models
from edgetl.console.progress import PlainDisplay
from edgetl.core.errors import DataError
from edgetl.core.store import Store
from edgetl.tasks.photos.contract import Normalization, View
from edgetl.tasks.photos.mistakes import Way

RIGHT = Way.of(Normalization((127.5,) * 3, (127.5,) * 3), View(16, "stretch", 1.0))
BILINEAR = Image.Resampling.BILINEAR


@pytest.fixture(scope="module")
def net(planted, photos, tmp_path_factory) -> Any:
    """(file, matrix, bias) of a net that is right."""
    folder = tmp_path_factory.mktemp("net")
    matrix, bias = planted.fit(photos, RIGHT)
    return planted.write_net(folder / "net.onnx", (matrix, bias)), matrix, bias


def usual(image: Image.Image) -> np.ndarray:
    return np.asarray(ImageOps.exif_transpose(image).resize((16, 16), BILINEAR), np.float32) / 127.5 - 1


def not_antialiased(image: Image.Image) -> np.ndarray:
    upright = ImageOps.exif_transpose(image)
    shape = (upright.width / 16, 0, 0, 0, upright.height / 16, 0)
    return np.asarray(upright.transform((16, 16), Image.Transform.AFFINE, shape, resample=BILINEAR)) / 127.5 - 1


def cropped(image: Image.Image) -> np.ndarray:
    return np.asarray(ImageOps.fit(ImageOps.exif_transpose(image), (16, 16), BILINEAR)) / 127.5 - 1


def barred(image: Image.Image) -> np.ndarray:
    return np.asarray(ImageOps.pad(ImageOps.exif_transpose(image), (16, 16), BILINEAR)) / 127.5 - 1


def resized(filter_: Image.Resampling) -> Callable[[Image.Image], np.ndarray]:
    return lambda image: np.asarray(ImageOps.exif_transpose(image).resize((16, 16), filter_)) / 127.5 - 1


def imagenet(image: Image.Image) -> np.ndarray:
    return ((usual(image) + 1) / 2 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]


def standardized(image: Image.Image) -> np.ndarray:
    return (usual(image) - usual(image).mean()) / usual(image).std()


APPS: dict[str, Callable[[Image.Image], np.ndarray]] = {
    "no EXIF rotation": lambda image: np.asarray(image.resize((16, 16), BILINEAR)) / 127.5 - 1,
    "stretch: 0.875 of the photo": lambda image: usual(_middle(image)),
    "crop: all of the middle square": cropped,
    "letterbox: the whole photo with black bars": barred,
    "resized to the nearest pixel": resized(Image.Resampling.NEAREST),
    "resized bilinear without antialiasing": not_antialiased,
    "resized bicubic": resized(Image.Resampling.BICUBIC),
    "resized by area average": resized(Image.Resampling.BOX),
    "BGR": lambda image: usual(image)[..., ::-1],
    "colour planes one after the other": lambda image: usual(image).transpose(2, 0, 1).reshape(16, 16, 3),
    "0..1": lambda image: (usual(image) + 1) / 2,
    "0..255": lambda image: (usual(image) + 1) * 127.5,
    "ImageNet mean/std": imagenet,
    "minus ImageNet mean": lambda image: (usual(image) + 1) * 127.5 - [123.68, 116.779, 103.939],
    "each photo's own mean/std": standardized,
    "crop: all of the middle square and BGR": lambda image: cropped(image)[..., ::-1],
}


def _middle(image: Image.Image) -> Image.Image:
    """Of 96 x 48 pixels the middle 84 x 42."""
    return ImageOps.exif_transpose(image).crop((6, 3, 90, 45))


def play(net: Any, planted: Any, photos: Path, prepare: Callable[[Image.Image], np.ndarray]) -> dict[str, np.ndarray]:
    """Path below `photos` -> the app's probabilities."""
    _, matrix, bias = net
    found = {}
    for path in sorted(photos.glob("*/*.png")):
        with Image.open(path) as image:
            logits = prepare(image).astype(np.float32).reshape(-1) @ matrix + bias
        powers = np.exp(logits - logits.max())
        found[path.relative_to(photos).as_posix()] = powers / powers.sum()
    return found


def write(file: Path, planted: Any, answers: dict[str, np.ndarray], *, labels_only: bool) -> Path:
    with file.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(["path", "label"] if labels_only else ["path", *planted.CLASSES])
        for path, shares in answers.items():
            writer.writerow([path, planted.CLASSES[int(shares.argmax())]] if labels_only else [path, *shares.tolist()])
    return file


def diagnose(net: Any, photos: Path, tmp_path: Path, answers: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """(the diagnosis, its check)."""
    found = verify_models([net[0]], Asked(str(photos), answers=answers), Store(tmp_path / "cache"), PlainDisplay())
    (row,) = found["diagnoses"]
    of_app = {check["metric"]: check for check in found["checks"] if check["subject"].startswith("the app")}
    # A mistake that is named is a check that fails, also where it changed no label.
    assert ("app_mistakes" in of_app) == bool(row["names"])
    assert not row["names"] or of_app["app_mistakes"]["status"] == "fail"
    return row, of_app["top1_disagreement"]


def test_an_app_that_does_as_told_passes(net, planted, photos, tmp_path):
    answers = write(tmp_path / "app.csv", planted, play(net, planted, photos, usual), labels_only=True)
    row, check = diagnose(net, photos, tmp_path, answers)
    assert (row["outcome"], row["names"], row["right"]["share"]) == ("as it should be", [], 1.0)
    assert (check["measured"], check["status"]) == (0.0, "inconclusive"), "63 photos do not prove 2 %"


@pytest.mark.parametrize("name", APPS)
def test_each_mistake_of_an_app_is_named_from_its_probabilities(name, net, planted, photos, tmp_path):
    answers = write(tmp_path / "app.csv", planted, play(net, planted, photos, APPS[name]), labels_only=False)
    row, _ = diagnose(net, photos, tmp_path, answers)
    assert row["names"] == [name]
    assert row["mends"][0]


@pytest.mark.parametrize("name", ["BGR", "0..1", "crop: all of the middle square"])
def test_labels_alone_name_what_changes_many_of_them(name, net, planted, photos, tmp_path):
    answers = write(tmp_path / "app.csv", planted, play(net, planted, photos, APPS[name]), labels_only=True)
    row, check = diagnose(net, photos, tmp_path, answers)
    assert row["outcome"] == "named"
    # Labels say less: a neighbour that gives nearly the same is told beside it.
    assert name in row["names"]
    assert len(row["names"]) <= 2
    assert check["status"] == "fail"


def test_what_an_app_does_wrong_after_the_net_is_named(net, planted, photos, tmp_path):
    right = play(net, planted, photos, usual)
    twice = {path: np.exp(shares) / np.exp(shares).sum() for path, shares in right.items()}
    row, _ = diagnose(net, photos, tmp_path, write(tmp_path / "app.csv", planted, twice, labels_only=False))
    assert row["names"] == ["softmax applied twice"]
    # Output 0 is pear's, and the first by name is apple.
    by_name = [sorted(planted.CLASSES).index(label) for label in planted.CLASSES]
    wrongly = {path: shares[by_name] for path, shares in right.items()}
    row, _ = diagnose(net, photos, tmp_path, write(tmp_path / "app.csv", planted, wrongly, labels_only=True))
    assert row["names"] == ["classes in alphabetical order"]
    assert row["mends"] == ["use the order of labels.txt"]


def test_answers_at_random_are_not_explained(net, planted, photos, tmp_path):
    random = np.random.default_rng(0)
    answers = {path: random.dirichlet(np.ones(7)) for path in play(net, planted, photos, usual)}
    row, check = diagnose(net, photos, tmp_path, write(tmp_path / "app.csv", planted, answers, labels_only=True))
    assert (row["outcome"], row["names"], check["status"]) == ("none", [], "fail")


# --- the file of answers -------------------------------------------------------------------------------------------------


def read(tmp_path: Path, text: str) -> Any:
    file = tmp_path / "app.csv"
    file.write_text(text, encoding="utf-8")
    paths = [tmp_path / "data" / label / "1.png" for label in ("cat", "dog")]
    return read_answers(file, paths, tmp_path / "data", ["cat", "dog"])


def test_photos_are_known_by_path_or_by_its_end(tmp_path):
    found = read(tmp_path, "path,label\nC:\\phone\\cat\\1.png,dog\ndog/1.png,dog\nbird/2.png,cat\n")
    assert (found.positions, found.labels.tolist(), found.strangers) == ((0, 1), [1, 1], 1)


def test_probabilities_are_known_by_the_names_of_the_classes(tmp_path):
    found = read(tmp_path, "path,dog,cat\ncat/1.png,0.9,0.1\n")
    assert found.probabilities.tolist() == [[0.1, 0.9]]
    assert found.labels.tolist() == [1]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("photo,answer\na,b\n", "no columns `path` and `label`"),
        ("path,label\ncat/1.png,horse\ndog/1.png,cow\n", r"(?s)line 2.*horse.*line 3.*cow"),
        ("path,cat,dog\ncat/1.png,0.5,nan\n", "'nan' is not a probability"),
        ("path,cat,dog\ncat/1.png,0.5\n", "line 2"),
        ("path,label\nbird/7.png,cat\n1.png,cat\n", "has no line for any of the photos"),
    ],
)
def test_what_are_no_answers_is_said(text, said, tmp_path):
    with pytest.raises(DataError, match=said):
        read(tmp_path, text)
