"""What LiteRT's accelerators say when they are asked: about themselves with a model of one op, about a file with it.

Asking is opening a CompiledModel on the accelerator alone. That a library is there and is registered says nothing: the
WebGPU accelerator is in every wheel and looks for an adapter when the first model is compiled; so does an NPU's.
`is_fully_accelerated` of a model that may use the CPU too says nothing either: it is true when XNNPACK took every op.
"""

from __future__ import annotations

import base64
import ctypes
import importlib.util
import re
import sys
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgetl.core import child

# One RELU on four floats.
SMALLEST_MODEL = zlib.decompress(
    base64.b64decode(
        "eNqTYGBgCHHzMWZg4GMQYRBg4GHgAIqwAHkMQB4DgwwQvwBiZiBmBGKILAhC+CA1PHCdLEASImYDxA5A7IKkjoGBCywPUscF"
        "NYsHKg/DDFj4TFDzQHbe+P//P7K+Sqg4sh4WsDzEJwxQNyHrqcChB+EfHgZuJL3CEGcIAwCoMAok"
    )
)
_INPUT, _OUTPUT = [-1.0, 0.0, 2.0, -3.0], [0.0, 0.0, 2.0, 0.0]
# How the accelerator names what it picked, where a vendor's driver and a simulated one are both there.
_ADAPTER = re.compile(r"Selected adapter: (?P<name>.+?), arch=.*adapterType=(?P<kind>.+)$", re.MULTILINE)
_REFUSED_OPS = re.compile(
    r"^ERROR: Following operations are not supported by GPU delegate:\n(?P<ops>(?:.+\n)*?)"
    r"(?P<gpu>\d+) operations will run on the GPU, and the remaining (?P<cpu>\d+) operations",
    re.MULTILINE,
)
_ERROR = re.compile(r"^(?:E\d{4} .*?\] |ERROR: (?:\[.*?\] )?|WARNING: (?=Attempting))(.+)$", re.MULTILINE)
_GENERAL = "Some ops are not accelerated"  # what every model gets that LiteRT would have to leave a part to the CPU of
_TIMEOUT_S = 60.0


@dataclass(frozen=True)
class Found:
    """opened: on the accelerator alone, wholly, and a model of one op gave the right answer. why: else. adapter: the
    GPU's name, "" where it is not told. simulated: it is a program on the CPU. lacking: shared libraries that do not
    load, and why. refused_ops: ops the GPU does not take, and why. split: how many ops it would take, and
    leave to the CPU; None where that is not told."""

    opened: bool
    why: str
    adapter: str = ""
    simulated: bool = False
    lacking: tuple[str, ...] = ()
    refused_ops: tuple[str, ...] = ()
    split: tuple[int, int] | None = None


def ask_accelerator(kind: str, model: Path | None = None) -> Found:
    """kind: "gpu" or "npu". model: a file to compile there, instead of the smallest model, which runs as well."""
    reply = child.ask(__name__, kind, *([str(model.resolve())] if model else []), timeout_s=_TIMEOUT_S)
    adapter = _ADAPTER.search(reply.chatter)
    simulated = adapter is not None and "CPU" in adapter["kind"]
    refused = _REFUSED_OPS.search(reply.chatter)
    facts = reply.facts or {"opened": False, "why": reply.why, "lacking": []}
    why = facts["why"]
    if why and not refused and (errors := _ERROR.findall(reply.chatter)):
        first = errors[0].strip(" :")[:200]
        why = first if why.startswith(_GENERAL) else f"{why}: {first}"
    return Found(
        opened=facts["opened"],
        why=why,
        adapter=adapter["name"] if adapter else "",
        simulated=simulated,
        lacking=tuple(facts["lacking"]),
        refused_ops=tuple(refused["ops"].splitlines()) if refused else (),
        split=(int(refused["gpu"]), int(refused["cpu"])) if refused else None,
    )


def npu_vendor() -> str:
    """Whose NPU this ai-edge-litert has a library to run on ("intel_openvino"); "" for none. LiteRT takes the first."""
    return next(
        (folder.parent.name for folder in sorted(_package().glob("vendors/*/dispatch")) if _libraries(folder)), ""
    )


def has_gpu_library() -> bool:
    """Whether this ai-edge-litert came with a GPU accelerator."""
    return any(_package().glob("*LiteRt*GpuAccelerator.*"))


def _package() -> Path:
    found = importlib.util.find_spec("ai_edge_litert")
    return Path(found.origin).parent if found and found.origin else Path()


def _libraries(folder: Path) -> list[Path]:
    return [file for file in sorted(folder.glob("*LiteRt*")) if file.suffix in (".so", ".dll", ".dylib")]


def answer(_given: bytes, kind: str, model: str = "") -> dict[str, Any]:
    """The child's side of `ask_accelerator`."""
    import numpy as np

    from edgetl.runtimes.litert_compile import compile_model

    lacking = _lacking(kind)
    try:
        compiled = compile_model(Path(model) if model else SMALLEST_MODEL, kind)
    except RuntimeError as error:
        return {"opened": False, "why": last_line(error), "lacking": lacking}
    opened = compiled.is_fully_accelerated()
    why = "" if opened else "not all of the model is on it"
    if not model and opened:
        (source,), (sink,) = compiled.create_input_buffers(0), compiled.create_output_buffers(0)
        source.write(np.array(_INPUT, np.float32))
        compiled.run_by_index(0, [source], [sink])
        opened = sink.read(len(_OUTPUT), np.float32).tolist() == _OUTPUT
        why = "" if opened else "it computes a ReLU wrong"
    return {"opened": opened, "why": why, "lacking": lacking}


def last_line(error: Exception) -> str:
    """What a LiteRT error says: the innermost line of its trace, without the place in its source."""
    lines = [re.sub(r"^(└ )?(ERROR: )?(\[\S+:\d+\])?", "", line).strip() for line in str(error).splitlines()]
    return next((line for line in reversed(lines) if line), "LiteRT gave no reason")


def _lacking(kind: str) -> list[str]:
    """Loader errors of what the accelerator will want to load."""
    if kind == "npu":
        vendor = _package() / "vendors" / npu_vendor()
        wanted = [str(file) for part in ("dispatch", "compiler") for file in _libraries(vendor / part)]
    else:
        wanted = ["libvulkan.so.1"] if sys.platform == "linux" else []
    lacking = []
    for library in wanted:
        try:
            ctypes.CDLL(library)
        except OSError as error:
            name, _, why = str(error).partition(": ")
            lacking.append(f"{name} cannot be loaded" if why.endswith("No such file or directory") else str(error))
    return lacking
