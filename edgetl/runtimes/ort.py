"""ONNX Runtime: one backend per execution provider. The installed wheel determines which providers exist."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import importlib.util
import io
import json
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from edgetl.core import machine
from edgetl.runtimes import PlacementError, one_image
from edgetl.runtimes.catalogue import BACKENDS
from edgetl.runtimes.placement import Placement
from edgetl.runtimes.records import NodeArguments, NodeEvent, OpTime
from edgetl.tasks.photos.contract import to_grid

_CPU = "CPUExecutionProvider"
# Backend -> (provider, the wheel that contains it).
_PROVIDERS = {
    "ort-cpu": (_CPU, "onnxruntime"),
    "ort-cuda": ("CUDAExecutionProvider", "onnxruntime-gpu"),
    "ort-tensorrt": ("TensorrtExecutionProvider", "onnxruntime-gpu"),
    "ort-xnnpack": ("XnnpackExecutionProvider", "an onnxruntime built with --use_xnnpack (Android's has it)"),
    "ort-openvino": ("OpenVINOExecutionProvider", "onnxruntime-openvino"),
    "ort-directml": ("DmlExecutionProvider", "onnxruntime-directml, on Windows"),
    "ort-coreml": ("CoreMLExecutionProvider", "onnxruntime, on macOS"),
    "ort-qnn": ("QNNExecutionProvider", "onnxruntime-qnn, on a Snapdragon"),
}
_NVIDIA = ("CUDAExecutionProvider", "TensorrtExecutionProvider")
# Providers with their own device memory, with OrtValue's name for it.
_MEMORIES = {"CUDAExecutionProvider": "cuda", "TensorrtExecutionProvider": "cuda", "DmlExecutionProvider": "dml"}
_DTYPES = {"tensor(uint8)": np.uint8, "tensor(int8)": np.int8, "tensor(float16)": np.float16}
# One Relu on one float (opset 13): a model to test whether a provider really works.
_SMALLEST_MODEL = (
    b'\x08\x08:2\n\x0c\n\x01x\x12\x01y"\x04Relu\x12\x00Z\x0f\n\x01x\x12\n\n\x08\x08\x01\x12\x04\n\x02\x08\x01'
    b"b\x0f\n\x01y\x12\n\n\x08\x08\x01\x12\x04\n\x02\x08\x01B\x04\n\x00\x10\r"
)
_NO_CPU = "session.disable_cpu_ep_fallback"


@functools.cache
def unavailable(backend: str = "ort-cpu") -> str | None:
    """None if onnxruntime is installed and has the provider, and a session really opens on it.

    get_available_providers() lists what the wheel was built with: onnxruntime-gpu lists CUDA on machines without a GPU.
    """
    if importlib.util.find_spec("onnxruntime") is None:
        return "onnxruntime is not installed: pip install onnxruntime"
    provider, wheel = _PROVIDERS[backend]
    if provider == _CPU:
        return None
    import onnxruntime as ort

    if provider not in ort.get_available_providers():
        return f"the installed onnxruntime {ort.__version__} has no {provider}; it is in {wheel}"
    if provider in _NVIDIA and not _has_cuda_driver():
        return "no NVIDIA driver is installed (libcuda cannot be loaded): it needs an NVIDIA GPU and its driver"
    try:
        _open(_SMALLEST_MODEL, provider, threads=1, strict=True)
    except Exception as error:  # noqa: BLE001 - any exception of a provider is the reason
        text = " ".join(str(error).split())[-200:]
        return f"{provider} does not start: {text}; its libraries (CUDA and cuDNN: pip install 'onnxruntime-gpu[cuda,cudnn]') may be missing"
    return None


def _has_cuda_driver() -> bool:
    try:
        ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    except OSError:
        return False
    return True


def device(backend: str = "ort-cpu") -> str:
    """The name of the processor, or of the provider's device."""
    provider = _PROVIDERS[backend][0]
    if BACKENDS[backend].device == "cpu":
        return machine.processor()
    import onnxruntime as ort

    for found in ort.get_ep_devices() if hasattr(ort, "get_ep_devices") else ():
        if found.ep_name == provider:
            description = dict(found.device.metadata).get("Description")
            return str(description or found.device.vendor)
    return machine.nvidia_gpu() or provider


def _open(model: Any, provider: str, *, threads: int, strict: bool, profile_prefix: str = "") -> Any:
    """An InferenceSession. strict: a provider that is not the CPU's may not leave ops to the CPU."""
    import onnxruntime as ort

    if provider != _CPU:
        ort.set_default_logger_severity(4)
        if provider in _NVIDIA and hasattr(ort, "preload_dlls"):
            with contextlib.redirect_stdout(io.StringIO()):
                ort.preload_dlls()  # CUDA and cuDNN from wheels, if they are installed
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = 3 if provider == _CPU else 4
    if strict and provider != _CPU:
        options.add_session_config_entry(_NO_CPU, "1")
    if profile_prefix:
        options.enable_profiling, options.profile_file_prefix = True, profile_prefix
    settings: dict[str, Any] = {}
    if provider == "OpenVINOExecutionProvider":
        # Its compiler needs the original graph: ONNX Runtime's fusions create ops that it does not know. It also has its
        # own setting for threads.
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        settings = {"device_type": "CPU", "num_of_threads": str(threads)}
    return ort.InferenceSession(
        model, options, providers=[provider], provider_options=[settings], enable_fallback=0 if strict else 1
    )


class OrtSession:
    """An InferenceSession on one provider. See runtimes.Session."""

    output_step = 0.0

    def __init__(self, model: Path, threads: int, backend: str = "ort-cpu", *, allow_fallback: bool = False) -> None:
        self._model, self._threads, self._backend = model, threads, backend
        # The requested provider, which placement names as well.
        self.executor = self._provider = _PROVIDERS[backend][0]
        # XNNPACK and OpenVINO on the CPU may leave ops to the default CPU kernels: that is the same device.
        self._strict = not allow_fallback and BACKENDS[backend].device != "cpu"
        self._session = _open(str(model), self._provider, threads=threads, strict=self._strict)
        found = self._session.get_providers()
        if not allow_fallback and (not found or found[0] != self._provider):
            raise PlacementError(backend, f"ONNX Runtime set up {', '.join(found)} instead of {self._provider}")
        image = self._session.get_inputs()[0]
        self._name = image.name
        self.input_shape = one_image([found.shape for found in self._session.get_inputs()])
        meta = self._session.get_modelmeta().custom_metadata_map
        self._dtype = np.dtype(_DTYPES.get(image.type, np.float32))
        self._scale, self._zero_point = float(meta.get("input_scale", 0.0)), int(meta.get("input_zero_point", 0))
        self._feed: dict[str, Any] = {}
        self._memory = _MEMORIES.get(self._provider, "") if found and found[0] == self._provider else ""
        self._binding: Any = None

    def run(self, images: Any) -> Any:
        """See runtimes.Session."""
        rows = []
        for image in images:
            self._feed = {self._name: to_grid(image[None], self._dtype, self._scale, self._zero_point)}
            rows.append(self._session.run(None, self._feed)[0][0])
        return np.stack(rows)

    def invoke(self) -> None:
        """See runtimes.Session. On a device with its own memory, the tensors are bound there once; the time includes the
        copy to it, the run, and the copy back, which waits for the device."""
        if not self._memory:
            self._session.run(None, self._feed)
            return
        if self._binding is None:
            self._bind()
        self._image.update_inplace(self._feed[self._name])
        self._session.run_with_iobinding(self._binding)
        self._binding.synchronize_outputs()
        self._binding.copy_outputs_to_cpu()

    def _bind(self) -> None:
        import onnxruntime as ort

        self._image = ort.OrtValue.ortvalue_from_numpy(self._feed[self._name], self._memory, 0)
        self._binding = self._session.io_binding()
        self._binding.bind_ortvalue_input(self._name, self._image)
        for output in self._session.get_outputs():
            self._binding.bind_output(output.name, self._memory)

    def placement(self) -> Placement:
        """How many ops of ONNX Runtime's optimized graph each provider ran, from its profile of one run."""
        events = self._profiled(runs=1)
        counts = Counter(event["args"]["provider"] for event in events)
        devices = {name: "cpu" if name == _CPU else BACKENDS[self._backend].device for name in counts}
        return Placement(dict(counts), devices, _macs_by_provider(self._model, events))

    def profile(self, runs: int) -> list[OpTime]:
        """Every op that ran, slowest first; ms is the mean of `runs` runs. Profiling takes time itself, so read the shares
        rather than the milliseconds."""
        spent: dict[str, float] = {}
        about: dict[str, NodeArguments] = {}
        for event in self._profiled(runs=runs):
            name = _node(event)
            spent[name] = spent.get(name, 0.0) + event["dur"] / 1e3 / runs
            about[name] = event["args"]
        rows: list[OpTime] = [
            {"op": about[name]["op_name"], "name": name, "ms": ms, "executor": about[name]["provider"]}
            for name, ms in spent.items()
        ]
        return sorted(rows, key=lambda row: -row["ms"])

    def _profiled(self, *, runs: int) -> list[NodeEvent]:
        feed = self._feed or {self._name: np.zeros(self.input_shape, self._dtype)}
        with tempfile.TemporaryDirectory() as folder:
            prefix = str(Path(folder) / "profile")
            session = _open(
                str(self._model), self._provider, threads=self._threads, strict=self._strict, profile_prefix=prefix
            )
            for _ in range(runs):
                session.run(None, feed)
            events = json.loads(Path(session.end_profiling()).read_text())
        return [event for event in events if event.get("cat") == "Node" and "provider" in event.get("args", {})]

    def close(self) -> None:
        """See runtimes.Session."""
        self._binding = None
        del self._session


def _node(event: NodeEvent) -> str:
    return event["name"].removesuffix("_kernel_time")


def _macs_by_provider(model: Path, events: list[NodeEvent]) -> dict[str, int] | None:
    """None if the file cannot be counted (without onnx, which only builds need), or if an op with multiplications is not
    found by its name among those that ran."""
    if importlib.util.find_spec("onnx") is None:
        return None
    from edgetl.formats.read.census import Malformed
    from edgetl.formats.read.onnx_file import read_onnx

    try:
        ops = read_onnx(model.read_bytes()).ops
    except (Malformed, OSError):
        return None
    if any(op.macs is None for op in ops):
        return None
    ran = {_node(event): event["args"]["provider"] for event in events}
    macs = dict.fromkeys(ran.values(), 0)
    if len(macs) == 1:
        return {next(iter(macs)): sum(op.macs or 0 for op in ops)}
    for op in (op for op in ops if op.macs):
        # A fusion appends to the name of a node.
        provider = ran.get(op.name) or next(
            (where for name, where in ran.items() if op.name and name.startswith(op.name)), None
        )
        if provider is None:
            return None
        macs[provider] += op.macs or 0
    return macs


def open_session(model: Path, *, threads: int, backend: str = "ort-cpu", allow_fallback: bool = False) -> OrtSession:
    """See runtimes. Raises ValueError for a file ONNX Runtime refuses, PlacementError when ops would run elsewhere."""
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    try:
        return OrtSession(model, threads, backend, allow_fallback=allow_fallback)
    except (
        state.Fail,
        state.InvalidArgument,
        state.InvalidGraph,
        state.InvalidProtobuf,
        state.NotImplemented,
    ) as error:
        if "fallback to CPU EP has been explicitly disabled" in str(error):
            raise PlacementError(
                backend, "it has no kernel for some of the model's ops, which would run on the CPU"
            ) from None
        raise ValueError(str(error)) from None
