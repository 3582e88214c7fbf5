"""Files become jobs by the facts in the catalogue of backends: a new runtime needs no change in bench."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from edgetl.commands.bench.jobs import _images, find_jobs
from edgetl.core.errors import UsageError
from edgetl.runtimes.catalogue import BACKENDS


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    names = {"net.tflite": "a", "net.onnx": "b", "sub/net.onnx": "c", "net.xyz": "d", "net": "e"}
    for name, text in names.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    return {name: tmp_path / name for name in names}


def test_each_file_gets_one_job_per_backend_that_opens_it_and_number_of_threads(files: dict[str, Path]) -> None:
    jobs = find_jobs([files["net.tflite"]], ["litert-cpu", "litert-gpu", "ort-cpu"], [1, 2], images="", store=None)
    # An accelerator does not use the processor's threads.
    assert [(job.backend, job.threads) for job in jobs] == [("litert-cpu", 1), ("litert-cpu", 2), ("litert-gpu", 1)]
    assert jobs[0].about["bytes"] == 1 and jobs[0].images == {"kind": "random", "seed": 0}


def test_a_backend_of_a_new_format_opens_its_own_files(files: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    fake = replace(BACKENDS["ort-cpu"], format="xyz", default=False)  # type: ignore[arg-type]
    monkeypatch.setitem(BACKENDS, "fake", fake)
    (job,) = find_jobs([files["net.xyz"]], ["fake", "ort-cpu"], [1], images="", store=None)
    assert job.backend == "fake"


@pytest.mark.parametrize(("name", "why"), [("net.xyz", "ends in '.xyz'"), ("net", "has no suffix")])
def test_another_kind_of_file_is_refused_with_the_kinds_that_are_run(
    files: dict[str, Path], name: str, why: str
) -> None:
    with pytest.raises(UsageError, match=rf"(?s){why}.*give \.tflite or \.onnx files"):
        find_jobs([files[name]], ["ort-cpu"], [1], images="", store=None)


def test_a_file_that_no_requested_backend_opens_names_the_backends_that_do(files: dict[str, Path]) -> None:
    with pytest.raises(
        UsageError, match=r"(?s)No backend opens.*\.tflite is opened by litert-cpu,.*\.onnx is opened by"
    ):
        find_jobs([files["net.onnx"]], ["litert-cpu"], [1], images="", store=None)


def test_files_of_the_same_name_are_shown_with_their_folders(files: dict[str, Path]) -> None:
    jobs = find_jobs([files["net.onnx"], files["sub/net.onnx"]], ["ort-cpu"], [1], images="", store=None)
    assert [job.shown for job in jobs] == [f"{files['net.onnx'].parent.name}/net.onnx", "sub/net.onnx"]


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".bmp"])
def test_golden_photos_of_any_format_are_the_input(suffix: str, tmp_path: Path) -> None:
    (tmp_path / "golden").mkdir()
    for name in (f"0{suffix}", "0.float32", "golden.json"):
        (tmp_path / "golden" / name).write_bytes(b"")
    found = _images("", None, tmp_path)
    assert found["kind"] == "photos" and [Path(path).name for path in found["paths"]] == [f"0{suffix}"]
