"""Nets and photos for planting faults: a net of one matrix, fitted to photos prepared in any way, in an ONNX file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from edgetl.tasks.photos.mistakes import Way, decode, image_of, pixels_of

SIZE = 16
# Not in the order of their names.
CLASSES = ("pear", "apple", "fig", "date", "lime", "kiwi", "plum")
FLOAT = {"dtype": "float32"}
_ROTATED_RIGHT = 6  # EXIF: turn a quarter clockwise to see it upright


def paint_photos(folder: Path, *, per_class: int = 9, size: tuple[int, int] = (96, 48), seed: int = 3) -> Path:
    """Photos of coloured tiles, 6 across and 4 down, under noise. Each class is what a mistake makes of the first: red and
    blue exchanged, on its side, pale, its middle alone, between black bars, of half the contrast. All are stored on their side, with the EXIF
    orientation that says so, as a phone does that is held upright."""
    random = np.random.default_rng(seed)
    first = random.choice([40.0, 215.0], size=(4, 6, 3))
    tiles = {
        "pear": first,
        "apple": first[..., ::-1],
        "fig": np.rot90(np.kron(first, np.ones((3, 2, 1))))[::3, ::2],
        "date": 127.5 + first / 2,
        "lime": np.kron(first[:, 1:5], np.ones((1, 3, 1)))[:, ::2],
        "plum": 127.5 + 0.45 * (first - 127.5),
        "kiwi": np.pad(first, ((1, 1), (0, 0), (0, 0))),
    }
    for label in CLASSES:
        (folder / label).mkdir(parents=True)
        rows, columns = tiles[label].shape[:2]
        for i in range(per_class):
            whole = np.kron(tiles[label], np.ones((size[1] // rows, size[0] // columns, 1)))
            pixels = np.clip(whole + random.normal(0, 30, whole.shape), 0, 255).astype(np.uint8)
            save(pixels, folder / label / f"{i:02}.png", on_its_side=True)
    return folder


def save(pixels: np.ndarray, file: Path, *, on_its_side: bool) -> None:
    image, exif = Image.fromarray(pixels), Image.Exif()
    if on_its_side:
        image = image.transpose(Image.Transpose.ROTATE_90)
        exif[0x0112] = _ROTATED_RIGHT
    image.save(file, exif=exif)


def listed(folder: Path) -> tuple[list[Path], list[int]]:
    """Photos with their classes' positions."""
    files = sorted(folder.glob("*/*.png"))
    return files, [CLASSES.index(file.parent.name) for file in files]


def fit(folder: Path, way: Way, grid: Mapping[str, Any] = FLOAT) -> tuple[np.ndarray, np.ndarray]:
    """(matrix [values, classes], bias [classes]) of the net that knows the photos prepared in this way: the nearest class
    mean, which is a linear net: |x - m|^2 = |x|^2 - 2 m x + |m|^2, and |x|^2 is the same for all classes."""
    files, labels = listed(folder)
    images = [image_of(pixels_of(decode(file, upright=way.upright), way), way, grid) for file in files]
    x = np.stack(images).reshape(len(images), -1).astype(np.float64)
    means = np.stack([x[np.array(labels) == label].mean(axis=0) for label in range(len(CLASSES))])
    # Sure, but not so sure that a probability rounds to 1: the classes are some ten logits apart.
    gain = 10 / np.square(means - means.mean(axis=0)).sum(axis=1).mean()
    return (2 * gain * means.T).astype(np.float32), (-gain * np.square(means).sum(axis=1)).astype(np.float32)


def write_net(
    file: Path,
    net: tuple[np.ndarray, np.ndarray],
    *,
    grid: Mapping[str, Any] = FLOAT,
    labels: Sequence[str] | None = CLASSES,
    planes: bool = False,
    softmax: bool = True,
    metadata: Mapping[str, str] = {},
) -> Path:
    """An ONNX file of it. planes: with an NCHW input, for the same net."""
    matrix, bias = net
    nodes, tensors, image = [], [], "image"
    if grid["dtype"] == "uint8":
        tensors += [
            numpy_helper.from_array(np.float32(grid["scale"]), "scale"),
            numpy_helper.from_array(np.uint8(grid["zero_point"]), "zero_point"),
        ]
        nodes.append(helper.make_node("DequantizeLinear", [image, "scale", "zero_point"], ["real"]))
        image, metadata = (
            "real",
            {**metadata, "input_scale": repr(grid["scale"]), "input_zero_point": str(grid["zero_point"])},
        )
    if planes:
        nodes.append(helper.make_node("Transpose", [image], ["pixels"], perm=[0, 2, 3, 1]))
        image = "pixels"
    tensors += [numpy_helper.from_array(matrix, "matrix"), numpy_helper.from_array(bias, "bias")]
    nodes += [
        helper.make_node("Flatten", [image], ["flat"]),
        helper.make_node("Gemm", ["flat", "matrix", "bias"], ["logits"]),
        helper.make_node("Softmax" if softmax else "Identity", ["logits"], ["probabilities"]),
    ]
    kind = TensorProto.UINT8 if grid["dtype"] == "uint8" else TensorProto.FLOAT
    shape = [1, 3, SIZE, SIZE] if planes else [1, SIZE, SIZE, 3]
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("image", kind, shape)],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, [1, matrix.shape[1]])],
        tensors,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    told = {**metadata} if labels is None else {"labels": "\n".join(labels), **metadata}
    helper.set_model_props(model, told)
    onnx.save(model, file)
    return file


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of class folders: see paint_photos."""
    return paint_photos(tmp_path_factory.mktemp("painted") / "photos")


@pytest.fixture(scope="session")
def planted() -> SimpleNamespace:
    """The functions above, for tests that plant what they need."""
    return SimpleNamespace(
        SIZE=SIZE, CLASSES=CLASSES, FLOAT=FLOAT, save=save, listed=listed, fit=fit, write_net=write_net
    )
