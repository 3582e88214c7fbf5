"""`edgetl inspect`: parse, call, render."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from edgetl.cli_options import JsonOption

_SCHEMA_VERSION = 1


def inspect(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="A .tflite or .onnx file, or a bundle's folder.")],
    target: Annotated[
        str | None, typer.Option("--target", "-t", help="Also a latency bound from this target's published peaks.")
    ] = None,
    list_ops: Annotated[bool, typer.Option("--ops", help="List every op.")] = False,
    timeout: Annotated[
        float, typer.Option("--timeout", min=0.1, help="Seconds that reading one file may take.")
    ] = 60.0,
    as_json: JsonOption = False,
) -> None:
    """Tell from MODEL itself what it is: ops, types, ranges, weights, memory, and what its runtime makes of it."""
    from rich.console import Console

    from edgetl.console_inspect import print_inspection
    from edgetl.inspection import inspect_path
    from edgetl.target import load_target

    made = load_target(target) if target else None
    found, failure = inspect_path(model, target=made, timeout_s=timeout)
    if as_json:
        typer.echo(json.dumps({"schema_version": _SCHEMA_VERSION, **found}, indent=1, allow_nan=False))
    else:
        print_inspection(Console(highlight=False), found, list_ops=list_ops)
    if failure is not None:
        raise failure
