"""`edgetl bench` as a user runs it."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

QUICK = ["--seconds", "0.3", "--width", "0.5"]


def bench(*arguments: object, columns: int = 80, path: Path | None = None) -> subprocess.CompletedProcess[str]:
    places = [str(path)] if path else []
    env = {
        **os.environ,
        "COLUMNS": str(columns),
        "PYTHONPATH": os.pathsep.join([*places, *filter(None, [os.environ.get("PYTHONPATH")])]),
    }
    command = [sys.executable, "-m", "edgetl", "bench", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env=env, timeout=120, check=False)


@pytest.fixture
def without_tensorflow(tmp_path: Path) -> Path:
    """A folder that makes every import of TensorFlow fail, also in child processes."""
    for name in ("tensorflow", "tf_keras"):
        (tmp_path / "poison" / name).mkdir(parents=True)
        (tmp_path / "poison" / name / "__init__.py").write_text("raise ImportError('not on this machine')\n")
    return tmp_path / "poison"


def test_every_backend_of_both_formats_runs_without_tensorflow(
    models: Path, without_tensorflow: Path, tmp_path: Path
) -> None:
    done = bench(
        models / "small.tflite", models / "small.onnx", "-b", "litert-cpu", "-b", "litert-cpu-reference", "-b", "ort-cpu",
        "--threads", "1,2", *QUICK, "--json", "--csv", tmp_path / "rows.csv", "--plot", tmp_path / "rows.png", "--profile",
        path=without_tensorflow,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    rows = {(row["backend"], row["threads"]): row for row in found["rows"]}
    assert len(rows) == 6
    for (backend, _), row in rows.items():
        assert row["status"] == "ok", row["reason"]
        assert row["load_ms"] > 0
        assert row["first_ms"] >= row["min_ms"] * 0.5
        assert row["placement"]["shares"]["cpu"] == {"ops": 1.0, "macs": 1.0}
        assert row["memory"]["model_bytes"] > 0
        assert bool(row["profile"]) != bool(row["profile_reason"]), backend
    assert rows["litert-cpu-reference", 1]["parity"]["same_label"] == 4
    assert found["machine"]["processor"]
    with (tmp_path / "rows.csv").open(newline="") as stream:
        table = list(csv.DictReader(stream))
    assert [row["backend"] for row in table] == [row["backend"] for row in found["rows"]]
    assert (tmp_path / "rows.png").read_bytes().startswith(b"\x89PNG")


def test_the_tables_fit_80_columns_and_a_failed_row_is_shown_below_them(models: Path) -> None:
    done = bench(models / "crash.tflite", models / "small.tflite", "-b", "litert-cpu", *QUICK)
    assert done.returncode == 4
    assert "SIGSEGV" in done.stdout
    assert "small.tflite" in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 80
    assert "…" not in done.stdout


def test_a_slower_model_gives_exit_code_7_and_the_same_model_does_not(models: Path) -> None:
    slower = bench(
        "--compare", models / "small.tflite", models / "larger.tflite", "-b", "litert-cpu", "--seconds", "2", "--json"
    )
    found = json.loads(slower.stdout)["comparison"]
    assert (slower.returncode, found["verdict"]) == (7, "slower"), found
    assert found["interval"][0] > 1.05
    same = bench(
        "--compare",
        models / "small.tflite",
        models / "small.tflite",
        "--max-ratio",
        "1.3",
        "-b",
        "litert-cpu",
        "--seconds",
        "1",
    )
    assert same.returncode == 0, same.stdout


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["small.tflite", "-b", "litert-cpi"], 2, "There is no backend litert-cpi"),
        (["small.tflite", "-b", "ort-cpu"], 2, "No backend opens"),
        (["small.tflite", "--threads", "0"], 2, "--threads"),
        (["small.tflite", "--pin", "8000-8001"], 2, "do not exist: 8000, 8001"),
        (["small.tflite", "--pin", "0-"], 2, "'0-' is not a list of processors"),
        (["missing.tflite"], 4, "cannot be read"),
        (["--compare", "small.tflite"], 2, "two models"),
        (["small.tflite", "--input", "nowhere"], 4, "not a folder of photos"),
    ],
)
def test_wrong_use_gives_a_message_without_a_traceback(
    models: Path, arguments: list[str], code: int, words: str
) -> None:
    given = [str(models / text) if text.endswith(".tflite") else text for text in arguments]
    backends = [] if "-b" in given else ["-b", "litert-cpu"]
    done = bench(*given, *backends, *QUICK)
    assert done.returncode == code, done.stdout + done.stderr
    assert words in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="this system does not keep a process to processors")
def test_a_row_runs_only_on_the_pinned_processors(models: Path) -> None:
    first = min(os.sched_getaffinity(0))
    last = first + (first + 1 in os.sched_getaffinity(0))
    done = bench(models / "small.tflite", "-b", "litert-cpu", "--pin", f"{first}-{last}", *QUICK, "--json")
    assert done.returncode == 0, done.stderr
    (row,) = json.loads(done.stdout)["rows"]
    assert row["pinned_to"] == list(range(first, last + 1))


@pytest.mark.skipif(Path("/proc/driver/nvidia").exists(), reason="this machine has an NVIDIA GPU")
def test_a_requested_gpu_that_is_missing_gives_exit_code_3_in_one_line(models: Path) -> None:
    done = bench(models / "small.onnx", "-b", "ort-cuda", *QUICK)
    assert done.returncode == 3
    assert "no NVIDIA driver is installed" in done.stderr.splitlines()[0]
