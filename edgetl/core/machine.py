"""This machine: its processor, memory and board, as the operating system reports them."""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import os
import platform
from pathlib import Path
from typing import TypedDict

# The flags by which TensorFlow, oneDNN, XNNPACK or MLAS choose other kernels, which may give other last bits.
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


class Machine(TypedDict):
    """What reports and rows say of the machine. board: "" if it is not a single-board computer."""

    processor: str
    board: str
    cores: int
    memory_bytes: int
    instruction_set: list[str]
    os: str
    python: str


def _cpuinfo() -> dict[str, str]:
    """The first processor's lines of /proc/cpuinfo; empty if there is no such file."""
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
    """The processor's own name, or the architecture if it has none."""
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
    """The first NVIDIA GPU's name as its driver reports it; empty if there is none, and on other systems than Linux."""
    for card in sorted(Path("/proc/driver/nvidia/gpus").glob("*/information")):
        for line in card.read_text(errors="replace").splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "Model":
                return value.strip()
    return ""


@functools.cache
def instruction_set() -> tuple[str, ...]:
    """The architecture, and those of its extensions that decide which kernels run."""
    facts = _cpuinfo()
    flags = set((facts.get("flags") or facts.get("features") or "").split())
    return (platform.machine(), *(flag for flag in _KERNEL_FLAGS if flag in flags))


def cores() -> int:
    """The number of processors that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def memory_bytes() -> int:
    """Physical memory, 0 if the system does not report it."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError, AttributeError):
        return 0


def available_bytes() -> int:
    """Memory that programs can still use without swapping, 0 if the system does not report it (Linux: proc_meminfo(5))."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        return next(1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration, ValueError):
        return 0


def installed_version(package: str) -> str:
    """The version of an installed package, "" if it is not installed."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""


def describe() -> Machine:
    """The machine that a measurement was made on."""
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
    """Digest of the processor, its instruction set, the board and the number of cores: a latency is valid for these."""
    parts = [processor(), board(), str(cores()), *instruction_set()]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()
