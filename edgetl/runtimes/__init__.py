"""Runtimes: what opens a model file. One contract, one file a runtime; the dict below is the list of backends.

    unavailable() -> str | None                           None: ready; else one sentence: why, and the mend
    open_session(model: Path, *, threads: int) -> Session

A session's `run` takes normalized float images and gives float probabilities whatever the file's own types are; it
applies the file's grids itself, as an app has to. `placement` says where the ops really ran.
"""

from __future__ import annotations

import importlib
from collections.abc import Collection, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

from edgetl.errors import DataError, MissingError

# Backend name -> (module, suffixes of the files it opens).
RUNTIMES = {
    "litert-cpu": ("edgetl.runtimes.litert", (".tflite",)),
    "ort-cpu": ("edgetl.runtimes.ort", (".onnx",)),
}


class Session(Protocol):
    """An open model. Images: float32 [n, h, w, 3], normalized by the contract. Probabilities: float32 [n, classes]."""

    output_step: float  # what one step of the output's grid is worth; 0.0 for a float output

    def run(self, images: Any) -> Any:
        """Probabilities of each image, one at a time (the batch is 1)."""

    def invoke(self) -> None:
        """Run once more on the last image, and nothing else: what latency is the time of."""

    def placement(self) -> dict[str, int]:
        """Where the ops run: LiteRT counts delegated and builtin ops, ONNX Runtime names its provider."""

    def close(self) -> None:
        """Let go of the model."""


def load_runtime(name: str) -> ModuleType:
    """The module of a backend; imports its library."""
    return importlib.import_module(RUNTIMES[name][0])


def why_unavailable(name: str) -> str | None:
    """None when a backend is ready here; else one sentence: why not, and the mend."""
    reason: str | None = load_runtime(name).unavailable()
    return reason


def runtimes_for(model: Path) -> list[str]:
    """The backends that open this kind of file."""
    return [name for name, (_, suffixes) in RUNTIMES.items() if model.suffix in suffixes]


def open_sessions(
    folder: Path, files: Sequence[str], *, threads: int, backends: Collection[str] | None = None
) -> tuple[dict[str, Any], dict[str, str]]:
    """("file@runtime" -> session of every file of a folder on every backend here that opens it, backend -> why not here).

    backends: to use of RUNTIMES; None for all. Raises MissingError when nothing can be opened, DataError for a file that its
    backend refuses.
    """
    used = [name for name in RUNTIMES if backends is None or name in backends]
    absent = {name: reason for name in used if (reason := why_unavailable(name))}
    sessions: dict[str, Any] = {}
    for file in files:
        for name in runtimes_for(folder / file):
            if name in absent or name not in used:
                continue
            try:
                sessions[f"{file}@{name}"] = load_runtime(name).open_session(folder / file, threads=threads)
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
