"""A bundle is moved into place completely or not at all, whatever is killed meanwhile; builds do not disturb each other."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from edgetl.commands.build.layout import check_place, lay_out
from edgetl.core.errors import UsageError
from edgetl.core.store import Artifact
from edgetl.stages.plan import make_plan
from edgetl.stages.recipe import make_recipe
from edgetl.targets.target import load_target

# A build at its last step. It stops at the requested point, prints a line, and continues when it reads one.
CHILD = """
import os, sys
from pathlib import Path
import edgetl.report.html
from tests.commands.build.test_layout import laid_out

def stop():
    print("here", flush=True)
    sys.stdin.readline()

where, place, overwrite, text = sys.argv[1], Path(sys.argv[2]), sys.argv[3] == "True", sys.argv[4]
if where == "laying out":
    render = edgetl.report.html.render_html
    edgetl.report.html.render_html = lambda *given: stop() or render(*given)
if where == "moving":
    replace = os.replace
    def moving(source, to):
        if Path(to) == place:
            stop()
        replace(source, to)
    os.replace = moving
laid_out(place, overwrite, text)
print("done", flush=True)
"""


def laid_out(place: Path, overwrite: bool, text: str) -> None:
    """lay_out of a build whose labels are `text`, over almost empty artifacts."""
    stored = place.parent / f"store-{os.getpid()}"
    for name in ("golden", "flips"):
        (stored / name).mkdir(parents=True, exist_ok=True)
    (stored / "input.json").write_text("{}")
    plan = make_plan(
        make_recipe(), load_target("raspberry-pi-4"), fingerprint="f", weights={"teacher": {}, "student": {}}
    )
    artifacts = {step.name: Artifact("", stored, "0" * 64, step.key) for step in plan.steps}
    empty = {"models": [], "checks": [], "training": {}, "stages": [], "references": [], "parity": [], "keras": {}}
    machine = {
        "processor": "",
        "board": "",
        "cores": 1,
        "memory_bytes": 0,
        "instruction_set": [],
        "os": "",
        "python": "",
    }
    counts = dict.fromkeys(("n_train", "n_validate", "n_test", "n_calibrate", "duplicates"), 0)
    report = {
        **empty,
        "machine": machine,
        "dataset": {"classes": [text], "fingerprint": "f", "left_out": [], **counts},
        "weights": {},
        "recipe": {},
        "runtimes": {},
        "target": {
            "name": "pi",
            "device": "",
            "precision": "int8",
            "budget": plan.target.budget.model_dump(),
            "is_this_machine": False,
        },
    }
    lay_out(place, plan, artifacts, report, overwrite)


Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def start(repository: Path, tmp_path: Path) -> Iterator[Start]:
    """start(where, overwrite, text): a build into tmp_path/out that has stopped at the requested point."""
    made = []

    def begin(where: str, overwrite: bool, text: str) -> subprocess.Popen[str]:
        child = subprocess.Popen(
            [sys.executable, "-c", CHILD, where, str(tmp_path / "out"), str(overwrite), text],
            cwd=repository,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        made.append(child)
        assert child.stdout is not None
        assert child.stdout.readline() == "here\n"
        return child

    yield begin
    for child in made:
        child.kill()
        child.wait()


def kill(child: subprocess.Popen[str]) -> None:
    child.send_signal(signal.SIGKILL)
    assert child.wait(timeout=20) == -signal.SIGKILL


def finish(child: subprocess.Popen[str]) -> None:
    output, _ = child.communicate("go\n", timeout=20)  # and an end of file, in case it stops again
    assert output.splitlines()[-1] == "done" and child.returncode == 0


def hidden(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name.startswith("."))


def test_the_next_build_removes_what_a_killed_one_left(start: Start, tmp_path: Path) -> None:
    place = tmp_path / "out"
    kill(start("laying out", False, "first"))
    assert len(hidden(tmp_path)) == 1 and not place.exists()
    check_place(place, False)
    assert hidden(tmp_path) == []
    laid_out(place, False, "second")
    assert (place / "labels.txt").read_text() == "second\n"
    assert hidden(tmp_path) == []
    assert {path.name for path in place.iterdir()} == {
        *("models", "golden", "flips", "labels.txt", "contract.json", "recipe.toml", "lock.json"),
        *("report.json", "report.html"),
    }
    assert place.stat().st_mode & 0o777 == 0o755


def test_the_folder_of_a_running_build_stays_and_both_finish(start: Start, tmp_path: Path) -> None:
    place = tmp_path / "out"
    first = start("laying out", True, "first")
    its = hidden(tmp_path)
    check_place(place, False)
    assert hidden(tmp_path) == its and len(its) == 1
    laid_out(place, False, "second")
    assert (place / "labels.txt").read_text() == "second\n" and hidden(tmp_path) == its
    finish(first)
    assert (place / "labels.txt").read_text() == "first\n" and hidden(tmp_path) == []


def test_two_builds_that_replace_one_bundle_at_once_leave_the_later_one(start: Start, tmp_path: Path) -> None:
    place = tmp_path / "out"
    laid_out(place, False, "old")
    first = start("moving", True, "first")  # the old bundle is moved aside, the new one is not in place yet
    laid_out(place, True, "second")
    finish(first)
    assert (place / "labels.txt").read_text() == "first\n"
    assert hidden(tmp_path) == []


def test_a_bundle_that_a_killed_build_had_moved_aside_comes_back(start: Start, tmp_path: Path) -> None:
    place = tmp_path / "out"
    laid_out(place, False, "old")
    kill(start("moving", True, "new"))
    assert not place.exists()
    with pytest.raises(UsageError, match="is not empty"):
        check_place(place, False)
    assert (place / "labels.txt").read_text() == "old\n" and hidden(tmp_path) == []
    check_place(place, True)


def test_a_place_that_was_filled_meanwhile_is_not_overwritten(tmp_path: Path) -> None:
    place = tmp_path / "out"
    place.mkdir()
    (place / "mine.txt").write_text("mine")
    with pytest.raises(UsageError, match="was filled while this build ran"):
        laid_out(place, False, "late")
    assert [path.name for path in place.iterdir()] == ["mine.txt"] and hidden(tmp_path) == []


def test_a_move_that_fails_leaves_the_old_bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = tmp_path / "out"
    laid_out(place, False, "old")
    replace = os.replace

    def failing(source: Path, to: Path) -> None:
        if Path(source).name == "new":
            raise PermissionError(13, "planted")
        replace(source, to)

    monkeypatch.setattr(os, "replace", failing)
    with pytest.raises(PermissionError, match="planted"):
        laid_out(place, True, "new")
    assert (place / "labels.txt").read_text() == "old\n" and hidden(tmp_path) == []


def test_other_files_beside_the_place_stay(tmp_path: Path) -> None:
    # Eight characters as in our own names, another bundle's folder, a file, a link.
    for name in (".out-personal", ".out-x-abcdefgh.edgetl", ".output-abcdefgh.edgetl"):
        (tmp_path / name).mkdir()
    (tmp_path / ".out-afileooo.edgetl").write_text(json.dumps("mine"))
    (tmp_path / ".out-alinkooo.edgetl").symlink_to(tmp_path / ".out-personal")
    (tmp_path / ".out-leftover.edgetl").mkdir()
    before = hidden(tmp_path)
    check_place(tmp_path / "out", False)
    assert set(before) - set(hidden(tmp_path)) == {".out-leftover.edgetl"}
