"""`edgetl estimate` and `--student auto` as a user runs them."""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from edgetl.commands.estimate.run import estimate_built, estimate_path
from edgetl.commands.estimate.view import print_estimates
from edgetl.core.store import file_sha256
from edgetl.latency.estimate import Estimate, estimate
from edgetl.latency.load import load_of_net
from edgetl.targets.target import load_target


def edgetl(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "edgetl", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def test_a_person_reads_the_interval_the_evidence_and_the_verdict_in_eighty_columns(tiny_net, tmp_path, monkeypatch):
    folder = tiny_net(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    done = edgetl("estimate", folder, "--target", "raspberry-pi-4")
    assert done.returncode == 0, done.stderr
    assert max(map(len, done.stdout.splitlines())) <= 80
    said = " ".join(done.stdout.split())
    assert "p90 at most 50 ms" in said and "net.tflite litert-cpu" in said and "net.onnx ort-cpu" in said
    assert "3 published rows of the same chip" in said and "google/XNNPACK README.md at 0085ae3" in said
    assert "no int8 latency is published for this device" in said and "(90% interval)" in said
    assert "ops that take most of the time in net." in said and "% similar" in said


def test_files_told_from_other_evidence_each_have_their_own_sentence_on_their_interval():
    """An int8 file and a float one on one runtime: only of the latter are latencies of the device published."""
    target = load_target("raspberry-pi-4")
    models = []
    for precision in ("int8", "float32"):
        made = estimate(
            load_of_net("mobilenetv2-1.0", 224, 5, target.model_copy(update={"precision": precision})),
            target,
            "litert-cpu",
        )
        assert isinstance(made, Estimate)
        models.append({"file": f"models/student.{precision}.tflite", "estimates": [made.as_dict()]})
    about = {"name": "pi", "device": "", "limit_p90_ms": 50.0, "is_this_machine": False}
    console = Console(file=io.StringIO(), width=4000)
    print_estimates(console, {"target": about, "bundle": None, "models": models})
    notes = [line.strip() for line in console.file.getvalue().splitlines() if line.startswith("  - ")]
    told = [note for note in notes if "such an interval" in note]
    assert [(note.split(":")[0], re.search("nearer than (.*), as here", note)[1]) for note in told] == [
        ("- int8.tflite", "the same chip with another runtime or precision"),
        ("- float32.tflite", "the same chip with the same runtime and precision"),
    ]
    # What holds for both is said once, of no file.
    assert len(notes) == len(set(notes)) and sum(note.startswith("- computed for 1.5 GHz") for note in notes) == 1


def test_a_script_gets_json_that_says_the_same(tiny_net, tmp_path):
    file = tiny_net(tmp_path) / "net.tflite"
    done = edgetl("estimate", file, "--target", "rk3588", "--json")
    found = json.loads(done.stdout)
    assert (done.returncode, found["schema_version"], found["target"]["limit_p90_ms"]) == (0, 1, 20.0)
    [row] = [model for model in found["models"] if model["file"].endswith("net.tflite")]
    [made] = row["estimates"]
    assert made["level"] == "same chip" and made["n_evidence"] >= 10 and made["bound_ms"] > 0
    assert made["p90_interval_ms"][0] < made["p90_ms"] < made["p90_interval_ms"][1]
    assert sum(op["share"] for op in row["ops"]) <= 1 and row["ops"][0]["held_by"] in ("computing", "memory")


def test_a_file_that_the_target_cannot_run_and_one_that_is_broken_are_told(tiny_net, tmp_path):
    folder = tiny_net(tmp_path)
    (folder / "broken.tflite").write_bytes(b"nothing")
    done = edgetl("estimate", folder, "--target", "coral-usb")
    said = " ".join(done.stdout.split())
    assert done.returncode == 4 and "broken.tflite" in done.stderr
    assert "net.onnx: no runtime of the target opens onnx files" in said
    assert "broken.tflite: could not be read" in said and "edgetpu: 4 published rows" in said
    assert edgetl("estimate", folder / "net.tflite", "--target", "toaster").returncode == 2


def test_a_file_that_was_changed_after_the_build_is_told_as_inspect_tells_it(tiny_net, tmp_path, monkeypatch):
    models = tiny_net(tmp_path / "models")
    digests = {file.name: file_sha256(file) for file in models.iterdir()}
    rows = [{"file": f"models/{name}", "sha256": digest} for name, digest in digests.items()]
    (tmp_path / "report.json").write_text(json.dumps({"models": rows}))
    monkeypatch.setenv("COLUMNS", "80")
    whole = edgetl("estimate", tmp_path, "--target", "raspberry-pi-4").stdout
    assert "CHANGED" not in whole and "in the report" not in whole
    (models / "net.tflite").write_bytes((models / "net.tflite").read_bytes() + b"\0")
    (models / "net.onnx").rename(models / "other.onnx")
    done = edgetl("estimate", tmp_path, "--target", "raspberry-pi-4")
    assert done.returncode == 0 and max(map(len, done.stdout.splitlines())) <= 80
    told, inspected = (" ".join(run.stdout.split()) for run in (done, edgetl("inspect", tmp_path)))
    for words in (
        "CHANGED after the build: its sha256 differs from the report",
        "net.onnx is in the report but not in the folder.",
    ):
        assert words in told and words in inspected
    assert "net.tflite: CHANGED" in told and "other.onnx: not in the report" in told
    assert "the estimate is for the file as it is now" in told


def test_what_a_build_reads_in_its_own_process_is_what_the_command_says(tiny_net, tmp_path):
    folder, target = tiny_net(tmp_path), load_target("raspberry-pi-4")
    found, failure = estimate_path(folder, target)
    rows = [
        {"file": f"net.{kind}", "format": kind, "role": role, "precision": precision}
        for kind in ("tflite", "onnx")
        for role, precision in (("student", "int8"), ("teacher", "int8"), ("student", "float32"))
    ]
    built = estimate_built(folder, rows, target)
    assert failure is None and len(built) == len(found["models"]) == 2
    # What is measured, or has no limit to be held to, needs no estimate.
    unlimited = target.model_copy(update={"budget": target.budget.model_copy(update={"latency_p90_ms": None})})
    assert estimate_built(folder, rows, load_target("this-machine")) == estimate_built(folder, rows, unlimited) == {}
    for model in found["models"]:
        made = built[Path(model["file"]).name]
        assert isinstance(made, Estimate)
        assert json.loads(json.dumps(made.as_dict())) == json.loads(json.dumps(model["estimates"][0]))


@pytest.fixture
def photos(make_folder: Callable[..., Path]) -> Path:
    return make_folder({"cats": 12, "dogs": 12})


def test_a_plan_shows_the_student_that_was_chosen_and_why(photos, tmp_path):
    plan = ("plan", photos, "--cache", tmp_path / "cache", "--target", "raspberry-pi-4", "--weights", "none")
    done = edgetl(*plan, "--student", "auto", "--json")
    found = json.loads(done.stdout)
    chosen = found["student_choice"]
    options = {step["name"]: step["options"] for step in found["plans"][0]["steps"]}
    assert options["distill"]["backbone"] == chosen["backbone"] != "mobilenetv2-0.35"
    assert options["split"]["input_size_px"] == chosen["input_size_px"]
    said = " ".join(edgetl(*plan, "--student", "auto").stdout.split())
    assert f"student {chosen['backbone']} at {chosen['input_size_px']} px" in said and "same chip" in said
    # The choice is what is planned, nothing else: naming the same student plans the same steps.
    named = ("--student", chosen["backbone"], "--input-size", str(chosen["input_size_px"]))
    again = json.loads(edgetl(*plan, *named, "--json").stdout)
    assert again["plans"] == found["plans"] and "student_choice" not in again
    # A recipe may ask for it, too, and its size is kept.
    recipe = tmp_path / "auto.toml"
    recipe.write_text('[student]\nbackbone = "auto"\n[dataset]\ninput_size_px = 96\n')
    assert tomllib.loads(recipe.read_text())
    fixed = json.loads(edgetl(*plan, "--recipe", recipe, "--json").stdout)
    assert fixed["student_choice"]["input_size_px"] == 96


def test_a_budget_that_no_student_keeps_is_exit_code_2_with_the_nearest_miss(photos, tmp_path):
    text = (Path(__file__).parents[2] / "targets" / "raspberry-pi-4.toml").read_text(encoding="utf-8")
    tight = tmp_path / "tight.toml"
    tight.write_text(
        text.replace('"raspberry-pi-4"', '"tight"').replace("latency_p90_ms = 50.0", "latency_p90_ms = 0.4"),
        encoding="utf-8",
    )
    done = edgetl("plan", photos, "--cache", tmp_path / "cache", "--target", tight, "--student", "auto")
    assert done.returncode == 2 and "No student fits tight." in done.stderr
    assert "even the smallest, mobilenetv2-0.35 at 96 px, is estimated at p90" in done.stderr
