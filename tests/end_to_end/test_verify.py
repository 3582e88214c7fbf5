"""`edgetl verify` as a person and a script meet it: a bundle of a net of six ops, photos that its float net is sure of,
and one defect after the other planted in it."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import flatbuffers
import numpy as np
import onnx
import pytest
from ai_edge_litert import schema_py_generated as schema
from PIL import Image

from edgetl.bundle.golden import int8_grid, write_golden
from edgetl.commands.verify.run import Asked, verify_bundle, verify_models
from edgetl.console.progress import PlainDisplay
from edgetl.core.errors import DataError, UsageError
from edgetl.core.store import Store, file_sha256
from edgetl.formats.write.onnx_float import write_onnx_float
from edgetl.formats.write.onnx_int8 import write_onnx_int8
from edgetl.formats.write.tflite_float import write_tflite_float
from edgetl.formats.write.tflite_int8 import write_tflite_int8
from edgetl.quantization.integers import quantize_graph
from edgetl.runtimes import open_sessions
from edgetl.tasks.photos.contract import Normalization, View, describe_input
from edgetl.tasks.photos.decode import load_view

# Not in the order of the folders' names: a class is found by its name.
CLASSES = ("pear", "apple", "fig")
NORMALIZATION = Normalization((128.0,) * 3, (127.5,) * 3)
VIEW = View(16, "stretch", 0.875)
PER_CLASS = 20
# What a light install has not.
ABSENT = ("tensorflow", "tf_keras", "tensorflow_model_optimization", "onnx", "tf2onnx", "h5py", "jinja2")
RANGES = {"x": (-1.0, 1.0), "first": (0.0, 5.0), "deep": (0.0, 6.0), "flat": (-8.0, 7.0), "sum": (-8.0, 9.0)}
RANGES |= {"pooled": (-2.0, 3.0), "logits": (-10.0, 10.0)}
# With these each of the three classes is some photo's.
LOGITS_BIAS = np.array([1.9, -2.9, 1.0], np.float32)
FILES = (("float32", "tflite"), ("float32", "onnx"), ("int8", "tflite"), ("int8", "onnx"))


@pytest.fixture(scope="module")
def whole(tiny_net: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `bundle`, as a build leaves it, and `photos`: of each class those its float net is sure of."""
    folder = tmp_path_factory.mktemp("verify")
    bundle = folder / "bundle"
    (bundle / "models").mkdir(parents=True)
    # The net of the other tests, surer of itself.
    logits = tiny_net.graph.nodes[-1]
    logits = replace(logits, kernel=2 * logits.kernel, bias=LOGITS_BIAS)
    graph = replace(tiny_net.graph, nodes=(*tiny_net.graph.nodes[:-1], logits))
    integers = quantize_graph(graph, RANGES)
    rows = [_write(bundle / "models", graph, integers, *job) for job in FILES]

    sessions, _ = open_sessions(bundle / "models", [row["file"].split("/")[1] for row in rows], threads=1)
    counts = dict.fromkeys(CLASSES, 0)
    random = np.random.default_rng(7)
    while min(counts.values()) < PER_CLASS:
        pixels = np.clip(random.uniform(0, 255, 3) + random.normal(0, 40, (20, 24, 3)), 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / "photo.png")
        image = NORMALIZATION.apply(load_view(folder / "photo.png", VIEW).astype(np.float32))
        (found,) = sessions["student.float32.tflite@litert-cpu"].run(image[None])
        label = CLASSES[int(found.argmax())]
        if np.sort(found)[-1] - np.sort(found)[-2] > 0.15 and counts[label] < PER_CLASS:
            counts[label] += 1
            place = folder / "photos" / label / f"{counts[label]}.png"
            place.parent.mkdir(parents=True, exist_ok=True)
            (folder / "photo.png").rename(place)

    grid = int8_grid([row["input"] for row in rows])
    firsts = [(folder / "photos" / label / "1.png", label) for label in CLASSES]
    write_golden(bundle / "golden", firsts, NORMALIZATION, VIEW, grid=grid, sessions=sessions)
    labels = "\n".join(CLASSES) + "\n"
    (bundle / "labels.txt").write_text(labels)
    report = {
        "target": {"name": "raspberry-pi-4", "budget": {"top1_drop_pp": 8.0, "model_bytes": 50_000}},
        "dataset": {"classes": CLASSES, "fingerprint": "sha256:0"},
        "models": rows,
    }
    contract = {
        "input": describe_input(NORMALIZATION, VIEW),
        "labels": {"sha256": hashlib.sha256(labels.encode()).hexdigest()},
        "files": {row["file"]: {"sha256": row["sha256"]} for row in rows},
    }
    (bundle / "report.json").write_text(json.dumps(report))
    (bundle / "contract.json").write_text(json.dumps(contract))
    blue_first = graph.nodes[1].kernel[:, :, ::-1]
    exchanged = replace(graph, nodes=(graph.nodes[0], replace(graph.nodes[1], kernel=blue_first), *graph.nodes[2:]))
    _write(folder, exchanged, quantize_graph(exchanged, RANGES), "int8", "tflite")
    return folder


def _write(folder: Path, graph: Any, integers: Any, precision: str, suffix: str) -> dict[str, Any]:
    """A model file, and its row in report.json."""
    file, grid = folder / f"student.{precision}.{suffix}", integers["x"]
    taken: dict[str, Any] = {"dtype": "float32"}
    if (precision, suffix) == ("float32", "tflite"):
        file.write_bytes(write_tflite_float(graph, precision="float32", description="", metadata={}))
    elif precision == "float32":
        onnx.save(write_onnx_float(graph, opset=17, description="", metadata={}), file)
    elif suffix == "tflite":
        file.write_bytes(write_tflite_int8(graph, integers, description="", metadata={}))
        taken = {"dtype": "int8", "scale": grid.scale, "zero_point": grid.zero_point}
    else:
        props = {"input_scale": repr(grid.scale), "input_zero_point": str(grid.zero_point + 128)}
        onnx.save(write_onnx_int8(graph, integers, opset=17, description="", metadata=props), file)
        taken = {"dtype": "uint8", "scale": grid.scale, "zero_point": grid.zero_point + 128}
    return {
        "file": f"models/{file.name}",
        "role": "student",
        "format": suffix,
        "precision": precision,
        "ships": precision == "int8",
        "accuracy": {"litert-cpu" if suffix == "tflite" else "ort-cpu": {"top1": 1.0, "n": 60}},
        "input": taken,
        "sha256": file_sha256(file),
    }


@pytest.fixture
def work(whole: Path, tmp_path: Path) -> Path:
    """A copy to plant defects in."""
    shutil.copytree(whole, tmp_path / "work")
    return tmp_path / "work"


def command(work: Path, *more: str) -> subprocess.CompletedProcess[str]:
    """The command line where TensorFlow and onnx are not installed."""
    program = (
        f"import sys\nfor name in {ABSENT}: sys.modules[name] = None\nfrom edgetl.commands.app import main\nmain()"
    )
    arguments = ["verify", str(work / "bundle"), "--data", str(work / "photos"), "--cache", str(work / "cache"), *more]
    env = {**os.environ, "NO_COLOR": "1", "COLUMNS": "80"}
    return subprocess.run([sys.executable, "-c", program, *arguments], env=env, capture_output=True, text=True)


def verify(work: Path, **more: Any) -> dict[str, Any]:
    return verify_bundle(work / "bundle", Asked(str(work / "photos"), **more), Store(work / "cache"), PlainDisplay())


def statuses(found: dict[str, Any], metric: str) -> dict[str, str]:
    return {check["subject"]: check["status"] for check in found["checks"] if check["metric"] == metric}


def failing(found: dict[str, Any]) -> set[tuple[str, str]]:
    return {(check["metric"], check["subject"]) for check in found["checks"] if check["status"] == "fail"}


def edit_json(file: Path, change: Callable[[Any], object]) -> None:
    data = json.loads(file.read_text())
    change(data)
    file.write_text(json.dumps(data))


def pass_for_built(bundle: Path, name: str) -> None:
    """Write a changed file's digest where the bundle promises it: what hashes cannot tell, measuring has to."""
    digest = file_sha256(bundle / "models" / name)

    def renew(data: Any) -> None:
        rows = data["files"] if "files" in data else {row["file"]: row for row in data["models"]}
        rows[f"models/{name}"]["sha256"] = digest

    for file in ("report.json", "contract.json"):
        edit_json(bundle / file, renew)


# --- a bundle as it was built ------------------------------------------------------------------------------------------


def test_a_clean_bundle_verifies_where_tensorflow_is_not_installed(work):
    done = command(work)
    assert done.returncode == 0, done.stderr
    assert "…" not in done.stdout
    assert max(len(line) for line in done.stdout.splitlines()) <= 80
    assert "[2/2] verify: " in done.stderr
    assert "XNNPACK" not in done.stderr + done.stdout
    said = " ".join(done.stdout.split())
    for fact in (
        "raspberry-pi-4: 60 photos",
        "float32.tflite litert-cpu 100.0 94.0-100.0 -",
        "int8.onnx ort-cpu 100.0 94.0-100.0 0.0 -3.2 to 3.2 100.0 100.0 ",
        "student.int8.tflite@litert-cpu 0.0 % 0.8 of 1/256 100.0 %",
        "checks passed (1 golden_input, 4 golden, ",
        "inconclusive top1_disagreement student.int8.tflite@litert-cpu = student.int8.onnx@ort-cpu",
    ):
        assert fact in said, fact


def test_what_sixty_photos_cannot_prove_is_exit_code_8_when_strict(work):
    done = command(work, "--strict", "--json")
    assert done.returncode == 8, done.stderr
    found = json.loads(done.stdout)
    assert (found["schema_version"], found["exit_code"]) == (1, 8)
    matrix = found["parity_matrix"]
    names = [f"models/student.{precision}.{suffix}" for precision, suffix in FILES]
    assert [name.split("@")[0] for name in matrix["names"]] == names
    assert len(matrix["pairs"]) == 4 * 3 / 2
    assert found["data"]["per_class"] == dict.fromkeys(CLASSES, PER_CLASS)
    # By name: in the folders' order apple would be the first output.
    assert found["versions"]["models/student.float32.onnx@ort-cpu"]["confusion"] == (PER_CLASS * np.eye(3)).tolist()
    assert found["golden"]["differing"] == 0
    assert found["golden"]["values"] == 2 * 3 * 16 * 16 * 3, "float32 and int8 tensors of three photos"


def test_the_drop_allowed_is_the_target_s_unless_one_is_given(work):
    assert set(statuses(verify(work), "top1_drop_pp").values()) == {"pass"}
    assert set(statuses(verify(work, max_drop_pp=1.0), "top1_drop_pp").values()) == {"inconclusive"}


@pytest.mark.parametrize("limit", [-1.0, 101.0, float("nan")])
def test_a_limit_that_is_none_is_refused(limit, work):
    with pytest.raises(UsageError, match="cannot be a limit"):
        verify(work, max_drop_pp=limit)


def test_of_photos_that_are_split_those_for_testing_alone_are_measured(work):
    for split, kept in (("train", range(1, 13)), ("test", range(13, PER_CLASS + 1))):
        for label in CLASSES:
            (work / "split" / split / label).mkdir(parents=True)
            for i in kept:
                shutil.copyfile(work / "photos" / label / f"{i}.png", work / "split" / split / label / f"{i}.png")
    (work / "photos").rename(work / "all")
    (work / "split").rename(work / "photos")
    data = verify(work)["data"]
    assert (data["split"], data["n"]) == ("test", 3 * 8)


def test_photos_that_the_bundle_was_built_from_are_told(work):
    found = verify(work)["data"]
    assert not found["trained_on"]
    edit_json(
        work / "bundle" / "report.json", lambda report: report["dataset"].update(fingerprint=found["fingerprint"])
    )
    assert verify(work)["data"]["trained_on"]
    assert "most of them were used for training" in " ".join(command(work).stdout.split())


# --- a bundle that was changed -----------------------------------------------------------------------------------------


def test_a_flipped_byte_in_a_model_is_named(work):
    file = work / "bundle" / "models" / "student.int8.onnx"
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    done = command(work)
    assert done.returncode == 4
    assert done.stdout == ""
    assert "models/student.int8.onnx was changed" in done.stderr
    assert "int8.tflite" not in done.stderr


def swap_labels(bundle: Path) -> None:
    lines = (bundle / "labels.txt").read_text().split()
    (bundle / "labels.txt").write_text("".join(f"{line}\n" for line in [lines[1], lines[0], *lines[2:]]))


def swap_labels_and_their_hash(bundle: Path) -> None:
    swap_labels(bundle)
    digest = file_sha256(bundle / "labels.txt")
    edit_json(bundle / "contract.json", lambda contract: contract["labels"].update(sha256=digest))


def promise_another_file(bundle: Path) -> None:
    edit_json(
        bundle / "contract.json", lambda contract: contract["files"]["models/student.int8.onnx"].update(sha256="0" * 64)
    )


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (swap_labels, r"labels\.txt was changed.*\n.*not have the classes of report\.json, in their order"),
        (swap_labels_and_their_hash, r"labels\.txt does not have the classes of report\.json, in their order"),
        (lambda bundle: (bundle / "labels.txt").unlink(), "labels.txt is missing"),
        (lambda bundle: (bundle / "models" / "student.int8.tflite").unlink(), "student.int8.tflite is missing"),
        (promise_another_file, "different sha256 in contract.json"),
        (lambda bundle: (bundle / "contract.json").unlink(), "is not a bundle"),
        (lambda bundle: (bundle / "report.json").unlink(), "it has no report.json"),
        (lambda bundle: (bundle / "contract.json").write_text("{"), "cannot be read"),
        (lambda bundle: (bundle / "contract.json").write_text("[]"), "not those of a build"),
        (
            lambda bundle: edit_json(
                bundle / "report.json", lambda report: report["models"][0].update(file="models/../x.tflite")
            ),
            "not the name of a file",
        ),
        (
            lambda bundle: edit_json(
                bundle / "contract.json", lambda contract: contract["input"].update(layout="NCHW")
            ),
            "layout: different from what edgetl writes",
        ),
        (
            lambda bundle: edit_json(
                bundle / "golden" / "golden.json", lambda golden: golden["photos"][0].update(photo="../labels.txt")
            ),
            "not the name of a file in golden/",
        ),
        (lambda bundle: (bundle / "golden" / "1.image.int8.bin").write_bytes(b"short"), "cannot be replayed"),
    ],
)
def test_what_is_not_as_it_was_built_is_said(change, said, work):
    change(work / "bundle")
    with pytest.raises(DataError) as caught:
        verify(work)
    assert re.search(said, str(caught.value)), caught.value


def test_classes_the_bundle_does_not_know_and_classes_without_photos_are_one_message(work):
    (work / "photos" / "fig").rename(work / "photos" / "date")
    (work / "photos" / "plum").mkdir()
    done = command(work)
    assert done.returncode == 4
    assert "date: not a class of the bundle" in done.stderr
    assert "plum: not a class of the bundle" in done.stderr
    assert "fig: no photo of this class" in done.stderr


# --- what hashes cannot tell -------------------------------------------------------------------------------------------


def test_a_broken_bias_fails_golden_and_the_drop_and_no_other_file(work):
    file = work / "bundle" / "models" / "student.int8.tflite"
    model = schema.ModelT.InitFromPackedBuf(file.read_bytes())
    graph = model.subgraphs[0]
    (dense,) = (
        op
        for op in graph.operators
        if model.operatorCodes[op.opcodeIndex].builtinCode == schema.BuiltinOperator.FULLY_CONNECTED
    )
    buffer = model.buffers[graph.tensors[dense.inputs[2]].buffer]
    biases = np.frombuffer(bytes(buffer.data), np.int32).copy()
    biases[0] += 20_000  # some six logits
    buffer.data = np.frombuffer(biases.tobytes(), np.uint8)
    builder = flatbuffers.Builder(1 << 16)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    file.write_bytes(builder.Output())
    pass_for_built(work / "bundle", file.name)

    done = command(work, "--json")
    assert done.returncode == 6, done.stderr
    found = json.loads(done.stdout)
    version = "student.int8.tflite@litert-cpu"
    assert {("golden", version), ("top1_drop_pp", version)} <= failing(found)
    assert all("student.int8.tflite" in subject for _, subject in failing(found))
    assert found["versions"][f"models/{version}"]["accuracy"]["top1"] < 0.9


def test_a_contract_with_another_mean_fails_on_the_golden_photos(work):
    # A fifth of a grey level: no answer changes.
    edit_json(
        work / "bundle" / "contract.json",
        lambda contract: contract["input"]["normalization"].update(mean=[128.2, 128.2, 128.2]),
    )
    found = verify(work)
    assert ("golden_input", "contract.json") in failing(found)
    assert set(statuses(found, "golden").values()) == {"pass"}, "the files themselves are sound"
    (row,) = found["diagnoses"]
    assert (row["outcome"], row["names"]) == ("contract changed", [])
    assert row["golden_made_with"] == "RGB, (pixel - 128) / 127.5, stretch: 0.875 of the photo"


def test_one_file_answering_for_another_is_told_by_golden(work):
    models = work / "bundle" / "models"
    shutil.copyfile(models / "student.float32.onnx", models / "student.int8.onnx")
    pass_for_built(work / "bundle", "student.int8.onnx")
    assert ("golden", "student.int8.onnx@ort-cpu") in failing(verify(work))


def test_a_contract_that_was_changed_is_told_from_golden_with_its_own_numbers(work):
    edit_json(
        work / "bundle" / "contract.json",
        lambda contract: contract["input"]["normalization"].update(mean=[0.0] * 3, scale=[255.0] * 3),
    )
    done = command(work)
    assert done.returncode == 6, done.stderr
    said = " ".join(done.stdout.split())
    assert (
        "golden/ was made with RGB, (pixel - 128) / 127.5, stretch: 0.875 of the photo, and contract.json says RGB, (pixel - 0) / 255"
        in said
    )
    mend = "fix: take contract.json from the bundle as it was built."
    # Before any table.
    assert said.index("fail golden_input contract.json: ") < said.index(mend) < said.index("raspberry-pi-4: 60 photos")
    found = verify(work)
    assert {"top1_below_build_pp", "golden_input"} <= {metric for metric, _ in failing(found)}
    (row,) = found["diagnoses"]
    # All files are off for one reason: the float file stands for them.
    assert (row["file"], row["expected"]["top1"]) == ("models/student.float32.tflite", 1.0)
    assert row["outcome"] == "contract changed"
    assert "-1..1" in row["names"]


def test_a_file_exchanged_for_one_that_takes_bgr_is_named(work):
    shutil.copyfile(work / "student.int8.tflite", work / "bundle" / "models" / "student.int8.tflite")
    pass_for_built(work / "bundle", "student.int8.tflite")
    done = command(work)
    assert done.returncode == 6, done.stderr
    said = " ".join(done.stdout.split())
    assert "Why: student.int8.tflite@litert-cpu With BGR, it is right on" in said
    assert "100.0 % measured by the build on its test photos" in said
    assert "golden/ was made as contract.json says: so the model file was replaced" in said
    found = verify(work)
    assert [(row["file"], row["names"]) for row in found["diagnoses"]] == [("models/student.int8.tflite", ["BGR"])]
    assert verify(work, diagnose=False)["diagnoses"] == []


def test_an_app_s_answers_are_held_against_the_file_that_ships(work):
    sessions, _ = open_sessions(work / "bundle" / "models", ["student.int8.tflite"], threads=1)
    lines = ["path,label"]
    for path in sorted((work / "photos").glob("*/*.png")):
        image = NORMALIZATION.apply(load_view(path, VIEW)[..., ::-1].astype(np.float32))
        (found,) = sessions["student.int8.tflite@litert-cpu"].run(image[None])
        lines.append(f"{path.parent.name}/{path.name},{CLASSES[int(found.argmax())]}")
    (work / "app.csv").write_text("\n".join(lines))
    done = command(work, "--answers", str(work / "app.csv"))
    assert done.returncode == 6, done.stderr
    said = " ".join(done.stdout.split())
    assert (
        "Why: the app, compared with student.int8.tflite@litert-cpu BGR: with this mistake the file gives 100.0 %"
        in said
    )
    assert "fix, in the app: give it red first" in said
    assert "fail top1_disagreement the app = student.int8.tflite@litert-cpu" in said


def test_a_file_of_a_bundle_given_alone_has_its_bundle_s_contract_while_it_is_that_file(work):
    file = work / "bundle" / "models" / "student.int8.onnx"

    def alone() -> dict[str, Any]:
        return verify_models([file], Asked(str(work / "photos")), Store(work / "cache"), PlainDisplay())

    found = alone()
    assert found["versions"]["student.int8.onnx@ort-cpu"]["accuracy"]["top1"] == 1.0
    assert "student.int8.onnx: preprocessing: contract.json of its bundle." in found["notes"]
    edit_json(
        work / "bundle" / "contract.json", lambda contract: contract["files"][f"models/{file.name}"].update(sha256="0")
    )
    (work / "bundle" / "models" / "labels.txt").write_text("\n".join(CLASSES))
    assert "labels.txt beside it" in " ".join(alone()["notes"])


def test_a_file_larger_than_its_target_allows_is_exit_code_7(work):
    edit_json(work / "bundle" / "report.json", lambda report: report["target"]["budget"].update(model_bytes=2_000))
    done = command(work)
    assert done.returncode == 7, done.stdout
    assert failing(verify(work)) == {
        ("model_bytes", "student.int8.tflite"),
        ("model_bytes", "student.int8.onnx"),
    }


@pytest.mark.parametrize("damage", [float("nan"), float("inf"), 0.5], ids=["NaN", "infinity", "one number"])
def test_golden_answers_that_are_no_numbers_never_pass(work, damage):
    """A comparison with NaN fails nothing, and NumPy repeats one number for every class."""

    def spoil(index: Any) -> None:
        for row in index["photos"]:
            for name, values in row["probabilities"].items():
                row["probabilities"][name] = damage if damage == 0.5 else [damage] * len(values)

    edit_json(work / "bundle" / "golden" / "golden.json", spoil)
    with pytest.raises(DataError, match="golden/ cannot be replayed"):
        verify(work)


def test_a_file_that_gives_its_recorded_answers_is_not_called_replaced(work):
    """Photos prepared in another way are not the bundle's fault."""
    for photo in (work / "photos").rglob("*.png"):
        with Image.open(photo) as image:
            red, green, blue = image.convert("RGB").split()
        Image.merge("RGB", (blue, green, red)).save(photo)
    done = command(work)
    assert done.returncode == 6, done.stderr
    said = " ".join(done.stdout.split())
    assert "With BGR, it is right on" in said
    assert "neither it nor contract.json was changed" in said and "was replaced" not in said
    assert "fix: check how these photos were prepared" in said


# --- what cannot be measured -------------------------------------------------------------------------------------------


def test_without_golden_photos_nothing_is_replayed_and_nothing_passes_for_it(work):
    shutil.rmtree(work / "bundle" / "golden")
    found = verify(work)
    assert found["golden"] is None
    assert statuses(found, "golden") == {"golden/": "unmeasured"}
    assert statuses(found, "golden_input") == {}


def test_a_runtime_that_is_not_here_leaves_its_files_unmeasured(work, monkeypatch):
    monkeypatch.setattr("edgetl.runtimes.ort.unavailable", lambda backend: "onnxruntime is not installed")
    found = verify(work)
    assert {name.split("@")[1] for name in found["versions"]} == {"litert-cpu"}
    assert statuses(found, "top1_drop_pp") == {
        "student.int8.tflite@litert-cpu": "pass",
        "student.int8.onnx@ort-cpu": "unmeasured",
    }
    assert statuses(found, "golden")["student.float32.onnx@ort-cpu"] == "unmeasured"
    assert {check["reason"] for check in found["checks"] if check["status"] == "unmeasured"} == {
        "onnxruntime is not installed"
    }


def test_a_file_that_no_runtime_takes_is_named(work):
    for name in ("student.int8.onnx", "student.int8.tflite"):
        file = work / "bundle" / "models" / name
        before = file.read_bytes()
        file.write_bytes(before[: len(before) // 3])
        pass_for_built(work / "bundle", name)
        with pytest.raises(DataError, match=f"{name} is refused by"):
            verify(work)
        file.write_bytes(before)
        pass_for_built(work / "bundle", name)
