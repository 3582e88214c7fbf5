"""Find out whether LiteRT's accelerators work, with a model of one op, and whether they run a given file.

The probe opens a CompiledModel on the accelerator alone. An installed and registered library proves nothing: the WebGPU
accelerator is in every wheel and looks for an adapter only when the first model is compiled; NPU libraries do the same.
`is_fully_accelerated` of a model that may use the CPU too proves nothing either: it is true if XNNPACK runs every op.
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
from typing import cast

from edgetl.core import child
from edgetl.runtimes.records import ProbeReply

# One RELU on four floats.
SMALLEST_MODEL = zlib.decompress(
    base64.b64decode(
        "eNqTYGBgCHHzMWZg4GMQYRBg4GHgAIqwAHkMQB4DgwwQvwBiZiBmBGKILAhC+CA1PHCdLEASImYDxA5A7IKkjoGBCywPUscF"
        "NYsHKg/DDFj4TFDzQHbe+P//P7K+Sqg4sh4WsDzEJwxQNyHrqcChB+EfHgZuJL3CEGcIAwCoMAok"
    )
)
_INPUT, _OUTPUT = [-1.0, 0.0, 2.0, -3.0], [0.0, 0.0, 2.0, 0.0]
# The accelerator's log of the adapter it chose, for machines with both a vendor's driver and a simulated one.
_ADAPTER = re.compile(r"Selected adapter: (?P<name>.+?), arch=.*adapterType=(?P<kind>.+)$", re.MULTILINE)
_REFUSED_OPS = re.compile(
    r"^ERROR: Following operations are not supported by GPU delegate:\n(?P<ops>(?:.+\n)*?)"
    r"(?P<gpu>\d+) operations will run on the GPU, and the remaining (?P<cpu>\d+) operations",
    re.MULTILINE,
)
_ERROR = re.compile(r"^(?:E\d{4} .*?\] |ERROR: (?:\[.*?\] )?|WARNING: (?=Attempting))(.+)$", re.MULTILINE)
_GENERAL = "Some ops are not accelerated"  # LiteRT's message for every model of which it would leave a part to the CPU
_TIMEOUT_S = 60.0


@dataclass(frozen=True)
class Found:
    """opened: the whole model opened on the accelerator alone, and the model of one op gave the right output. why: the
    reason if not. adapter: the GPU's name, "" if it is not reported. simulated: whether the adapter is simulated on the CPU.
    load_errors: shared libraries that cannot be loaded, with the reason. refused_ops: ops that the GPU does not run, with
    the reason. split: how many ops it would run, and how many it would leave to the CPU; None if that is not reported."""

    opened: bool
    why: str
    adapter: str = ""
    simulated: bool = False
    load_errors: tuple[str, ...] = ()
    refused_ops: tuple[str, ...] = ()
    split: tuple[int, int] | None = None


def ask_accelerator(kind: str, model: Path | None = None) -> Found:
    """Probe an accelerator in a child process.

    kind: "gpu" or "npu". model: a file to compile on it; None for the smallest model, which is also run.
    """
    reply = child.ask(__name__, kind, *([str(model.resolve())] if model else []), timeout_s=_TIMEOUT_S)
    adapter = _ADAPTER.search(reply.chatter)
    simulated = adapter is not None and "CPU" in adapter["kind"]
    refused = _REFUSED_OPS.search(reply.chatter)
    unanswered: ProbeReply = {"opened": False, "why": reply.why, "load_errors": []}
    facts = cast(ProbeReply, reply.facts) if reply.facts else unanswered
    why = facts["why"]
    if why and not refused and (errors := _ERROR.findall(reply.chatter)):
        first = errors[0].strip(" :")[:200]
        why = first if why.startswith(_GENERAL) else f"{why}: {first}"
    return Found(
        opened=facts["opened"],
        why=why,
        adapter=adapter["name"] if adapter else "",
        simulated=simulated,
        load_errors=tuple(facts["load_errors"]),
        refused_ops=tuple(refused["ops"].splitlines()) if refused else (),
        split=(int(refused["gpu"]), int(refused["cpu"])) if refused else None,
    )


def npu_vendor() -> str:
    """The vendor of the NPU library in this ai-edge-litert ("intel_openvino"); "" for none. LiteRT uses the first."""
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


def answer(_given: bytes, kind: str, model: str = "") -> ProbeReply:
    """What the child process of `ask_accelerator` runs."""
    import numpy as np

    from edgetl.runtimes.litert_compile import compile_model

    load_errors = _load_errors(kind)
    try:
        compiled = compile_model(Path(model) if model else SMALLEST_MODEL, kind)
    except RuntimeError as error:
        return {"opened": False, "why": last_line(error), "load_errors": load_errors}
    opened = compiled.is_fully_accelerated()
    why = "" if opened else "not all of the model runs on it"
    if not model and opened:
        (source,), (sink,) = compiled.create_input_buffers(0), compiled.create_output_buffers(0)
        source.write(np.array(_INPUT, np.float32))
        compiled.run_by_index(0, [source], [sink])
        opened = sink.read(len(_OUTPUT), np.float32).tolist() == _OUTPUT
        why = "" if opened else "it computes a wrong result for a ReLU"
    return {"opened": opened, "why": why, "load_errors": load_errors}


def last_line(error: Exception) -> str:
    """The message of a LiteRT error: the innermost line of its trace, without the source location."""
    lines = [re.sub(r"^(└ )?(ERROR: )?(\[\S+:\d+\])?", "", line).strip() for line in str(error).splitlines()]
    return next((line for line in reversed(lines) if line), "LiteRT gave no reason")


def _load_errors(kind: str) -> list[str]:
    """The loader's errors for the libraries that the accelerator will load."""
    if kind == "npu":
        vendor = _package() / "vendors" / npu_vendor()
        libraries = [str(file) for part in ("dispatch", "compiler") for file in _libraries(vendor / part)]
    else:
        libraries = ["libvulkan.so.1"] if sys.platform == "linux" else []
    errors = []
    for library in libraries:
        try:
            ctypes.CDLL(library)
        except OSError as error:
            name, _, why = str(error).partition(": ")
            errors.append(f"{name} cannot be loaded" if why.endswith("No such file or directory") else str(error))
    return errors
