"""Keras' weight files: plain arrays in the file are read, nothing outside of it."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest

from edgetl.backbones.weights import WeightsRequest, obtain, read_keras_h5
from edgetl.core.errors import EXIT_DATA, DataError

KERNEL = np.arange(6, dtype="f4").reshape(2, 3)


def keras_file(
    path: Path, *, fill=None, group: str = "", names: tuple = (b"conv", b"relu"), weight_names=(b"conv/kernel:0",)
) -> Path:
    """A weight file as Keras writes it. fill(root, group) writes the array, or something else in its place."""
    with h5py.File(path, "w") as root:
        place = root.create_group(group) if group else root
        place.attrs["layer_names"] = list(names)
        layer = place.create_group("conv")
        layer.attrs["weight_names"] = weight_names
        place.create_group("relu").attrs["weight_names"] = np.zeros(0, "S1")
        if fill is None:
            layer["conv/kernel:0"] = KERNEL
        else:
            fill(root, layer)
    return path


@pytest.mark.parametrize("group", ["", "model_weights"], ids=["weights alone", "a whole model"])
@pytest.mark.parametrize("text", [bytes, str])
def test_layers_with_weights_are_read_in_keras_order(group, text, tmp_path):
    def fill(root, layer):
        layer["z:0"], layer["a:0"], layer["not listed"] = KERNEL, KERNEL.astype("f8") + 1, KERNEL

    names, weights = (["conv", "relu"], ["z:0", "a:0"]) if text is str else ([b"conv", b"relu"], [b"z:0", b"a:0"])
    found = read_keras_h5(
        keras_file(tmp_path / "net.h5", fill=fill, group=group, names=tuple(names), weight_names=weights)
    )
    assert list(found) == ["conv"]
    assert [array.dtype for array in found["conv"]] == [np.float32] * 2
    assert np.array_equal(found["conv"][0], KERNEL) and np.array_equal(found["conv"][1], KERNEL + 1)


@pytest.fixture
def elsewhere(tmp_path: Path) -> Path:
    """A file that a weight file must not read."""
    with h5py.File(tmp_path / "elsewhere.h5", "w") as root:
        root["secret"] = KERNEL
        root.attrs["layer_names"] = [b"secret"]
    (tmp_path / "raw.bin").write_bytes(KERNEL.tobytes())
    return tmp_path / "elsewhere.h5"


def virtual(root, layer, elsewhere):
    layout = h5py.VirtualLayout(KERNEL.shape, "f4")
    layout[:] = h5py.VirtualSource(str(elsewhere), "secret", KERNEL.shape)
    layer.create_virtual_dataset("conv/kernel:0", layout)


def set_link(root, layer, path, link):
    (root if path == "model_weights" else layer)[path] = link


POINTERS = {
    "an external link": (
        lambda root, layer, elsewhere: set_link(
            root, layer, "conv/kernel:0", h5py.ExternalLink(str(elsewhere), "secret")
        ),
        "external and soft links are refused",
    ),
    "an external link to nowhere": (
        lambda root, layer, elsewhere: set_link(root, layer, "conv/kernel:0", h5py.ExternalLink("/gone.h5", "secret")),
        "external and soft links are refused",
    ),
    "an external link in place of all weights": (
        lambda root, layer, elsewhere: set_link(root, layer, "model_weights", h5py.ExternalLink(str(elsewhere), "/")),
        "external and soft links are refused",
    ),
    "an external link that no layer names": (
        lambda root, layer, elsewhere: set_link(root, layer, "unused", h5py.ExternalLink(str(elsewhere), "secret")),
        "external and soft links are refused",
    ),
    "a soft link": (
        lambda root, layer, elsewhere: set_link(root, layer, "conv/kernel:0", h5py.SoftLink("/relu")),
        "external and soft links are refused",
    ),
    "external storage": (
        lambda root, layer, elsewhere: layer.create_dataset(
            "conv/kernel:0", KERNEL.shape, "f4", external=[(str(elsewhere.with_name("raw.bin")), 0, KERNEL.nbytes)]
        ),
        "external storage and virtual data sets are refused",
    ),
    "a virtual data set": (virtual, "refused"),
}


@pytest.mark.parametrize("kind", POINTERS)
def test_links_out_of_the_file_are_refused(kind, elsewhere, tmp_path):
    plant, why = POINTERS[kind]
    file = keras_file(tmp_path / "net.h5", fill=lambda root, layer: plant(root, layer, elsewhere))
    with pytest.raises(DataError, match=why) as caught:
        read_keras_h5(file)
    assert caught.value.exit_code == EXIT_DATA == 4
    assert caught.value.fix == "use a plain Keras weight file"


def test_h5py_follows_the_planted_links(elsewhere, tmp_path):
    """Without this the cases above would prove nothing: h5py itself reads the other file through each link."""
    for kind in ("an external link", "external storage", "a virtual data set"):
        plant, _ = POINTERS[kind]
        file = keras_file(tmp_path / "net.h5", fill=lambda root, layer, plant=plant: plant(root, layer, elsewhere))
        with h5py.File(file) as root:
            assert np.array_equal(root["conv/conv/kernel:0"], KERNEL), kind


WRONG = {
    "text": lambda path: path.write_text("no weights"),
    "empty": lambda path: path.write_bytes(b""),
    "HDF5 of something else": lambda path: h5py.File(path, "w").create_dataset("x", data=KERNEL).file.close(),
    "a folder": lambda path: path.mkdir(),
    "missing": lambda path: None,
    "a layer that is not there": lambda path: keras_file(path, names=(b"conv", b"gone")),
    "an array that is not there": lambda path: keras_file(path, weight_names=(b"gone:0",)),
    "a group in an array's place": lambda path: keras_file(
        path, fill=lambda root, layer: layer.create_group("conv/kernel:0")
    ),
    "words in an array's place": lambda path: keras_file(
        path, fill=lambda root, layer: layer.create_dataset("conv/kernel:0", data=[b"ab"])
    ),
    "a list of names that is a number": lambda path: keras_file(path, weight_names=7),
    "an array larger than any memory": lambda path: keras_file(
        path, fill=lambda root, layer: layer.create_dataset("conv/kernel:0", (1 << 44,), "f4", chunks=(1024,))
    ),
}


@pytest.mark.parametrize("kind", WRONG)
def test_a_file_that_is_not_a_weight_file_is_bad_data_not_a_bug(kind, tmp_path):
    WRONG[kind](tmp_path / "net.h5")
    with pytest.raises(DataError, match=r"weight file") as caught:
        read_keras_h5(tmp_path / "net.h5")
    assert caught.value.exit_code == 4


# --- which file ----------------------------------------------------------------------------------------------------------


def ask(weights: str, local: Path | None, downloads: Path, backbone: str = "mobilenetv2-0.5"):
    return obtain(WeightsRequest(backbone, 160, weights), local, downloads, lambda text: None)


def test_an_explicit_file_is_used_and_named_with_its_digest(tmp_path):
    file = keras_file(tmp_path / "mine.h5")
    weights, source = ask("file", file, tmp_path / "downloads")
    assert np.array_equal(weights["conv"][0], KERNEL)
    assert (source["weights"], source["file"], len(source["sha256"])) == ("file", "mine.h5", 64)


@pytest.mark.parametrize("suffix", ["h5", "pth", "bin"])
def test_a_wrong_explicit_file_is_an_error_and_is_not_replaced(suffix, tmp_path):
    file = tmp_path / f"mine.{suffix}"
    file.write_text("no weights")
    with pytest.raises(DataError, match=rf"mine\.{suffix}") as caught:
        ask("file", file, tmp_path / "downloads")
    assert caught.value.exit_code == 4
    assert not (tmp_path / "downloads").exists()


def test_torchs_file_is_only_for_the_net_of_width_1(tmp_path):
    (tmp_path / "mine.pth").write_bytes(b"")
    with pytest.raises(DataError, match=r"mine\.pth cannot be used for densenet121"):
        ask("file", tmp_path / "mine.pth", tmp_path, "densenet121")


def test_no_weights_are_loaded_when_none_are_requested(tmp_path):
    assert ask("none", None, tmp_path) == (None, {"weights": "none", "why": "asked for"})


def test_groups_in_a_cycle_are_walked_once(tmp_path):
    def cycle(root, layer):
        layer["conv/kernel:0"] = KERNEL
        layer["again"] = root["/"]

    assert list(read_keras_h5(keras_file(tmp_path / "circle.h5", fill=cycle))) == ["conv"]
