"""LiteRT on the CPU (XNNPACK)."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from edgetl.dataset.contract import to_grid


def unavailable() -> str | None:
    """None when ai-edge-litert is installed."""
    return (
        None
        if importlib.util.find_spec("ai_edge_litert")
        else "ai-edge-litert is not installed: pip install ai-edge-litert"
    )


class LiteRtSession:
    """An Interpreter with its delegate applied. See runtimes.Session."""

    def __init__(self, model: Path, threads: int) -> None:
        from ai_edge_litert.interpreter import Interpreter

        self._interpreter = Interpreter(model_path=str(model), num_threads=threads)
        self._interpreter.allocate_tensors()
        self._input, self._output = self._interpreter.get_input_details()[0], self._interpreter.get_output_details()[0]
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

    def placement(self) -> dict[str, int]:
        """Model ops by who runs them: {"delegated": taken by the delegate, "builtin": left to LiteRT's own kernels}."""
        ops, taken = placed_ops(self._interpreter)
        return {"delegated": len(taken), "builtin": len(ops) - len(taken)}

    def close(self) -> None:
        """See runtimes.Session."""
        del self._interpreter


def open_tensors(model: Path) -> Callable[[Any], dict[str, Any]]:
    """A function: normalized image [1, h, w, 3] -> every op's output as real numbers, by tensor name.

    LiteRT's own kernels, no delegate: XNNPACK does not keep what lies between its first op and its last.
    """
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    interpreter = Interpreter(
        model_path=str(model),
        experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
        experimental_preserve_all_tensors=True,
    )
    interpreter.allocate_tensors()
    source = interpreter.get_input_details()[0]
    made = {int(tensor) for op in interpreter._get_ops_details() for tensor in op["outputs"]}
    wanted = [details for details in interpreter.get_tensor_details() if details["index"] in made]

    def tensors(image: Any) -> dict[str, Any]:
        interpreter.set_tensor(source["index"], to_grid(image, source["dtype"], *source["quantization"]))
        interpreter.invoke()
        found = {}
        for details in wanted:
            scale, zero_point = details["quantization"]
            values = interpreter.get_tensor(details["index"])
            found[details["name"]] = (values.astype(np.float64) - zero_point) * scale if scale else values
        return found

    return tensors


def placed_ops(interpreter: Any) -> tuple[list[Any], set[int]]:
    """The model's ops, each with op_name, inputs and outputs, and the positions of those that a delegate took.

    interpreter: with its tensors allocated.
    """
    details = interpreter._get_ops_details()  # the only place where the delegate shows
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


def open_session(model: Path, *, threads: int) -> LiteRtSession:
    """See runtimes. Raises ValueError for a file LiteRT refuses."""
    return LiteRtSession(model, threads)
