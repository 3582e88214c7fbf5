"""`edgetl verify`: its options, and what it calls."""

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
            help="Labelled photos of the same classes: a folder of class folders, a CSV of path,label, or the name of a known data set.",
        ),
    ],
    backend: Annotated[
        list[str] | None,
        typer.Option(
            "--backend",
            metavar="B",
            help="Also verify on this backend, such as ort-cuda; `edgetl doctor` lists them. Repeatable.",
        ),
    ] = None,
    max_drop: Annotated[
        float | None,
        typer.Option(
            "--max-drop",
            metavar="PP",
            min=0.0,
            max=100.0,
            help="Percentage points of top-1 that a shipped file may lose compared with float32. Default: the target's budget.",
        ),
    ] = None,
    answers: Annotated[
        Path | None,
        typer.Option(
            "--answers",
            metavar="CSV",
            help="An app's answers for these photos: path,label, or path and one column of probabilities per class. Names the mistake that explains them.",
        ),
    ] = None,
    diagnose: Annotated[
        bool | None,
        typer.Option(
            "--diagnose/--no-diagnose",
            help="Try the usual preprocessing mistakes. Default: where accuracy is too low.",
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
    """Measure accuracy on your own photos, compare files with each other, and explain wrong answers."""
    from edgetl.commands.verify.run import Asked, verify_paths
    from edgetl.commands.verify.view import print_verification
    from edgetl.console.progress import make_display, native_chatter_to
    from edgetl.verdicts.check import Check, exit_code

    store = open_store(cache)
    store.prepare()
    with native_chatter_to(store.root / "verify.log") as console:
        asked = Asked(data, backend or (), max_drop, skip_bad, diagnose, answers)
        found = verify_paths(paths, asked, store, make_display(console))
    code = exit_code([Check.from_json(check) for check in found["checks"]], strict=strict)
    if as_json:
        print_json({"exit_code": code, **found})
    else:
        print_verification(stdout(), found)
    raise typer.Exit(code)
