"""The time that each op of a LiteRT model takes on the CPU: the profiler of LiteRT's C API, called by ctypes.

The Python wheel gives no access to it: neither Interpreter nor CompiledModel has the option `enable_profiling`. libLiteRt
has it (litert/c/litert_profiler.h, litert_compiled_model.h, litert_options.h), and XNNPACK reports each of its operators
there. It is the same XNNPACK on the same file, in a separate CompiledModel. All of it runs in a child process, because a
function whose arguments a later LiteRT has changed would crash the process that calls it; the reply is checked.
"""

from __future__ import annotations

import ctypes
import importlib.util
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgetl.core import child
from edgetl.core.errors import MissingError
from edgetl.runtimes.records import OpTime

XNNPACK, KERNELS = "XNNPACK", "LiteRT kernels"
# tflite::Profiler::EventType: an op of the file, and an operator of a delegate that replaces ops.
_OP_EVENT, _DELEGATE_EVENT = 2, 8
_EXECUTORS = {_OP_EVENT: KERNELS, _DELEGATE_EVENT: XNNPACK}
# LiteRtCpuKernelMode, by whether the default delegate is used; without it, LiteRT's optimized kernels are.
_KERNEL_MODES = {True: 0, False: 2}
_CPU_ACCELERATOR, _LOCK_FOR_WRITING = 1, 1
# ProfiledEventData starts with the tag's address, the event's type, start and microseconds, and ends with two numbers and
# the event's source. Between them is the memory use, whose size differs between versions of LiteRT.
_HEAD, _TAIL = struct.Struct("<QiIQQ"), struct.Struct("<QQiI")
_LARGEST_EVENT, _UNWRITTEN = 512, 0xAA
_WARM_RUNS = 3


@dataclass(frozen=True)
class FileOp:
    """An op of the file: its type and the name of its output."""

    op: str
    name: str


def profile(
    model: Path, ops: Sequence[FileOp], image: bytes, *, threads: int, runs: int, delegate: bool
) -> list[OpTime]:
    """Every operator that ran, slowest first. ms: the mean of the middle half of `runs` runs, because an interruption of a
    run would be counted for the operator that was running.

    ops: of the file, in its order. image: the input's bytes. A row's `op` is the executor's own name for the operator
    ("Convolution (NHWC, QC8) IGEMM"); its `name` is the output tensor in the file, "" where XNNPACK's operators do not
    match the file's ops one to one. XNNPACK truncates times to whole microseconds: an operator that takes less has 0, and
    the sum is too low by about half a microsecond per operator. Raises MissingError.
    """
    reply = child.ask(
        __name__,
        str(model.resolve()),
        str(threads),
        str(runs),
        str(_KERNEL_MODES[delegate]),
        given=image,
        timeout_s=600,
    )
    if reply.facts is None:
        raise MissingError(
            "LiteRT's profiler does not work here.",
            why=reply.why,
            fix="it was written for ai-edge-litert 2.3; accuracy and latency do not need it",
        )
    events = reply.facts["events"]
    names = _names(ops, [(int(kind), str(tag), int(index)) for kind, tag, index, _ in events])
    rows: list[OpTime] = [
        {"op": tag, "name": name, "ms": _middle_mean(times) / 1e3, "executor": _EXECUTORS[kind]}
        for (kind, tag, _, times), name in zip(events, names, strict=True)
    ]
    return sorted(rows, key=lambda row: -row["ms"])


def _middle_mean(values: Sequence[int]) -> float:
    """
    >>> _middle_mean([3, 1, 2, 4000])
    2.5
    """
    cut = len(values) // 4
    middle = sorted(values)[cut : len(values) - cut]
    return sum(middle) / len(middle)


def _names(ops: Sequence[FileOp], events: Sequence[tuple[int, str, int]]) -> list[str]:
    """The output tensor in the file for each event. LiteRT's kernels report the op's position. XNNPACK's operators are in
    the ops' order, but it fuses some and adds others: if the operators with weights match the ops one to one, they get the
    ops' names, and so do the others if none was fused or added."""
    kernels = {index for kind, _, index in events if kind == _OP_EVENT}
    names = [ops[index].name if kind == _OP_EVENT and index < len(ops) else "" for kind, _, index in events]
    delegated = [op for position, op in enumerate(ops) if position not in kernels]
    operators = [(position, tag) for position, (kind, tag, _) in enumerate(events) if kind == _DELEGATE_EVENT]
    weighted_ops = [i for i, op in enumerate(delegated) if op.op in _WEIGHTED]
    weighted = [i for i, (_, tag) in enumerate(operators) if tag.startswith(("Convolution", "Fully Connected"))]
    pairs = list(zip(weighted_ops, weighted, strict=False))
    if len(weighted_ops) != len(weighted) or not all(
        operators[j][1].startswith(_WEIGHTED[delegated[i].op]) for i, j in pairs
    ):
        return names
    if len(delegated) == len(operators) and weighted_ops == weighted:
        pairs = [(i, i) for i in range(len(operators))]
    for i, j in pairs:
        names[operators[j][0]] = delegated[i].name
    return names


# A 1 x 1 convolution is a matrix product to XNNPACK.
_WEIGHTED = {
    "CONV_2D": ("Convolution", "Fully Connected"),
    "DEPTHWISE_CONV_2D": ("Convolution",),
    "FULLY_CONNECTED": ("Fully Connected",),
}


class _Library:
    """libLiteRt's functions: each returns a status, 0 for success, and most return their result through a pointer."""

    def __init__(self) -> None:
        found = importlib.util.find_spec("ai_edge_litert")
        folder = Path(found.origin).parent if found and found.origin else Path()
        library = next((file for file in folder.glob("*LiteRt.*") if file.suffix in (".so", ".dylib", ".dll")), None)
        if library is None:
            raise OSError("the installed ai-edge-litert has no libLiteRt")
        self._functions = ctypes.CDLL(str(library))

    def call(self, name: str, *arguments: Any) -> None:
        try:
            function = getattr(self._functions, name)
        except AttributeError:
            raise OSError(f"libLiteRt has no {name}") from None
        status = function(*arguments)
        if status:
            raise OSError(f"{name} failed with status {status}")

    def made(self, name: str, *arguments: Any) -> ctypes.c_void_p:
        """The handle that a function creates or finds; its last argument is a pointer to it."""
        handle = ctypes.c_void_p()
        self.call(name, *arguments, ctypes.byref(handle))
        return handle


def answer(image: bytes, model: str, threads: str, runs: str, kernel_mode: str) -> dict[str, Any]:
    """What the child process of `profile` runs: {"events": [[type, tag, index, microseconds of each run]]}, in the order
    of execution. Nothing is freed, because the process ends."""
    library = _Library()
    environment = library.made("LiteRtCreateEnvironment", 0, None)
    file = library.made("LiteRtCreateModelFromFile", environment, model.encode())
    options = library.made("LiteRtCreateOptions")
    library.call("LiteRtSetOptionsHardwareAccelerators", options, _CPU_ACCELERATOR)
    runtime = b"enable_profiling = true\n"
    kernels = f"num_threads = {int(threads)}\nkernel_mode = {int(kernel_mode)}\n".encode()
    kept = [ctypes.create_string_buffer(text) for text in (runtime, kernels)]
    for identifier, text in zip((b"runtime_options_string", b"xnnpack"), kept, strict=True):
        # LiteRT frees an option with the function given here, which does nothing: Python owns the text.
        opaque = library.made("LiteRtCreateOpaqueOptions", identifier, text, _KEEP)
        library.call("LiteRtAddOpaqueOptions", options, opaque)
    compiled = library.made("LiteRtCreateCompiledModel", environment, file, options)
    first = ctypes.c_size_t(0)
    signature = library.made("LiteRtGetModelSignature", file, first)
    buffers = []
    for kind in ("Input", "Output"):
        tensor = library.made(f"LiteRtGetSignature{kind}TensorByIndex", signature, first)
        tensor_type = ctypes.create_string_buffer(1024)  # LiteRtRankedTensorType, passed on unread
        library.call("LiteRtGetRankedTensorType", tensor, tensor_type)
        needs = library.made(f"LiteRtGetCompiledModel{kind}BufferRequirements", compiled, first, first)
        buffers.append(library.made("LiteRtCreateManagedTensorBufferFromRequirements", environment, tensor_type, needs))
    _write(library, buffers[0], image)
    source, sink = ((ctypes.c_void_p * 1)(buffer) for buffer in buffers)
    one = ctypes.c_size_t(1)
    profiler = library.made("LiteRtCompiledModelGetProfiler", compiled)
    total: list[list[Any]] = []
    for run in range(-_WARM_RUNS, int(runs)):
        library.call("LiteRtResetProfiler", profiler)
        library.call("LiteRtStartProfiler", profiler)
        library.call("LiteRtRunCompiledModel", compiled, first, one, source, one, sink)
        library.call("LiteRtStopProfiler", profiler)
        events = _events(library, profiler)
        if run < 0:
            continue
        total = total or [[*event[:3], []] for event in events]
        if [event[:3] for event in events] != [event[:3] for event in total]:
            raise ValueError("two runs of the model did not run the same operators")
        for row, event in zip(total, events, strict=True):
            row[3].append(event[3])
    return {"events": total}


_KEEP = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(lambda _: None)


def _write(library: _Library, buffer: ctypes.c_void_p, image: bytes) -> None:
    size = ctypes.c_size_t()
    library.call("LiteRtGetTensorBufferSize", buffer, ctypes.byref(size))
    if size.value < len(image):
        raise ValueError(f"the input has {size.value} bytes, not {len(image)}")
    address = ctypes.c_void_p()
    library.call("LiteRtLockTensorBuffer", buffer, ctypes.byref(address), _LOCK_FOR_WRITING)
    ctypes.memset(address, 0, size.value)
    ctypes.memmove(address, image, len(image))
    library.call("LiteRtUnlockTensorBuffer", buffer)


def _events(library: _Library, profiler: ctypes.c_void_p) -> list[list[Any]]:
    """[type, tag, index, microseconds] of each op and operator of one run. The size of an event is computed from how many
    bytes the library wrote."""
    count = ctypes.c_int()
    library.call("LiteRtGetNumProfilerEvents", profiler, ctypes.byref(count))
    if count.value < 1:
        raise ValueError("the profiler has no events")
    room = ctypes.create_string_buffer(
        bytes([_UNWRITTEN]) * (count.value * _LARGEST_EVENT), count.value * _LARGEST_EVENT
    )
    library.call("LiteRtGetProfilerEvents", profiler, count, room)
    written = len(room.raw.rstrip(bytes([_UNWRITTEN])))
    size = -(-written // count.value // 8) * 8
    if not _HEAD.size + _TAIL.size <= size < _LARGEST_EVENT or size * count.value < written:
        raise ValueError(f"{count.value} events in {written} bytes: LiteRT's events do not have the expected format")
    found = []
    for position in range(count.value):
        event = room.raw[position * size : (position + 1) * size]
        tag, kind, _, _, microseconds = _HEAD.unpack_from(event)
        index = _TAIL.unpack_from(event, size - _TAIL.size)[0]
        if kind in _EXECUTORS:
            found.append([kind, ctypes.string_at(tag).decode(errors="replace"), index, microseconds])
    if not found or any(microseconds > 1e9 for *_, microseconds in found):
        raise ValueError("the profiler's events have no times: they do not have the expected format")
    return found
