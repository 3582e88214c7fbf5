"""Lay out a bundle: the files of one build in one folder, moved into place completely or not at all."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import filelock

from edgetl.core import machine
from edgetl.core.errors import UsageError
from edgetl.core.store import Artifact
from edgetl.core.version import __version__
from edgetl.report.records import Report
from edgetl.stages.catalogue import libraries
from edgetl.stages.plan import Plan
from edgetl.stages.recipe import to_toml

# The hidden folder beside a bundle's place: its ending, which distinguishes it from other folders, the lock that a build
# holds while it runs, the new bundle, and the bundle that it replaces.
_ENDING, _LOCK_FILE, _NEW, _OLD = ".edgetl", "in-use.lock", "new", "old"


def read_json(artifact: Artifact, name: str) -> Any:
    """The contents of a JSON file of an artifact."""
    return json.loads((artifact.path / name).read_text())


def check_place(place: Path, overwrite: bool) -> None:
    """Check before anything is built that a bundle can be put here; raises UsageError. Removes the leftovers of killed builds."""
    if place.resolve() == Path.cwd():
        raise UsageError("The bundle cannot be the folder you are in.", fix="name a folder inside it: --out out")
    if place.exists() and not place.is_dir():
        raise UsageError(f"{place} is a file.", fix="name a folder with --out")
    _clear_leftovers(place.resolve())
    if place.is_dir() and any(place.iterdir()):
        if not overwrite:
            raise UsageError(
                f"{place} is not empty.",
                why="by default, a build never overwrites files",
                fix="name another folder with --out, or allow it with --overwrite",
            )
        if not all((place / name).is_file() for name in ("report.json", "contract.json", "lock.json", "recipe.toml")):
            raise UsageError(
                f"{place} is not a bundle of edgetl.",
                why="--overwrite replaces bundles only",
                fix="name another folder with --out",
            )
    try:
        place.resolve().parent.mkdir(parents=True, exist_ok=True)
        with _temporary_beside(place.resolve()):
            pass
    except OSError as error:
        raise UsageError(
            f"The bundle cannot be put at {place}.", why=str(error), fix="name another folder with --out"
        ) from None
    if os.path.ismount(place):
        raise UsageError(
            f"{place} is a mount point.",
            why="a bundle is moved into place as one folder",
            fix=f"name a folder inside it: --out {place / 'bundle'}",
        )


def lay_out(place: Path, plan: Plan, artifacts: Mapping[str, Artifact], report: Report, overwrite: bool) -> None:
    """Write the bundle beside its place, then move it there. Raises UsageError if the place was filled meanwhile."""
    from edgetl.report.html import render_html

    place = place.resolve()
    place.parent.mkdir(parents=True, exist_ok=True)
    with _temporary_beside(place) as folder:
        models = folder / "models"
        models.mkdir()
        for row in report["models"]:
            shutil.copyfile(artifacts["export"].path / Path(row["file"]).name, folder / row["file"])
        for name in ("golden", "flips"):
            shutil.copytree(artifacts["verify"].path / name, folder / name)
        labels = "\n".join(report["dataset"]["classes"]) + "\n"
        (folder / "labels.txt").write_text(labels, encoding="utf-8")
        (folder / "contract.json").write_text(json.dumps(_contract(artifacts, report, labels), indent=1))
        (folder / "recipe.toml").write_text(to_toml(plan.recipe), encoding="utf-8")
        (folder / "lock.json").write_text(json.dumps(_lock(plan, artifacts, report), indent=1))
        (folder / "report.json").write_text(json.dumps(report, indent=1))
        (folder / "report.html").write_text(render_html(report, _thumbnails(folder / "flips")), encoding="utf-8")
        _move_into_place(folder, place, overwrite)


def _move_into_place(folder: Path, place: Path, overwrite: bool) -> None:
    """The old bundle is removed only once the new one is in place. Of two simultaneous builds, the later one wins."""
    aside = folder.with_name(_OLD)
    while True:
        if overwrite and place.is_dir():
            os.replace(place, aside)
        try:
            os.replace(folder, place)  # an empty folder is replaced
            return
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
            if not overwrite:
                raise UsageError(
                    f"{place} was filled while this build ran.",
                    why="by default, a build never overwrites files",
                    fix="build again with another --out, or with --overwrite: finished stages are kept",
                ) from None
            shutil.rmtree(aside, ignore_errors=True)  # meanwhile, another build has put its bundle there


def _thumbnails(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.glob("*.jpg"))}


@contextlib.contextmanager
def _temporary_beside(place: Path) -> Iterator[Path]:
    """An empty folder on the same disk as the place, inside a folder that is locked now and removed afterwards."""
    outer, lock = _locked_folder(place)
    folder = outer / _NEW
    try:
        folder.mkdir()
        folder.chmod(0o755)
        yield folder
    finally:
        _dissolve(outer, place)
        lock.release()


def _locked_folder(place: Path) -> tuple[Path, filelock.BaseFileLock]:
    while True:
        outer = Path(tempfile.mkdtemp(dir=place.parent, prefix=f".{place.name}-", suffix=_ENDING))
        lock = filelock.FileLock(outer / _LOCK_FILE)
        try:
            lock.acquire(timeout=0)
        except filelock.Timeout:
            continue
        except NotImplementedError:
            return outer, lock  # this disk has no locks, so no build takes the folder for a leftover either
        if (outer / _LOCK_FILE).is_file():
            return outer, lock
        lock.release()  # before it was locked, another build took it for a leftover


def _clear_leftovers(place: Path) -> None:
    """Remove the folders of killed builds: the operating system releases a lock when its process ends."""
    name = re.compile(rf"{re.escape(f'.{place.name}-')}[a-z0-9_]{{8}}{re.escape(_ENDING)}")
    try:
        found = [path for path in place.parent.iterdir() if name.fullmatch(path.name)]
    except OSError:
        return  # check_place tests next whether anything can be put there
    for outer in found:
        if outer.is_symlink() or not outer.is_dir():
            continue
        lock = filelock.FileLock(outer / _LOCK_FILE)
        try:
            lock.acquire(timeout=0)
        except (OSError, NotImplementedError):
            continue  # a build is using it, or perhaps is
        _dissolve(outer, place)
        lock.release()


def _dissolve(outer: Path, place: Path) -> None:
    """Remove the folder. A bundle that was moved into it goes back first, unless something else is in its place."""
    old = outer / _OLD
    if old.is_dir():
        try:
            os.replace(old, place)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                return  # a leftover is better than no bundle
    shutil.rmtree(outer, ignore_errors=True)


def _contract(artifacts: Mapping[str, Artifact], report: Report, labels: str) -> dict[str, Any]:
    files = {
        row["file"]: {
            "input": row["input"],
            "output": row["output"],
            "sha256": row["sha256"],
            "smallest_runtime": row["runtime"],
        }
        for row in report["models"]
        if row["role"] == "student"
    }
    return {
        "schema_version": 1,
        "input": read_json(artifacts["verify"], "input.json"),
        "output": {"kind": "softmax probabilities, one a class, in the order of labels.txt"},
        "labels": {
            "file": "labels.txt",
            "count": len(report["dataset"]["classes"]),
            "sha256": hashlib.sha256(labels.encode()).hexdigest(),
        },
        "files": files,
    }


def _lock(plan: Plan, artifacts: Mapping[str, Artifact], report: Report) -> dict[str, Any]:
    return {
        "schema_version": 1,
        "edgetl": __version__,
        "python": report["machine"]["python"],
        "versions": {package: version for package in libraries() if (version := machine.installed_version(package))},
        "dataset": report["dataset"]["fingerprint"],
        "seed": plan.recipe.seed,
        "weights": report["weights"],
        "instruction_set": list(machine.instruction_set()),
        "stages": {step.name: {"key": step.key, "sha256": artifacts[step.name].sha256} for step in plan.steps},
    }
