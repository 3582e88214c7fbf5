"""`edgetl inspect`: its options, and what it calls."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgetl.console.options import JsonOption
from edgetl.console.output import print_json, stdout


def inspect(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="A .tflite or .onnx file, or a bundle's folder.")],
    target: Annotated[
        str | None, typer.Option("--target", "-t", help="Also show a latency bound from this target's published peaks.")
    ] = None,
    list_ops: Annotated[bool, typer.Option("--ops", help="List every op.")] = False,
    timeout: Annotated[
        float, typer.Option("--timeout", min=0.1, help="Time limit for reading one file, in seconds.")
    ] = 60.0,
    as_json: JsonOption = False,
) -> None:
    """Show what a model file contains: ops, types, ranges, weights, memory, and what its runtime does with it."""
    from edgetl.commands.inspect.run import inspect_path
    from edgetl.commands.inspect.view import print_inspection
    from edgetl.targets.target import load_target

    made = load_target(target) if target else None
    found, failure = inspect_path(model, target=made, timeout_s=timeout)
    if as_json:
        print_json(found)
    else:
        print_inspection(stdout(), found, list_ops=list_ops)
    if failure is not None:
        raise failure
