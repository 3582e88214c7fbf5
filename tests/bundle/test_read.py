"""A bundle is read only as it was built: one changed byte, or a missing file, is named."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from edgetl.bundle.files import read_report
from edgetl.bundle.read import open_bundle
from edgetl.core.errors import DataError

CLASSES = ["daisy", "rose"]
FILES = {"student.float32.tflite": "float32", "student.int8.tflite": "int8"}
GRID = {"dtype": "int8", "scale": 0.5, "zero_point": -3}


def sha256(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """The smallest folder that open_bundle accepts."""
    (tmp_path / "models").mkdir()
    for name in FILES:
        (tmp_path / "models" / name).write_bytes(name.encode())
    (tmp_path / "labels.txt").write_text("\n".join(CLASSES) + "\n")
    rows = [
        {
            "file": f"models/{name}",
            "sha256": sha256(tmp_path / "models" / name),
            "role": "student",
            "format": "tflite",
            "precision": precision,
            "ships": precision == "int8",
            "input": GRID if precision == "int8" else {"dtype": "float32"},
            "accuracy": {"litert-cpu": {"top1": 0.9, "n": 50}},
        }
        for name, precision in FILES.items()
    ]
    report = {
        "models": list(reversed(rows)),
        "target": {"name": "pi", "budget": {"top1_drop_pp": 1.0, "model_bytes": 1000}},
        "dataset": {"classes": CLASSES, "fingerprint": "sha256:00"},
    }
    contract = {
        "input": {},
        "labels": {"sha256": sha256(tmp_path / "labels.txt")},
        "files": {row["file"]: {"sha256": row["sha256"]} for row in rows},
    }
    (tmp_path / "report.json").write_text(json.dumps(report))
    (tmp_path / "contract.json").write_text(json.dumps(contract))
    return tmp_path


def change(file: Path, *keys: Any, to: Any) -> None:
    """Write another value into a JSON file."""
    data = part = json.loads(file.read_text())
    for key in keys[:-1]:
        part = part[key]
    part[keys[-1]] = to
    file.write_text(json.dumps(data))


def test_a_bundle_as_it_was_built_is_read(bundle):
    found = open_bundle(bundle)
    assert (found.target, found.top1_drop_pp, found.model_bytes) == ("pi", 1.0, 1000)
    assert found.classes == ("daisy", "rose")
    # float32 first, although the report lists it last.
    assert [file.name for file in found.student_files] == ["student.float32.tflite", "student.int8.tflite"]
    assert found.student_files[1].input == GRID
    assert found.student_files[1].recorded == {"litert-cpu": (0.9, 50)}


def test_one_changed_byte_of_a_model_file_is_named(bundle):
    (bundle / "models" / "student.int8.tflite").write_bytes(b"student.int8.tflitf")
    with pytest.raises(DataError, match=r"models/student\.int8\.tflite was changed") as error:
        open_bundle(bundle)
    assert "float32" not in str(error.value)


def test_a_missing_model_file_is_named(bundle):
    (bundle / "models" / "student.float32.tflite").unlink()
    with pytest.raises(DataError, match=r"models/student\.float32\.tflite is missing"):
        open_bundle(bundle)


def test_a_digest_of_the_contract_that_is_not_the_reports_is_named(bundle):
    change(bundle / "contract.json", "files", "models/student.int8.tflite", "sha256", to="00")
    with pytest.raises(DataError, match=r"student\.int8\.tflite has another sha256 in contract\.json"):
        open_bundle(bundle)


def test_labels_that_do_not_fit_are_named(bundle):
    (bundle / "labels.txt").write_text("rose\ndaisy\n")
    with pytest.raises(DataError, match=r"(?s)labels\.txt was changed.*does not have the classes of report\.json"):
        open_bundle(bundle)
    # With a fitting digest, the order still does not fit.
    change(bundle / "contract.json", "labels", "sha256", to=sha256(bundle / "labels.txt"))
    with pytest.raises(DataError, match=r"does not have the classes of report\.json in their order") as error:
        open_bundle(bundle)
    assert "was changed" not in str(error.value)


def test_missing_labels_are_named(bundle):
    (bundle / "labels.txt").unlink()
    with pytest.raises(DataError, match=r"labels\.txt is missing"):
        open_bundle(bundle)


def test_all_faults_are_in_one_message(bundle):
    (bundle / "labels.txt").unlink()
    (bundle / "models" / "student.int8.tflite").unlink()
    with pytest.raises(DataError, match=r"(?s)student\.int8\.tflite is missing.*labels\.txt is missing"):
        open_bundle(bundle)


@pytest.mark.parametrize("name", ["report.json", "contract.json"])
def test_a_folder_without_either_json_file_is_not_a_bundle(bundle, name):
    (bundle / name).unlink()
    with pytest.raises(DataError, match=f"(?s)is not a bundle.*it has no {name}"):
        open_bundle(bundle)


@pytest.mark.parametrize(
    ("keys", "value", "message"),
    [
        (("models", 0, "file"), "models/../../etc/passwd", "is not the name of a file in models/"),
        (("models", 0, "input", "dtype"), "int4", "has an input of 'int4'"),
        (("models", 0, "accuracy", "litert-cpu", "top1"), 1.5, "accuracy out of range"),
        (("target", "budget", "top1_drop_pp"), 101, "a budget of 101.0 points"),
        (("dataset", "classes"), [], "no classes"),
    ],
    ids=["a file elsewhere", "an unknown input", "an impossible accuracy", "an impossible budget", "no classes"],
)
def test_a_report_that_no_build_writes_is_refused(bundle, keys, value, message):
    change(bundle / "report.json", *keys, to=value)
    with pytest.raises(DataError, match=f"(?s)were not written by a build.*{message}"):
        open_bundle(bundle)


def test_a_damaged_report_is_an_error_and_a_missing_one_is_none(bundle):
    assert read_report(bundle / "absent.json") is None
    (bundle / "report.json").write_text('{"models": ')
    with pytest.raises(DataError, match="is not the report of a build"):
        open_bundle(bundle)
