"""Targets: every shipped one loads, and every fault of one is reported with what is allowed."""

from __future__ import annotations

import platform
import re
import tomllib
from pathlib import Path

import pytest
from typer.testing import CliRunner

from edgetl.commands.app import app
from edgetl.core import machine
from edgetl.core.errors import EXIT_USAGE, UsageError
from edgetl.runtimes.catalogue import runnable, targetable
from edgetl.targets.ships import shipped_files
from edgetl.targets.target import load_target, read_target, shipped_targets

THIS_MACHINE = "this-machine"

SHIPPED = sorted((Path(__file__).parents[2] / "targets").glob("*.toml"))

GOOD = """
name = "camera"
runtimes = ["litert-cpu"]
precision = "int8"
[device]
description = "A camera"
processor = "4 x Cortex-A53"
architecture = "aarch64"
os = "linux"
cores = 4
match = "Camera Model B"
[budget]
reason = "A choice, for a test."
top1_drop_pp = 1.0
model_bytes = 1_000_000
latency_p90_ms = 20.0
"""


@pytest.fixture
def target_file(tmp_path):
    def write(text: str = GOOD, name: str = "camera.toml") -> Path:
        (tmp_path / name).write_text(text, encoding="utf-8")
        return tmp_path / name

    return write


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_every_shipped_target_loads(path):
    target = load_target(path.stem)
    assert target == read_target(path)
    assert target.name == path.stem


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_every_fact_that_a_shipped_target_gives_a_source_for_is_in_it(path):
    data = tomllib.loads(path.read_text(encoding="utf-8"))
    for source in data.get("sources", []):
        for fact in source["facts"]:
            value = data
            for part in fact.split("."):
                assert part in value, f"{path.name}: {fact} is nowhere in the file"
                value = value[part]


LOOKED_UP = [path for path in SHIPPED if path.stem != THIS_MACHINE]


@pytest.mark.parametrize("path", LOOKED_UP, ids=lambda path: path.stem)
def test_every_figure_of_a_shipped_target_has_a_source(path):
    data = tomllib.loads(path.read_text(encoding="utf-8"))
    sourced = {fact for source in data["sources"] for fact in source["facts"]}
    numbers = {f"peak.{key}" for key in data.get("peak", {})} | {
        f"device.{key}" for key in ("cores", "memory_bytes") if key in data["device"]
    }
    assert numbers <= sourced


def test_the_sweep_sees_the_targets():
    assert {"raspberry-pi-4", THIS_MACHINE} <= set(shipped_targets()) == {path.stem for path in SHIPPED}


def test_a_target_of_the_users_own_is_loaded_by_path(target_file):
    target = load_target(str(target_file()))
    assert (target.name, target.budget.threads, target.references) == ("camera", 1, ())


FAULTS = {
    "a typo in a key": (
        "cores = 4",
        "coers = 4",
        r"device\.coers: unknown key \(did you mean cores\?\); known keys: .*cores.*memory_bytes",
    ),
    "an unknown key that resembles no known one": (
        "cores = 4",
        "cores = 4\nxyzzy = 1",
        r"device\.xyzzy: unknown key; known keys: accelerators, architecture",
    ),
    "a typo at the top": (
        'precision = "int8"',
        'precison = "int8"',
        r"precison: unknown key \(did you mean precision\?\)",
    ),
    "an unknown table": ("[budget]", "[budgets]", r"budgets: unknown key \(did you mean budget\?\)"),
    "a missing key": ("top1_drop_pp = 1.0", "", r"budget\.top1_drop_pp: Field required"),
    "an unknown runtime": (
        "litert-cpu",
        "tflite-cpu",
        r"runtimes\.0: unknown runtime \(did you mean litert-cpu\?\); known runtimes: litert-cpu, .*rknn, given 'tflite-cpu'",
    ),
    "no runtime": ('["litert-cpu"]', "[]", "runtimes: "),
    "an unknown precision": (
        '"int8"',
        '"int4"',
        "precision: Input should be 'float32', 'float16', 'dynamic' or 'int8', given 'int4'",
    ),
    "a limit of nothing": (
        "latency_p90_ms = 20.0",
        "latency_p90_ms = 0",
        r"budget\.latency_p90_ms: .*greater than 0, given 0",
    ),
    "a limit that never fails": (
        "latency_p90_ms = 20.0",
        "latency_p90_ms = inf",
        r"budget\.latency_p90_ms: .*finite number, given inf",
    ),
    "a limit that is not a number": (
        "top1_drop_pp = 1.0",
        "top1_drop_pp = nan",
        r"budget\.top1_drop_pp: .*finite number, given nan",
    ),
    "no reason": ('"A choice, for a test."', '"because"', r"budget\.reason: .*at least 10 characters"),
    "not TOML": ("[device]", "[device", "is not valid TOML"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_named_with_what_is_allowed(fault, target_file):
    old, new, why = FAULTS[fault]
    assert GOOD.count(old) == 1
    with pytest.raises(UsageError, match=why) as caught:
        read_target(target_file(GOOD.replace(old, new)))
    assert caught.value.exit_code == EXIT_USAGE == 2
    assert "camera.toml" in str(caught.value)


def test_all_faults_are_in_one_message(target_file):
    text = GOOD
    for old, new, _ in (FAULTS["a typo in a key"], FAULTS["a missing key"], FAULTS["an unknown precision"]):
        text = text.replace(old, new)
    with pytest.raises(UsageError, match="not a valid target") as caught:
        read_target(target_file(text))
    assert all(part in caught.value.why for part in ("coers", "top1_drop_pp", "precision"))


def test_a_runtime_that_is_unknown_is_the_only_fault_reported(target_file):
    """The list is too short only because its one entry is faulty: pydantic reports both."""
    with pytest.raises(UsageError) as caught:
        read_target(target_file(GOOD.replace("litert-cpu", "tflite-cpu")))
    assert caught.value.why.count("runtimes") == 2 and "at least 1" not in caught.value.why
    with pytest.raises(UsageError, match="at least 1 item"):
        read_target(target_file(GOOD.replace('["litert-cpu"]', "[]")))


# --- the runtimes a target may name --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "runtime", ["ort-qnn", "ort-openvino", *sorted(set(targetable()) - {"ort-qnn", "ort-openvino"})]
)
def test_a_target_may_name_every_runtime_of_the_catalogue(runtime, target_file):
    path = target_file(GOOD.replace("litert-cpu", runtime))
    assert read_target(path).runtimes == (runtime,)
    done = CliRunner().invoke(app, ["targets", "check", str(path)])
    assert (done.exit_code, done.stdout.strip()) == (0, "camera: valid")


def test_the_document_lists_the_runtimes_of_the_catalogue():
    text = (Path(__file__).parents[2] / "targets" / "README.md").read_text(encoding="utf-8")
    (listed,) = re.findall(r"^Runtimes: ((?:`[a-z0-9-]+`[,.]\s+)+)", text, re.MULTILINE)
    assert re.findall(r"`([^`]+)`", listed) == list(targetable())


def test_a_target_may_name_what_doctor_lists_except_keras_and_three_vendors_runtimes():
    vendors = {"edgetpu", "stm32cube-ai", "rknn"}
    assert set(targetable()) == {name for name in runnable() if not name.startswith("keras")} | vendors


def test_a_name_that_is_not_the_files_is_refused(target_file):
    with pytest.raises(UsageError, match="has the name 'camera' in it") as caught:
        read_target(target_file(name="other.toml"))
    assert "camera.toml" in caught.value.fix and "other" in caught.value.fix


def test_an_unknown_name_is_reported_with_the_nearest_and_the_known_names():
    with pytest.raises(UsageError, match="There is no target named 'rasberry-pi4'") as caught:
        load_target("rasberry-pi4")
    assert "did you mean raspberry-pi-4?" in caught.value.fix
    assert all(path.stem in caught.value.why for path in SHIPPED)
    with pytest.raises(UsageError, match="no target named 'toaster'") as caught:
        load_target("toaster")
    assert "did you mean" not in caught.value.fix


@pytest.mark.parametrize("kind", ["missing", "a folder", "not UTF-8"])
def test_a_file_that_cannot_be_read_is_reported(kind, tmp_path):
    path = tmp_path / "camera.toml"
    if kind == "a folder":
        path.mkdir()
    elif kind == "not UTF-8":
        path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UsageError, match="no target file" if kind == "missing" else "cannot be read"):
        load_target(str(path))


# --- whether a latency measured here is the target's ---------------------------------------------------------------


def test_only_this_machine_is_this_machine_unless_the_board_says_so(target_file):
    assert load_target(THIS_MACHINE).is_this_machine()
    assert not read_target(target_file()).is_this_machine()
    assert not read_target(target_file(GOOD.replace('match = "Camera Model B"', ""))).is_this_machine()


def test_the_board_is_recognized_by_its_device_tree(target_file, monkeypatch):
    target = read_target(target_file())
    monkeypatch.setattr(machine, "board", lambda: "Camera Model B Rev 1.4")
    assert target.is_this_machine()
    monkeypatch.setattr(machine, "board", lambda: "Camera Model A")
    assert not target.is_this_machine()


def test_this_machine_is_detected_not_read_from_the_file():
    device = load_target(THIS_MACHINE).device
    assert device.processor == machine.processor() != "detected at load"
    assert (device.cores, device.memory_bytes) == (machine.cores(), machine.memory_bytes())
    assert device.os == platform.system().lower()


# --- what ships ----------------------------------------------------------------------------------------------------


def test_a_device_that_opens_only_onnx_ships_no_tflite(target_file):
    files = [
        {"role": role, "precision": "int8", "format": kind}
        for role in ("student", "teacher")
        for kind in ("tflite", "onnx")
    ]
    target = read_target(target_file(GOOD.replace("litert-cpu", "ort-cpu")))
    assert shipped_files(target, files) == [files[1]]
