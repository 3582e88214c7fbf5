"""Examine a model file of unknown origin: in a separate process, with limits on memory and time.

A model file is full of offsets, and LiteRT and ONNX Runtime follow them in C++. So it is opened in a child, which prints its
findings as lines of JSON; a child that crashes or exceeds a limit is one more fault of the file. The parent imports the standard library only.

Memory and CPU limits are POSIX; on Windows only the timeout ends a child.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from edgetl.core.child import answers_to_parent, command_line, end_with_parent, signal_name
from edgetl.core.errors import DataError, MissingError
from edgetl.core.words import printable
from edgetl.formats.files import COPY_AGAIN, FORMATS, check_path
from edgetl.formats.read.census import Malformed
from edgetl.formats.read.records import Examined

# Module -> its package, for each suffix.
_NEEDED = {
    ".tflite": {"ai_edge_litert": "ai-edge-litert"},
    ".onnx": {"onnx": "onnx", "onnxruntime": "onnxruntime"},
}
DEFAULT_TIMEOUT_S = 60.0
# Frameworks and interpreter take 1 GiB of address space; a file is held several times (bytes, parsed, with shapes, optimized). The rest
# is headroom.
_MEMORY_BYTES, _MEMORY_PER_BYTE = 4 * 2**30, 8


def examine(path: Path, *, timeout_s: float = DEFAULT_TIMEOUT_S) -> Examined:
    """The findings about a file, with its size, its sha256 and what a runtime does with it.

    Raises DataError, with one message, for anything wrong with the file, and MissingError when a package
    that reads its format is not installed.
    """
    name = printable(str(path), 4096)
    check_path(path, name)
    lacking = [package for found, package in _NEEDED[path.suffix].items() if importlib.util.find_spec(found) is None]
    if lacking:
        raise MissingError(
            f"{name} needs {' and '.join(lacking)} to be read.",
            why="not installed here",
            fix=f"pip install {' '.join(lacking)}",
        )
    command = command_line(__name__, "main", str(path), str(timeout_s))
    env = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "2"}
    with subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as child:
        try:
            out, chatter = child.communicate(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            child.kill()
            raise DataError(
                f"{name} could not be examined.",
                why=f"it was not finished after {timeout_s:g} s",
                fix="a damaged file can do that; for a very large one allow more with --timeout",
            ) from None
        except BaseException:
            child.kill()
            raise
    return _answer(name, path, child.returncode, out, chatter)


def _answer(name: str, path: Path, code: int, out: bytes, chatter: bytes) -> Examined:
    lines = [json.loads(line) for line in out.splitlines() if line.endswith(b"}")]
    stage = next((line["stage"] for line in reversed(lines) if "stage" in line), "starting")
    last = lines[-1] if lines else {}
    if "found" in last and code == 0:
        found: Examined = last["found"]
        return found
    if "refused" in last:
        raise DataError(f"{name} cannot be read as {FORMATS[path.suffix]}.", why=last["refused"], fix=last["fix"])
    if code < 0 or code > 128:
        number = -code if code < 0 else code - 128
        raise DataError(
            f"{name} could not be examined.",
            why=f"{stage} ended the process that did it ({signal_name(number)})",
            fix=f"the file is damaged or too large: {COPY_AGAIN}",
        )
    # Neither an answer nor a crash: a bug of ours, reported as one.
    raise RuntimeError(f"examining {name} failed while {stage}: {printable(chatter[-3000:], 3000)}")


def main() -> None:
    """The child. Arguments: a file and seconds of CPU time. Prints lines of JSON: stages, then an answer."""
    path, seconds = Path(sys.argv[1]), float(sys.argv[2]) if len(sys.argv) > 2 else DEFAULT_TIMEOUT_S
    end_with_parent()
    answers = answers_to_parent()

    def say(**line: Any) -> None:
        answers.write(json.dumps(line) + "\n")
        answers.flush()

    limit = _MEMORY_BYTES + _MEMORY_PER_BYTE * path.stat().st_size
    _limit_resources(limit, seconds)
    try:
        say(stage="reading it")
        data = path.read_bytes()
        found = _read_tflite(data, say) if path.suffix == ".tflite" else _read_onnx(data, say)
        digest = hashlib.sha256(data).hexdigest()
        say(found={"file": printable(str(path), 4096), "bytes": len(data), "sha256": digest, **found})
    except Malformed as error:
        say(refused=str(error), fix=error.fix)
    except OSError as error:
        say(refused=printable(str(error.strerror)), fix="check that you may read it")
    except MemoryError:
        say(refused=f"reading it takes more than {limit / 2**30:.0f} GiB of memory", fix=COPY_AGAIN)


def _limit_resources(memory_bytes: int, seconds: float) -> None:
    if sys.platform == "win32":
        return
    import resource

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    seconds = math.ceil(seconds) + 1
    # Past the soft limit of time comes SIGXCPU, which says what it was; past the hard one SIGKILL.
    for kind, soft, hard in (
        (resource.RLIMIT_AS, memory_bytes, memory_bytes),
        (resource.RLIMIT_CPU, seconds, seconds + 5),
    ):
        given = resource.getrlimit(kind)[1]
        if given != resource.RLIM_INFINITY:
            soft, hard = min(soft, given), min(hard, given)
        # macOS knows no limit on address space: the clock remains.
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(kind, (soft, hard))


def _read_tflite(data: bytes, say: Any) -> dict[str, Any]:
    from edgetl.formats.read.findings import findings
    from edgetl.formats.read.tflite_file import read_tflite

    census = read_tflite(data)
    found = findings(census)
    say(stage="opening it in LiteRT")
    from ai_edge_litert.interpreter import Interpreter

    from edgetl.runtimes.litert import placed_ops

    name = "LiteRT, CPU (XNNPACK)"
    try:
        interpreter = Interpreter(model_content=data, num_threads=1)
        interpreter.allocate_tensors()
        ops, taken = placed_ops(interpreter)
    except (ValueError, RuntimeError) as error:  # also names that are not UTF-8: a ValueError
        return {**found, "runtime": {"name": name, "refused": printable(str(error), 300)}}
    left = [
        {"type": printable(op["op_name"]), "op": census.ops[i].name if i < len(census.ops) else ""}
        for i, op in enumerate(ops)
        if i not in taken and (i >= len(census.ops) or census.ops[i].part != "folded")
    ]
    return {**found, "runtime": {"name": name, "delegated": len(taken), "left": left}}


def _read_onnx(data: bytes, say: Any) -> dict[str, Any]:
    from edgetl.formats.read.findings import findings
    from edgetl.formats.read.onnx_file import read_onnx

    census = read_onnx(data)
    found = findings(census)
    say(stage="opening it in ONNX Runtime")
    from edgetl.runtimes.ort_graph import optimized_graph

    return {**found, "runtime": optimized_graph(data, census.ops)}
