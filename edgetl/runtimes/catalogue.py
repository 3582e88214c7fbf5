"""Every fact about a backend, once. A backend that edgetl runs, or that a target may ask for, is one entry of BACKENDS."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Format = Literal["tflite", "onnx", "keras"]
# What a backend computes on. "mcu" is a processor that has no other: published latencies tell the two apart.
Kind = Literal["cpu", "gpu", "npu", "mcu"]


@dataclass(frozen=True)
class Library:
    """A package that opens model files.

    packages: its names in the package index, of which one is installed. imports: what a process imports before its time
    and memory are counted as a model's.
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

    format: the files that it opens; "keras" is a folder of `edgetl build`'s cache. device: what it is asked to run on.
    module: where its code is; "" for a vendor's runtime that edgetl builds files for and does not run.
    library: a key of LIBRARIES. default: `build` and `verify` use it without being asked.
    for_targets: a target's `runtimes` may name it.
    floats: whether it runs float nets. int16: whether it takes 16-bit activations; False where that is not known.
    published: the name that its program has in targets/published_latencies.csv; "" where that has no row of it.
    estimated: published latencies of its kind of device say something about it; not of kernels that are slow on purpose.
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
        """Of the files that it opens; "" for a folder."""
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
    """The backends that edgetl has code for, in the order in which tables show them."""
    return {name: backend for name, backend in BACKENDS.items() if backend.module}


def targetable() -> dict[str, Backend]:
    """The backends that a target may name."""
    return {name: backend for name, backend in BACKENDS.items() if backend.for_targets}


def default_backends() -> list[str]:
    """The backends that are used without being asked for."""
    return [name for name, backend in BACKENDS.items() if backend.default]
