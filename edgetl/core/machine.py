"""What this machine is: its processor, memory and board, as the operating system tells it."""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import os
import platform
from pathlib import Path

# The flags that choose other kernels in TensorFlow, oneDNN, XNNPACK or MLAS, and with them other last bits.
_KERNEL_FLAGS = [
    "sse4_1",
    "sse4_2",
    "avx",
    "avx2",
    "fma",
    "f16c",
    "avx512f",
    "avx512bw",
    "avx512vl",
    "avx512dq",
    "avx512_vnni",
    "avx512_bf16",
    "avx_vnni",
    "amx_int8",
    "amx_bf16",
    "asimd",
    "asimddp",
    "asimdhp",
    "i8mm",
    "bf16",
    "sve",
    "sve2",
    "neon",
    "vfpv4",
]


def _cpuinfo() -> dict[str, str]:
    """The first processor's lines of /proc/cpuinfo; empty where there is none."""
    try:
        text = Path("/proc/cpuinfo").read_text(errors="replace")
    except OSError:
        return {}
    facts: dict[str, str] = {}
    for line in text.splitlines():
        key, _, value = line.partition(":")
        facts.setdefault(key.strip().lower(), value.strip())
    return facts


@functools.cache
def processor() -> str:
    """The processor's own name, or the architecture when it has none."""
    facts = _cpuinfo()
    return facts.get("model name") or facts.get("hardware") or platform.processor() or platform.machine()


@functools.cache
def board() -> str:
    """A single-board computer's name from its device tree ("Raspberry Pi 4 Model B Rev 1.4"); empty elsewhere."""
    try:
        return Path("/proc/device-tree/model").read_text(errors="replace").strip("\0 \n")
    except OSError:
        return ""


@functools.cache
def nvidia_gpu() -> str:
    """The first NVIDIA GPU's name as its driver tells it; empty where there is none (or not on Linux)."""
    for card in sorted(Path("/proc/driver/nvidia/gpus").glob("*/information")):
        for line in card.read_text(errors="replace").splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "Model":
                return value.strip()
    return ""


@functools.cache
def instruction_set() -> tuple[str, ...]:
    """The architecture and those of its extensions that change which kernels run."""
    facts = _cpuinfo()
    flags = set((facts.get("flags") or facts.get("features") or "").split())
    return (platform.machine(), *(flag for flag in _KERNEL_FLAGS if flag in flags))


def cores() -> int:
    """Processors this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def memory_bytes() -> int:
    """Physical memory, 0 where the system does not tell."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError, AttributeError):
        return 0


def available_bytes() -> int:
    """Memory that programs can still take without swapping, 0 where the system does not tell (Linux: proc_meminfo(5))."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        return next(1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration, ValueError):
        return 0


def installed_version(package: str) -> str:
    """The version of an installed package, "" when it is not installed."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""


def describe() -> dict[str, object]:
    """The facts a measurement carries: {processor, board, cores, memory_bytes, instruction_set, os}."""
    return {
        "processor": processor(),
        "board": board(),
        "cores": cores(),
        "memory_bytes": memory_bytes(),
        "instruction_set": list(instruction_set()),
        "os": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
    }


@functools.cache
def fingerprint() -> str:
    """Digest of the processor, its kernels, the board and the cores in use: what a latency belongs to."""
    parts = [processor(), board(), str(cores()), *instruction_set()]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()
