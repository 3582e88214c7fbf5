"""`edgetl estimate`: parse, call, render."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgetl.console.options import JsonOption
from edgetl.console.output import print_json, stdout


def estimate(
    model: Annotated[
        Path, typer.Argument(metavar="MODEL|BUNDLE", help="A .tflite or .onnx file, or a bundle's folder.")
    ],
    target: Annotated[str, typer.Option("--target", "-t", help="A target's name or a .toml file.")],
    timeout: Annotated[
        float, typer.Option("--timeout", min=0.1, help="Seconds that reading one file may take.")
    ] = 60.0,
    as_json: JsonOption = False,
) -> None:
    """What MODEL would take on a device that is not here: an interval, and the published latencies it rests on."""
    from edgetl.commands.estimate.run import estimate_path
    from edgetl.commands.estimate.view import print_estimates
    from edgetl.targets.target import load_target

    found, failure = estimate_path(model, load_target(target), timeout_s=timeout)
    if as_json:
        print_json(found)
    else:
        print_estimates(stdout(), found)
    if failure is not None:
        raise failure
