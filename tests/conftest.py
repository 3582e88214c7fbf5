"""Photos made on the spot: small, all different, the same on every run."""

from __future__ import annotations

import os

# TFMOT works on Keras 2 only, and TensorFlow reads this once, when it is first imported.
os.environ["TF_USE_LEGACY_KERAS"] = "1"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import itertools
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from edgetl.dataset.index import PhotoIndex
from edgetl.dataset.scan import Offender, Photo, list_photos
from edgetl.tasks.photos.faults import validate

REPOSITORY = Path(__file__).parent.parent

MakePhoto = Callable[..., Path]


@pytest.fixture(scope="session")
def repository() -> Path:
    """The checkout: where targets/ lies, and where a subprocess finds the package."""
    return REPOSITORY


@pytest.fixture
def make_photo() -> MakePhoto:
    """make(path, mode="RGB", size=(24, 20), **save): a photo of noise that no other photo equals."""
    seeds = itertools.count()

    def make(path: Path, *, mode: str = "RGB", size: tuple[int, int] = (24, 20), **save: object) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        noise = np.random.default_rng(next(seeds)).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
        Image.fromarray(noise).convert(mode).save(path, **save)
        return path

    return make


@pytest.fixture
def make_folder(tmp_path: Path, make_photo: MakePhoto) -> Callable[..., Path]:
    """make({"cats": 10, "dogs": 12}, root=tmp_path / "photos"): a folder of class folders."""

    def make(classes: Mapping[str, int], root: Path = tmp_path / "photos") -> Path:
        for name, count in classes.items():
            for i in range(count):
                make_photo(root / name / f"{i:03}.jpg")
        return root

    return make


@pytest.fixture
def index(tmp_path: Path) -> Iterator[PhotoIndex]:
    opened = PhotoIndex(tmp_path / "index.sqlite")
    yield opened
    opened.close()


@pytest.fixture
def check(index: PhotoIndex) -> Callable[..., tuple[list[Photo], list[Offender]]]:
    """check(source, skip_bad=False): list and validate, as a build does."""

    def run(source: Path, *, skip_bad: bool = False) -> tuple[list[Photo], list[Offender]]:
        return validate(list_photos(source, index), index, skip_bad=skip_bad)

    return run


@pytest.fixture(scope="session")
def tiny_net() -> Iterator[Callable[..., Path]]:
    """write(folder, ranges={}, change=None): net.tflite and net.onnx of a net of six ops, and the folder.

    ranges: node name -> range, where it is to differ. change: name and Quantized -> Quantized, for planting defects.
    """
    import onnx

    from edgetl.formats.write.onnx_int8 import write_onnx_int8
    from edgetl.formats.write.tflite_int8 import write_tflite_int8
    from edgetl.graph.graph import Graph, Node
    from edgetl.quantization.integers import quantize_graph

    random = np.random.default_rng(5)

    def weights(*shape: int) -> np.ndarray:
        return random.uniform(-1, 1, shape).astype(np.float32)

    def conv(name: str, op: str, source: str, activation: str, kernel: np.ndarray, shape: tuple[int, ...]) -> Node:
        bias = weights(kernel.shape[2] if op == "depthwise" else kernel.shape[3])
        strides = [16 // shape[1], 16 // shape[1]] if source == "x" else [1, 1]
        attributes = {"strides": strides, "padding": "same", "activation": activation}
        return Node(name, op, (source,), attributes, shape, kernel, bias)  # type: ignore[arg-type]

    shape = (1, 8, 8, 4)
    graph = Graph(
        (
            Node("x", "input", shape=(1, 16, 16, 3)),
            conv("first", "conv", "x", "relu6", weights(3, 3, 3, 4), shape),
            conv("deep", "depthwise", "first", "relu6", weights(3, 3, 4, 1), shape),
            conv("flat", "conv", "deep", "none", weights(1, 1, 4, 4), shape),
            Node("sum", "add", ("first", "flat"), {}, shape),
            Node("pooled", "mean", ("sum",), {}, (1, 4)),
            Node("logits", "dense", ("pooled",), {"activation": "none"}, (1, 3), weights(4, 3), weights(3)),
        )
    )
    usual = {"x": (-1.0, 1.0), "first": (0.0, 5.0), "deep": (0.0, 6.0), "flat": (-8.0, 7.0), "sum": (-8.0, 9.0)}
    usual |= {"pooled": (-2.0, 3.0), "logits": (-4.0, 4.0)}

    def write(folder: Path, ranges: Mapping[str, tuple[float, float]] = {}, change: object = None) -> Path:
        integers = quantize_graph(graph, {**usual, **ranges})
        if callable(change):
            integers = {name: change(name, made) for name, made in integers.items()}
        folder.mkdir(parents=True, exist_ok=True)
        described = {"description": "a tiny net", "metadata": {"labels.txt": b"a\nb\nc"}}
        (folder / "net.tflite").write_bytes(write_tflite_int8(graph, integers, **described))
        model = write_onnx_int8(graph, integers, opset=17, description="a tiny net", metadata={"labels": "a\nb\nc"})
        onnx.save(model, folder / "net.onnx")
        return folder

    write.graph = graph  # type: ignore[attr-defined]
    yield write


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """small and larger (half as much again to compute), .tflite and .onnx; crash.tflite, hang.onnx, memory.onnx."""
    from tests.models import write_models

    return write_models(tmp_path_factory.mktemp("models"))


# Nets and files of int8, for the rooms that fold, quantize and write. TensorFlow is imported only where one is asked for.


@pytest.fixture(
    scope="session",
    params=[
        ("mobilenetv2-0.35", "block_5_add", 64),
        ("densenet121", "pool2_relu", 64),
        ("vgg16", "block2_pool", 64),
        ("xception", "block4_add", 96),
    ],
    ids=["mobilenetv2", "densenet", "vgg16", "xception"],
)
def net(request: pytest.FixtureRequest) -> Any:
    """A tests.nets.Net of each family: its first blocks, folded, with ranges, integers and its fake-quantized model."""
    from tests.nets import build_net

    return build_net(*request.param)


@pytest.fixture
def open_files(tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """open(graph, integers, float_nodes=()): both files written to tmp_path as net.tflite and net.onnx, and opened."""
    from tests.nets import files_opener

    return files_opener(tmp_path)
