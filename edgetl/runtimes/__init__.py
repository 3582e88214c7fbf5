"""Runtimes: the code that opens model files. One contract, one module per library; catalogue.BACKENDS lists the backends.

    unavailable(backend: str) -> str | None               None if it is ready; otherwise one sentence: the reason and the fix
    device(backend: str) -> str                           the name of the device that a ready backend runs on
    open_session(model: Path, *, threads: int, backend: str, allow_fallback: bool) -> Session
    simulated(backend: str) -> bool                       optional: whether the device is simulated by a program

A session's `run` takes normalized float images and returns float probabilities, whatever types the file uses; it applies
the file's input and output grids, as an app has to. `placement` reports where the ops really ran. A session that was
requested on a GPU or an NPU and would run on the CPU, even in part, raises PlacementError unless that is allowed.
"""

from __future__ import annotations

import importlib
from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol, cast

from edgetl.core import machine
from edgetl.core.errors import DataError, MissingError
from edgetl.runtimes.catalogue import BACKENDS, LIBRARIES, default_backends, runnable
from edgetl.runtimes.placement import Placement
from edgetl.runtimes.records import BackendState


class PlacementError(MissingError):
    """A session would not run on the requested device."""

    def __init__(self, backend: str, why: str) -> None:
        kind = BACKENDS[backend].device.upper()
        super().__init__(
            f"{backend} was requested, but would not run on the {kind}.",
            why=why,
            fix="`edgetl doctor` shows what is missing; --allow-fallback measures it anyway, as a marked row",
        )


class Session(Protocol):
    """An open model. Images: float32 [n, h, w, 3], normalized by the contract. Probabilities: float32 [n, classes]."""

    output_step: float  # the size of one step of the output's grid; 0.0 for a float output
    input_shape: tuple[int, ...]  # [1, h, w, 3]
    executor: str  # the executor that placement should show; "" where the backend has only one

    def run(self, images: Any) -> Any:
        """Probabilities for each image, computed one image at a time (the batch is 1)."""

    def invoke(self) -> None:
        """Run once more on the last image and do nothing else: this is what latency measures. Returns when the output is
        in this machine's main memory, so that a GPU's time includes the copies to it and back."""

    def placement(self) -> Placement:
        """Where the ops run, counted."""

    def close(self) -> None:
        """Release the model."""


def one_image(inputs: Sequence[Sequence[Any]]) -> tuple[int, ...]:
    """The shape of a model's only input, with a batch of 1 if the batch is not fixed.

    inputs: the shape of each input, with a name, -1 or None where a size is not fixed. Raises ValueError for more than one
    input, and for an image size that is not fixed: it would have to be guessed, and a guess of 1 px makes latency a thousand
    times too low.

    >>> one_image([["N", 224, 224, 3]])
    (1, 224, 224, 3)
    """
    if len(inputs) != 1:
        raise ValueError(f"it has {len(inputs)} inputs: an image classifier has one")
    batch, *sizes = inputs[0] or [1]
    if not all(isinstance(size, int) and size > 0 for size in sizes):
        raise ValueError(
            f"its input {list(inputs[0])} has no fixed size: export it with the size that it will be used at"
        )
    return (batch if isinstance(batch, int) and batch > 0 else 1, *sizes)


def load_runtime(name: str) -> ModuleType:
    """The module of a backend. It imports its library only when one of its functions is called."""
    return importlib.import_module(BACKENDS[name].module)


def unavailable(name: str) -> str | None:
    """None if the backend is ready here; otherwise the reason and the fix, in one sentence."""
    reason: str | None = load_runtime(name).unavailable(name)
    return reason


def simulated(name: str) -> bool:
    """Whether a ready backend's device is simulated on the CPU: its probabilities are valid, its latencies are not."""
    module = load_runtime(name)
    return bool(module.simulated(name)) if hasattr(module, "simulated") else False


def version(name: str) -> str:
    """The installed version of a backend's library; "" if it is not installed."""
    versions = map(machine.installed_version, LIBRARIES[BACKENDS[name].library].packages)
    return next((found for found in versions if found), "")


def survey() -> dict[str, BackendState]:
    """The state of every backend, by name. They are checked in parallel: some checks run a child process."""

    def look(name: str) -> BackendState:
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


def open_session(model: Path, backend: str, *, threads: int, allow_fallback: bool = False) -> Session:
    """Open a model file on a backend. Raises MissingError for a backend that is not available, PlacementError for one that
    would run elsewhere, ValueError for a file that it refuses."""
    reason = unavailable(backend)
    if reason is not None and not allow_fallback:
        raise MissingError(
            f"{backend} is not available.", why=reason, fix="`edgetl doctor` lists the backends that are"
        )
    module = load_runtime(backend)
    opened = module.open_session(model, threads=threads, backend=backend, allow_fallback=allow_fallback)
    return cast(Session, opened)


def runtimes_for(model: Path, among: Collection[str] | None = None) -> list[str]:
    """The backends in `among` (None: the default ones) that open this kind of file."""
    chosen = default_backends() if among is None else among
    return [name for name, backend in runnable().items() if name in chosen and model.suffix == backend.suffix]


def open_sessions(
    folder: Path, files: Sequence[str], *, threads: int, backends: Collection[str] | None = None
) -> tuple[dict[str, Session], dict[str, str]]:
    """Open every file on every available backend that opens its format.

    files: names in `folder`. backends: None for the default ones. Returns ("file@runtime" -> session, backend -> why it is
    not available). Raises MissingError if nothing can be opened, DataError for a file that its backend refuses.
    """
    chosen = default_backends() if backends is None else backends
    absent = {name: reason for name in runnable() if name in chosen and (reason := unavailable(name))}
    sessions: dict[str, Session] = {}
    for file in files:
        for name in runtimes_for(folder / file, chosen):
            if name in absent:
                continue
            try:
                sessions[f"{file}@{name}"] = open_session(folder / file, name, threads=threads)
            except ValueError as error:
                raise DataError(
                    f"{file} is refused by {name}.", why=str(error).strip()[:300], fix="use the file as it was built"
                ) from None
    if not sessions:
        raise MissingError(
            "None of the runtimes available here opens any of the exported files.",
            why="; ".join(absent.values()),
            fix="`edgetl doctor` shows what is missing",
        )
    return sessions, absent
