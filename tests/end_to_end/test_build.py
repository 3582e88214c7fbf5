"""The command line as a user runs it: real photos from the package index, every stage, both formats."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

EDGETL = [sys.executable, "-m", "edgetl"]
# A few epochs per stage and a net without weights: this tests the steps, not the result.
RECIPE = """
[dataset]
input_size_px = 96
[teacher]
backbone = "mobilenetv2-0.35"
weights = "none"
[student]
backbone = "mobilenetv2-0.2"
weights = "none"
[finetune]
epochs = 3
batch_size = 16
[distill]
epochs = 2
batch_size = 16
[quantize]
epochs = 1
batch_size = 16
[calibration]
photos = 32
[verify]
runs = 30
warmup_runs = 2
"""


def edgetl(*arguments: str, cache: Path, **more: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*EDGETL, *arguments], env=environment(cache), capture_output=True, text=True, check=False, **more
    )  # type: ignore[call-overload]


def environment(cache: Path) -> dict[str, str]:
    return {**os.environ, "EDGETL_CACHE": str(cache), "COLUMNS": "80", "NO_COLOR": "1"}


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `photos` (36 of each light, from the package index) and `recipe.toml`."""
    folder = tmp_path_factory.mktemp("work")
    fetched = edgetl("data", "fetch", "traffic-lights", "--json", cache=folder / "cache")
    assert fetched.returncode == 0, fetched.stderr
    source = Path(json.loads(fetched.stdout)["folder"])
    for label in ("red", "green", "yellow"):
        (folder / "photos" / label).mkdir(parents=True)
        for photo in sorted((source / label).iterdir())[:36]:
            shutil.copyfile(photo, folder / "photos" / label / photo.name)
    (folder / "recipe.toml").write_text(RECIPE)
    return folder


def build_command(work: Path, out: str, target: str = "raspberry-pi-4") -> list[str]:
    return [
        "build",
        str(work / "photos"),
        "--target",
        target,
        "--recipe",
        str(work / "recipe.toml"),
        "--out",
        str(work / out),
    ]


# A net trained for an hour would pass. One of three epochs may exceed its budget: a verdict, not an error.
VERDICTS = (0, 6)


@pytest.fixture(scope="module")
def built(work: Path) -> dict[str, subprocess.CompletedProcess[str]]:
    """Two builds started at once on one empty cache."""
    pair = [
        subprocess.Popen(
            [*EDGETL, *build_command(work, out)],
            env=environment(work / "cache"),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for out in ("first", "second")
    ]
    done = {}
    for name, process in zip(("first", "second"), pair, strict=True):
        out, err = process.communicate(timeout=900)
        done[name] = subprocess.CompletedProcess(process.args, process.returncode, out, err)
    return done


def test_two_builds_at_once_on_one_cache_both_succeed(
    work: Path, built: dict[str, subprocess.CompletedProcess[str]]
) -> None:
    for name, process in built.items():
        assert process.returncode in VERDICTS, process.stderr
        assert (work / name / "report.json").is_file()
    locks = [json.loads((work / name / "lock.json").read_text()) for name in ("first", "second")]
    assert locks[0]["stages"] == locks[1]["stages"]
    assert "waiting for it" in built["first"].stderr + built["second"].stderr


def test_the_bundle_has_what_the_design_lists(work: Path, built: object) -> None:
    found = {path.relative_to(work / "first").as_posix() for path in (work / "first").rglob("*") if path.is_file()}
    models = {
        "student.float32.tflite",
        "student.float16.tflite",
        "student.int8.tflite",
        "student.float32.onnx",
        "student.int8.onnx",
        "teacher.float32.tflite",
    }
    assert found >= {
        "report.html",
        "report.json",
        "labels.txt",
        "contract.json",
        "recipe.toml",
        "lock.json",
        "golden/golden.json",
        "flips/flips.json",
        *(f"models/{name}" for name in models),
    }


def test_the_report_has_every_file_measured_on_the_whole_test_split(work: Path, built: object) -> None:
    report = json.loads((work / "first" / "report.json").read_text())
    assert report["dataset"]["n_test"] == 12  # 4 of each class: a tenth of 36, rounded
    assert report["weights"]["teacher"]["weights"] == "none"
    assert report["weights"]["student"]["weights"] == "teacher"
    for model in report["models"]:
        assert model["accuracy"], model["file"]
        for runtime, figures in model["accuracy"].items():
            assert figures["n"] == 12
            assert model["latency"][runtime]["p90_ms"] >= model["latency"][runtime]["p50_ms"] > 0
        assert (work / "first" / model["file"]).stat().st_size == model["bytes"]
    latency = [check for check in report["checks"] if check["metric"] == "latency_p90_ms"]
    assert latency
    assert all(check["status"] == "unmeasured" for check in latency)


def test_float_files_agree_with_keras_and_the_int8_files_with_each_other(work: Path, built: object) -> None:
    report = json.loads((work / "first" / "report.json").read_text())
    pairs = {(pair["a"], pair["b"]): pair for pair in report["parity"]}
    for (_, file), pair in pairs.items():
        if "float32" in file:
            assert pair["max_abs"] < 1e-3, file
    assert (
        pairs["models/student.int8.tflite@litert-cpu", "models/student.int8.onnx@ort-cpu"]["top1_agreement"] >= 0.91
    )  # at most one of twelve


def test_the_matrix_has_every_version_of_the_student_and_its_flips_are_in_the_page(work: Path, built: object) -> None:
    report = json.loads((work / "first" / "report.json").read_text())
    files = [
        f"models/{name}"
        for name in (
            "student.float32.tflite@litert-cpu",
            "student.float16.tflite@litert-cpu",
            "student.dynamic.tflite@litert-cpu",
            "student.int8.tflite@litert-cpu",
            "student.float32.onnx@ort-cpu",
            "student.int8.onnx@ort-cpu",
        )
    ]
    matrix = report["parity_matrix"]
    assert sorted(matrix["names"]) == sorted(["keras:student", "keras:quantized", *files])
    assert len(matrix["pairs"]) == 8 * 7 / 2
    flipped = {
        photo
        for pair in matrix["pairs"]
        if pair["a"] == "keras:student" and "@" in pair["b"]
        for photo in pair["flipped"]
    }
    assert report["flips"]["n"] == len(flipped)
    assert {photo["sha256"][:16] for photo in report["flips"]["photos"]} == flipped  # 12 test photos: all fit
    assert all(photo["name"].startswith(f"{photo['label']}/") for photo in report["flips"]["photos"])
    page = (work / "first" / "report.html").read_text()
    assert page.count('src="data:image/jpeg;base64,') == len(flipped)


def test_the_golden_tensors_give_the_golden_probabilities(work: Path, built: object) -> None:
    import numpy as np
    from ai_edge_litert.interpreter import Interpreter

    bundle = work / "first"
    contract = json.loads((bundle / "contract.json").read_text())
    interpreter = Interpreter(model_path=str(bundle / "models" / "student.int8.tflite"))
    interpreter.allocate_tensors()
    image, probabilities = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    assert (image["name"], probabilities["name"]) == ("image", "probabilities")
    assert image["dtype"] is np.int8
    for photo in json.loads((bundle / "golden" / "golden.json").read_text())["photos"]:
        tensor = np.fromfile(bundle / "golden" / photo["int8"], np.int8).reshape(contract["input"]["shape"])
        interpreter.set_tensor(image["index"], tensor)
        interpreter.invoke()
        scale, zero_point = probabilities["quantization"]
        out = (interpreter.get_tensor(probabilities["index"])[0].astype(np.float32) - zero_point) * scale
        np.testing.assert_allclose(out, photo["probabilities"]["student.int8.tflite@litert-cpu"], rtol=0, atol=1e-6)


def test_the_bundle_verifies_on_the_photos_it_was_built_from(work: Path, built: object) -> None:
    done = edgetl(
        "verify",
        str(work / "first"),
        "--data",
        str(work / "photos"),
        "--json",
        "--max-drop",
        "100",
        cache=work / "cache",
    )
    found = json.loads(done.stdout)
    assert found["data"]["trained_on"]
    assert found["data"]["n"] == 108
    checks = {(check["metric"], check["subject"]): check["status"] for check in found["checks"]}
    assert len([metric for metric, _ in checks if metric == "golden"]) == 6
    assert set(checks.values()) <= {"pass", "inconclusive"}, checks
    # The test photos are among these, and every version says of them what it said to the build.
    matrix = json.loads((work / "first" / "report.json").read_text())["parity_matrix"]
    flipped = {(pair["a"], pair["b"]): set(pair["flipped"]) for pair in found["parity_matrix"]["pairs"]}
    for pair in matrix["pairs"]:
        if (pair["a"], pair["b"]) in flipped:
            assert set(pair["flipped"]) <= flipped[pair["a"], pair["b"]]


def test_the_int8_input_is_the_pixel_minus_128(work: Path, built: object) -> None:
    contract = json.loads((work / "first" / "contract.json").read_text())
    grid = contract["files"]["models/student.int8.tflite"]["input"]
    assert grid["zero_point"] == 0
    assert grid["scale"] == pytest.approx(1 / 127.5)
    assert contract["files"]["models/student.int8.onnx"]["input"]["dtype"] == "uint8"
    assert contract["files"]["models/student.int8.onnx"]["input"]["zero_point"] == 128


def test_the_int8_onnx_is_all_integers_after_ort_optimized_it(work: Path, built: object, tmp_path: Path) -> None:
    import onnx
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    options.log_severity_level = 3
    ort.InferenceSession(
        str(work / "first" / "models" / "student.int8.onnx"), options, providers=["CPUExecutionProvider"]
    )
    ops = [node.op_type for node in onnx.load(tmp_path / "optimized.onnx").graph.node]
    assert "Conv" not in ops
    assert ops.count("QLinearConv") == 53
    assert ops.count("DequantizeLinear") == 1
    assert ops.count("Transpose") == 1


def test_a_second_identical_build_does_no_work_and_takes_under_ten_seconds(work: Path, built: object) -> None:
    begun = time.monotonic()
    again = edgetl(*build_command(work, "again"), cache=work / "cache")
    seconds = time.monotonic() - begun
    assert again.returncode in VERDICTS, again.stderr
    assert again.stderr.count("cached") >= 8
    assert seconds < 10


def test_another_budget_reruns_no_stage(work: Path, built: object) -> None:
    shown = edgetl("targets", "show", "raspberry-pi-4", "--toml", cache=work / "cache").stdout
    tight = work / "tight.toml"
    tight.write_text(
        shown.replace('"raspberry-pi-4"', '"tight"', 1).replace("model_bytes    = 4_000_000", "model_bytes    = 1000")
    )
    rebuilt = edgetl(*build_command(work, "tight", str(tight)), cache=work / "cache")
    report = json.loads((work / "tight" / "report.json").read_text())
    assert all(stage["cached"] for stage in report["stages"])
    assert {check["status"] for check in report["checks"] if check["metric"] == "model_bytes"} == {"fail"}
    # Size alone is 7; a drop of accuracy, which a net of three epochs may have, comes first.
    assert rebuilt.returncode in (6, 7)


def test_an_estimated_latency_decides_only_when_accepted_and_that_reruns_no_stage(work: Path, built: object) -> None:
    edgetl(*build_command(work, "accepted"), "--accept-estimates", cache=work / "cache")
    reports = [json.loads((work / name / "report.json").read_text()) for name in ("first", "accepted")]
    assert all(stage["cached"] for stage in reports[1]["stages"])
    without, with_them = (
        [check for check in report["checks"] if check["metric"] == "latency_p90_ms"] for report in reports
    )
    assert [(check["status"], check["estimated"]) for check in without] == [("unmeasured", False)] * 2
    assert all("estimated p90" in check["reason"] for check in without)
    assert [(check["status"], check["estimated"]) for check in with_them] == [("pass", True)] * 2
    assert reports[0]["estimates"] == reports[1]["estimates"] != {}
    page = (work / "accepted" / "report.html").read_text()
    assert page.count('<span class="badge">estimated</span>') == 2
    assert "estimated</span>" not in (work / "first" / "report.html").read_text()


def test_auto_reports_every_attempt_and_uses_the_first_within_the_budget(work: Path, built: object) -> None:
    done = edgetl(*build_command(work, "auto"), "--quantize", "auto", cache=work / "cache")
    assert done.returncode in VERDICTS, done.stderr
    report = json.loads((work / "auto" / "report.json").read_text())
    attempts = report["quantization"]["attempts"]
    assert attempts[0]["name"] == "ptq"
    assert [attempt["met"] for attempt in attempts[:-1]] == [False] * (len(attempts) - 1), "it goes on only if not met"
    assert sum(attempt["chosen"] for attempt in attempts) == 1
    assert attempts[-1]["met"] or len(attempts) > 4, "all ways are tried before it gives up"
    validated = report["dataset"]["n_validate"]
    assert {attempt["n"] for attempt in attempts} == {validated}, "judged on validation photos"
    trained = report["stages"][:5]
    assert all(stage["cached"] for stage in trained), "float training does not hang on the scheme"
    sensitive = {row["node"] for row in report["quantization"]["sensitivity"]}
    assert "logits" in sensitive and len(sensitive) > 50


def test_without_quantization_int8_is_unmeasured_and_never_passed(work: Path, built: object) -> None:
    done = edgetl(*build_command(work, "floats"), "--quantize", "none", "--strict", cache=work / "cache")
    assert done.returncode == 8, done.stderr
    files = {path.name for path in (work / "floats" / "models").iterdir()}
    assert files and not [name for name in files if "int8" in name]
    checks = json.loads((work / "floats" / "report.json").read_text())["checks"]
    assert "unmeasured" in {check["status"] for check in checks if check["metric"] == "top1_drop_pp"}


def test_an_existing_output_is_overwritten_only_on_request(work: Path, built: object) -> None:
    refused = edgetl(*build_command(work, "first"), cache=work / "cache")
    assert refused.returncode == 2
    assert "--overwrite" in refused.stderr


def test_nothing_of_tensorflow_reaches_the_terminal(built: dict[str, subprocess.CompletedProcess[str]]) -> None:
    for process in built.values():
        for chatter in ("WARNING", "oneDNN", "cuda", "XNNPACK delegate", "Traceback", "absl"):
            assert chatter not in process.stderr


def test_tables_fit_eighty_columns_and_nothing_is_cut(built: dict[str, subprocess.CompletedProcess[str]]) -> None:
    for process in built.values():
        tables = process.stderr[process.stderr.index("raspberry-pi-4: ") :]
        assert "student.int8.tflite" in tables
        assert "…" not in tables
        assert max(len(line) for line in tables.splitlines() if "report.html" not in line) <= 80


def _start(work: Path, cache: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*EDGETL, *build_command(work, "resumed")],
        env=environment(cache),
        stderr=subprocess.PIPE,
        text=True,
        # Where the tests run in the background, SIGINT is ignored, and a child inherits that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def _wait_for(process: subprocess.Popen[str], text: str) -> list[str]:
    lines = []
    assert process.stderr is not None
    for line in process.stderr:
        lines.append(line)
        if text in line:
            return lines
    raise AssertionError(f"{text!r} never came: {''.join(lines)}")


def test_an_interrupted_and_a_killed_build_continue_to_the_same_result(
    work: Path, built: object, tmp_path: Path
) -> None:
    cache = tmp_path / "cache"
    interrupted = _start(work, cache)
    _wait_for(interrupted, "epoch 1/3")
    interrupted.send_signal(signal.SIGINT)
    assert interrupted.stderr is not None
    said = interrupted.stderr.read()
    assert interrupted.wait() == 130
    assert "continues from there" in " ".join(said.split())

    killed = _start(work, cache)
    assert "resumed after epoch 1 of 3" in "".join(_wait_for(killed, "epoch 2/3"))
    killed.send_signal(signal.SIGKILL)
    assert killed.wait() == -signal.SIGKILL

    last = _start(work, cache)
    assert "resumed after epoch" in "".join(_wait_for(last, "distil the student"))
    last.kill()
    last.wait()
    keys = {
        step["name"]: step["key"]
        for step in json.loads(edgetl("plan", *build_command(work, "x")[1:-2], "--json", cache=cache).stdout)["plans"][
            0
        ]["steps"]
    }
    straight = json.loads((work / "first" / "lock.json").read_text())["stages"]["finetune"]
    record = json.loads((cache / "artifacts" / keys["finetune"] / "record.json").read_text())
    whole = json.loads((work / "cache" / "artifacts" / straight["key"] / "record.json").read_text())
    # history.json holds seconds; the weights must be the same to the last bit.
    assert record["files"]["weights.npz"] == whole["files"]["weights.npz"]


def test_several_targets_share_every_stage_and_have_one_bundle_each(work: Path, built: object) -> None:
    command = ["--recipe", str(work / "recipe.toml"), "--out", str(work / "both"), "--json"]
    targets = ["--target", "raspberry-pi-5", "--target", "pixel-3"]
    done = edgetl("build", str(work / "photos"), *targets, *command, cache=work / "cache")
    assert done.returncode in VERDICTS, done.stderr
    results = json.loads(done.stdout)["results"]
    assert [result["target"] for result in results] == ["raspberry-pi-5", "pixel-3"]
    for result in results:
        assert all(stage["cached"] for stage in result["report"]["stages"])
        assert (work / "both" / result["target"] / "report.json").is_file()


def test_python_and_the_command_line_give_the_same(work: Path, built: object) -> None:
    program = (
        "import edgetl, sys, tomllib\n"
        f"recipe = tomllib.load(open({str(work / 'recipe.toml')!r}, 'rb'))\n"
        f"result, = edgetl.build({str(work / 'photos')!r}, targets=['raspberry-pi-4'], out={str(work / 'api')!r}, recipe=recipe, cache={str(work / 'cache')!r})\n"
        "print(result.exit_code, len(result.report['checks']), all(stage['cached'] for stage in result.report['stages']))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    report = json.loads((work / "first" / "report.json").read_text())
    code, checks, cached = done.stdout.split()
    assert int(code) in VERDICTS
    assert int(checks) == len(report["checks"])
    assert cached == "True"
