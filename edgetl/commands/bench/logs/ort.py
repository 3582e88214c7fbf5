"""What onnxruntime_perf_test prints (onnxruntime/test/perftest/performance_runner.cc and command_args_parser.cc)."""

from __future__ import annotations

import re
from collections.abc import Iterator

from edgetl.commands.bench.logs.record import LoggedRun

_NUMBER = r"([-+0-9.eE]+|nan|inf)"
_BEGINNING = re.compile(r"^Session creation time cost: ?", re.MULTILINE)
_MEAN = re.compile(rf"^Average inference time cost(?: total)?: ?{_NUMBER} ms", re.MULTILINE)
# Name in a row -> (the line, its unit).
_LINES = {
    "load_ms": ("Session creation time cost", "s"),
    "first_ms": ("First inference time cost", "ms"),
    "min_ms": ("Min Latency", "s"),
    "p50_ms": ("P50 Latency", "s"),
    "p90_ms": ("P90 Latency", "s"),
    "p95_ms": ("P95 Latency", "s"),
    "p99_ms": ("P99 Latency", "s"),
    "p999_ms": ("P999 Latency", "s"),
    "max_ms": ("Max Latency", "s"),
}
_COMMAND = re.compile(r"onnxruntime_perf_test(?:\.exe)?\b(.*)")
_MODEL = re.compile(r"(\S+\.(?:onnx|ort))\b(?!_)")
_THREADS = re.compile(r"^Setting intra_op_num_threads to ([1-9]\d*)\s*$", re.MULTILINE)
_PROVIDERS = {
    "cpu": "ort-cpu",
    "cuda": "ort-cuda",
    "tensorrt": "ort-tensorrt",
    "xnnpack": "ort-xnnpack",
    "openvino": "ort-openvino",
    "dml": "ort-directml",
    "coreml": "ort-coreml",
    "qnn": "ort-qnn",
}


def read_perf_test(text: str) -> Iterator[LoggedRun]:
    """Every run of onnxruntime_perf_test in a log.

    The tool does not print the execution provider and the model: they are known only if the log has the command too.
    """
    starts = [match.start() for match in _BEGINNING.finditer(text)]
    if not starts and _MEAN.search(text):
        starts = [0]
    for at, start in enumerate(starts):
        end = starts[at + 1] if at + 1 < len(starts) else len(text)
        # The lines before a run are its command and its settings.
        yield _run(text[start:end], text[starts[at - 1] if at else 0 : start])


def _run(text: str, before: str) -> LoggedRun:
    run = LoggedRun("onnxruntime_perf_test")
    for name, (line, unit) in _LINES.items():
        value = _value(text, line, unit)
        if value is not None:
            run.figures_ms[name] = value * (1e3 if unit == "s" else 1.0)
    mean, total = _MEAN.search(text), _value(text, "Total inference time cost", "s")
    count = re.search(r"^Total inference requests: ?(\d+)", text, re.MULTILINE)
    if mean is None:
        run.broken_off = "`Average inference time cost` line"
        return run
    mean_ms = run.figures_ms["mean_ms"] = float(mean[1])
    run.runs = int(count[1]) if count else None
    run.timed_s = _value(text, "Total inference run time", "s")
    run.throughput_per_s = _value(text, "Number of inferences per second", "")
    if total is not None and run.runs and abs(total * 1e3 / run.runs - mean_ms) > 1e-3 * mean_ms:
        run.faults.append(f"{run.runs} runs took {total:g} s in total, but {mean_ms:g} ms on average")
    peak = re.search(r"^Peak working set size: ?(\d+)", text, re.MULTILINE)
    run.memory = {"peak_bytes": int(peak[1])} if peak and int(peak[1]) else None
    usage = re.search(r"^Avg CPU usage: ?(\d+) ?%?", text, re.MULTILINE)
    if usage:
        run.notes.append(f"the processors were {usage[1]}% busy")
    _command(run, before)
    return run


def _command(run: LoggedRun, before: str) -> None:
    """Model, backend and threads, from the last command before the run and from the line on threads, if the log has them."""
    commands = _COMMAND.findall(before)
    if commands:
        model = _MODEL.search(commands[-1])
        provider = re.search(r"(?:^|\s)-e\s+(\w+)", commands[-1])
        threads = re.search(r"(?:^|\s)-x\s+([1-9]\d*)", commands[-1])
        run.model = model[1] if model else None
        run.backend = _PROVIDERS.get(provider[1]) if provider else None
        run.threads = int(threads[1]) if threads else None
    printed = _THREADS.findall(before)
    if printed:
        run.threads = int(printed[-1])


def _value(text: str, line: str, unit: str) -> float | None:
    match = re.search(rf"^{line}: ?{_NUMBER} ?{unit}\b" if unit else rf"^{line}: ?{_NUMBER}", text, re.MULTILINE)
    return float(match[1]) if match else None
