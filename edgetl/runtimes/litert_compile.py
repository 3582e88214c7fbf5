from __future__ import annotations

from pathlib import Path
from typing import Any


def compile_model(model: Path | bytes, kind: str, *, float32: bool = False, cpu_threads: int | None = None) -> Any:
    """A CompiledModel on "gpu", "npu" or "cpu". cpu_threads: None to exclude the CPU. Raises RuntimeError for a model that
    cannot be compiled with these options."""
    from ai_edge_litert.compiled_model import CompiledModel
    from ai_edge_litert.hardware_accelerator import HardwareAccelerator
    from ai_edge_litert.options import CpuOptions, GpuOptions, Options

    accelerators = {"gpu": HardwareAccelerator.GPU, "npu": HardwareAccelerator.NPU, "cpu": HardwareAccelerator.CPU}[
        kind
    ]
    if cpu_threads is not None:
        accelerators |= HardwareAccelerator.CPU
    options = Options(
        hardware_accelerators=accelerators,
        cpu_options=None if cpu_threads is None else CpuOptions(num_threads=cpu_threads),
        gpu_options=GpuOptions(enforce_f32=True) if float32 else None,
    )
    if isinstance(model, bytes):
        return CompiledModel.from_buffer(model, options=options)
    return CompiledModel.from_file(str(model), options=options)
