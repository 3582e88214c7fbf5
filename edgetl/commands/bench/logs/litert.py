"""Read the output of LiteRT's own tools: benchmark_model (C++, since 2018) and benchmark_litert_model (Python).

The lines are those of tensorflow/lite/tools/benchmark/benchmark_model.cc and delegate_provider, of
tensorflow/core/util/stats_calculator.cc for the ops, and of ai_edge_litert/tools/benchmark_litert_model.py.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import cast

from edgetl.commands.bench.logs.record import LoggedRun
from edgetl.commands.bench.protocol import Memory, OpTime, PlacementJson
from edgetl.core.words import printable
from edgetl.runtimes.placement import Placement

_MB = 2**20
# logcat puts a time, two numbers and a tag before each line; the tool itself a level, since 2021.
_PREFIX = re.compile(
    r"^\s*(?:\d\d-\d\d\s+\d\d:\d\d:\d\d\.\d+\s+(?:\d+\s+\d+\s+)?)?"
    r"(?:[VDIWEF][ /]\s*\w+\s*(?:\(\s*\d+\))?\s*:\s*)?(?:(?:INFO|VERBOSE|WARNING|ERROR): ?)?"
)
_NUMBER = r"([-+0-9.eE]+|nan|inf)"
_HEADER = re.compile(r"STARTING!|Log parameter values verbosely|Min num runs|Num threads:|Graph:")
_BODY = re.compile(r"count=\d|Running benchmark for|Inference timings|Average inference timings|Benchmarking failed")
_COUNT = re.compile(r"count=(\d+)(?: |$|\()")
_PAIR = re.compile(rf"(\w+)={_NUMBER}")
_SUMMARY = re.compile(
    rf"Inference timings in us: Init: {_NUMBER}, First inference: {_NUMBER}, "
    rf"Warmup \(avg\): {_NUMBER}, Inference \(avg\): {_NUMBER}"
)
_OLD_SUMMARY = re.compile(rf"Average inference timings in us: Warmup: {_NUMBER}, Init: {_NUMBER}, no stats: {_NUMBER}")
_PARAMETER = re.compile(r"([#A-Za-z][\w# /-]*?) ?: \[(.*)\]$")
_MEMORY = re.compile(rf"(?:Memory footprint delta|Peak memory footprint).*overall={_NUMBER}")
_PEAK = re.compile(rf"Overall peak memory footprint \(MB\) via periodic monitoring: {_NUMBER}")
_REPLACED = re.compile(
    r"Replacing (\d+) out of (\d+) node\(s\) with delegate \(([^)]*)\) node, yielding \d+ partitions for ([^.]*)"
)
_APPLIED = re.compile(r"Explicitly applied (\S+) delegate, and the model graph will be (completely|partially) executed")
_NOT_APPLIED = re.compile(r"Though (\S+) delegate is explicitly applied, the model graph will not be executed")
_COLUMN = re.compile(r"\[([^\]]+)\]")
_CPU_KERNELS = "LiteRT kernels"
# Part of a delegate's name -> (its name in our rows, the kind of device).
_DELEGATES = {
    "xnnpack": ("XNNPACK", "cpu"),
    "gpu": ("GPU delegate", "gpu"),
    "litert_cl": ("GPU delegate", "gpu"),
    "nnapi": ("NNAPI", "npu"),
    "hexagon": ("Hexagon", "npu"),
    "coreml": ("Core ML", "npu"),
    "dispatch": ("NPU dispatch", "npu"),
    "edgetpu": ("Edge TPU", "npu"),
    "vx": ("VX", "npu"),
    "ethos": ("Ethos-U", "npu"),
}
_ON = {"GPU": "gpu", "NNAPI": "npu", "HEXAGON": "npu", "COREML": "npu", "EXTERNAL": "npu"}


def read_benchmark_model(text: str) -> Iterator[LoggedRun]:
    """Every run of benchmark_model in a log."""
    for lines in _runs(text):
        run = _run(lines)
        if run is not None:
            yield run


def _runs(text: str) -> Iterator[list[str]]:
    lines: list[str] = []
    began = False
    for raw in text.splitlines():
        line = _PREFIX.sub("", raw, count=1).rstrip()
        if began and _HEADER.match(line):
            yield lines
            lines, began = [], False
        began = began or bool(_BODY.match(line))
        lines.append(line)
    yield lines


def _run(lines: list[str]) -> LoggedRun | None:
    """The run that these lines are from; None if there is none."""
    parameters: dict[str, str] = {}
    counts: list[dict[str, float]] = []
    run = LoggedRun("benchmark_model")
    memory: Memory = {}
    mean = warm = None
    failed = False
    for line in lines:
        if match := _PARAMETER.match(line):
            parameters.setdefault(match[1].lower(), match[2])
        elif match := _COUNT.match(line):
            counts.append({"count": int(match[1]), **{name: float(value) for name, value in _PAIR.findall(line)[1:]}})
        elif match := _SUMMARY.match(line):
            run.figures_ms |= {"load_ms": float(match[1]) / 1e3, "first_ms": float(match[2]) / 1e3}
            warm, mean = float(match[3]), float(match[4])
        elif match := _OLD_SUMMARY.match(line):
            run.figures_ms["load_ms"], warm, mean = float(match[2]) / 1e3, float(match[1]), float(match[3])
        elif match := _MEMORY.match(line):
            memory["model_bytes"] = round(float(match[1]) * _MB)
        elif match := _PEAK.match(line):
            memory["peak_bytes"] = round(float(match[1]) * _MB)
        failed = failed or line.startswith("Benchmarking failed")
    if not counts and mean is None and not failed:
        return None
    run.model = parameters.get("graph")
    run.threads = _threads(parameters)
    run.memory = memory or None
    _place(run, parameters, lines)
    if failed:
        run.status, run.failure, run.reason = "failed", "refused", _why_failed(lines)
        return run
    if mean is None:
        run.broken_off = "`Inference timings in us` line"
        return run
    run.figures_ms["mean_ms"] = mean / 1e3
    _figures(run, counts, warm, mean)
    run.profile = _ops(lines)
    return run


def _threads(parameters: Mapping[str, str]) -> int | None:
    for name in ("num threads", "#threads used for cpu inference"):
        if re.fullmatch(r"[1-9]\d{0,3}", parameters.get(name, "")):
            return int(parameters[name])
    return None


def _figures(run: LoggedRun, counts: list[dict[str, float]], warm: float | None, mean: float) -> None:
    """From the last `count=` line, which is of the timed runs; the one before it is of the warm-up."""
    if not counts:
        return
    timed = counts[-1]
    run.runs = int(timed["count"])
    names = {"min": "min_ms", "max": "max_ms", "std": "std_ms", "p5": "p5_ms", "median": "p50_ms", "p95": "p95_ms"}
    run.figures_ms |= {ours: timed[name] / 1e3 for name, ours in names.items() if name in timed}
    if "min" not in timed and "curr" in timed:
        # min, max and mean are not printed if all runs took the same time, or if there was one run.
        run.figures_ms |= {"min_ms": timed["curr"] / 1e3, "max_ms": timed["curr"] / 1e3}
    if len(counts) > 1:
        run.warmup_runs = int(counts[-2]["count"])
    for printed, one, doing in ((mean, timed, "timed"), (warm, counts[-2] if len(counts) > 1 else {}, "warm-up")):
        average = one.get("avg", one.get("curr"))
        if printed is not None and average is not None and abs(printed - average) > 1e-5 * max(printed, average):
            run.faults.append(
                f"the average of the {doing} runs is {average:g} us in one line and {printed:g} us in another"
            )


def _why_failed(lines: list[str]) -> str:
    for line in lines:
        if re.search(r"(?i)\b(error|failed|cannot|unable)\b", line) and not line.startswith("Benchmarking failed"):
            return printable(line, 300)
    return "benchmark_model reports that it failed"


def _place(run: LoggedRun, parameters: Mapping[str, str], lines: list[str]) -> None:
    """Set backend and placement, and status "fallback" unless the log shows that all ops ran on the accelerator."""
    used = {name.removeprefix("use ").strip(): value for name, value in parameters.items() if name.startswith("use ")}
    device = "cpu"
    if used.get("gpu") == "1":
        device = "gpu"
    elif any(used.get(name) == "1" for name in ("nnapi", "hexagon", "coreml")) or parameters.get(
        "external delegate path"
    ):
        device = "npu"
    run.backend = f"litert-{device}"
    if device == "cpu" and used.get("xnnpack") == "0":
        run.backend = "litert-cpu-reference"
    placement = _placement(lines)
    whole = {
        _ON.get(match[1].upper()) for line in lines if (match := _APPLIED.match(line)) and match[2] == "completely"
    }
    refused = {_ON.get(match[1].upper()) for line in lines if (match := _NOT_APPLIED.match(line))}
    run.placement = cast(PlacementJson, placement.to_json()) if placement else None
    if device == "cpu":
        return
    share = placement.share_of_ops(device) if placement else None
    kind = device.upper()
    if device in refused and device not in whole:
        run.notes.append(f"the {kind} was requested, and ran none of its ops")
    elif share is not None and share < 1.0:
        run.notes.append(f"only {share:.0%} of its ops ran on the {kind}")
    elif share is None and device not in whole:
        run.notes.append(f"the {kind} was requested, and the log does not say that the model ran there")
    else:
        return
    run.status = "fallback"


def _placement(lines: list[str]) -> Placement | None:
    """From the `Replacing a out of b node(s)` lines. A delegate becomes one node for the next delegate, so LiteRT's own kernels
    run the rest of the first b."""
    totals: dict[str, int] = {}
    ops: dict[str, int] = {}
    devices = {_CPU_KERNELS: "cpu"}
    unknown = 0
    for line in lines:
        match = _REPLACED.match(line)
        if match is None:
            continue
        totals.setdefault(match[4].strip(), int(match[2]))
        found = next((known for part, known in _DELEGATES.items() if part in match[3].lower()), None)
        if found is None:
            unknown += int(match[1])
            continue
        ops[found[0]] = ops.get(found[0], 0) + int(match[1])
        devices[found[0]] = found[1]
    if not totals:
        return None
    left = sum(totals.values()) - sum(ops.values()) - unknown
    if left > 0:
        ops[_CPU_KERNELS] = left
    return Placement(ops, {name: devices[name] for name in ops}, None, unknown)


def _ops(lines: list[str]) -> list[OpTime] | None:
    """The first table of ops of the timed runs, slowest first; None without --enable_op_profiling."""
    starts = [i for i, line in enumerate(lines) if "Profiling Info for Regular Benchmark Runs" in line]
    if not starts:
        return None
    columns: list[str] = []
    ops: list[OpTime] = []
    for line in lines[starts[0] + 1 :]:
        if columns and not line:
            break
        if line.lstrip().startswith("[node type]"):
            columns = [name.lower() for name in _COLUMN.findall(line)]
            continue
        cells = [cell.strip() for cell in re.split(r"\t+|\s{2,}", line.strip()) if cell.strip()]
        if not columns or len(cells) != len(columns):
            continue
        named = dict(zip(columns, cells, strict=True))
        if re.fullmatch(r"\d+\.\d+", named.get("avg ms", "")):
            op, name = printable(named["node type"], 200), printable(named.get("name", ""), 200)
            ops.append({"op": op, "name": name, "ms": float(named["avg ms"]), "executor": ""})
    return sorted(ops, key=lambda op: -op["ms"])[:200] or None


_TOOL_LINES = {
    "load_ms": r"Model initialization:\s+([\d.]+) ms",
    "first_ms": r"Warmup \(first\):\s+([\d.]+) ms",
    "mean_ms": r"Inference \(avg\):\s+([\d.]+) ms \((\d+) runs\)",
    "min_ms": r"Inference \(min\):\s+([\d.]+) ms",
    "max_ms": r"Inference \(max\):\s+([\d.]+) ms",
    "p50_ms": r"Inference \(median\):\s+([\d.]+) ms",
    "std_ms": r"Inference \(std\):\s+([\d.]+) ms",
    "p5_ms": r"Inference \(p5\):\s+([\d.]+) ms",
    "p95_ms": r"Inference \(p95\):\s+([\d.]+) ms",
}
_TOOL_WARMUP = re.compile(r"Warmup \(avg\):\s+[\d.]+ ms \((\d+) runs\)")


def read_benchmark_litert_model(text: str) -> Iterator[LoggedRun]:
    """Every run of benchmark_litert_model in a log. Its times have two decimals: a resolution of 0.01 ms."""
    before, *parts = re.split(r"^ ?BENCHMARK RESULTS *$", text, flags=re.MULTILINE)
    for part in parts:
        run = LoggedRun("benchmark_litert_model")
        for name, pattern in _TOOL_LINES.items():
            if match := re.search(pattern, part):
                run.figures_ms[name] = float(match[1])
                if name == "mean_ms":
                    run.runs = int(match[2])
        if "mean_ms" not in run.figures_ms:
            run.broken_off = "`Inference (avg)` line"
        if match := _TOOL_WARMUP.search(part):
            run.warmup_runs = int(match[1])
            if run.warmup_runs == 0:
                run.figures_ms.pop("first_ms", None)
        models = re.findall(r"Model: {5,}(\S.*)", before)
        threads = re.findall(r"Num threads: +(\d+)", before)
        accelerators = re.findall(r"Accelerators: +(\S.*)", before)
        run.model = models[-1].strip() if models else None
        run.threads = int(threads[-1]) if threads else None
        first = accelerators[-1].split("|")[0].strip().lower() if accelerators else ""
        run.backend = f"litert-{first}" if first in ("cpu", "gpu", "npu") else None
        if first in ("gpu", "npu") and "Fully accelerated:     True" not in part:
            run.status = "fallback"
            run.notes.append(f"not all of its ops ran on the {first.upper()}")
        before = part
        yield run
