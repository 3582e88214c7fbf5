"""`edgetl doctor`: every backend, with its device or what is missing."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys

from rich.console import Console

from edgetl.commands.doctor import print_doctor
from edgetl.runtimes.catalogue import runnable

PROGRAM = """
import sys
from edgetl.commands.app import app
app(["doctor", "--json"], standalone_mode=False)
print([name for name in ("tensorflow", "tf_keras") if name in sys.modules], file=sys.stderr)
"""


def doctor(repository) -> tuple[dict, str]:
    env = {**os.environ, "PYTHONPATH": str(repository), "COLUMNS": "80"}
    done = subprocess.run([sys.executable, "-c", PROGRAM], env=env, capture_output=True, text=True, check=True)
    return json.loads(done.stdout), done.stderr.strip().splitlines()[-1]


def test_every_backend_is_listed_and_tensorflow_is_not_imported(repository):
    facts, imported = doctor(repository)
    assert imported == "[]"
    assert list(facts["runtimes"]) == list(runnable())
    for name, found in facts["runtimes"].items():
        assert set(found) == {"available", "version", "device", "simulated", "reason"}
        assert bool(found["device"]) == found["available"], name
        assert bool(found["reason"]) != found["available"], name
    cpu = facts["runtimes"]["litert-cpu"]
    assert (cpu["available"], cpu["device"]) == (True, facts["machine"]["processor"])
    # onnxruntime has other names for other wheels: the one that is installed counts.
    assert facts["runtimes"]["ort-cpu"]["version"]

    shown = io.StringIO()
    print_doctor(Console(file=shown, width=80), facts)
    text = shown.getvalue()
    for name in runnable():
        assert name in text
    assert max(len(line) for line in text.splitlines() if line[0] in "┃│┡└┏") <= 80


def test_a_fix_is_shown_literally():
    """rich would read text in brackets as markup."""
    found = {"available": False, "version": "1.0", "device": "", "simulated": False, "reason": "pip install 'a[gpu]'"}
    facts = {
        "edgetl": "1.0",
        "machine": {"python": "3.11", "os": "", "processor": "", "board": "", "cores": 1, "memory_bytes": 0},
        "runtimes": {"litert-gpu": found, "litert-gpu-float32": found},
        "packages": {"onnxruntime": "", "onnxruntime-gpu": "1.0", "onnx": ""},
        "missing_for_build": [],
        "cache": "",
    }
    shown = io.StringIO()
    print_doctor(Console(file=shown, width=80), facts)
    assert shown.getvalue().count("pip install 'a[gpu]'") == 1
    lines = [line for line in shown.getvalue().splitlines() if "not installed" in line]
    assert len(lines) == 1
    assert " onnx " in lines[0]
