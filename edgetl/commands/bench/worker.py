"""The child's side of a row: opens one model and runs it on request (protocol.py).

Requests are lines of JSON on stdin, answers are lines of JSON on stdout; whatever libraries print goes to stderr. A module
is imported only when an answer needs it, because the memory and time of this process are the measurement.
"""

from __future__ import annotations

import importlib
import json
import math
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgetl.commands.bench.protocol import (
    Failure,
    Images,
    Opened,
    OpenRequest,
    Placed,
    Profiled,
    ProfileRequest,
    Timed,
    TimeRequest,
)
from edgetl.core.child import answers_to_parent, end_with_parent

_MODEL_IMAGES, _MOST_ANSWERS = 4, 10_000


class _Worker:
    def __init__(self) -> None:
        self.session: Any = None
        self.images: Any = None
        self.before_bytes = 0
        self.visits = 0

    def open(self, request: OpenRequest) -> Opened:
        """Load the model, time its first run, and return its answers for a few images."""
        pinned = _pin(request["cores"])
        from edgetl.core.machine import installed_version
        from edgetl.runtimes import load_runtime, open_session, simulated, unavailable
        from edgetl.runtimes.catalogue import BACKENDS, LIBRARIES

        backend = request["backend"]
        begun = time.perf_counter()
        if unavailable(backend) is None:
            for name in LIBRARIES[BACKENDS[backend].library].imports:
                importlib.import_module(name)
        import_ms = 1e3 * (time.perf_counter() - begun)
        self.before_bytes = _memory("VmRSS")
        begun = time.perf_counter()
        self.session = open_session(
            Path(request["model"]), backend, threads=request["threads"], allow_fallback=request["allow_fallback"]
        )
        load_ms = 1e3 * (time.perf_counter() - begun)
        loaded_bytes = _memory("VmRSS")
        self.images = _images(request["input"], self.session.input_shape)
        # Photos and their decoder do not count as the model's memory.
        self.before_bytes += max(0, _memory("VmRSS") - loaded_bytes)
        begun = time.perf_counter()
        first = self.session.run(self.images[:1])
        first_ms = 1e3 * (time.perf_counter() - begun)
        answers = [first[0], *(self.session.run(self.images[i : i + 1])[0] for i in range(1, len(self.images)))]
        packages = LIBRARIES[BACKENDS[backend].library].packages
        versions = {name: version for name in packages if (version := installed_version(name))}
        return {
            "import_ms": import_ms,
            "load_ms": load_ms,
            "first_ms": first_ms,
            "input_shape": list(self.session.input_shape),
            "output_step": self.session.output_step,
            # JSON has no NaN and no infinity: None stands for them.
            "answers": [
                [float(value) if math.isfinite(value) else None for value in answer.ravel()[:_MOST_ANSWERS]]
                for answer in answers
            ],
            "device": load_runtime(backend).device(backend),
            "simulated": simulated(backend),
            "library": ", ".join(f"{name} {version}" for name, version in versions.items()),
            "pinned_to": pinned,
            "executor": getattr(self.session, "executor", ""),
        }

    def time(self, request: TimeRequest) -> Timed:
        """Time `runs` runs, after `lead` runs that bring the weights back into the caches."""
        # A different image on each visit: the processor must not learn a single one.
        self.visits += 1
        begun_s = time.perf_counter()
        at = self.visits % len(self.images)
        self.session.run(self.images[at : at + 1])
        invoke, clock = self.session.invoke, time.perf_counter_ns
        for _ in range(request["lead"]):
            invoke()
        lead_s = time.perf_counter() - begun_s
        times = [0] * request["runs"]
        processor = time.process_time_ns()
        for i in range(len(times)):
            begun = clock()
            invoke()
            times[i] = clock() - begun
        processor = time.process_time_ns() - processor
        return {
            "times_ms": [value / 1e6 for value in times],
            "processor_ms": processor / 1e6 / len(times),
            "process_s": time.process_time(),
            "lead_s": lead_s,
        }

    def placement(self, request: Mapping[str, Any]) -> Placed:
        """Peak memory, read first because finding out where ops ran may open the model once more; then the placement."""
        peak = _memory("VmHWM")
        return {
            "memory": {"peak_bytes": peak, "model_bytes": max(0, peak - self.before_bytes)} if peak else {},
            "placement": self.session.placement().to_json(),
        }

    def profile(self, request: ProfileRequest) -> Profiled:
        """The slowest ops, or None and the reason."""
        if not hasattr(self.session, "profile"):
            return {"profile": None, "reason": f"{request['backend']} does not report the times of single ops"}
        return {"profile": self.session.profile(request["runs"])[:200]}

    def close(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Close the model."""
        self.session.close()
        return {}


def _images(source: Images, shape: tuple[int, ...]) -> Any:
    """float32 [n, h, w, 3], normalized: photos through a contract, or uniform random numbers in [-1, 1]."""
    import numpy as np

    if source["kind"] == "random":
        size = (_MODEL_IMAGES, *shape[1:])
        return np.random.default_rng(source["seed"]).uniform(-1, 1, size).astype(np.float32)
    from edgetl.tasks.photos.contract import Normalization, View
    from edgetl.tasks.photos.decode import load_view

    contract = source.get("contract")
    if contract is None:
        normalization, view = Normalization((127.5,) * 3, (127.5,) * 3), View(int(shape[1]), "stretch", 1.0)
    else:
        from edgetl.tasks.photos.contract import read_input

        normalization, view = read_input(contract)
    pixels = np.stack([load_view(Path(path), view) for path in source["paths"]]).astype(np.float32)
    return np.asarray(normalization.apply(pixels), np.float32)


def _memory(what: str) -> int:
    """VmRSS (now) or VmHWM (at most so far) of this process in bytes; 0 if the system does not report it."""
    try:
        text = Path("/proc/self/status").read_text()
    except OSError:
        return 0
    for line in text.splitlines():
        if line.startswith(f"{what}:"):
            return int(line.split()[1]) * 1024
    return 0


def _pin(cores: list[int] | None) -> list[int] | None:
    if not cores or not hasattr(os, "sched_setaffinity"):
        return None
    os.sched_setaffinity(0, cores)
    return sorted(os.sched_getaffinity(0))


def main() -> None:
    """Answer requests until stdin ends."""
    end_with_parent()
    answers = answers_to_parent()
    worker = _Worker()
    for line in sys.stdin:
        request = json.loads(line)
        try:
            answer = getattr(worker, request["do"])(request)
        except Exception as error:  # noqa: BLE001 - the parent reports whatever a runtime raises
            answer = {"error": _failure(error)}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


def _failure(error: Exception) -> Failure:
    from edgetl.core.errors import MissingError
    from edgetl.runtimes import PlacementError

    if isinstance(error, PlacementError):
        kind = "placement"
    elif isinstance(error, MissingError):
        kind = "missing"
    else:
        kind = "memory" if isinstance(error, MemoryError) else "refused"
    why = getattr(error, "why", "")
    text = f"{getattr(error, 'what', error)}" + (f" {why}" if why else "")
    return {"kind": kind, "reason": " ".join(text.split())[:600] or type(error).__name__}
