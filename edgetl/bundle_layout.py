"""A bundle laid out: what a build made, in one folder, moved into place whole or not at all."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from edgetl import __version__, machine
from edgetl.errors import UsageError
from edgetl.plan import STAGES, Plan
from edgetl.recipe import to_toml
from edgetl.store import Artifact


def read_json(artifact: Artifact, name: str) -> Any:
    """A JSON file of an artifact."""
    return json.loads((artifact.path / name).read_text())


def check_place(place: Path, overwrite: bool) -> None:
    """Before anything is built: raises UsageError where a bundle cannot be put."""
    if place.resolve() == Path.cwd():
        raise UsageError("The bundle cannot be the folder you are in.", fix="name a folder in it: --out out")
    if place.exists() and not place.is_dir():
        raise UsageError(f"{place} is a file.", fix="name a folder with --out")
    if place.is_dir() and any(place.iterdir()):
        if not overwrite:
            raise UsageError(
                f"{place} is not empty.",
                why="a build never writes over what is there by itself",
                fix="name another folder with --out, or allow it with --overwrite",
            )
        if not all((place / name).is_file() for name in ("report.json", "contract.json", "lock.json", "recipe.toml")):
            raise UsageError(
                f"{place} was not made by edgetl.",
                why="--overwrite replaces bundles, and nothing else",
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
            why="a bundle is moved into place whole",
            fix=f"name a folder in it: --out {place / 'bundle'}",
        )


def lay_out(
    place: Path, plan: Plan, artifacts: Mapping[str, Artifact], report: Mapping[str, Any], overwrite: bool
) -> None:
    """Write the bundle beside its place and move it there whole."""
    from edgetl.report_html import render_html

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
        if place.is_dir() and not overwrite:
            place.rmdir()  # empty, or somebody else's by now: then this fails and nothing is lost
        aside = folder.with_name(f"{folder.name}-old")
        if place.is_dir():
            os.replace(place, aside)  # the old bundle is gone only when the new one is there
        os.replace(folder, place)
        shutil.rmtree(aside, ignore_errors=True)


def _thumbnails(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.glob("*.jpg"))}


@contextlib.contextmanager
def _temporary_beside(place: Path) -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(dir=place.parent, prefix=f".{place.name}-"))
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _contract(artifacts: Mapping[str, Artifact], report: Mapping[str, Any], labels: str) -> dict[str, Any]:
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


def _lock(plan: Plan, artifacts: Mapping[str, Artifact], report: Mapping[str, Any]) -> dict[str, Any]:
    packages = sorted({package for stage in STAGES.values() for package in stage.libraries})
    return {
        "schema_version": 1,
        "edgetl": __version__,
        "python": report["machine"]["python"],
        "versions": {package: version for package in packages if (version := machine.installed_version(package))},
        "dataset": report["dataset"]["fingerprint"],
        "seed": plan.recipe.seed,
        "weights": report["weights"],
        "instruction_set": list(machine.instruction_set()),
        "stages": {step.name: {"key": step.key, "sha256": artifacts[step.name].sha256} for step in plan.steps},
    }
