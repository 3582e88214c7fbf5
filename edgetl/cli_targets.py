"""`edgetl targets`: devices."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgetl.cli_options import JsonOption
from edgetl.cli_output import print_json, stdout

targets_app = typer.Typer(help="Devices a model can be built for.", no_args_is_help=True)


@targets_app.command("list")
def targets_list(as_json: JsonOption = False) -> None:
    """Every shipped target."""
    from edgetl.console import targets_table
    from edgetl.target import read_target, shipped_targets

    targets = [read_target(path) for path in shipped_targets().values()]
    if as_json:
        print_json({"targets": [target.model_dump(mode="json") for target in targets]})
    else:
        stdout().print(targets_table(targets))


@targets_app.command("show")
def targets_show(
    name: Annotated[str, typer.Argument(help="A target's name or a .toml file.")],
    as_json: JsonOption = False,
    toml: Annotated[bool, typer.Option("--toml", help="The file itself, to copy and edit.")] = False,
) -> None:
    """One target: its device, budget, references and sources."""
    from edgetl.console import print_target
    from edgetl.target import load_target, shipped_targets

    target = load_target(name)
    if toml:
        typer.echo(shipped_targets().get(name, Path(name)).read_text(encoding="utf-8"), nl=False)
        return
    if as_json:
        print_json({"target": target.model_dump(mode="json"), "is_this_machine": target.is_this_machine()})
        return
    print_target(stdout(), target)


@targets_app.command("check")
def targets_check(
    files: Annotated[
        list[Path] | None, typer.Argument(help="Target files; all shipped ones when none is given.")
    ] = None,
) -> None:
    """Read target files and name every fault."""
    from edgetl.target import read_target, shipped_targets

    for path in files or list(shipped_targets().values()):
        stdout().print(f"{read_target(path).name}: good")
