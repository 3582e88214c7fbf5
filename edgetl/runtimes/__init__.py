"""Runtimes: what opens a model file. One contract, one file a library; the dict below is the list of backends.

    unavailable(backend: str) -> str | None               None: ready; else one sentence: why, and the mend
    device(backend: str) -> str                           the name of what a ready backend runs on
    open_session(model: Path, *, threads: int, backend: str, allow_fallback: bool) -> Session
    simulated(backend: str) -> bool                       only where a device can be: whether a program plays it

A session's `run` takes normalized float images and gives float probabilities whatever the file's own types are; it
applies the file's grids itself, as an app has to. `placement` says where the ops really ran. A session that was asked
for a GPU or an NPU and would run on the CPU, even in part, raises PlacementError unless that is allowed.
"""

from __future__ import annotations

import importlib
from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

from edgetl.core import machine
from edgetl.core.errors import DataError, MissingError
from edgetl.runtimes.catalogue import BACKENDS, LIBRARIES, default_backends, runnable
from edgetl.runtimes.placement import Placement


class PlacementError(MissingError):
    """A session would not run where it was asked to."""

    def __init__(self, backend: str, why: str) -> None:
        kind = BACKENDS[backend].device.upper()
        super().__init__(
            f"{backend} was asked for and would not run on the {kind}.",
            why=why,
            fix="`edgetl doctor` shows what is missing; --allow-fallback measures it all the same, as a marked row",
        )


class Session(Protocol):
    """An open model. Images: float32 [n, h, w, 3], normalized by the contract. Probabilities: float32 [n, classes]."""

    output_step: float  # what one step of the output's grid is worth; 0.0 for a float output
    input_shape: tuple[int, ...]  # [1, h, w, 3]
    executor: str  # whose ops placement is to show; "" where the backend has one kind alone

    def run(self, images: Any) -> Any:
        """Probabilities of each image, one at a time (the batch is 1)."""

    def invoke(self) -> None:
        """Run once more on the last image, and nothing else: what latency is the time of. Returns when the answer is in
        this machine's own memory, so that a GPU's time holds the copies there and back."""

    def placement(self) -> Placement:
        """Where the ops run."""

    def close(self) -> None:
        """Let go of the model."""


def one_image(inputs: Sequence[Sequence[Any]]) -> tuple[int, ...]:
    """The shape of a model's only input, its batch taken as 1. inputs: the shape of each, with a name, -1 or None where
    it is not fixed. Raises ValueError for more inputs than one, and for a size that is not fixed: it would be guessed, and a
    guess of 1 is a thousand times too fast.

    >>> one_image([["N", 224, 224, 3]])
    (1, 224, 224, 3)
    """
    if len(inputs) != 1:
        raise ValueError(f"it has {len(inputs)} inputs: a classifier of photos has one")
    batch, *sizes = inputs[0] or [1]
    if not all(isinstance(size, int) and size > 0 for size in sizes):
        raise ValueError(
            f"its input {list(inputs[0])} has no fixed size: export it for the size that it will be used with"
        )
    return (batch if isinstance(batch, int) and batch > 0 else 1, *sizes)


def load_runtime(name: str) -> ModuleType:
    """The module of a backend. It imports its library only when it is asked for something."""
    return importlib.import_module(BACKENDS[name].module)


def unavailable(name: str) -> str | None:
    """None: the backend is ready here; else why not, and the mend, in one sentence."""
    reason: str | None = load_runtime(name).unavailable(name)
    return reason


def simulated(name: str) -> bool:
    """Whether a ready backend's device is a program on the CPU: right for answers, not for times."""
    module = load_runtime(name)
    return bool(module.simulated(name)) if hasattr(module, "simulated") else False


def version(name: str) -> str:
    """The version of a backend's library, "" when it is not installed."""
    versions = map(machine.installed_version, LIBRARIES[BACKENDS[name].library].packages)
    return next((found for found in versions if found), "")


def survey() -> dict[str, dict[str, Any]]:
    """Every backend: {available, version, device, simulated, reason}. device: of a ready one, else "". reason: why it is
    not, and the mend, else "". Asks all in parallel: some ask a child process."""

    def look(name: str) -> dict[str, Any]:
        reason = unavailable(name)
        here = reason is None
        return {
            "available": here,
            "version": version(name),
            "device": load_runtime(name).device(name) if here else "",
            "simulated": here and simulated(name),
            "reason": reason or "",
        }

    with ThreadPoolExecutor(max_workers=4) as pool:
        return dict(zip(runnable(), pool.map(look, runnable()), strict=True))


def open_session(model: Path, backend: str, *, threads: int, allow_fallback: bool = False) -> Any:
    """A Session of a backend. Raises MissingError for a backend that is not here, PlacementError for one that would run
    elsewhere, ValueError for a file that it refuses."""
    reason = unavailable(backend)
    if reason is not None and not allow_fallback:
        raise MissingError(f"{backend} is not here.", why=reason, fix="`edgetl doctor` lists what is")
    return load_runtime(backend).open_session(model, threads=threads, backend=backend, allow_fallback=allow_fallback)


def runtimes_for(model: Path, among: Collection[str] | None = None) -> list[str]:
    """The backends that open this kind of file, of those in `among` (None: the default ones)."""
    chosen = default_backends() if among is None else among
    return [name for name, backend in runnable().items() if name in chosen and model.suffix == backend.suffix]


def open_sessions(
    folder: Path, files: Sequence[str], *, threads: int, backends: Collection[str] | None = None
) -> tuple[dict[str, Any], dict[str, str]]:
    """("file@runtime" -> session of every file of a folder on every backend here that opens it, backend -> why not here).

    backends: the default ones if None. Raises MissingError when nothing can be opened, DataError for a file that its
    backend refuses.
    """
    chosen = default_backends() if backends is None else backends
    absent = {name: reason for name in runnable() if name in chosen and (reason := unavailable(name))}
    sessions: dict[str, Any] = {}
    for file in files:
        for name in runtimes_for(folder / file, chosen):
            if name in absent:
                continue
            try:
                sessions[f"{file}@{name}"] = open_session(folder / file, name, threads=threads)
            except ValueError as error:
                raise DataError(
                    f"{file} is refused by {name}.", why=str(error).strip()[:300], fix="take the file as it was built"
                ) from None
    if not sessions:
        raise MissingError(
            "No runtime here opens any of the exported files.",
            why="; ".join(absent.values()),
            fix="`edgetl doctor` shows what is missing",
        )
    return sessions, absent
