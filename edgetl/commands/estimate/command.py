"""`edgetl estimate`: its options, and what it calls."""

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
        float, typer.Option("--timeout", min=0.1, help="Time limit for reading one file, in seconds.")
    ] = 60.0,
    as_json: JsonOption = False,
) -> None:
    """Estimate latency on a device that you do not have: an interval, and the published latencies behind it."""
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
