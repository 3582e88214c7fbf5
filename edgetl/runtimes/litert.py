"""LiteRT's interpreter on the CPU: `litert-cpu` with XNNPACK, `litert-cpu-reference` with LiteRT's own kernels only."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edgetl.core import machine
from edgetl.runtimes import litert_profile, one_image
from edgetl.runtimes.placement import Placement
from edgetl.runtimes.records import OpDetails, OpTime, TensorDetails
from edgetl.tasks.photos.contract import to_grid

_DELEGATE, _BUILTIN = litert_profile.XNNPACK, litert_profile.KERNELS


def unavailable(backend: str = "litert-cpu") -> str | None:
    """None when ai-edge-litert is installed."""
    return (
        None
        if importlib.util.find_spec("ai_edge_litert")
        else "ai-edge-litert is not installed: pip install ai-edge-litert"
    )


def device(backend: str = "litert-cpu") -> str:
    """The processor's name."""
    return machine.processor()


class LiteRtSession:
    """An Interpreter with or without its default delegate. See runtimes.Session."""

    def __init__(self, model: Path, threads: int, *, delegate: bool = True) -> None:
        from ai_edge_litert.interpreter import Interpreter, OpResolverType

        resolver = OpResolverType.AUTO if delegate else OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
        self._interpreter = Interpreter(
            model_path=str(model), num_threads=threads, experimental_op_resolver_type=resolver
        )
        self._interpreter.allocate_tensors()
        self._model, self._threads, self._delegate = model, threads, delegate
        self._input: TensorDetails = self._interpreter.get_input_details()[0]
        self._output: TensorDetails = self._interpreter.get_output_details()[0]
        self.executor = _DELEGATE if delegate else _BUILTIN
        self.input_shape = one_image(
            [[int(size) for size in found["shape_signature"]] for found in self._interpreter.get_input_details()]
        )
        self.output_step = float(self._output["quantization"][0])

    def run(self, images: Any) -> Any:
        """See runtimes.Session."""
        rows = []
        for image in images:
            self._interpreter.set_tensor(
                self._input["index"], to_grid(image[None], self._input["dtype"], *self._input["quantization"])
            )
            self._interpreter.invoke()
            out = self._interpreter.get_tensor(self._output["index"])[0]
            scale, zero_point = self._output["quantization"]
            rows.append((out.astype(np.float32) - zero_point) * np.float32(scale) if scale else out)
        return np.stack(rows)

    def invoke(self) -> None:
        """See runtimes.Session."""
        self._interpreter.invoke()

    def placement(self) -> Placement:
        """How many of the file's ops XNNPACK runs, and how many LiteRT's own kernels."""
        ops, taken = placed_ops(self._interpreter)
        executors = [_DELEGATE if position in taken else _BUILTIN for position in range(len(ops))]
        counts = {name: executors.count(name) for name in (_DELEGATE, _BUILTIN)}
        macs = macs_by_executor(self._model, executors)
        return Placement(counts, {_DELEGATE: "cpu", _BUILTIN: "cpu"}, macs)

    def profile(self, runs: int) -> list[OpTime]:
        """Every operator that ran, slowest first. Profiling takes time itself, so read the shares rather than the
        milliseconds. See runtimes.litert_profile."""
        image = self._interpreter.get_tensor(self._input["index"]).tobytes()
        names = {int(tensor["index"]): str(tensor["name"]) for tensor in self._interpreter.get_tensor_details()}
        ops = [
            litert_profile.FileOp(op["op_name"], names.get(int(op["outputs"][0]), ""))
            for op in placed_ops(self._interpreter)[0]
        ]
        return litert_profile.profile(
            self._model, ops, image, threads=self._threads, runs=runs, delegate=self._delegate
        )

    def close(self) -> None:
        """See runtimes.Session."""
        del self._interpreter


def macs_by_executor(model: Path, executors: Sequence[str]) -> dict[str, int] | None:
    """Multiply-accumulates per executor. executors: one per op, in the file's order. None for a file that cannot be
    counted: one that the census refuses, or that has ops of which it cannot count the multiplications."""
    from edgetl.formats.read.census import Malformed
    from edgetl.formats.read.tflite_file import read_tflite

    try:
        counted = read_tflite(model.read_bytes()).ops
    except (Malformed, OSError):
        return None
    if len(counted) != len(executors) or any(op.macs is None for op in counted):
        return None
    macs = dict.fromkeys(executors, 0)
    for op, name in zip(counted, executors, strict=True):
        macs[name] += op.macs or 0
    return macs


def open_tensors(model: Path) -> Callable[[Any], dict[str, Any]]:
    """Return a function: normalized image [1, h, w, 3] -> every op's output as real numbers, by tensor name.

    It uses LiteRT's own kernels without a delegate: XNNPACK does not keep the tensors between its first and its last op.
    """
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    interpreter = Interpreter(
        model_path=str(model),
        experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
        experimental_preserve_all_tensors=True,
    )
    interpreter.allocate_tensors()
    source: TensorDetails = interpreter.get_input_details()[0]
    outputs = {int(tensor) for op in interpreter._get_ops_details() for tensor in op["outputs"]}
    kept: list[TensorDetails] = [details for details in interpreter.get_tensor_details() if details["index"] in outputs]

    def tensors(image: Any) -> dict[str, Any]:
        interpreter.set_tensor(source["index"], to_grid(image, source["dtype"], *source["quantization"]))
        interpreter.invoke()
        found = {}
        for details in kept:
            scale, zero_point = details["quantization"]
            values = interpreter.get_tensor(details["index"])
            found[details["name"]] = (values.astype(np.float64) - zero_point) * scale if scale else values
        return found

    return tensors


def placed_ops(interpreter: Any) -> tuple[list[OpDetails], set[int]]:
    """(the model's ops, each with op_name, inputs and outputs; the positions of those that a delegate runs).

    interpreter: one that has allocated its tensors.
    """
    details: list[OpDetails] = interpreter._get_ops_details()  # the only call that shows the delegate
    ops = [op for op in details if op["op_name"] != "DELEGATE"]
    maker = {int(tensor): position for position, op in enumerate(ops) for tensor in op["outputs"]}
    taken: set[int] = set()
    for delegate in (op for op in details if op["op_name"] == "DELEGATE"):
        # A delegate stands for every op between its inputs and its outputs.
        edge = {int(tensor) for tensor in delegate["inputs"]}
        waiting = [int(tensor) for tensor in delegate["outputs"]]
        while waiting:
            tensor = waiting.pop()
            position = maker.get(tensor)
            if tensor in edge or position is None or position in taken:
                continue
            taken.add(position)
            waiting += [int(source) for source in ops[position]["inputs"]]
    return ops, taken


def open_session(
    model: Path, *, threads: int, backend: str = "litert-cpu", allow_fallback: bool = False
) -> LiteRtSession:
    """See runtimes. Raises ValueError for a file LiteRT refuses."""
    return LiteRtSession(model, threads, delegate=backend == "litert-cpu")
