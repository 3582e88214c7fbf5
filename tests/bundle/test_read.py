"""A bundle opens as it was built, and every change to one of its files is an error that names the file."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgetl.bundle.read import open_bundle
from edgetl.core.errors import DataError
from tests.commands.build.test_layout import laid_out

CLASSES = ("daisy", "rose", "tulip")
FLOAT, INT8, TEACHER = "student.float32.tflite", "student.int8.tflite", "teacher.float32.onnx"
# Stand-ins: open_bundle reads no model file, only its bytes.
CONTENTS = {FLOAT: b"float model", INT8: b"int8 model", TEACHER: b"teacher model"}
Change = Callable[[Path], Any]


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def model_row(file: str) -> dict[str, Any]:
    role, precision, kind = file.split(".")
    grid = {"dtype": "int8", "scale": 0.0078125, "zero_point": -1} if precision == "int8" else {"dtype": "float32"}
    return {
        "file": f"models/{file}",
        "role": role,
        "format": kind,
        "precision": precision,
        "ships": file == INT8,
        "input": {"name": "image", **grid},
        "sha256": sha256(CONTENTS[file]),
        "accuracy": {"litert-cpu": {"top1": 0.75, "n": 40}},
    }


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """The parts of a bundle that open_bundle reads: two files of the student, one of the teacher."""
    folder = tmp_path / "bundle"
    (folder / "models").mkdir(parents=True)
    for file, data in CONTENTS.items():
        (folder / "models" / file).write_bytes(data)
    labels = "".join(f"{label}\n" for label in CLASSES).encode()
    (folder / "labels.txt").write_bytes(labels)
    report = {
        "models": [model_row(file) for file in (INT8, TEACHER, FLOAT)],
        "target": {"name": "raspberry-pi-4", "budget": {"top1_drop_pp": 1.5, "model_bytes": 4_000_000}},
        "dataset": {"classes": list(CLASSES), "fingerprint": "f00d"},
    }
    contract = {
        "input": {"size": 224},
        "files": {f"models/{file}": {"sha256": sha256(CONTENTS[file])} for file in (FLOAT, INT8)},
        "labels": {"file": "labels.txt", "sha256": sha256(labels)},
    }
    (folder / "report.json").write_text(json.dumps(report))
    (folder / "contract.json").write_text(json.dumps(contract))
    return folder


def rewrite(name: str, change: Callable[[Any], Any]) -> Change:
    """A change of a JSON file. change: alters the parsed data in place."""

    def apply(folder: Path) -> None:
        data = json.loads((folder / name).read_text())
        change(data)
        (folder / name).write_text(json.dumps(data))

    return apply


def flip_a_byte(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


def test_a_bundle_as_it_was_built_opens(bundle: Path) -> None:
    opened = open_bundle(bundle)
    assert (opened.folder, opened.target, opened.classes) == (bundle, "raspberry-pi-4", CLASSES)
    assert (opened.top1_drop_pp, opened.model_bytes, opened.fingerprint) == (1.5, 4_000_000, "f00d")
    assert opened.input == {"size": 224}
    assert [file.name for file in opened.files] == [INT8, TEACHER, FLOAT]
    assert [file.name for file in opened.student_files] == [FLOAT, INT8]  # float32 first
    int8 = opened.files[0]
    assert (int8.role, int8.format, int8.precision, int8.ships) == ("student", "tflite", "int8", True)
    assert (int8.input["dtype"], int8.input["scale"], int8.input["zero_point"]) == ("int8", 0.0078125, -1)
    assert int8.recorded == {"litert-cpu": (0.75, 40)}


def test_a_budget_without_a_size_has_none(bundle: Path) -> None:
    rewrite("report.json", lambda report: report["target"]["budget"].pop("model_bytes"))(bundle)
    assert open_bundle(bundle).model_bytes is None


@pytest.mark.parametrize("file", CONTENTS)
def test_one_changed_bit_of_a_model_is_an_error_that_names_the_file(file: str, bundle: Path) -> None:
    flip_a_byte(bundle / "models" / file)
    with pytest.raises(DataError, match=rf"is not as it was built:\n  - models/{file} was changed") as caught:
        open_bundle(bundle)
    assert str(caught.value).count("  - ") == 1


@pytest.mark.parametrize("file", CONTENTS)
def test_a_missing_model_is_an_error_that_names_the_file(file: str, bundle: Path) -> None:
    (bundle / "models" / file).unlink()
    with pytest.raises(DataError, match=rf"is not as it was built:\n  - models/{file} is missing\n"):
        open_bundle(bundle)


def test_models_that_changed_places_are_both_named(bundle: Path) -> None:
    """A file is known by its bytes, not by its name."""
    for one, other in ((FLOAT, INT8), (INT8, FLOAT)):
        (bundle / "models" / one).write_bytes(CONTENTS[other])
    with pytest.raises(DataError, match=rf"(?s)models/{INT8} was changed.*models/{FLOAT} was changed"):
        open_bundle(bundle)


def set_labels(text: str, *, with_digest: bool = False) -> Change:
    def apply(folder: Path) -> None:
        (folder / "labels.txt").write_text(text)
        if with_digest:
            digest = sha256(text.encode())
            rewrite("contract.json", lambda contract: contract["labels"].update(sha256=digest))(folder)

    return apply


@pytest.mark.parametrize(
    ("change", "faults"),
    [
        (lambda folder: (folder / "labels.txt").unlink(), ["is missing"]),
        (set_labels("daisy\nrose\ntulip"), ["was changed"]),
        (set_labels("rose\ndaisy\ntulip\n"), ["was changed", "does not have the classes"]),
        (set_labels("rose\ndaisy\ntulip\n", with_digest=True), ["does not have the classes"]),
        (set_labels("daisy\nrose\n", with_digest=True), ["does not have the classes"]),
        (set_labels("daisy\nrose\ntulip\n\n", with_digest=True), ["does not have the classes"]),
    ],
    ids=["missing", "no last line end", "swapped", "swapped, new digest", "one less, new digest", "an empty one more"],
)
def test_labels_that_do_not_fit_are_an_error(change: Change, faults: list[str], bundle: Path) -> None:
    change(bundle)
    with pytest.raises(DataError, match="is not as it was built") as caught:
        open_bundle(bundle)
    lines = [line for line in caught.value.what.splitlines() if line.startswith("  - ")]
    assert len(lines) == len(faults)
    for line, fault in zip(lines, faults, strict=True):
        assert line.startswith(f"  - labels.txt {fault}")


def test_all_faults_are_in_one_message(bundle: Path) -> None:
    (bundle / "models" / FLOAT).unlink()
    flip_a_byte(bundle / "models" / TEACHER)
    (bundle / "labels.txt").unlink()
    with pytest.raises(DataError, match=rf"(?s){TEACHER} was changed.*{FLOAT} is missing.*labels.txt is missing"):
        open_bundle(bundle)


def test_a_contract_of_another_file_is_an_error(bundle: Path) -> None:
    other = {"sha256": sha256(b"another model")}
    rewrite("contract.json", lambda contract: contract["files"].update({f"models/{INT8}": other}))(bundle)
    with pytest.raises(DataError, match=rf"models/{INT8} has different sha256 in contract.json and report.json"):
        open_bundle(bundle)


@pytest.mark.parametrize("name", ["report.json", "contract.json"])
def test_a_folder_without_report_or_contract_is_not_a_bundle(name: str, bundle: Path) -> None:
    (bundle / name).unlink()
    with pytest.raises(DataError, match=rf"(?s)is not a bundle.*it has no {name}"):
        open_bundle(bundle)


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "{}", '{"models": 7}', "\ud800".encode("utf-8", "surrogatepass").decode("latin-1")]
)
def test_a_damaged_report_is_an_error_that_names_it(text: str, bundle: Path) -> None:
    (bundle / "report.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(DataError, match=r"report\.json is not a report of a build"):
        open_bundle(bundle)


def test_a_contract_that_is_not_json_is_an_error_that_names_it(bundle: Path) -> None:
    (bundle / "contract.json").write_text("{")
    with pytest.raises(DataError, match=r"contract\.json cannot be read"):
        open_bundle(bundle)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (rewrite("report.json", lambda report: report.pop("target")), "KeyError: 'target'"),
        (rewrite("report.json", lambda report: report["target"]["budget"].update(top1_drop_pp=101)), "101"),
        (rewrite("report.json", lambda report: report["dataset"].update(classes=[])), "no classes"),
        (rewrite("report.json", lambda report: report.update(models=report["models"][1:2])), "no files of a student"),
        (rewrite("report.json", lambda report: report["models"][0]["input"].update(dtype="int16")), "int16"),
        (
            rewrite("report.json", lambda report: report["models"][0]["accuracy"]["litert-cpu"].update(top1=1.5)),
            "impossible accuracy",
        ),
        (rewrite("contract.json", lambda contract: contract.pop("labels")), "KeyError: 'labels'"),
        (rewrite("contract.json", lambda contract: contract.update(files=7)), "TypeError"),
    ],
    ids=["no target", "a budget over 100", "no classes", "no student", "int16", "accuracy", "no labels", "files"],
)
def test_impossible_contents_are_an_error_that_gives_the_reason(change: Change, reason: str, bundle: Path) -> None:
    change(bundle)
    with pytest.raises(DataError, match=r"report\.json and contract\.json are not those of a build") as caught:
        open_bundle(bundle)
    assert reason in caught.value.why


@pytest.mark.parametrize("name", ["../../secret.tflite", "a/b.tflite", ".hidden", "", "\x1b[2Jx.tflite"])
def test_a_report_cannot_name_files_outside_models(name: str, bundle: Path) -> None:
    rewrite("report.json", lambda report: report["models"][0].update(file=f"models/{name}"))(bundle)
    with pytest.raises(DataError, match="is not the name of a file in models/") as caught:
        open_bundle(bundle)
    assert "\x1b" not in str(caught.value)


def test_what_a_build_lays_out_is_read(tmp_path: Path) -> None:
    """The keys above are those that a build writes: only the files of a student are missing here."""
    laid_out(tmp_path / "out", False, "a label")
    with pytest.raises(DataError, match="no files of a student"):
        open_bundle(tmp_path / "out")
