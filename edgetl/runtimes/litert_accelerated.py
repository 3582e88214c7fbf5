"""LiteRT's CompiledModel on a GPU (`litert-gpu`, `litert-gpu-float32`) or an NPU (`litert-npu`).

The GPU is reached through WebGPU: Vulkan on Linux, Direct3D 12 on Windows, Metal on macOS. A model is opened on the
accelerator alone, so that LiteRT refuses it if even one op would run elsewhere. For a model that may use the CPU as well,
`is_fully_accelerated` is true even if XNNPACK runs the ops that the accelerator does not, so it proves nothing.

Precision. `litert-gpu` uses LiteRT's default options, like an app that sets none: it computes and stores in float16 if the
GPU supports it (litert_gpu_options.h, SetPrecision). `litert-gpu-float32` enforces float32. The difference between the two
shows the effect of precision; the difference between litert-gpu-float32 and litert-cpu shows the effect of the kernels. On
an adapter without float16 (SwiftShader) both give the same bits, so the effect of float16 on a GPU has not been measured.
XNNPACK forced to float16 (CpuOptions, xnnpack_flags 4) changed the probabilities of a MobileNetV2 on flowers by 0.006 at
most on 5 photos and by 0.018 on 30 images of colour patches, and changed no label.

int8. The GPU runs all ops of int8 files. Its outputs are as close to XNNPACK's as those of LiteRT's own kernels (for the
same net, the largest difference in steps of the output's grid: 4 on the photos and 6 on the patches; LiteRT's own kernels:
3 and 8). It does not report whether it computes with integers. It refuses files with 16-bit activations ("Tensor type(INT16)
is not supported").

Time. `run_by_index` returns before a GPU has finished; reading the output waits for it. LiteRT's WebGPU accelerator has no
profiler ("UNIMPLEMENTED: Profile is not implemented"), so these sessions have no `profile`.
"""

from __future__ import annotations

import functools
import importlib.util
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np

from edgetl.core import machine
from edgetl.runtimes import PlacementError
from edgetl.runtimes.catalogue import BACKENDS
from edgetl.runtimes.litert import macs_by_executor
from edgetl.runtimes.litert_compile import compile_model
from edgetl.runtimes.litert_probe import Found, ask_accelerator, has_gpu_library, last_line, npu_vendor
from edgetl.runtimes.placement import Placement
from edgetl.runtimes.records import TensorDetails
from edgetl.tasks.photos.contract import to_grid

FLOAT32 = "litert-gpu-float32"
_CARRIED = {"float32", "float16", "int8", "uint8", "int32"}  # the types that the wheel's TensorBuffer reads and writes
_CPU = "LiteRT on the CPU"
_SIMULATE = "without a GPU, `make test-gpu-sim` shows how to simulate one"
# functools.cache does not stop two threads from computing the same value at once, and doctor checks all backends in parallel.
_ASKING = {"gpu": threading.Lock(), "npu": threading.Lock()}


@functools.cache
def _asked(kind: str) -> Found:
    return ask_accelerator(kind)


def _found(kind: str) -> Found:
    with _ASKING[kind]:
        return _asked(kind)


def unavailable(backend: str = "litert-gpu") -> str | None:
    """None if a model of one op ran on the accelerator alone. Tried once, in a child process."""
    kind = BACKENDS[backend].device
    if importlib.util.find_spec("ai_edge_litert") is None:
        return "ai-edge-litert is not installed: pip install ai-edge-litert"
    if importlib.util.find_spec("ai_edge_litert.compiled_model") is None:
        return "this ai-edge-litert has no CompiledModel: pip install --upgrade ai-edge-litert"
    if kind == "gpu" and not has_gpu_library():
        return "the ai-edge-litert for this platform has no GPU accelerator"
    if kind == "npu" and not npu_vendor():
        return "the ai-edge-litert for this platform has no NPU library"
    found = _found(kind)
    if found.opened:
        return None
    if kind == "gpu":
        return _no_gpu(found)
    if found.load_errors:
        fix = "pip install 'ai-edge-litert[npu-intel]'" if "openvino" in npu_vendor() else "install the vendor's SDK"
        return (
            f"LiteRT's {npu_vendor()} library does not load ({found.load_errors[0]}): {fix}, on a machine with that NPU"
        )
    return f"LiteRT's {npu_vendor()} library finds no NPU that it can use: {found.why}"


def _no_gpu(found: Found) -> str:
    if found.load_errors:
        return f"no Vulkan loader ({found.load_errors[0]}): install libvulkan1 and the GPU's driver; {_SIMULATE}"
    if "No adapters found" in found.why:
        driver = "Vulkan driver" if sys.platform == "linux" else "graphics driver"
        return f"no {driver} for a GPU that LiteRT's WebGPU supports: install the GPU's own driver; {_SIMULATE}"
    return f"LiteRT's WebGPU does not work on {found.adapter or 'the adapter found here'}: {found.why}"


def device(backend: str = "litert-gpu") -> str:
    """The adapter's name as the accelerator reports it, marked if it is simulated; for an NPU its library's name; the
    processor's name if there is neither."""
    kind = BACKENDS[backend].device
    found = _found(kind)
    if not found.opened:
        return machine.processor()
    if kind == "npu":
        return f"NPU by {npu_vendor()}"
    name = found.adapter or "a WebGPU adapter that does not report its name"
    return f"{name}: a CPU simulating a GPU, its latency means nothing" if found.simulated else name


def simulated(backend: str = "litert-gpu") -> bool:
    """Whether the device is simulated on the CPU, as by SwiftShader and llvmpipe: its probabilities are valid, its latencies
    are not."""
    return BACKENDS[backend].device == "gpu" and _found("gpu").simulated


class CompiledSession:
    """A CompiledModel with its input and output buffers. See runtimes.Session."""

    executor = ""

    def __init__(self, model: Path, threads: int, backend: str, *, allow_fallback: bool) -> None:
        from ai_edge_litert.interpreter import Interpreter, OpResolverType

        # CompiledModel does not report a tensor's grid. The file is only read here; nothing is allocated or delegated.
        file = Interpreter(
            model_path=str(model), experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
        )
        self._input: TensorDetails = file.get_input_details()[0]
        self._output: TensorDetails = file.get_output_details()[0]
        self._ops = len(file._get_ops_details())
        self._model, self._kind = model, BACKENDS[backend].device
        self.input_shape = tuple(int(size) for size in self._input["shape"])
        self.output_step = float(self._output["quantization"][0])
        self._compiled, self._placement = self._open(threads, backend, allow_fallback=allow_fallback)
        unsupported = {tensor["dtype"].__name__ for tensor in (self._input, self._output)} - _CARRIED
        if unsupported:
            raise ValueError(f"LiteRT's Python buffers cannot hold {' or '.join(sorted(unsupported))} tensors")
        (self._source,), (self._sink,) = self._compiled.create_input_buffers(0), self._compiled.create_output_buffers(0)
        self._image = np.zeros(self.input_shape, self._input["dtype"])

    def _open(self, threads: int, backend: str, *, allow_fallback: bool) -> tuple[Any, Placement]:
        float32 = backend == FLOAT32
        try:
            compiled = compile_model(self._model, self._kind, float32=float32)
            if compiled.is_fully_accelerated():
                return compiled, self._whole(self._executor(), self._kind)
        except RuntimeError as error:
            refusal = last_line(error)
        else:
            refusal = "not all of the model would run on it"
        reason = unavailable(backend)
        if reason is not None:
            # The accelerator cannot run anything: if it were in the set, LiteRT would report ops that XNNPACK runs as accelerated.
            if not allow_fallback:
                raise PlacementError(backend, reason)
            return compile_model(self._model, "cpu", cpu_threads=threads), self._whole(_CPU, "cpu")
        found = ask_accelerator(self._kind, self._model)
        if not allow_fallback:
            shown = [
                *found.refused_ops[:3],
                *([f"and {len(found.refused_ops) - 3} more"] * (len(found.refused_ops) > 3)),
            ]
            raise PlacementError(backend, f"it refuses the model: {'; '.join(shown) or found.why or refusal}")
        try:
            compiled = compile_model(self._model, self._kind, float32=float32, cpu_threads=threads)
        except RuntimeError:
            return compile_model(self._model, "cpu", cpu_threads=threads), self._whole(_CPU, "cpu")
        return compiled, self._partly(found.split)

    def _executor(self) -> str:
        return "WebGPU" if self._kind == "gpu" else npu_vendor()

    def _whole(self, executor: str, kind: str) -> Placement:
        return Placement({executor: self._ops}, {executor: kind}, macs_by_executor(self._model, [executor] * self._ops))

    def _partly(self, split: tuple[int, int] | None) -> Placement:
        devices = {self._executor(): self._kind, _CPU: "cpu"}
        if split is None or sum(split) != self._ops:
            return Placement({}, devices, unknown=self._ops)
        return Placement(dict(zip(devices, split, strict=True)), devices)

    def run(self, images: Any) -> Any:
        """See runtimes.Session."""
        rows = []
        for image in images:
            self._image = to_grid(image[None], self._input["dtype"], *self._input["quantization"])
            out = self._answer()[0]
            scale, zero_point = self._output["quantization"]
            rows.append((out.astype(np.float32) - zero_point) * np.float32(scale) if scale else out)
        return np.stack(rows)

    def invoke(self) -> None:
        """See runtimes.Session."""
        self._answer()

    def _answer(self) -> Any:
        self._source.write(self._image)
        self._compiled.run_by_index(0, [self._source], [self._sink])
        return self._sink.read(int(np.prod(self._output["shape"])), self._output["dtype"]).reshape(
            self._output["shape"]
        )

    def placement(self) -> Placement:
        """The file's ops: all on the accelerator, or what is known about a model that was allowed to use the CPU. For a GPU,
        LiteRT reports how many ops it runs but not which, so their multiply-accumulates are unknown; for an NPU, neither."""
        return self._placement

    def close(self) -> None:
        """See runtimes.Session."""
        del self._source, self._sink
        self._compiled.close()


def open_session(
    model: Path, *, threads: int, backend: str = "litert-gpu", allow_fallback: bool = False
) -> CompiledSession:
    """See runtimes. threads: of the CPU, if it may run a part. Raises ValueError for a file LiteRT refuses,
    PlacementError for one that would not run entirely on the accelerator."""
    if importlib.util.find_spec("ai_edge_litert") is None:
        raise PlacementError(backend, str(unavailable(backend)))
    return CompiledSession(model, threads, backend, allow_fallback=allow_fallback)
