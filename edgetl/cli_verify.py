"""`edgetl verify`: parse, call, render."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgetl.cli_options import CacheOption, JsonOption, SkipBadOption
from edgetl.cli_output import open_store, print_json, stdout


def verify(
    bundle: Annotated[Path, typer.Argument(metavar="BUNDLE", help="The folder that `edgetl build` wrote.")],
    data: Annotated[
        str,
        typer.Option(
            "--data",
            metavar="PHOTOS",
            help="Photos of the bundle's classes: a folder of class folders, a CSV of path,label, or a known data set's name.",
        ),
    ],
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
    skip_bad: SkipBadOption = False,
    strict: Annotated[
        bool, typer.Option("--strict/--no-strict", help="Exit 8 when a check is inconclusive or unmeasured.")
    ] = False,
    as_json: JsonOption = False,
    cache: CacheOption = None,
) -> None:
    """Run every file of BUNDLE on your own photos: accuracy, drop against float32, format against format."""
    from edgetl.console import make_display, native_chatter_to
    from edgetl.console_verify import print_verification
    from edgetl.report import Check, exit_code
    from edgetl.verification import verify_bundle

    store = open_store(cache)
    store.prepare()
    with native_chatter_to(store.root / "verify.log") as console:
        found = verify_bundle(bundle, data, store, make_display(console), max_drop_pp=max_drop, skip_bad=skip_bad)
    code = exit_code([Check(**check) for check in found["checks"]], strict=strict)
    if as_json:
        print_json({"exit_code": code, **found})
    else:
        print_verification(stdout(), found)
    raise typer.Exit(code)
