"""Measuring over adb, without a phone: `STAND_IN` is a small program that replaces adb, with a folder as the phone, and runs
the commands it gets. The real adb is asked for a phone that does not exist."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from edgetl.commands.bench.remote.adb import measure_over_adb
from edgetl.commands.bench.rows import Job
from edgetl.commands.bench.schedule import Settings
from edgetl.core.errors import DataError, MissingError, UsageError

STAND_IN = """#!{python}
import pathlib, shutil, subprocess, sys
phone, calls = pathlib.Path({phone!r}), pathlib.Path({calls!r})
serial, what, rest = sys.argv[2], sys.argv[3], sys.argv[4:]
with calls.open("a") as log:
    log.write(" ".join([what, *rest]) + "\\n")
if serial != "PHONE1":
    sys.exit("* daemon started successfully\\nerror: device '%s' not found" % serial)
if what == "push":
    target = str(phone) + rest[1]
    shutil.copyfile(rest[0], target)
    with open(target, "ab") as file:
        file.write(b"!" * {spoilt})
    sys.exit(0)
if rest == ["getprop"]:
    print("[ro.product.manufacturer]: [Maker]\\n[ro.product.model]: [Phone 9]\\n[ro.soc.model]: [SoC77]\\n"
          "[ro.soc.manufacturer]: [Chips]\\n[ro.build.version.release]: [15]\\n[ro.product.cpu.abi]: [arm64-v8a]")
    sys.exit(0)
command = rest[0].replace("/data/local/tmp", str(phone) + "/data/local/tmp")
sys.exit(subprocess.run(["sh", "-c", command]).returncode)
"""
# Prints like benchmark_model and takes the same arguments.
TOOL = """#!/bin/sh
echo "$@" >> {arguments}
echo "INFO: Num threads: [2]"
echo "INFO: Graph: [net.tflite]"
{body}
echo "INFO: count=60 first=90 curr=80 min=70 max=99 avg=80.5 std=9 p5=71 median=80 p95=98"
echo "INFO: Inference timings in us: Init: 300, First inference: 90, Warmup (avg): 90, Inference (avg): 80.5"
"""
ON_GPU = """echo "INFO: Use gpu: [1]"
echo "VERBOSE: Replacing 5 out of 5 node(s) with delegate (TfLiteGpuDelegateV2) node, yielding 1 partitions for subgraph 0."
"""
QUICK = Settings(seconds=0.1, timeout_s=0.5, cores={2: [0]})


@pytest.fixture
def phone(tmp_path):
    """run(body="", spoilt=0, serial="PHONE1", jobs=...): the result of measure_over_adb with a benchmark_model of `body`."""
    model = tmp_path / "a net's; $(reboot).tflite"
    model.write_bytes(b"a model")
    (tmp_path / "phone/data/local/tmp").mkdir(parents=True)

    def run(body="", *, spoilt=0, serial="PHONE1", jobs=None, settings=QUICK):
        adb, tool, calls = tmp_path / "adb", tmp_path / "benchmark_model", tmp_path / "calls"
        adb.write_text(
            STAND_IN.format(python=sys.executable, phone=str(tmp_path / "phone"), calls=str(calls), spoilt=spoilt)
        )
        adb.chmod(0o755)
        tool.write_text(TOOL.format(arguments=tmp_path / "arguments", body=body))
        jobs = jobs or [Job(model, "litert-gpu", 2, about={"precision": "int8"})]
        return measure_over_adb(serial, jobs, settings, benchmark_model=tool, on_note=lambda text: None, adb=str(adb))

    run.folder, run.model = tmp_path, model
    return run


def left_on(folder: Path) -> list[Path]:
    return list((folder / "phone/data/local/tmp").iterdir())


def test_a_model_is_pushed_run_and_deleted(phone):
    found = phone(ON_GPU)
    (row,) = found["rows"]
    assert (row["p50_ms"], row["runs"], row["load_ms"], row["status"]) == (0.08, 60, 0.3, "ok")
    assert (row["model"], row["precision"], row["device"]) == (str(phone.model), "int8", "Maker Phone 9")
    assert found["machine"]["board"] == "Maker Phone 9" and found["machine"]["os"] == "Android 15"
    assert row["machine"] == found["machine"] and "Chips SoC77" in found["machine"]["processor"]
    assert "one after the other" in found["disturbance"]["warnings"][0]
    arguments = (phone.folder / "arguments").read_text()
    assert "--use_gpu=true" in arguments and "--num_threads=2" in arguments and "--min_secs=0.1" in arguments
    assert "taskset 1 /data" in (phone.folder / "calls").read_text()
    assert left_on(phone.folder) == []


def test_a_tool_that_crashes_is_a_failed_row_and_the_next_row_is_measured(phone):
    other = phone.model.with_name("other.tflite")
    other.write_bytes(b"another")
    jobs = [Job(phone.model, "litert-cpu", 1), Job(other, "litert-cpu", 2), Job(other, "ort-cpu", 2)]
    crashed, ok, absent = phone('case "$2" in *threads=1) echo "cannot map it"; exit 3;; esac', jobs=jobs)["rows"]
    assert (crashed["status"], crashed["failure"]) == ("failed", "crashed") and "exit code 3" in crashed["reason"]
    assert ok["status"] == "ok"
    assert (absent["failure"], absent["status"]) == ("missing", "failed")


DECLINED = 'echo "INFO: Use gpu: [1]"; echo "INFO: Though GPU delegate is explicitly applied, the model graph will not be executed by the delegate."'


def test_a_gpu_that_declined_is_a_failed_row_or_a_marked_one_if_fallback_is_allowed(phone):
    (row,) = phone(DECLINED)["rows"]
    assert (row["status"], row["failure"]) == ("failed", "placement") and "none of its ops" in row["reason"]
    (row,) = phone(DECLINED, settings=replace(QUICK, allow_fallback=True))["rows"]
    assert row["status"] == "fallback" and "none of its ops" in row["notes"][0]


def test_a_tool_that_ignores_the_requested_delegate_is_a_failed_row(phone):
    (row,) = phone()["rows"]
    assert row["failure"] == "placement" and "its output is that of litert-cpu" in row["reason"]


def test_a_tool_that_hangs_is_ended_on_the_phone_as_well(phone):
    (row,) = phone("sleep 45.678")["rows"]
    assert (row["failure"], row["status"]) == ("hung", "failed")
    assert left_on(phone.folder) == []
    tool = subprocess.run(["pgrep", "-f", str(phone.folder / "phone")], stdout=subprocess.PIPE, check=False)
    assert tool.stdout == b""


def test_a_model_that_changed_during_the_transfer_is_refused(phone):
    with pytest.raises(DataError, match="changed during the transfer to the phone"):
        phone(spoilt=1)
    assert left_on(phone.folder) == []


def test_a_missing_phone_is_named(phone):
    with pytest.raises(MissingError, match=r"PHONE2 cannot be reached[^\n]*\n  why: error: device 'PHONE2' not found"):
        phone(serial="PHONE2")


@pytest.mark.parametrize("serial", ["-e", "", "a b", "x;reboot", "$(id)"])
def test_a_serial_number_cannot_be_an_option_or_a_command(phone, serial):
    with pytest.raises(UsageError, match="not the serial number of a phone"):
        phone(serial=serial)


def test_without_the_tool_or_adb_the_message_says_what_to_provide(tmp_path):
    job, note = Job(tmp_path / "net.tflite", "litert-cpu", 1), lambda text: None
    with pytest.raises(MissingError, match="--benchmark-model PATH"):
        measure_over_adb("A", [job], QUICK, benchmark_model=tmp_path / "none", on_note=note)
    (tmp_path / "tool").touch()
    with pytest.raises(MissingError, match="adb is not installed"):
        measure_over_adb("A", [job], QUICK, benchmark_model=tmp_path / "tool", on_note=note, adb=str(tmp_path / "adb"))


@pytest.mark.skipif(shutil.which("adb") is None, reason="adb is not installed (apt: adb)")
def test_the_real_adb_names_a_missing_phone(tmp_path, monkeypatch):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        monkeypatch.setenv("ANDROID_ADB_SERVER_PORT", str(probe.getsockname()[1]))
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "tool").touch()
    try:
        with pytest.raises(MissingError, match="NOSUCH cannot be reached.*\n.*device 'NOSUCH' not found"):
            measure_over_adb("NOSUCH", [], QUICK, benchmark_model=tmp_path / "tool", on_note=lambda text: None)
    finally:
        subprocess.run(["adb", "kill-server"], check=False, env=os.environ, timeout=20, stderr=subprocess.DEVNULL)
