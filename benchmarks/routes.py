"""Ways from one float student to int8: edgetl's own by its pipeline, each peer by a separate program.

A peer runs as a subprocess, so that a crash, a missing package or a net it cannot quantize becomes a route with the reason.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from edgetl.commands.build.run import Source, plan_for, run_plan
from edgetl.core.errors import CollapseError, TrainingError
from edgetl.core.store import Artifact, Store
from edgetl.stages.recipe import make_recipe
from edgetl.targets.target import load_target

PEERS = Path(__file__).parent / "peers"
_TIMEOUT_S = 3 * 3600.0


@dataclass(frozen=True)
class Route:
    """One way to one file. why: the reason if there is no file. tool: the program that wrote it, with its version."""

    name: str
    runtime: str
    file: Path | None
    why: str = ""
    tool: str = "edgetl"


class Lines:
    """A Display and a Progress in one: a build shown as one line per stage and one line per note."""

    @contextmanager
    def stage(self, position: int, count: int, name: str) -> Any:
        print(f"[{position}/{count}] {name}", flush=True)
        yield self

    def cached(self, position: int, count: int, name: str) -> None:
        print(f"[{position}/{count}] {name}: cached", flush=True)

    def note(self, text: str) -> None:
        print(f"    {text}", flush=True)

    def begin(self, total: int, *, done: int = 0, unit: str = "steps") -> None:
        """Counts are not shown."""

    def advance(self, count: int, detail: str = "") -> None:
        """Counts are not shown."""


@dataclass(frozen=True)
class Builds:
    """The builds of one recipe. made: "PTQ" and "QAT" -> step name -> artifact, up to the export. failed: scheme -> why it
    has no files."""

    made: Mapping[str, Mapping[str, Artifact]]
    failed: Mapping[str, str]

    @property
    def common(self) -> Mapping[str, Artifact]:
        """The steps that all schemes share (they differ only in quantize.scheme), and the float files."""
        return next(iter(self.made.values()))


def build_schemes(tables: Mapping[str, Any], source: Source, store: Store) -> Builds:
    """Build both schemes of the recipe. Raises CollapseError or TrainingError if neither gives files to compare."""
    made, failed = {}, {}
    for scheme in ("ptq", "qat"):
        plan = plan_for(
            make_recipe(dict(tables), {"quantize": {"scheme": scheme}}), load_target("this-machine"), source
        )
        last = [step.name for step in plan.steps].index("export")
        try:
            made[scheme.upper()], _ = run_plan(replace(plan, steps=plan.steps[: last + 1]), source, store, Lines())
        except (CollapseError, TrainingError) as error:
            if scheme == "qat" and not made:
                raise
            failed[scheme.upper()] = without_paths(f"{error.what} {error.why}")
    return Builds(made, failed)


def edgetl_routes(builds: Builds) -> list[Route]:
    """float32 on both runtimes, then each scheme on both."""
    routes = []
    for suffix, runtime in (("tflite", "litert-cpu"), ("onnx", "ort-cpu")):
        routes.append(Route("float32", runtime, builds.common["export"].path / f"student.float32.{suffix}"))
        for scheme, steps in builds.made.items():
            file = steps["export"].path / f"student.int8.{suffix}"
            routes.append(Route(f"edgetl {scheme}", runtime, file))
        routes += [Route(f"edgetl {scheme}", runtime, None, why) for scheme, why in builds.failed.items()]
    return routes


def peer_routes(
    built: Mapping[str, Artifact],
    training: Mapping[str, Any],
    calibration: Path,
    out: Path,
    pythons: Mapping[str, str],
) -> list[Route]:
    """Every peer on the same student and photos. training: see peers/tfmot_qat.py; calibration: the .npy file.

    pythons: program name -> the Python that runs it, if it is not this one.
    """
    student, float_onnx = str(built["distill"].path), str(built["export"].path / "student.float32.onnx")
    float_tflite = str(built["export"].path / "student.float32.tflite")
    photos = str(calibration)
    train = out / "training.json"
    train.write_text(json.dumps(dict(training)))

    def peer(program: str, routes: Sequence[tuple[str, str, str]], inputs: Sequence[str], *extra: str) -> list[Route]:
        """routes: (name, runtime, file name) of each file that the program writes."""
        files = [out / file for _, _, file in routes]
        print(f"{program} {' '.join(extra)}".rstrip(), flush=True)
        tool, why = run_peer(program, [*inputs, *map(str, files), *extra], pythons.get(program, sys.executable))
        return [
            Route(name, runtime, file if file.is_file() else None, "" if file.is_file() else why or "no file", tool)
            for (name, runtime, _), file in zip(routes, files, strict=True)
        ]

    return [
        *peer(
            "tfmot_qat",
            [("TFMOT QAT, defaults", "litert-cpu", "tfmot.tflite"), ("TFMOT QAT, defaults", "ort-cpu", "tfmot.onnx")],
            [student, str(train)],
        ),
        *peer("tflite_converter", [("TFLite converter PTQ", "litert-cpu", "converter.tflite")], [student, photos]),
        *peer("ai_edge_static", [("ai-edge-quantizer PTQ", "litert-cpu", "ai_edge.tflite")], [float_tflite, photos]),
        *peer("ort_static", [("ONNX Runtime PTQ", "ort-cpu", "ort.onnx")], [float_onnx, photos]),
        *peer("nncf_ptq", [("NNCF PTQ, default", "ort-cpu", "nncf.onnx")], [float_onnx, photos]),
        *peer("nncf_ptq", [("NNCF PTQ, mixed", "ort-cpu", "nncf-mixed.onnx")], [float_onnx, photos], "mixed"),
    ]


def run_peer(program: str, arguments: Sequence[str], python: str) -> tuple[str, str]:
    """(The peer's name and version, "") or ("", why it failed)."""
    try:
        run = subprocess.run(
            [python, str(PEERS / f"{program}.py"), *arguments], capture_output=True, text=True, timeout=_TIMEOUT_S
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return "", without_paths(str(error))
    if run.returncode == 0:
        return run.stdout.strip().splitlines()[-1], ""
    if run.returncode < 0:
        return "", f"killed by signal {-run.returncode}"
    return "", why_of(run.stderr)


def why_of(stderr: str) -> str:
    """The last exception a Python program printed, on one line.

    >>> why_of("Traceback (most recent call last):\\n  File \\"/a/b.py\\", line 3, in f\\nValueError: no such\\n  layer")
    'ValueError: no such layer'
    """
    lines = stderr.strip().splitlines() or ["no message"]
    named = [i for i, line in enumerate(lines) if re.match(r"[A-Za-z_][\w.]*(Error|Exception|Exit)\b", line)]
    text = " ".join(line.strip() for line in lines[named[-1] if named else -1 :])
    return without_paths(text)


def without_paths(text: str, most: int = 300) -> str:
    """A message without the folders of this machine: they are private and not part of the reason.

    >>> without_paths("cannot open /a/b/net.onnx")
    'cannot open net.onnx'
    """
    bare = re.sub(r"(?<![\w.])/(?:[^\s/'\"]+/)+", "", text)
    return bare if len(bare) <= most else f"{bare[: most - 3]}..."
