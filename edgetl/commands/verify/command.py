"""`edgetl verify`: parse, call, render."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgetl.console.options import CacheOption, JsonOption, SkipBadOption
from edgetl.console.output import open_store, print_json, stdout


def verify(
    paths: Annotated[
        list[Path],
        typer.Argument(
            metavar="BUNDLE|MODEL",
            help="The folder that `edgetl build` wrote, or .tflite and .onnx files of one task.",
        ),
    ],
    data: Annotated[
        str,
        typer.Option(
            "--data",
            metavar="PHOTOS",
            help="Photos of the net's classes: a folder of class folders, a CSV of path,label, or a known data set's name.",
        ),
    ],
    backend: Annotated[
        list[str] | None,
        typer.Option(
            "--backend",
            metavar="B",
            help="Also on this backend, such as ort-cuda; `edgetl doctor` lists them. Repeatable.",
        ),
    ] = None,
    max_drop: Annotated[
        float | None,
        typer.Option(
            "--max-drop",
            metavar="PP",
            min=0.0,
            max=100.0,
            help="Percentage points of top-1 that a file which ships may lose to float32; the target's budget by itself.",
        ),
    ] = None,
    answers: Annotated[
        Path | None,
        typer.Option(
            "--answers",
            metavar="CSV",
            help="What an app answered on these photos: path,label, or path and a column of probabilities for each class. Names the mistake that explains it.",
        ),
    ] = None,
    diagnose: Annotated[
        bool | None,
        typer.Option(
            "--diagnose/--no-diagnose",
            help="Try the usual wrong preprocessings; by itself where accuracy is off.",
            show_default=False,
        ),
    ] = None,
    skip_bad: SkipBadOption = False,
    strict: Annotated[
        bool, typer.Option("--strict/--no-strict", help="Exit 8 when a check is inconclusive or unmeasured.")
    ] = False,
    as_json: JsonOption = False,
    cache: CacheOption = None,
) -> None:
    """Run the files on your own photos: accuracy, drop against float32, file against file; and where they are wrong, why."""
    from edgetl.commands.verify.run import Asked, verify_paths
    from edgetl.commands.verify.view import print_verification
    from edgetl.console.progress import make_display, native_chatter_to
    from edgetl.verdicts.check import Check, exit_code

    store = open_store(cache)
    store.prepare()
    with native_chatter_to(store.root / "verify.log") as console:
        asked = Asked(data, backend or (), max_drop, skip_bad, diagnose, answers)
        found = verify_paths(paths, asked, store, make_display(console))
    code = exit_code([Check(**check) for check in found["checks"]], strict=strict)
    if as_json:
        print_json({"exit_code": code, **found})
    else:
        print_verification(stdout(), found)
    raise typer.Exit(code)
