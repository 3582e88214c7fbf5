"""`edgetl inspect` as a person and a script meet it: the real command line on files made here."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import flatbuffers
import pytest
from ai_edge_litert import schema_py_generated as schema

from edgetl.bundle.files import read_report
from edgetl.commands.inspect.run import inspect_path
from edgetl.core.errors import DataError


def inspect(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "NO_COLOR": "1", "COLUMNS": "80"}
    command = [sys.executable, "-m", "edgetl", "inspect", *map(str, arguments)]
    return subprocess.run(command, env=env, capture_output=True, text=True, check=False, encoding="utf-8")


@pytest.fixture
def bundle(tiny_net, tmp_path: Path) -> Path:
    """A bundle as a build leaves it: models and the report's rows about them."""
    models = tiny_net(tmp_path / "bundle" / "models")
    rows = [
        {"file": f"models/{file.name}", "sha256": hashlib.sha256(file.read_bytes()).hexdigest()}
        for file in sorted(models.iterdir())
    ]
    (tmp_path / "bundle" / "report.json").write_text(json.dumps({"models": rows}))
    return tmp_path / "bundle"


def test_a_person_reads_what_a_file_is_in_eighty_columns(tiny_net, tmp_path):
    trap = tiny_net(tmp_path, {"first": (-6.0, 6.0), "deep": (-6.0, 6.0)})
    done = inspect(trap / "net.tflite", "--ops", "--target", "raspberry-pi-4")
    assert done.returncode == 0, done.stderr
    # The path alone may be longer: it stays whole, to be copied.
    assert max(len(line) for line in done.stdout.splitlines()[1:]) <= 80
    said = " ".join(done.stdout.split())
    for fact in (
        "int8 throughout",
        "2 of 2 activation ranges waste more than a quarter of their grid: ranges did not come from calibration",
        "first: -6.02 to 5.98 after RELU6: 50 % wasted",
        "per channel: 2 CONV_2D, 1 DEPTHWISE_CONV_2D; per tensor: 1 FULLY_CONNECTED",
        "takes 6 ops and leaves SOFTMAX probabilities",
        "raspberry-pi-4: no peak is published for this target",
        "3 labels inside",
        "image: int8 1×16×16×3, step 0.00784314, zero point 0: -1.004 to 0.9961",
        "1 deep DEPTHWISE_CONV_2D int8 2.3 k 52 B 4",
        "6 probabilities SOFTMAX int8",
    ):
        assert fact in said, fact


def test_a_script_gets_json_on_stdout_and_nothing_else(tiny_net, tmp_path):
    done = inspect(tiny_net(tmp_path) / "net.onnx", "--json", "--target", "jetson-orin-nano")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    found = json.loads(done.stdout)
    assert found["schema_version"] == 1
    (model,) = found["models"]
    assert model["kind"] == "int8, float at its output"
    assert model["runtime"]["qlinear_conv"] == 4
    assert model["runtime"]["fused_share"] == 1.0
    assert model["roofline"]["total_ms"] > model["roofline"]["compute_ms"] > 0
    assert len(model["ops"]) == sum(row["count"] for row in model["ops_by_type"])


def test_a_file_changed_after_the_build_a_missing_and_a_strange_one_are_told(bundle):
    found, _ = inspect_path(bundle)
    assert [row["as_built"] for row in found["models"]] == ["unchanged"] * 2
    file = bundle / "models" / "net.tflite"
    file.write_bytes(file.read_bytes() + b"\0")
    (bundle / "models" / "net.onnx").rename(bundle / "models" / "other.onnx")
    done = inspect(bundle)
    assert done.returncode == 0, done.stderr
    said = " ".join(done.stdout.split())
    assert "CHANGED after the build: its sha256 differs from the report" in said
    assert "other.onnx" in said
    assert "not in the report" in said
    assert "net.onnx is in the report but not in the folder" in said


def test_a_broken_file_of_a_bundle_does_not_hide_the_others(bundle):
    (bundle / "models" / "net.onnx").unlink()
    for name in ("first.tflite", "second.onnx"):
        (bundle / "models" / name).write_bytes(b"broken, and long enough to be looked at")
    done = inspect(bundle, "--json")
    assert done.returncode == 4
    assert [("error" in row) for row in json.loads(done.stdout)["models"]] == [True, False, True]
    assert "2 files of the bundle could not be read" in done.stderr
    assert "first.tflite" in done.stderr
    assert "second.onnx" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("report", ['{"models": [', '{"models": [{"file": "x"}]}', "[" * 100_000, '{"models": 3}'])
def test_a_damaged_report_is_said(report, tmp_path):
    (tmp_path / "report.json").write_text(report)
    with pytest.raises(DataError, match="is not a report of a build"):
        read_report(tmp_path / "report.json")


def test_what_cannot_be_read_is_one_message_and_exit_code_4(tiny_net, tmp_path):
    whole = (tiny_net(tmp_path) / "net.onnx").read_bytes()
    (tmp_path / "cut.onnx").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "nothing").mkdir()
    for path, said in ((tmp_path / "cut.onnx", "cannot be read as ONNX"), (tmp_path / "nothing", "no model files")):
        done = inspect(path)
        assert done.returncode == 4
        assert done.stdout == ""
        assert said in done.stderr
        assert [line.split(":")[0].strip() for line in done.stderr.splitlines()] == ["edgetl", "why", "fix"]


def test_a_file_s_own_escape_sequences_do_not_reach_the_terminal(tiny_net, tmp_path):
    file = tiny_net(tmp_path) / "net.tflite"
    model = schema.ModelT.InitFromPackedBuf(file.read_bytes())
    model.description = b"\x1b]0;owned\x07 [red]not markup[/red]"
    for tensor in model.subgraphs[0].tensors:
        tensor.name = b"\x1b[2J[bold]" + tensor.name
    builder = flatbuffers.Builder(1 << 16)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    file.write_bytes(builder.Output())
    done = inspect(file, "--ops")
    assert done.returncode == 0, done.stderr
    assert not set(done.stdout) & {"\x1b", "\x07", "\x9b"}
    assert "\\x1b[2J[bold]first" in done.stdout
    assert "[red]not markup[/red]" in done.stdout
