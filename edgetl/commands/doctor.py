"""`edgetl doctor`: the installed packages, and which backends are ready."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, TypedDict

from edgetl.console.options import CacheOption, JsonOption
from edgetl.console.output import open_store, print_json, stdout
from edgetl.core.version import __version__

if TYPE_CHECKING:
    from rich.console import Console

    from edgetl.core.machine import Machine
    from edgetl.runtimes.records import BackendState


class Doctor(TypedDict):
    """What `edgetl doctor --json` prints. packages: name -> version, "" if it is not installed. runtimes: backend -> its state
    on this machine. missing_for_build: modules. keras_weights: files in Keras' cache."""

    edgetl: str
    machine: Machine
    packages: Mapping[str, str]
    runtimes: Mapping[str, BackendState]
    can_build: bool
    missing_for_build: list[str]
    cache: str
    keras_weights: list[str]
    pip: bool


def doctor(as_json: JsonOption = False, cache: CacheOption = None) -> None:
    """Show the installed packages, which backends are ready on which device, and what the others need."""
    from importlib.util import find_spec

    from edgetl.backbones.local_weights import keras_models_folder
    from edgetl.core import machine
    from edgetl.runtimes import survey
    from edgetl.stages.catalogue import libraries, missing_build_modules

    versions = {package: machine.installed_version(package) for package in libraries()}
    missing = missing_build_modules()
    store = open_store(cache)
    weights = keras_models_folder()
    facts: Doctor = {
        "edgetl": __version__,
        "machine": machine.describe(),
        "packages": versions,
        "runtimes": survey(),
        "can_build": not missing,
        "missing_for_build": missing,
        "cache": str(store.root),
        "keras_weights": sorted(file.name for file in weights.glob("*.h5")) if weights.is_dir() else [],
        "pip": find_spec("pip") is not None,
    }
    if as_json:
        print_json(facts)
        return
    print_doctor(stdout(), facts)


def _under_another_name(package: str, versions: Mapping[str, str]) -> bool:
    """Whether onnxruntime is installed as onnxruntime-gpu, or the other way round."""
    plain = package.removesuffix("-gpu")
    return bool(versions.get(plain) or versions.get(f"{plain}-gpu"))


def print_doctor(console: Console, facts: Doctor) -> None:
    """Print the facts as tables."""
    from rich.table import Table
    from rich.text import Text

    machine = facts["machine"]
    console.print(f"edgetl {facts['edgetl']}, Python {machine['python']}, {machine['os']}")
    named = " ".join(part for part in (machine["processor"], machine["board"]) if part)
    console.print(f"{named}: {machine['cores']} cores, {machine['memory_bytes'] / 2**30:.1f} GiB", markup=False)
    table = Table()
    for name in ("backend", "version", "device, or what is missing"):
        table.add_column(name)
    # Backends with the same version and reason share a row.
    alike: dict[tuple[str, str], list[str]] = {}
    for name, found in facts["runtimes"].items():
        text = f"ready: {found['device']}" if found["available"] else f"not ready: {found['reason']}"
        alike.setdefault((found["version"], text), []).append(name)
    for (version, text), names in alike.items():
        table.add_row("\n".join(names), version, Text(text))
    console.print(table)
    versions = facts["packages"]
    table = Table()
    for name in ("package", "version"):
        table.add_column(name)
    for name, version in versions.items():
        if version or not _under_another_name(name, versions):
            table.add_row(name, version or "not installed")
    console.print(table)
    console.print(f"cache: {facts['cache']}", soft_wrap=True)
    ready = (
        "`edgetl build` is ready."
        if not facts["missing_for_build"]
        else "`edgetl build` needs: pip install 'edgetl[build]'"
    )
    console.print(ready, markup=False)
