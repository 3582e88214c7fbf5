"""Every fact about a backend, stated once: BACKENDS has one entry per backend that edgetl runs or a target may name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Format = Literal["tflite", "onnx", "keras"]
# The processor that a backend computes on. "mcu" is a microcontroller's CPU; only published latencies use it.
Kind = Literal["cpu", "gpu", "npu", "mcu"]


@dataclass(frozen=True)
class Library:
    """A package that opens model files.

    packages: its names in the package index; one of them is installed. imports: the modules that a process imports before
    its time and memory are attributed to a model.
    """

    packages: tuple[str, ...]
    imports: tuple[str, ...]


LIBRARIES: dict[str, Library] = {
    "ai-edge-litert": Library(("ai-edge-litert",), ("ai_edge_litert.interpreter",)),
    "onnxruntime": Library(
        tuple(f"onnxruntime{kind}" for kind in ("", "-gpu", "-openvino", "-directml", "-qnn")), ("onnxruntime",)
    ),
    "tensorflow": Library(("tensorflow", "tensorflow-cpu"), ("tensorflow", "tf_keras")),
}


@dataclass(frozen=True)
class Backend:
    """One way to run a model file.

    format: of the files that it opens; "keras" is a folder in `edgetl build`'s cache. device: the requested device.
    module: the module with its code; "" for a vendor's runtime that edgetl builds files for but does not run.
    library: a key of LIBRARIES. default: whether `build` and `verify` use it unless backends are named.
    for_targets: whether a target's `runtimes` may name it.
    floats: whether it runs float nets. int16: whether it accepts 16-bit activations; False where that is not known.
    published: its name in the runtime column of targets/published_latencies.csv; "" if the file has no row for it.
    estimated: whether published latencies of its kind of device apply; not for kernels that are slow on purpose.
    """

    format: Format
    device: Kind
    module: str = ""
    library: str = ""
    default: bool = False
    for_targets: bool = True
    floats: bool = True
    int16: bool = True
    published: str = ""
    estimated: bool = True

    @property
    def suffix(self) -> str:
        """The suffix of the files that it opens; "" for a folder."""
        return "" if self.format == "keras" else f".{self.format}"


_LITERT, _COMPILED, _ORT = "edgetl.runtimes.litert", "edgetl.runtimes.litert_accelerated", "edgetl.runtimes.ort"
_KERAS = "edgetl.runtimes.keras"
BACKENDS: dict[str, Backend] = {
    "litert-cpu": Backend("tflite", "cpu", _LITERT, "ai-edge-litert", default=True, published="tflite-xnnpack"),
    "litert-cpu-reference": Backend("tflite", "cpu", _LITERT, "ai-edge-litert", estimated=False),
    "litert-gpu": Backend("tflite", "gpu", _COMPILED, "ai-edge-litert", published="tflite"),
    "litert-gpu-float32": Backend("tflite", "gpu", _COMPILED, "ai-edge-litert"),
    "litert-npu": Backend("tflite", "npu", _COMPILED, "ai-edge-litert", int16=False, published="tflite"),
    "ort-cpu": Backend("onnx", "cpu", _ORT, "onnxruntime", default=True),
    "ort-cuda": Backend("onnx", "gpu", _ORT, "onnxruntime"),
    "ort-tensorrt": Backend("onnx", "gpu", _ORT, "onnxruntime"),
    "ort-xnnpack": Backend("onnx", "cpu", _ORT, "onnxruntime"),
    "ort-openvino": Backend("onnx", "cpu", _ORT, "onnxruntime"),
    "ort-directml": Backend("onnx", "gpu", _ORT, "onnxruntime"),
    "ort-coreml": Backend("onnx", "npu", _ORT, "onnxruntime", int16=False),
    "ort-qnn": Backend("onnx", "npu", _ORT, "onnxruntime", int16=False),
    "keras": Backend("keras", "cpu", _KERAS, "tensorflow", for_targets=False),
    "keras-gpu": Backend("keras", "gpu", _KERAS, "tensorflow", for_targets=False),
    "edgetpu": Backend("tflite", "npu", floats=False, int16=False, published="edgetpu"),
    "stm32cube-ai": Backend("tflite", "npu", floats=False, int16=False, published="stm32cube-ai"),
    "rknn": Backend("onnx", "npu", floats=False, int16=False),
}


def runnable() -> dict[str, Backend]:
    """The backends that edgetl has code for, in the order that tables show them in."""
    return {name: backend for name, backend in BACKENDS.items() if backend.module}


def targetable() -> dict[str, Backend]:
    """The backends that a target may name."""
    return {name: backend for name, backend in BACKENDS.items() if backend.for_targets}


def default_backends() -> list[str]:
    """The backends that are used if none is named."""
    return [name for name, backend in BACKENDS.items() if backend.default]
