"""`edgetl doctor`: what is installed here, and which backends are ready."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from edgetl.console.options import CacheOption, JsonOption
from edgetl.console.output import open_store, print_json, stdout
from edgetl.core.version import __version__

if TYPE_CHECKING:
    from rich.console import Console


def doctor(as_json: JsonOption = False, cache: CacheOption = None) -> None:
    """What is installed here, which backends are ready and on what, what the others lack."""
    from importlib.util import find_spec

    from edgetl.backbones.local_weights import keras_models_folder
    from edgetl.core import machine
    from edgetl.runtimes import survey
    from edgetl.stages.catalogue import libraries, missing_build_modules

    versions = {package: machine.installed_version(package) for package in libraries()}
    lacking = missing_build_modules()
    store = open_store(cache)
    weights = keras_models_folder()
    facts = {
        "edgetl": __version__,
        "machine": machine.describe(),
        "packages": versions,
        "runtimes": survey(),
        "can_build": not lacking,
        "missing_for_build": lacking,
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


def print_doctor(console: Console, facts: Mapping[str, Any]) -> None:
    """What `edgetl doctor` found, as it gives it in JSON."""
    from rich.table import Table
    from rich.text import Text

    machine = facts["machine"]
    console.print(f"edgetl {facts['edgetl']}, Python {machine['python']}, {machine['os']}")
    named = " ".join(part for part in (machine["processor"], machine["board"]) if part)
    console.print(f"{named}: {machine['cores']} cores, {machine['memory_bytes'] / 2**30:.1f} GiB", markup=False)
    table = Table()
    for name in ("backend", "version", "runs on, or what it lacks"):
        table.add_column(name)
    # Backends that lack the same are one row.
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
    lacking = facts["missing_for_build"]
    ready = "`edgetl build` is ready." if not lacking else "`edgetl build` needs: pip install 'edgetl[build]'"
    console.print(ready, markup=False)
