"""Model files without a bundle: where classes and preprocessing come from, what they are compared with, how it ends."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgetl.bundle.model_files import of_paths
from edgetl.commands.verify.run import Asked, verify_models, verify_paths
from edgetl.console.progress import PlainDisplay
from edgetl.core.errors import DataError, MissingError, UsageError
from edgetl.core.store import Store
from edgetl.formats.read.signature import read_signature
from edgetl.runtimes import ort
from edgetl.runtimes.catalogue import BACKENDS
from edgetl.tasks.photos.contract import Normalization, View
from edgetl.tasks.photos.mistakes import Way

RIGHT = Way.of(Normalization((127.5,) * 3, (127.5,) * 3), View(16, "stretch", 1.0))


@pytest.fixture(scope="module")
def weights(planted, photos) -> Any:
    """(matrix, bias) of a net that is right."""
    return planted.fit(photos, RIGHT)


def verify(tmp_path: Path, photos: Path, *names: str, **more: Any) -> dict[str, Any]:
    return verify_models(
        [tmp_path / name for name in names], Asked(str(photos), **more), Store(tmp_path / "cache"), PlainDisplay()
    )


def command(tmp_path: Path, photos: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The command line where TensorFlow and onnx are not installed."""
    absent = ("tensorflow", "tf_keras", "tensorflow_model_optimization", "onnx", "tf2onnx", "h5py", "jinja2")
    program = (
        f"import sys\nfor name in {absent}: sys.modules[name] = None\nfrom edgetl.commands.app import main\nmain()"
    )
    whole = ["verify", *arguments, "--data", str(photos), "--cache", str(tmp_path / "cache")]
    env = {**os.environ, "NO_COLOR": "1", "COLUMNS": "80"}
    return subprocess.run([sys.executable, "-c", program, *whole], env=env, capture_output=True, text=True)


def top1(found: dict[str, Any]) -> dict[str, float]:
    return {name: row["accuracy"]["top1"] for name, row in found["versions"].items()}


# --- where classes come from -------------------------------------------------------------------------------------------


def test_classes_come_from_the_file_from_beside_it_or_from_the_folders(planted, photos, weights, tmp_path):
    planted.write_net(tmp_path / "inside.onnx", weights)
    assert top1(verify(tmp_path, photos, "inside.onnx")) == {"inside.onnx@ort-cpu": 1.0}
    planted.write_net(tmp_path / "beside.onnx", weights, labels=None)
    (tmp_path / "beside.txt").write_text("\n".join(planted.CLASSES))
    found = verify(tmp_path, photos, "beside.onnx")
    assert top1(found) == {"beside.onnx@ort-cpu": 1.0}
    assert "beside.onnx: classes: beside.txt beside it." in found["notes"]
    # In the folders' order, which is not the net's.
    planted.write_net(tmp_path / "none.onnx", weights, labels=None)
    found = verify(tmp_path, photos, "none.onnx", diagnose=False)
    assert top1(found)["none.onnx@ort-cpu"] < 0.5
    assert "folders, sorted by name" in " ".join(found["notes"])
    assert found["data"]["classes"] == sorted(planted.CLASSES)
    # Beside a file that tells its classes, in the order of that one.
    found = verify(tmp_path, photos, "none.onnx", "inside.onnx")
    assert top1(found)["none.onnx@ort-cpu"] == 1.0
    assert "none.onnx: classes: those of inside.onnx, in its order: the file came without labels." in found["notes"]


def test_two_files_with_their_outputs_in_another_order_are_compared_by_name(planted, photos, weights, tmp_path):
    matrix, bias = weights
    planted.write_net(tmp_path / "a.onnx", weights)
    order = list(reversed(range(7)))
    planted.write_net(tmp_path / "b.onnx", (matrix[:, order], bias[order]), labels=planted.CLASSES[::-1])
    found = verify(tmp_path, photos, "a.onnx", "b.onnx")
    (pair,) = found["parity_matrix"]["pairs"]
    assert (pair["top1_agreement"], pair["lost"]) == (1.0, 0)
    assert pair["max_abs"] < 1e-5


def test_labels_that_tflite_metadata_tools_append_are_read(tiny_net, tmp_path):
    file = tiny_net(tmp_path / "net") / "net.tflite"
    assert read_signature(file).labels == ("a", "b", "c")
    bare = file.read_bytes().replace(b"labels.txt", b"nothing.at")
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("my_labels.txt", "x\ny\nz\n")
    (tmp_path / "packed.tflite").write_bytes(bare + packed.getvalue())
    assert read_signature(tmp_path / "packed.tflite").labels == ("x", "y", "z")


# --- where preprocessing comes from ------------------------------------------------------------------------------------


def test_an_input_of_integers_is_fed_pixels_on_its_own_grid(tiny_net, tmp_path):
    (file,) = of_paths([tiny_net(tmp_path / "net") / "net.tflite"])
    assert file.grid["dtype"] == "int8"
    assert file.way.normalization is not None
    # Black is the smallest of its integers, white the largest.
    pixels = np.array([0.0, 255.0])[:, None] * np.ones(3)
    integers = file.way.normalization.apply(pixels) / file.grid["scale"] + file.grid["zero_point"]
    np.testing.assert_allclose(integers[:, 0], [-128, 127], atol=1e-3)


def test_numbers_that_the_file_carries_are_taken(planted, weights, tmp_path):
    told = json.dumps({"mean": [1.0, 2.0, 3.0], "scale": [4.0, 5.0, 6.0]})
    file = planted.write_net(tmp_path / "net.onnx", weights, metadata={"preprocessing": told})
    assert of_paths([file])[0].way.normalization == Normalization((1.0, 2.0, 3.0), (4.0, 5.0, 6.0))
    planted.write_net(file, weights, metadata={"preprocessing": '{"mean": [1], "scale": [0, 0, 0]}'})
    assert of_paths([file])[0].way.normalization == RIGHT.normalization


def test_a_net_of_planes_and_one_without_its_softmax_are_run_as_they_are(planted, photos, weights, tmp_path):
    planted.write_net(tmp_path / "planes.onnx", weights, planes=True)
    planted.write_net(tmp_path / "logits.onnx", weights, softmax=False)
    found = verify(tmp_path, photos, "planes.onnx", "logits.onnx")
    assert set(top1(found).values()) == {1.0}
    assert [row["softmax_applied"] for row in found["versions"].values()] == [False, True]
    assert found["parity_matrix"]["pairs"][0]["max_abs"] < 1e-5


# --- what is refused ---------------------------------------------------------------------------------------------------


def test_a_net_of_other_classes_than_the_photos_is_an_error(planted, photos, weights, tmp_path):
    matrix, bias = weights
    planted.write_net(tmp_path / "five.onnx", (matrix[:, :5], bias[:5]), labels=None)
    with pytest.raises(DataError, match="five.onnx has 5 outputs per photo"):
        verify(tmp_path, photos, "five.onnx")
    planted.write_net(tmp_path / "five.onnx", (matrix[:, :5], bias[:5]), labels=planted.CLASSES)
    with pytest.raises(DataError, match=r"(?s)five.onnx has 5 outputs.*it has 7 labels.*metadata"):
        verify(tmp_path, photos, "five.onnx")
    planted.write_net(tmp_path / "all.onnx", weights)
    planted.write_net(tmp_path / "others.onnx", weights, labels=[f"{label}s" for label in planted.CLASSES])
    with pytest.raises(DataError, match="have different classes"):
        verify(tmp_path, photos, "all.onnx", "others.onnx")
    with pytest.raises(DataError, match="not a class of the model"):
        verify(tmp_path, photos, "others.onnx")


def test_what_is_no_model_is_an_error(photos, tmp_path):
    for name in ("bad.onnx", "bad.tflite"):
        (tmp_path / name).write_bytes(b"nothing that a runtime knows")
        with pytest.raises(DataError, match=f"{name} is refused by"):
            verify(tmp_path, photos, name)
    (tmp_path / "bundle").mkdir()
    with pytest.raises(UsageError, match="bundle is verified alone"):
        verify_paths([tmp_path / "bundle", tmp_path / "bad.onnx"], Asked(str(photos)), Store(tmp_path), PlainDisplay())


def test_a_backend_is_known_ready_and_of_use_or_it_is_said(planted, photos, weights, tmp_path, monkeypatch):
    planted.write_net(tmp_path / "net.onnx", weights)
    with pytest.raises(UsageError, match=r"(?s)no backend ort-gpu.*ort-cpu"):
        verify(tmp_path, photos, "net.onnx", backends=["ort-gpu"])
    with pytest.raises(UsageError, match="litert-cpu opens none of the files"):
        verify(tmp_path, photos, "net.onnx", backends=["litert-cpu"])
    monkeypatch.setattr("edgetl.runtimes.unavailable", lambda name: f"{name} is not here")
    with pytest.raises(MissingError, match=r"(?s)ort-cpu is not ready here.*ort-cpu is not here"):
        verify(tmp_path, photos, "net.onnx", backends=["ort-cpu"])


def test_a_backend_is_used_when_asked_for_and_held_against_the_usual_one(
    planted, photos, weights, tmp_path, monkeypatch
):
    # A provider of its own name on the same kernels: what is looked at is that both are run and compared.
    monkeypatch.setitem(BACKENDS, "ort-again", replace(BACKENDS["ort-cpu"], default=False))
    monkeypatch.setitem(ort._PROVIDERS, "ort-again", ort._PROVIDERS["ort-cpu"])
    planted.write_net(tmp_path / "net.onnx", weights)
    assert set(verify(tmp_path, photos, "net.onnx")["versions"]) == {"net.onnx@ort-cpu"}
    found = verify(tmp_path, photos, "net.onnx", backends=["ort-again"])
    assert set(found["versions"]) == {"net.onnx@ort-cpu", "net.onnx@ort-again"}
    assert {check["subject"] for check in found["checks"] if check["metric"] == "top1_disagreement"} == {
        "net.onnx@ort-cpu = net.onnx@ort-again"
    }


# --- how it ends -------------------------------------------------------------------------------------------------------


def test_a_drop_past_the_limit_is_exit_code_6_and_names_why(planted, photos, weights, tmp_path):
    planted.write_net(tmp_path / "good.onnx", weights)
    flipped = weights[0].reshape(16, 16, 3, 7)[:, :, ::-1].reshape(768, 7)
    planted.write_net(tmp_path / "bgr.onnx", (flipped, weights[1]))
    files = [str(tmp_path / "good.onnx"), str(tmp_path / "bgr.onnx")]
    done = command(tmp_path, photos, *files, "--max-drop", "0.5")
    assert done.returncode == 6, done.stderr
    assert max(len(line) for line in done.stdout.splitlines()) <= 80
    said = " ".join(done.stdout.split())
    assert "Why: bgr.onnx@ort-cpu With BGR, it is right on 100.0 %" in said
    assert "file expects: BGR, (pixel - 127.5) / 127.5, stretch: all of the photo" in said
    assert "macro-F1" in said
    assert "1 pear" in said
    assert "good.onnx: preprocessing: RGB, (pixel - 127.5) / 127.5" in said
    # The same gate, and nothing wrong.
    done = command(tmp_path, photos, files[0], "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    row = found["versions"]["good.onnx@ort-cpu"]
    assert (row["by_class"]["macro"]["f1"], found["bundle"], found["diagnoses"]) == (1.0, None, [])
    assert 0 <= row["calibration"]["ece"] < 0.3


def test_a_limit_with_nothing_to_compare_with_is_exit_code_8_when_strict(planted, photos, weights, tmp_path):
    bytes_ = {"dtype": "uint8", "scale": 1 / 127.5, "zero_point": 128}
    planted.write_net(tmp_path / "net.onnx", weights, grid=bytes_)
    shutil.copyfile(tmp_path / "net.onnx", tmp_path / "again.onnx")
    found = verify(tmp_path, photos, "net.onnx", "again.onnx", max_drop_pp=1.0)
    drops = [check for check in found["checks"] if check["metric"] == "top1_drop_pp"]
    assert {check["status"] for check in drops} == {"unmeasured"}
    assert command(tmp_path, photos, str(tmp_path / "net.onnx"), "--max-drop", "1", "--strict").returncode == 8
    assert command(tmp_path, photos, str(tmp_path / "net.onnx"), "--backend", "ort-nothing").returncode == 2
