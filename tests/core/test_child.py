"""Child processes run this very package, whatever lies beside it, and end in an answer or a reason."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from edgetl.core.child import Reply, ask, command_line

ANSWERS = """
import os, signal

def answer(given, what):
    if what == "file":
        return {"file": __file__, "given": given.decode()}
    if what == "print":
        print("chatter")
        return {}
    if what == "refuse":
        raise ValueError("no such\\nthing")
    os.kill(os.getpid(), int(what))
"""


@pytest.fixture
def package(repository: Path, tmp_path: Path) -> Path:
    """A copy of edgetl with one more module, in a folder with an odd name, beside files that shadow the standard library."""
    folder = tmp_path / "with space 'quotes' é"
    shutil.copytree(repository / "edgetl", folder / "edgetl", ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "edgetl" / "answers.py").write_text(ANSWERS)
    for name in ("json", "typing", "__future__", "importlib", "numpy"):
        (folder / f"{name}.py").write_text(f"raise SystemExit('{name} was imported from beside the package')")
    return folder


def asked(package: Path, cwd: Path, *arguments: str) -> Reply:
    """`ask` in a process that runs the copy."""
    program = (
        "import sys, json, typing, importlib, __future__; sys.path.insert(0, sys.argv[1]); import edgetl; del sys.path[0]; "
        "from edgetl.core.child import ask; "
        "found = ask('edgetl.answers', *sys.argv[2:], given=b'bytes', timeout_s=20); "
        "print(json.dumps([found.facts, found.why, found.chatter]))"
    )
    command = [sys.executable, "-P", "-c", program, str(package), *arguments]
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return Reply(*json.loads(done.stdout))


def test_the_child_runs_the_package_that_asked_from_any_folder(package: Path, tmp_path: Path) -> None:
    for cwd in (package, tmp_path):
        found = asked(package, cwd, "file")
        assert found.facts == {"file": str(package / "edgetl" / "answers.py"), "given": "bytes"}, found


def test_what_native_code_prints_is_chatter_and_not_the_answer(package: Path) -> None:
    found = asked(package, package, "print")
    assert found.facts == {} and "chatter" in found.chatter


def test_an_expected_error_is_the_reason(package: Path) -> None:
    assert asked(package, package, "refuse").why == "no such thing"


@pytest.mark.parametrize(("number", "name"), [("6", "SIGABRT"), ("9", "SIGKILL"), ("40", "signal 40")])
def test_a_child_that_a_signal_ends_is_a_reason(package: Path, number: str, name: str) -> None:
    found = asked(package, package, number)
    assert found.facts is None and found.why == f"it crashed ({name})"


def test_a_child_that_does_not_end_is_a_reason() -> None:
    assert ask("timeit", timeout_s=0.01).why == "not done after 0.01 s"


def test_arguments_are_the_child_s_own() -> None:
    done = subprocess.run(
        [*command_line("edgetl.core.paths", "package_root", "a b", "c")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0 and done.stdout == ""
