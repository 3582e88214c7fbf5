"""edgetl bench compared with each runtime's own tool on the same files: do the medians agree within 5%?

    python benchmarks/latency.py [--repeats N] [--seconds S] [--openvino-python PYTHON] [--csv FILE]

MobileNetV2 1.0 at 224 px with random weights, the files that a build ships, one thread. In every repeat each file is
timed by `edgetl bench` (the command, as a user runs it) and by the other tool, one directly after the other, alternating
which is first; ratios are computed within a repeat. All wheels of ONNX Runtime install into the same folder, so OpenVINO's
needs its own environment with onnxruntime-openvino, openvino and edgetl, given by --openvino-python.
"""

from __future__ import annotations

import os

os.environ["TF_USE_LEGACY_KERAS"] = "1"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import argparse
import csv
import importlib.util
import json
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from int8_speed import write_files
from tables import print_table

from edgetl.core import machine

HEADER = [
    "file",
    "backend",
    "tool",
    "repeats",
    "edgetl_ms",
    "tool_ms",
    "ratio",
    "ratio_low",
    "ratio_high",
    "agree",
    "processor",
]
AGREE = 0.05
SIZE_PX = 224


@dataclass(frozen=True)
class Tool:
    """time: (file, seconds) -> its median in milliseconds."""

    name: str
    backend: str
    files: tuple[str, ...]
    time: Callable[[Path, float], float]
    python: str = sys.executable


def run(command: list[str]) -> str:
    """Run a program and return its output. Exits with its output and errors if it fails."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}: exit {done.returncode}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}")
    return done.stdout


def edgetl_bench(file: Path, backend: str, seconds: float, python: str) -> tuple[float, float]:
    """(median in milliseconds, seconds that the command took in addition to warming up and timing)."""
    begun = time.monotonic()
    # A width that is never reached, so that both tools measure for the same number of seconds.
    command = [
        python,
        "-m",
        "edgetl",
        "bench",
        str(file),
        "--backend",
        backend,
        "--seconds",
        str(seconds),
        "--width",
        "0.001",
    ]
    row = json.loads(run([*command, "--json"]))["rows"][0]
    return row["p50_ms"], time.monotonic() - begun - row["timed_s"] - row["warmup_s"]


def benchmark_litert_model(file: Path, seconds: float) -> float:
    """ai_edge_litert's own program: CompiledModel on the CPU."""
    spec = importlib.util.find_spec("ai_edge_litert.tools.benchmark_litert_model")
    assert spec is not None
    assert spec.origin is not None
    with tempfile.TemporaryDirectory() as folder:
        found = Path(folder) / "result.json"
        runs = round(1e3 * seconds / 2)
        command = [sys.executable, spec.origin, "--model", str(file), "--num_threads", "1", "--warmup_runs", "50"]
        run([*command, "--num_runs", str(runs), "--result_json", str(found)])
        return float(json.loads(found.read_text())["latency"]["median_ms"])


def ort_timing(*options: str) -> Callable[[Path, float], float]:
    """A bare session of ONNX Runtime in a loop."""
    program = Path(__file__).parent / "peers" / "ort_timing.py"
    return lambda file, seconds: float(
        run([sys.executable, str(program), str(file), str(seconds), *options]).split()[-1]
    )


def benchmark_app(python: str) -> Callable[[Path, float], float]:
    """OpenVINO's own program."""

    def timed(file: Path, seconds: float) -> float:
        command = [
            str(Path(python).with_name("benchmark_app")),
            "-m",
            str(file),
            "-d",
            "CPU",
            "-api",
            "sync",
            "-hint",
            "none",
        ]
        # float32 as ONNX Runtime computes it; by default OpenVINO uses bfloat16 if the processor has it.
        text = run([*command, "-nthreads", "1", "-nstreams", "1", "-t", str(round(seconds)), "-infer_precision", "f32"])
        match = re.search(r"Median:\s+([0-9.]+) ms", text)
        if match is None:
            raise SystemExit(f"benchmark_app printed no median:\n{text[-1500:]}")
        return float(match[1])

    return timed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--openvino-python", default="")
    parser.add_argument("--csv", type=Path, default=Path(__file__).with_suffix(".csv"))
    arguments = parser.parse_args()
    tflite, onnx = ("float32.tflite", "int8.tflite"), ("float32.onnx", "int8.onnx")
    tools = [
        Tool("benchmark_litert_model", "litert-cpu", tflite, benchmark_litert_model),
        Tool("onnxruntime in a loop", "ort-cpu", onnx, ort_timing()),
        Tool("onnxruntime's profiler", "ort-cpu", onnx, ort_timing("--profile")),
    ]
    if arguments.openvino_python:
        python = arguments.openvino_python
        tools.append(Tool("benchmark_app", "ort-openvino", onnx, benchmark_app(python), python))
    table, besides = [], []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_files("mobilenetv2-1.0", SIZE_PX, folder)
        cells = [(tool, file) for tool in tools for file in tool.files]
        pairs: dict[tuple[str, str], list[tuple[float, float]]] = {(tool.name, file): [] for tool, file in cells}
        for repeat in range(arguments.repeats):
            for tool, file in cells:
                both = {}
                for who in ("edgetl", "tool") if repeat % 2 else ("tool", "edgetl"):
                    if who == "tool":
                        both[who] = tool.time(folder / file, arguments.seconds)
                    else:
                        both[who], extra = edgetl_bench(folder / file, tool.backend, arguments.seconds, tool.python)
                        besides.append(extra)
                pairs[tool.name, file].append((both["edgetl"], both["tool"]))
        for tool, file in cells:
            found = pairs[tool.name, file]
            ratios = sorted(ours / theirs for ours, theirs in found)
            ratio = statistics.median(ratios)
            table.append(
                [
                    file,
                    tool.backend,
                    tool.name,
                    len(found),
                    f"{statistics.median(ours for ours, _ in found):.3f}",
                    f"{statistics.median(theirs for _, theirs in found):.3f}",
                    f"{ratio:.3f}",
                    f"{ratios[0]:.3f}",
                    f"{ratios[-1]:.3f}",
                    "yes" if abs(ratio - 1) <= AGREE else "no",
                    machine.processor(),
                ]
            )
    with arguments.csv.open("w", newline="") as stream:
        csv.writer(stream).writerows([HEADER, *table])
    print_table(HEADER, table)
    print(
        f"edgetl bench took {statistics.median(besides):.2f} s in addition to warming up and timing (largest {max(besides):.2f})"
    )


if __name__ == "__main__":
    main()
